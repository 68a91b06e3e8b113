// The other half of open_clip_rn50.py: its checkpoint through this package, against PyTorch's embeddings.
//   node tests/reference/open_clip_rn50.mjs FOLDER [build]
import { join } from 'node:path';
import { compile, models, safetensors, Tensor } from '../../js/index.js';
import { error } from '../node/fixtures.js';

const [folder, build] = process.argv.slice(2);
const expected = await safetensors.open(join(folder, 'expected.safetensors'));
const read = async (name) => {
  const { data, shape } = await expected.tensor(name);
  return new Tensor(data, shape);
};
const started = performance.now();
const model = await compile(new models.ModifiedResNet({ layers: [3, 4, 6, 3], outputDim: 1024, heads: 32 }), {
  weights: join(folder, 'open_clip_model.safetensors'), prefix: 'visual.', build,
});
const loaded = performance.now();
const input = await read('input');
const y = await model.forward(input);
const one = new Tensor(input.data.subarray(0, 3 * 224 * 224), [1, 3, 224, 224]);
const times = [];
for (let i = 0; i < 12; i++) {
  const start = performance.now();
  await model.forward(one);
  times.push(performance.now() - start);
}
console.log(`loaded in ${(loaded - started).toFixed(0)} ms, ${(model.memory.weights / 1e6).toFixed(0)} MB of weights, ${(model.memory.activations / 1e6).toFixed(0)} MB of activations`);
console.log(`error ${(error(y, await read('output'))).toExponential(2)}, one picture ${times.sort((a, b) => a - b)[6].toFixed(1)} ms (median of 12)`);
model.dispose();
await expected.close();
