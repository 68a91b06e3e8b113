/**
 * CLIP's RN50 image tower (ModifiedResNet [3, 4, 6, 3], width 64, 224 x 224, 32 heads, 1024 outputs) with random weights:
 * the tensors under the checkpoint's names, and one walk over the layers that every peer's builder follows.
 */

export const SIZE = 224;
export const OUTPUT = 1024;
export const HEADS = 32;
export const LAYERS = [3, 4, 6, 3];
const WIDTH = 64;
export const EMBED = WIDTH * 32;
/** Tokens of the attention pool: the mean, then the pixels of the last 7 x 7 map. */
export const TOKENS = (SIZE / 32) ** 2 + 1;
const EPS = 1e-5;

/**
 * Uniform floats in [centre - spread, centre + spread], the same in every process.
 * @param {string} seed any text; another text, other numbers
 * @param {number} count
 * @param {number} [spread]
 * @param {number} [centre]
 */
export function uniform(seed, count, spread = 1, centre = 0) {
  let state = 2166136261;
  for (const char of seed) state = Math.imul(state ^ char.charCodeAt(0), 16777619);
  state |= 1;
  const out = new Float32Array(count);
  for (let i = 0; i < count; i++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    out[i] = centre + spread * (state / 2147483648);
  }
  return out;
}

/**
 * Calls the builder for each layer in order of execution.
 * `ops.conv(x, conv, norm, { inputs, outputs, kernel, stride, relu })` is a convolution with its batch norm, padded by
 * floor(kernel / 2); `ops.avgPool(x, k)` has stride k; `ops.addRelu(a, b)`; `ops.attentionPool(x)` returns the embedding.
 * @template T
 * @param {any} ops
 * @param {T} x
 * @returns {T}
 */
export function walkTower(ops, x) {
  const half = WIDTH / 2;
  x = ops.conv(x, 'conv1', 'bn1', { inputs: 3, outputs: half, kernel: 3, stride: 2, relu: true });
  x = ops.conv(x, 'conv2', 'bn2', { inputs: half, outputs: half, kernel: 3, stride: 1, relu: true });
  x = ops.conv(x, 'conv3', 'bn3', { inputs: half, outputs: WIDTH, kernel: 3, stride: 1, relu: true });
  x = ops.avgPool(x, 2);
  let channels = WIDTH;
  LAYERS.forEach((count, stage) => {
    const planes = WIDTH << stage;
    for (let i = 0; i < count; i++) {
      x = bottleneck(ops, x, `layer${stage + 1}.${i}`, channels, planes, stage > 0 && i === 0 ? 2 : 1);
      channels = planes * 4;
    }
  });
  return ops.attentionPool(x);
}

function bottleneck(ops, x, path, inputs, planes, stride) {
  const outputs = planes * 4;
  const conv = (y, name, norm, shape) => ops.conv(y, `${path}.${name}`, `${path}.${norm}`, { stride: 1, ...shape });
  let y = conv(x, 'conv1', 'bn1', { inputs, outputs: planes, kernel: 1, relu: true });
  y = conv(y, 'conv2', 'bn2', { inputs: planes, outputs: planes, kernel: 3, relu: true });
  if (stride > 1) y = ops.avgPool(y, stride);
  y = conv(y, 'conv3', 'bn3', { inputs: planes, outputs, kernel: 1, relu: false });
  if (inputs !== outputs || stride > 1) {
    if (stride > 1) x = ops.avgPool(x, stride);
    x = conv(x, 'downsample.0', 'downsample.1', { inputs, outputs, kernel: 1, relu: false });
  }
  return ops.addRelu(y, x);
}

/**
 * The whole checkpoint. Spreads keep the activations near 1 through all layers.
 * @returns {Map<string, { shape: number[], data: Float32Array }>}
 */
export function towerTensors() {
  const tensors = new Map();
  const add = (name, shape, spread, centre) => {
    tensors.set(name, { shape, data: uniform(name, shape.reduce((a, b) => a * b), spread, centre) });
  };
  const recorder = {
    conv(x, conv, norm, { inputs, outputs, kernel, relu }) {
      add(`${conv}.weight`, [outputs, inputs, kernel, kernel], Math.sqrt((relu ? 6 : 1.5) / (inputs * kernel * kernel)));
      add(`${norm}.weight`, [outputs], 0.2, 1);
      add(`${norm}.bias`, [outputs], 0.1);
      add(`${norm}.running_mean`, [outputs], 0.1);
      add(`${norm}.running_var`, [outputs], 0.2, 1);
    },
    avgPool() {},
    addRelu() {},
    attentionPool() {
      add('attnpool.positional_embedding', [TOKENS, EMBED], EMBED ** -0.5);
      for (const [name, outputs] of [['q', EMBED], ['k', EMBED], ['v', EMBED], ['c', OUTPUT]]) {
        add(`attnpool.${name}_proj.weight`, [outputs, EMBED], Math.sqrt(3 / EMBED));
        add(`attnpool.${name}_proj.bias`, [outputs], 0.1);
      }
    },
  };
  walkTower(recorder, undefined);
  return tensors;
}

/**
 * Convolution weights with the batch norm multiplied in, as exporters do for inference.
 * @returns {{ weight: Float32Array, bias: Float32Array }} weight in PyTorch's order [out, in, kh, kw]
 */
export function foldNorm(tensors, conv, norm) {
  const get = name => tensors.get(name).data;
  const source = get(`${conv}.weight`);
  const gamma = get(`${norm}.weight`);
  const mean = get(`${norm}.running_mean`);
  const variance = get(`${norm}.running_var`);
  const bias = get(`${norm}.bias`).slice();
  const weight = source.slice();
  const row = source.length / bias.length;
  for (let o = 0; o < bias.length; o++) {
    const scale = gamma[o] / Math.sqrt(variance[o] + EPS);
    bias[o] -= mean[o] * scale;
    for (let i = o * row; i < (o + 1) * row; i++) weight[i] *= scale;
  }
  return { weight, bias };
}

/** One picture, [1, 3, 224, 224]. */
export const towerInput = () => uniform('picture', 3 * SIZE * SIZE, 1.7);

/** @param {Float32Array} matrix [rows, columns] @returns {Float32Array} [columns, rows] */
export function transpose(matrix, rows, columns) {
  const out = new Float32Array(matrix.length);
  for (let i = 0; i < rows; i++) for (let j = 0; j < columns; j++) out[j * rows + i] = matrix[i * columns + j];
  return out;
}

/** Multiplications and additions of one forward of the convolutions. */
export function trunkFlops() {
  let macs = 0;
  walkTower({
    conv(side, conv, norm, { inputs, outputs, kernel, stride }) {
      macs += (side / stride) ** 2 * outputs * inputs * kernel ** 2;
      return side / stride;
    },
    avgPool: (side, k) => side / k,
    addRelu: side => side,
    attentionPool: side => side,
  }, SIZE);
  return 2 * macs;
}

/** The same of the whole tower: there is one query in the attention pool. */
export const towerFlops = () => trunkFlops() + 2 * (2 * TOKENS * EMBED * EMBED + EMBED * EMBED + EMBED * OUTPUT + 2 * TOKENS * EMBED);
