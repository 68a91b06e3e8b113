/** What only a process or page that has run nothing yet can tell. */
import { median, cosine } from '../statistics.mjs';
import { towerInput, towerTensors, HEADS, LAYERS, OUTPUT, SIZE } from '../tower.mjs';

const OPTIONS = { build: 'relaxed', threads: 1 };
const tower = models => new models.ModifiedResNet({ layers: LAYERS, outputDim: OUTPUT, heads: HEADS });

const runs = {
  /** Milliseconds from the package in memory to the numbers of one layer. */
  async start() {
    const { compile, nn, Tensor } = await import('../../../js/index.js');
    const weight = { data: new Float32Array(64 * 64).fill(0.5), shape: [64, 64] };
    const from = performance.now();
    const model = await compile(new nn.Linear(64, 64, { bias: false }), { weights: { weight }, inputs: [[1, 64]], ...OPTIONS });
    await model.forward(new Tensor(new Float32Array(64).fill(1), [1, 64]));
    return { start: performance.now() - from };
  },

  /** The checkpoint lies in memory and the engine runs; then the forwards. */
  async load() {
    const { compile, models, safetensors, Tensor } = await import('../../../js/index.js');
    const { sharedEngine } = await import('../../../js/init.js');
    const weights = safetensors.write(Object.fromEntries([...towerTensors()].map(([name, { data, shape }]) => [name, new Tensor(data, shape)])));
    const { memory } = await sharedEngine(OPTIONS);
    const from = performance.now();
    const model = await compile(tower(models), { weights, ...OPTIONS });
    const load = performance.now() - from;
    const peak = memory.buffer.byteLength / model.memory.weights;
    const input = new Tensor(towerInput(), [1, 3, SIZE, SIZE]);
    const times = [];
    for (let i = 0; i < 9; i++) {
      const start = performance.now();
      await model.forward(input);
      times.push(performance.now() - start);
    }
    return { load, peak, bytes: weights.byteLength, first: times[0], steady: median(times.slice(4)) };
  },

  /** The least cosine of q8's embeddings to f32's, over the demo's pictures. Node only: it reads files. */
  async cosine() {
    const { compile, image, models } = await import('../../../js/index.js');
    const { readdirSync, readFileSync } = await import('node:fs');
    const weights = Object.fromEntries(towerTensors());
    const [exact, quantised] = await Promise.all(['f32', 'q8'].map(precision => compile(tower(models), { weights, ...OPTIONS, precision })));
    const folder = new URL('../../../demo/samples/', import.meta.url);
    const cosines = [];
    for (const file of readdirSync(folder)) {
      const picture = await image.toTensor(readFileSync(new URL(file, folder)), { size: SIZE });
      cosines.push(cosine((await exact.forward(picture)).data, (await quantised.forward(picture)).data));
    }
    return { cosine: Math.min(...cosines) };
  },
};

/** @param {{ run: keyof runs }} options @returns {Promise<Record<string, number>>} */
export const figures = ({ run }) => runs[run]();
