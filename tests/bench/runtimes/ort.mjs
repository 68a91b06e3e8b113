/** onnxruntime-web, wasm backend, all graph optimisations. */
import * as ort from 'onnxruntime-web';
import { gemmOnnx, gemvOnnx, towerOnnx } from '../onnx.mjs';
import { towerInput, towerTensors, SIZE } from '../tower.mjs';
import { gemmInput, GEMMS, gemmWeight, gemvCodes, gemvInput, GEMVS } from '../work.mjs';

/** @param {{ threads: number, assets?: string }} options assets: in a page, where its wasm is */
export async function start({ threads, assets }) {
  ort.env.wasm.numThreads = threads;
  if (assets) ort.env.wasm.wasmPaths = assets;
  const job = async ({ bytes, input, output }, data, shape) => {
    const session = await ort.InferenceSession.create(bytes, { executionProviders: ['wasm'], graphOptimizationLevel: 'all' });
    return {
      async run() {
        const results = await session.run({ [input]: new ort.Tensor('float32', data, shape) });
        return results[output].data;
      },
    };
  };
  return {
    version: ort.env.versions.web,
    jobs: {
      tower: () => job(towerOnnx(towerTensors()), towerInput(), [1, 3, SIZE, SIZE]),
      ...Object.fromEntries(GEMMS.map(n => [`gemm ${n}`, () => job(gemmOnnx(gemmWeight(n), n), gemmInput(n), [n, n])])),
      ...Object.fromEntries(GEMVS.map(size => [`gemv ${size}`, () => job(gemvOnnx(gemvCodes(size), size), gemvInput(size), [1, size[1]])])),
    },
  };
}
