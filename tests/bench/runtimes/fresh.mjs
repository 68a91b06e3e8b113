/** What only a process or page that has run nothing yet can tell. */
import { median, cosine } from '../statistics.mjs';
import { towerTensors, HEADS, LAYERS, OUTPUT, SIZE } from '../tower.mjs';

const OPTIONS = { build: 'relaxed', threads: 1 };
const tower = models => new models.ModifiedResNet({ layers: LAYERS, outputDim: OUTPUT, heads: HEADS });

/** Milliseconds of each. */
async function forwards(model, input, count) {
  const times = [];
  for (let i = 0; i < count; i++) {
    const from = performance.now();
    await model.forward(input);
    times.push(performance.now() - from);
  }
  return times;
}

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

  /** The checkpoint lies in memory and the engine runs; then the forwards. Peak: what compile held at worst, over the packed weights. */
  async load() {
    const [{ compile }, { sharedEngine }, { net }] = await Promise.all([import('../../../js/index.js'), import('../../../js/init.js'), import('../nets.mjs')]);
    const { module, checkpoint, input } = net('rn50');
    const { memory } = await sharedEngine(OPTIONS);
    // What JavaScript holds besides is known in Node only.
    const buffers = () => globalThis.process?.memoryUsage?.().arrayBuffers - memory.buffer.byteLength || 0;
    const before = buffers();
    let peak = 0;
    const look = () => { peak = Math.max(peak, memory.buffer.byteLength + Math.max(0, buffers() - before)); };
    const from = performance.now();
    const model = await compile(module, { weights: checkpoint.buffer, onProgress: look, ...OPTIONS });
    const load = performance.now() - from;
    look();
    const times = await forwards(model, input, 16);
    return { load, peak: peak / model.memory.weights, bytes: checkpoint.byteLength, first: times[0], steady: median(times.slice(8)) };
  },

  /** A network of about a millisecond, of which compiling the kernels takes the larger part. */
  async small() {
    const [{ compile }, { net }] = await Promise.all([import('../../../js/index.js'), import('../nets.mjs')]);
    const { module, checkpoint, shape, input } = net('small-1ms');
    const model = await compile(module, { weights: checkpoint.buffer, inputs: [shape], ...OPTIONS });
    const times = await forwards(model, input, 600);
    return { 'first, small': times[0], 'steady, small': median(times.slice(500)) };
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
