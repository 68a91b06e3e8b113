// The other half of open_clip_rn50.py: its checkpoint through this package, against PyTorch's embeddings; and how long both towers take.
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
/** Milliseconds, the median of 12. */
async function timed(run) {
  const times = [];
  for (let i = 0; i < 12; i++) {
    const start = performance.now();
    await run();
    times.push(performance.now() - start);
  }
  return times.sort((a, b) => a - b)[6];
}
const started = performance.now();
const model = await compile(new models.CLIP('RN50'), { weights: join(folder, 'open_clip_model.safetensors'), build });
const loaded = performance.now();
const input = await read('input');
const y = await model.encodeImage(input);
const one = new Tensor(input.data.subarray(0, 3 * 224 * 224), [1, 3, 224, 224]);
const image = await timed(() => model.encodeImage(one));
console.log(`${model.engine.build}: loaded in ${(loaded - started).toFixed(0)} ms, ${(model.memory.weights / 1e6).toFixed(0)} MB of weights, ${(model.memory.activations / 1e6).toFixed(0)} MB of activations`);
console.log(`pictures: error ${(error(y, await read('output'))).toExponential(2)}, one ${image.toFixed(1)} ms`);
const texts = await read('texts');
const length = texts.shape[1];
const [short, long] = [0, 2].map((row) => texts.data.subarray(row * length, (row + 1) * length));
console.log(`texts: error ${(error(await model.encodeText(texts), await read('text_output'))).toExponential(2)}, "a photo of a cat" ${(await timed(() => model.encodeText(short))).toFixed(1)} ms, ` +
  `${length} tokens ${(await timed(() => model.encodeText(long))).toFixed(1)} ms`);
model.dispose();
await expected.close();
