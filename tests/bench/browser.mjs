/** The contestants in Chromium: a server with the isolation headers that threads need, one page with a worker for each. */
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { chromium } from 'playwright-core';
import { Contestant } from './contestant.mjs';

const TYPES = { html: 'text/html', mjs: 'text/javascript', js: 'text/javascript', wasm: 'application/wasm' };
/** Only for the bench: `Float32Array`s leave the page as base64, since the driver speaks JSON. */
const PAGE = `<!doctype html><script>
const worker = new Worker('/worker.js', { type: 'module' });
window.call = message => new Promise((resolve, reject) => {
  worker.onerror = event => reject(new Error(event.message));
  worker.onmessage = async ({ data: { result, error, short } }) => {
    if (error) return resolve({ error, short });
    if (!(result instanceof Float32Array)) return resolve({ result });
    const reader = new FileReader();
    reader.onload = () => resolve({ base64: reader.result.split(',')[1] });
    reader.readAsDataURL(new Blob([result]));
  };
  worker.postMessage(message);
});
</script>`;

/**
 * @param {string[]} folders whose files are served by their base name: the runtimes' wasm
 * @returns {Promise<{ version: string, contestant: (label: string, name: string, options: any) => Contestant, close: () => Promise<void> }>}
 */
export async function openBrowser(folders) {
  const { outputFiles } = await build({
    absWorkingDir: fileURLToPath(new URL('.', import.meta.url)), entryPoints: ['worker.mjs'], bundle: true, splitting: true, format: 'esm', platform: 'browser',
    target: 'es2022', write: false, outdir: '/', external: ['node:*', 'sharp'], logLevel: 'error',
    alias: { 'onnxruntime-web': 'onnxruntime-web/wasm' }, // the default entry brings the larger WebGPU build
  });
  const files = new Map(outputFiles.map(file => [basename(file.path), Buffer.from(file.contents)]));
  files.set('index.html', Buffer.from(PAGE));

  const find = async name => {
    if (files.has(name)) return files.get(name);
    for (const folder of folders) {
      const bytes = await readFile(join(folder, name)).catch(() => undefined);
      if (bytes) return bytes;
    }
    return undefined;
  };
  const server = createServer(async (request, response) => {
    const name = basename(new URL(request.url, 'http://localhost').pathname) || 'index.html';
    const bytes = await find(name);
    response.writeHead(bytes ? 200 : 404, {
      'Content-Type': TYPES[name.split('.').at(-1)] ?? 'application/octet-stream',
      'Cross-Origin-Opener-Policy': 'same-origin',
      'Cross-Origin-Embedder-Policy': 'require-corp',
    }).end(bytes);
  });
  await new Promise(resolve => server.listen(0, '127.0.0.1', () => resolve(undefined)));
  const origin = `http://127.0.0.1:${/** @type {import('node:net').AddressInfo} */ (server.address()).port}/`;
  const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: ['--no-sandbox', '--disable-gpu'] });
  return {
    version: `Chromium ${browser.version()}`,
    contestant: (label, name, options) => new PageContestant(label, name, { ...options, ...options.assets && { assets: origin } }, browser, origin),
    async close() {
      await browser.close();
      server.closeAllConnections();
      server.close();
    },
  };
}

/** In a worker of a page with a browser context, and so a renderer process, of its own. */
class PageContestant extends Contestant {
  #page;

  constructor(label, name, options, browser, origin) {
    super(label, name, options);
    this.#page = browser.newContext().then(async context => {
      const page = await context.newPage();
      await page.goto(origin);
      return page;
    });
  }

  async call(call, values) {
    const page = await this.#page;
    const { result, base64, error, short } = await page.evaluate(message => globalThis.call(message), { call, ...values });
    if (error) throw Object.assign(new Error(`${this.label}: ${error}`), { short });
    return base64 === undefined ? result : new Float32Array(Uint8Array.from(Buffer.from(base64, 'base64')).buffer);
  }

  async stop() {
    const page = await this.#page;
    await page.context().close().catch(() => {}); // the browser may have gone first
  }
}
