/** What only a process or page that has run nothing yet can tell. */
import { median, cosine } from '../statistics.mjs';
import { towerTensors, HEADS, LAYERS, OUTPUT, SIZE } from '../tower.mjs';

/** About what RN50 takes when it is packed, and all that the run of `load` takes, which makes the checkpoint first. */
const PACKED = 154e6;
const ALL = 4 * PACKED;
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

/**
 * Packs RN50's checkpoint, which lies in memory, into an engine that runs. Bytes: of the checkpoint, of the packed weights, of the engine's memory, and
 * what was held at worst, buffers of JavaScript's included (which only Node tells).
 * @param {string} build
 * @returns {Promise<{ model: any, input: any, milliseconds: number, checkpoint: number, packed: number, wasm: number, peak: number }>}
 */
export async function load(build) {
  const [{ compile }, { sharedEngine }, { net }] = await Promise.all([import('../../../js/index.js'), import('../../../js/init.js'), import('../nets.mjs')]);
  const { module, checkpoint, shape, input } = net('rn50');
  const { memory } = await sharedEngine({ ...OPTIONS, build });
  globalThis.gc?.();
  const buffers = () => globalThis.process?.memoryUsage?.().arrayBuffers - memory.buffer.byteLength || 0;
  const before = buffers();
  let peak = 0;
  let next = 0;
  const look = ({ loaded }) => {   // every 8 MB: looking takes a while, too
    if (loaded < next) return;
    next = loaded + (8 << 20);
    peak = Math.max(peak, memory.buffer.byteLength + Math.max(0, buffers() - before));
  };
  const from = performance.now();
  const model = await compile(module, { weights: checkpoint.buffer, inputs: [shape], onProgress: look, ...OPTIONS, build });
  const milliseconds = performance.now() - from;
  look({ loaded: Infinity });
  return { model, input, milliseconds, checkpoint: checkpoint.byteLength, packed: model.memory.weights, wasm: memory.buffer.byteLength, peak };
}

/**
 * Milliseconds for a first byte in each page of so much new memory: what the system takes for memory never used before. A virtual machine fetches it
 * from its host once, so that what follows finds it there.
 */
export function touch(bytes) {
  const words = new Uint8Array(new WebAssembly.Memory({ initial: Math.ceil(bytes / 65536) }).buffer);
  const from = performance.now();
  for (let i = 0; i < bytes; i += 4096) words[i] = 1;
  return performance.now() - from;
}

const runs = {
  /** What a virtual machine has to fetch from its host for the run of `load`, which is no loader's doing. */
  async fetch() {
    return { 'fetching memory': touch(ALL) };
  },

  /** As much memory as load's weights take when they are packed. */
  async touch() {
    return { 'touching as much': touch(PACKED) };
  },

  /** Milliseconds from the package in memory to the numbers of one layer. */
  async start() {
    const { compile, nn, Tensor } = await import('../../../js/index.js');
    const weight = { data: new Float32Array(64 * 64).fill(0.5), shape: [64, 64] };
    const from = performance.now();
    const model = await compile(new nn.Linear(64, 64, { bias: false }), { weights: { weight }, inputs: [[1, 64]], ...OPTIONS });
    await model.forward(new Tensor(new Float32Array(64).fill(1), [1, 64]));
    return { start: performance.now() - from };
  },

  /** Then the forwards. */
  async load() {
    const { model, input, milliseconds, checkpoint, packed, peak } = await load(OPTIONS.build);
    const times = await forwards(model, input, 16);
    return { load: milliseconds, peak: peak / packed, bytes: checkpoint, first: times[0], steady: median(times.slice(8)) };
  },

  /** A network of about a millisecond, of which compiling the kernels takes the larger part. */
  async small() {
    const [{ compile }, { net }] = await Promise.all([import('../../../js/index.js'), import('../nets.mjs')]);
    const { module, checkpoint, shape, input } = net('small-1ms');
    const model = await compile(module, { weights: checkpoint.buffer, inputs: [shape], ...OPTIONS });
    const times = await forwards(model, input, 600);
    return { 'first, small': times[0], 'steady, small': median(times.slice(500)) };
  },

  /**
   * The least cosine of q8's embeddings to f32's over the demo's pictures, for RN50 with random weights and for the demo's trained tower. Node only: it
   * reads files. Of RN50 also the cosine without what all embeddings have in common, and the largest of two different pictures.
   */
  async cosine() {
    const { compile, image, models, safetensors } = await import('../../../js/index.js');
    const { readdirSync, readFileSync } = await import('node:fs');
    const demo = new URL('../../../demo/', import.meta.url);
    const files = readdirSync(new URL('samples/', demo)).map(name => readFileSync(new URL(`samples/${name}`, demo)));
    const embeddings = async (module, options, preprocess) => {
      const model = await compile(module, { ...options, ...OPTIONS });
      const all = [];
      for (const file of files) all.push((await model.forward(await image.toTensor(file, preprocess))).data);
      model.dispose();
      return all;
    };
    const both = async (...network) => {
      const [module, options, preprocess] = network;
      return [await embeddings(module(), options, preprocess), await embeddings(module(), { ...options, precision: 'q8' }, preprocess)];
    };
    const [exact, quantised] = await both(() => tower(models), { weights: Object.fromEntries(towerTensors()) }, { size: SIZE });
    const { embed_dim: outputDim, vision_cfg: vision, preprocess_cfg: preprocess } = JSON.parse(readFileSync(new URL('model/config.json', demo), 'utf8'));
    const { layers, heads, width, image_size: imageSize, use_se: useSe, layer_norm: layerNorm } = vision;
    const weights = await safetensors.open(readFileSync(new URL('model/model.safetensors', demo)));
    const trained = await both(() => new models.ModifiedResNet({ layers, outputDim, heads, imageSize, width, useSe, layerNorm }), { weights, prefix: 'visual.' }, preprocess);
    const least = (a, b) => Math.min(...a.map((embedding, i) => cosine(embedding, b[i])));
    const mean = exact[0].map((_, i) => exact.reduce((sum, embedding) => sum + embedding[i], 0) / exact.length);
    const centred = list => list.map(embedding => embedding.map((value, i) => value - mean[i]));
    const others = Math.max(...exact.flatMap((a, i) => exact.slice(0, i).map(b => cosine(a, b))));
    return { cosine: least(exact, quantised), 'centred cosine': least(centred(exact), centred(quantised)), 'two pictures': others, 'trained cosine': least(...trained) };
  },
};

/** @param {{ run: keyof runs }} options @returns {Promise<Record<string, number>>} */
export const figures = ({ run }) => runs[run]();
