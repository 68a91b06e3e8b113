/** wllama: llama.cpp. It has no matrix product by itself, so a decoder made around the matrix says one token after another. */
import { Wllama } from '@wllama/wllama/esm/index.js';
import { decoderGguf } from '../gguf.mjs';
import { gemvCodes, GEMVS } from '../work.mjs';

const CONTEXT = 512;
const TOKEN = 300;

/** @param {{ assets: string, version: string }} options assets: where its wasm is; the package does not know its version */
export async function start({ assets, version }) {
  globalThis.document ??= { baseURI: assets }; // all that it wants of a page
  const job = async size => {
    const wllama = new Wllama({ 'single-thread/wllama.wasm': `${assets}wllama.wasm` }, { suppressNativeLog: true });
    await wllama.loadModel([new Blob(decoderGguf(gemvCodes(size), size))], { n_threads: 1, n_ctx: CONTEXT });
    let said = 0;
    return {
      async milliseconds() {
        if (said++ % (CONTEXT / 2) === 0) await wllama.kvClear(); // what came before costs time, too
        const from = performance.now();
        await wllama.decode([TOKEN], {});
        return performance.now() - from;
      },
    };
  };
  return { version, jobs: Object.fromEntries(GEMVS.map(size => [`gemv ${size}`, () => job(size)])) };
}
