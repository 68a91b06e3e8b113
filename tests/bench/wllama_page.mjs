/** wllama, llama.cpp in wasm, in Chromium: it starts workers from blobs, which Node does not have. */
import { readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';

const modules = fileURLToPath(new URL('./node_modules/', import.meta.url));
const TYPES = { html: 'text/html', js: 'text/javascript', wasm: 'application/wasm' };
/** Ordinary tokens of the vocabulary are characters from here on, those before are special: gguf.mjs. */
const SPECIAL = 259;

/** In the page: loads a model and leaves `measure`, which gives milliseconds of a prompt and of a step. Tokens are drawn anew each time. */
async function load({ name, old, special }) {
  const at = `${location.origin}/${name}/esm/`;
  const { Wllama } = await import(`${at}index.js`);
  const draw = (count) => Array.from({ length: count }, () => special + 41 + Math.floor(Math.random() * 31000));
  const model = new Wllama(old ? { 'single-thread/wllama.wasm': `${at}single-thread/wllama.wasm` } : { default: `${at}wasm/wllama.wasm` }, { suppressNativeLog: true });
  const file = await (await fetch('/model.gguf')).blob();
  await model.loadModel([file], { n_threads: 1, n_ctx: 1024, n_batch: 512, ...(!old && { n_ubatch: 512, n_gpu_layers: 0, n_parallel: 1, kv_unified: true }) });
  /** Milliseconds of a prompt and of a step after it. */
  const say = async (prompt, steps) => {
    if (!old) {   // takes text only, and has a clock of its own; the first token falls out of the prompt
      const text = draw(prompt).map((token) => String.fromCodePoint(0x4e00 + token - special)).join('');
      const { timings } = await model.createCompletion({ prompt: text, max_tokens: steps + 1, temperature: 0, top_k: 1, ignore_eos: true, cache_prompt: false, stream: false });
      if (timings.prompt_n !== prompt) throw new Error(`${timings.prompt_n} tokens in place of ${prompt}`);
      return [timings.prompt_ms, timings.predicted_ms / (timings.predicted_n - 1)];
    }
    await model.kvClear();
    const times = [performance.now()];
    await model.decode(draw(prompt), {});
    times.push(performance.now());
    for (const token of draw(steps)) await model.decode([token], {});
    return [times[1] - times[0], (performance.now() - times[1]) / steps];
  };
  await say(16, 4);
  globalThis.measure = async ({ prefill, before, steps }) => ({ prefill: (await say(prefill, 1))[0], decode: (await say(before, steps))[1] });
}

export async function openWllama() {
  let model = Buffer.alloc(0);
  const server = createServer(async (request, response) => {
    const path = normalize(new URL(request.url, 'http://localhost').pathname);
    const body = path === '/' ? '<!doctype html>' : path === '/model.gguf' ? model : await readFile(join(modules, path)).catch(() => undefined);
    response.writeHead(body === undefined ? 404 : 200, {
      'Content-Type': TYPES[path === '/' ? 'html' : path.split('.').at(-1)] ?? 'application/octet-stream',
      'Cross-Origin-Opener-Policy': 'same-origin', 'Cross-Origin-Embedder-Policy': 'require-corp',
    }).end(body);
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve(undefined)));
  const origin = `http://127.0.0.1:${/** @type {import('node:net').AddressInfo} */ (server.address()).port}`;
  const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: ['--no-sandbox', '--disable-gpu'] });
  const version = (name) => JSON.parse(readFileSync(join(modules, name, 'package.json'), 'utf8')).version;
  return {
    browser: `Chromium ${browser.version()}`,
    version,
    /** @param {string} name of the package @param {Uint8Array[]} file */
    async open(name, file) {
      model = Buffer.concat(file);
      const context = await browser.newContext();
      const page = await context.newPage();
      page.setDefaultTimeout(0);
      await page.goto(origin);
      await page.evaluate(load, { name, old: version(name).startsWith('2.'), special: SPECIAL });
      return { measure: (sizes) => page.evaluate((wanted) => globalThis.measure(wanted), sizes), close: () => context.close() };
    },
    async close() {
      await browser.close();
      server.closeAllConnections();
      server.close();
    },
  };
}
