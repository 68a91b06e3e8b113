/** onnxruntime-web, wasm backend, all graph optimisations. */
import * as ort from 'onnxruntime-web';
import { gemmOnnx, towerOnnx } from '../onnx.mjs';
import { gemmInput, gemmWeight, towerInput, towerTensors, GEMM, SIZE } from '../tower.mjs';

/** @param {{ threads: number, assets?: string }} options assets: in a page, where its wasm is */
export async function start({ threads, assets }) {
  ort.env.wasm.numThreads = threads;
  if (assets) ort.env.wasm.wasmPaths = assets;
  const job = async ({ bytes, input, output }, data, shape) => {
    const session = await ort.InferenceSession.create(bytes, { executionProviders: ['wasm'], graphOptimizationLevel: 'all' });
    return async () => {
      const results = await session.run({ [input]: new ort.Tensor('float32', data, shape) });
      return results[output].data;
    };
  };
  return {
    version: ort.env.versions.web,
    tower: await job(towerOnnx(towerTensors()), towerInput(), [1, 3, SIZE, SIZE]),
    gemm: await job(gemmOnnx(gemmWeight()), gemmInput(), [GEMM, GEMM]),
  };
}
