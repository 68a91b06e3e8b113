/** Weights and pictures that tests/reference/generated_weights.py makes too, bit for bit; the arithmetic is described there. */

const CELL = 28;
const SIZE = 224;

/**
 * Doubles in [0, 1).
 * @param {string} name
 * @returns {(i: number) => number}
 */
function uniform(name) {
  let key = 2166136261;
  for (const character of name) key = Math.imul(key ^ character.charCodeAt(0), 16777619);
  return (i) => {
    let h = key + Math.imul(i, 0x9e3779b9) | 0;
    h = Math.imul(h ^ h >>> 16, 0x85ebca6b);
    h = Math.imul(h ^ h >>> 13, 0xc2b2ae35);
    return ((h ^ h >>> 16) >>> 8) / 16777216;
  };
}

/**
 * Where a tensor's numbers lie: [low, high].
 * @param {string} name
 * @param {readonly number[]} shape
 * @returns {[number, number]}
 */
function interval(name, shape) {
  const part = name.split('.').at(-1);
  const around = (/** @type {number} */ limit) => /** @type {[number, number]} */ ([-limit, limit]);
  if (part === 'running_mean') return around(0.2);
  if (part === 'running_var') return [0.5, 1.5];
  if (shape.length === 4) return around(Math.sqrt(6 / (shape[1] * shape[2] * shape[3])));
  if (name.endsWith('proj.weight')) return around(Math.sqrt(3 / shape[1]) * (/[qk]_proj\.weight$/.test(name) ? 0.25 : 1));
  if (part === 'positional_embedding') return around(0.3);
  if (part === 'weight') return name.endsWith('bn3.weight') ? [0.2, 0.6] : [0.6, 1.4];
  return around(0.2);
}

/**
 * A weight of ModifiedResNet.
 * @param {string} name As in the checkpoint.
 * @param {readonly number[]} shape
 * @returns {Float32Array}
 */
export function generatedWeight(name, shape) {
  const [low, high] = interval(name, shape);
  const at = uniform(name);
  const out = new Float32Array(shape.reduce((product, size) => product * size, 1));
  for (let i = 0; i < out.length; i++) out[i] = low + (high - low) * at(i);
  return out;
}

/**
 * Pictures [count, 3, 224, 224].
 * @param {number} count
 * @returns {Float32Array}
 */
export function generatedPictures(count) {
  const cells = SIZE / CELL;
  const coarse = uniform('picture.cells');
  const fine = uniform('picture.noise');
  const out = new Float32Array(count * 3 * SIZE * SIZE);
  for (let i = 0; i < out.length; i++) {
    const x = i % SIZE;
    const y = Math.floor(i / SIZE) % SIZE;
    const plane = Math.floor(i / (SIZE * SIZE));
    out[i] = (4 * coarse((plane * cells + Math.floor(y / CELL)) * cells + Math.floor(x / CELL)) - 2) + (fine(i) - 0.5);
  }
  return out;
}
