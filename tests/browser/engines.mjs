/**
 * What each browser can run: the builds in the order in which the package prefers them. Known from the browsers' versions, not
 * asked of the pages, so that a probe that always says no would show.
 */
import { execFileSync } from 'node:child_process';
import { FIREFOX, findProgram } from './browsers.mjs';

/** The first Firefox with relaxed SIMD. Debian 12 without its security updates has an older one. */
const RELAXED_FIREFOX = 145;

/** Whether the browser has relaxed SIMD. WebKitGTK has neither that nor shared memory, so it shows that the plain build is enough. */
function hasRelaxed(browser) {
  if (browser !== 'firefox') return browser === 'chromium';
  const version = execFileSync(findProgram('Firefox', FIREFOX), ['--version'], { encoding: 'utf8' });
  return Number(/(\d+)\./.exec(version)?.[1]) >= RELAXED_FIREFOX;
}

/**
 * @param {string} browser
 * @param {boolean} isolation whether the server sends the isolation headers
 * @returns {string[]} the first is the one in use
 */
export function expectedBuilds(browser, isolation) {
  const builds = hasRelaxed(browser) ? ['relaxed', 'simd'] : ['simd'];
  return isolation && browser !== 'webkit' ? [...builds.map((build) => `${build}-threads`), ...builds] : builds;
}
