/** LiteRT.js: XNNPACK, in its build with relaxed SIMD. The network is channels last. */
import * as litert from '@litertjs/core';
import { gemmTflite, trunkTflite } from '../tflite.mjs';
import { towerInput, towerTensors, transpose, EMBED, SIZE } from '../tower.mjs';
import { gemmInput, GEMMS, gemmWeight } from '../work.mjs';

/** @param {{ assets: string, version: string }} options assets: where its wasm is; the package does not know its version */
export async function start({ assets, version }) {
  await loadGlue();
  // Where it looks for the wasm is beside the script that runs it, which here is a bundle.
  globalThis.Module = { locateFile: name => assets + name };
  await litert.loadLiteRt(`${assets}litert_wasm_internal.js`);
  const job = async (bytes, data, shape, output) => {
    const model = await litert.loadAndCompile(bytes, { accelerator: 'wasm', cpuOptions: { numThreads: 1 } });
    const input = new litert.Tensor(data, shape);
    const run = async () => {
      const [result] = await model.run([input]);
      const values = Float32Array.from(result.toTypedArray());
      result.delete();
      return values;
    };
    return { run, output: output && (async () => output(await run())) };
  };
  return {
    version,
    jobs: {
      trunk: () => job(trunkTflite(towerTensors()), transpose(towerInput(), 3, SIZE * SIZE), [1, SIZE, SIZE, 3], values => transpose(values, values.length / EMBED, EMBED)),
      ...Object.fromEntries(GEMMS.map(n => [`gemm ${n}`, () => job(gemmTflite(gemmWeight(n), n), gemmInput(n), [n, n])])),
    },
  };
}

/** The package loads a script by `importScripts`, which neither a module worker nor Node has: this runs it as a global script. */
async function loadGlue() {
  globalThis.self ??= globalThis;
  if (typeof process === 'undefined') {
    globalThis.importScripts = url => {
      const request = new XMLHttpRequest();
      request.open('GET', url, false);
      request.send();
      (0, eval)(request.responseText);
    };
    return;
  }
  const { readFileSync } = await import('node:fs');
  const { createRequire } = await import('node:module');
  const { dirname } = await import('node:path');
  globalThis.importScripts = path => {
    const wrapped = new Function('require', '__dirname', '__filename', `${readFileSync(path, 'utf8')}; return ModuleFactory;`);
    globalThis.ModuleFactory = wrapped(createRequire(path), dirname(path), path);
  };
}
