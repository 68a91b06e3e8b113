/** A browser with the fixture's page open, and a site of the test's own for that page to fetch from. */
import { createServer } from 'node:http';
import { launch } from './browsers.mjs';
import { startServer } from './server.mjs';
import { until } from './until.mjs';

/** @typedef {{ base: string, close: () => void }} Site base without a slash at the end */
/** @typedef {{ begin: number, end: number, headers: Record<string, string> }} Asked end: behind the last byte */

/**
 * @template {Site} [S=Site]
 * @param {'chromium' | 'firefox' | 'webkit'} name
 * @param {{ site?: () => Promise<S>, inPage?: Function }} [options] inPage runs in the page before it is handed over
 * @returns {Promise<{ page: import('./browsers.mjs').Page, site: S, close: () => Promise<void> }>}
 */
export async function visit(name, { site: start = async () => /** @type {any} */ (null), inPage = () => {} } = {}) {
  const [browser, server, site] = await Promise.all([launch(name), startServer({ isolation: false }), start()]);
  const close = async () => {
    await browser.close();
    await server.close();
    site?.close();
  };
  try {
    const page = await browser.open(`${server.url}tests/browser/fixture.html`);
    await until(page, 'the page is ready', () => Boolean(globalThis.fixture));
    await page.evaluate(inPage);
    return { page, site, close };
  } catch (error) {
    await close();
    throw error;
  }
}

/**
 * @param {import('node:http').RequestListener} answer
 * @returns {Promise<Site>}
 */
export async function startSite(answer) {
  const server = createServer(answer);
  await new Promise((resolve) => { server.listen(0, '127.0.0.1', () => resolve(null)); });
  const { port } = /** @type {import('node:net').AddressInfo} */ (server.address());
  return { base: `http://127.0.0.1:${port}`, close: () => { server.close(); server.closeAllConnections(); } };
}

/**
 * The part of a file that a request asks for.
 * @param {import('node:http').IncomingMessage} request
 * @param {number} size
 * @returns {Asked | null} null where it asks for all
 */
export function rangeOf(request, size) {
  const [, first, last] = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '') ?? [];
  if (first === undefined) return null;
  const [begin, end] = [Number(first), last ? Math.min(size, Number(last) + 1) : size];
  return { begin, end, headers: { 'content-range': `bytes ${begin}-${end - 1}/${size}` } };
}
