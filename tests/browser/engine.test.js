/** The loader in pages that make it hard: a strict content security policy, workers forbidden, the engine as files of their own. */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { BROWSERS, launch } from './browsers.mjs';
import { expectedBuilds } from './engines.mjs';
import { ROOT } from './server.mjs';
import { until } from './until.mjs';

const ISOLATION = { 'cross-origin-opener-policy': 'same-origin', 'cross-origin-embedder-policy': 'require-corp' };
const STRICT = "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; connect-src 'self'";
const SCRIPT = `
  const load = { embedded: () => import('/js/index.js'), external: () => import('/web/external.js') };
  globalThis.start = async (entry, options) => {
    const { createEngine } = await import('/web/engine.js');
    await load[entry]();
    const engine = await createEngine(options);
    for (let i = 0; i < 200 && engine.pool && engine.threads < options.threads; i++) await new Promise(resolve => { setTimeout(resolve, 100); });
    const { build, threads, pool } = engine;
    const wasm = performance.getEntriesByType('resource').map(({ name }) => name).filter(name => name.includes('/dist/wasm/') && !name.endsWith('id.js'));
    return { build, threads, pool: pool > 0, wasm: wasm.map(name => name.replace(/.*\\//, '')) };
  };
  globalThis.many = async (rounds, together) => {
    const { compile, nn, Tensor } = await import('/js/index.js');
    const weights = { weight: new Tensor(new Float32Array(32).fill(0.5), [4, 8]), bias: new Tensor(new Float32Array(4), [4]) };
    const input = new Tensor(new Float32Array(8).fill(1), [1, 8]);
    const one = async () => {
      const model = await compile(new nn.Linear(8, 4), { weights, inputs: [[1, 8]], worker: true, threads: 3 });
      const { data } = await model.forward(input);
      model.dispose();
      globalThis.sums.push(data.reduce((a, b) => a + b));
    };
    for (let i = 0; i < rounds; i++) await Promise.all(Array.from({ length: together }, one));
  };
  globalThis.sums = [];
  globalThis.picture = async () => {
    const { image } = await import('/js/index.js');
    const photo = { data: Uint8Array.from({ length: 400 * 300 * 3 }, (_, i) => i * 7), width: 400, height: 300 };
    const [here, ...there] = [await image.toTensor(photo), await image.toTensor(photo, { worker: true }), await image.toTensor(photo, { worker: true })];
    return there.map(({ data }) => data.every((value, i) => value === here.data[i]));
  };`;

/** Serves the repository; the path /POLICY/... is a page under that policy. */
async function answer(request, response) {
  const { pathname } = new URL(request.url, 'http://page');
  const page = { '/open': {}, '/strict': { 'content-security-policy': STRICT } }[pathname];
  if (page) {
    response.writeHead(200, { 'content-type': 'text/html', ...ISOLATION, ...page }).end('<!doctype html><title>engine</title><script src="/start.js"></script>');
    return;
  }
  const body = pathname === '/start.js' ? SCRIPT : await readFile(path.join(ROOT, path.posix.normalize(pathname))).catch(() => null);
  const type = pathname.endsWith('.wasm') ? 'application/wasm' : 'text/javascript';
  response.writeHead(body === null ? 404 : 200, { 'content-type': type, ...ISOLATION }).end(body);
}

for (const name of BROWSERS) {
  describe(`the loader in ${name}`, () => {
    const [best] = expectedBuilds(name, true);
    const threads = best.endsWith('threads');
    /** @type {import('./browsers.mjs').Browser} */ let browser;
    const server = createServer(answer);
    before(async () => {
      await new Promise(resolve => { server.listen(0, '127.0.0.1', () => resolve(null)); });
      browser = await launch(name);
    });
    after(async () => {
      await browser?.close();
      server.close();
      server.closeAllConnections();
    });

    const start = async (/** @type {string} */ policy, /** @type {string} */ entry, /** @type {object} */ options) => {
      const page = await browser.open(`http://127.0.0.1:${/** @type {any} */ (server.address()).port}/${policy}`);
      await until(page, 'the page is ready', () => Boolean(globalThis.start));
      return page.evaluate((...args) => globalThis.start(...args), entry, options);
    };

    it('fetches one build, as text', async () => {
      assert.deepEqual(await start('open', 'embedded', { threads: 3 }), { build: best, threads: threads ? 3 : 1, pool: threads, wasm: [`${best}.js`] });
    });
    it('or as a file, from the entry lamella/external', async () => {
      assert.deepEqual(await start('open', 'external', { threads: 2 }), { build: best, threads: threads ? 2 : 1, pool: threads, wasm: [`${best}.wasm`] });
    });
    it('starts and ends workers with threads, many of them', { timeout: 120000 }, async () => {
      const page = await browser.open(`http://127.0.0.1:${/** @type {any} */ (server.address()).port}/open`);
      await until(page, 'the page is ready', () => Boolean(globalThis.start));
      await page.evaluate(() => { globalThis.many(8, 3).catch(error => { globalThis.sums = String(error); }); });
      await until(page, '24 models have come and gone', () => typeof globalThis.sums === 'string' || globalThis.sums.length === 24);
      assert.deepEqual(await page.evaluate(() => globalThis.sums), new Array(24).fill(16));
    });
    it('works under a strict policy, which forbids its workers', async () => {
      assert.deepEqual(await start('strict', 'embedded', { threads: 3 }), { build: best, threads: 1, pool: false, wasm: [`${best}.js`] });
    });
    it('which also means that pictures are prepared by the page', async () => {
      const page = await browser.open(`http://127.0.0.1:${/** @type {any} */ (server.address()).port}/strict`);
      await until(page, 'the page is ready', () => Boolean(globalThis.picture));
      assert.deepEqual(await page.evaluate(() => globalThis.picture()), [true, true]);
    });
  });
}
