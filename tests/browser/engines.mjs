/**
 * What each browser can run: the builds in the order in which the package prefers them.
 */

/** Engines with relaxed SIMD and shared memory. WebKitGTK of Debian 12 has neither, so it shows that the plain build is enough. */
const COMPLETE = ['chromium', 'firefox'];

/**
 * @param {string} browser
 * @param {boolean} isolation whether the server sends the isolation headers
 * @returns {string[]} the first is the one in use
 */
export function expectedBuilds(browser, isolation) {
  if (!COMPLETE.includes(browser)) return ['simd'];
  return isolation ? ['relaxed-threads', 'simd-threads', 'relaxed', 'simd'] : ['relaxed', 'simd'];
}
