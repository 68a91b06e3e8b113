/** This package, through the interface that users have. */
import { compile, models, nn, safetensors, Tensor } from '../../../js/index.js';
import description from '../../../package.json' with { type: 'json' };
import { gemmInput, gemmWeight, towerInput, towerTensors, GEMM, HEADS, LAYERS, OUTPUT, SIZE } from '../tower.mjs';

/** @param {{ build: string, threads: number }} options */
export async function start({ build, threads }) {
  const job = async (module, weights, inputs, data) => {
    const tensors = Object.fromEntries(Object.entries(weights).map(([name, { data, shape }]) => [name, new Tensor(data, shape)]));
    const model = await compile(module, { weights: safetensors.write(tensors), inputs: [inputs], build, threads });
    const input = new Tensor(data, inputs);
    return async () => (await model.forward(input)).data;
  };
  const tower = new models.ModifiedResNet({ layers: LAYERS, outputDim: OUTPUT, heads: HEADS });
  const square = [GEMM, GEMM];
  return {
    version: description.version,
    tower: await job(tower, Object.fromEntries(towerTensors()), [1, 3, SIZE, SIZE], towerInput()),
    gemm: await job(new nn.Linear(GEMM, GEMM, { bias: false }), { weight: { data: gemmWeight(), shape: square } }, square, gemmInput()),
  };
}
