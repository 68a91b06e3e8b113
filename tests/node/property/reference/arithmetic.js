/** Arithmetic, products, means and functions of single numbers, in plain loops. */
import { count, each, front, largest, lift, place, tensor } from './tensor.js';

/** @import { Reference } from './tensor.js' */

/** @param {readonly number[]} a @param {readonly number[]} b */
export function broadcast(a, b) {
  const rank = Math.max(a.length, b.length);
  return Array.from({ length: rank }, (_, i) => {
    const [x, y] = [a[a.length - rank + i] ?? 1, b[b.length - rank + i] ?? 1];
    return x === 1 ? y : x;
  });
}

/** Where an index of a broadcast shape lies in an operand. @param {readonly number[]} shape @param {readonly number[]} index */
export const within = (shape, index) => place(shape, shape.map((size, i) => (size === 1 ? 0 : index[index.length - shape.length + i])));

/** @param {(a: number, b: number) => number} f @param {(a: Reference, b: Reference) => number} carried Slack from that of a and b. */
const arithmetic = (f, carried) => (/** @type {Reference | number} */ first, /** @type {Reference | number} */ second) => {
  const [a, b] = [lift(first), lift(second)];
  const shape = broadcast(a.shape, b.shape);
  const y = tensor(shape, new Float64Array(count(shape)));
  each(shape, (index, i) => { y.data[i] = f(a.data[within(a.shape, index)], b.data[within(b.shape, index)]); });
  y.slack = largest(y.data) + carried(a, b);
  return y;
};

const smallest = (/** @type {Reference} */ x) => x.data.reduce((least, v) => Math.min(least, Math.abs(v)), Infinity);

export const add = arithmetic((a, b) => a + b, (a, b) => a.slack + b.slack);
export const sub = arithmetic((a, b) => a - b, (a, b) => a.slack + b.slack);
export const mul = arithmetic((a, b) => a * b, (a, b) => (a.slack && a.slack * largest(b.data)) + (b.slack && b.slack * largest(a.data)));
export const div = arithmetic((a, b) => a / b, (a, b) => (a.slack && a.slack / smallest(b)) + (b.slack && b.slack * largest(a.data) / smallest(b) ** 2));

/** @param {Reference | number} x @param {Reference} other */
export const expandAs = (x, other) => ({ ...arithmetic((_, b) => b, () => 0)(other, x), slack: lift(x).slack });

/** @param {Reference} a @param {Reference} b @param {{ transposeB?: boolean }} [options] @returns {Reference} */
export function matmul(a, b, { transposeB = false } = {}) {
  const [m, k] = a.shape.slice(-2);
  const n = b.shape[b.shape.length - (transposeB ? 2 : 1)];
  const lead = broadcast(a.shape.slice(0, -2), b.shape.slice(0, -2));
  const y = tensor([...lead, m, n], new Float64Array(count(lead) * m * n));
  let [terms, row, column] = [0, 0, 0];
  each(lead, (index, matrix) => {
    const [from, other] = [within(a.shape.slice(0, -2), index) * m * k, within(b.shape.slice(0, -2), index) * k * n];
    for (let i = 0; i < m; i++) {
      for (let j = 0; j < n; j++) {
        let [sum, size, sizeA, sizeB] = [0, 0, 0, 0];
        for (let l = 0; l < k; l++) {
          const [u, v] = [a.data[from + i * k + l], b.data[other + (transposeB ? j * k + l : l * n + j)]];
          sum += u * v;
          size += Math.abs(u * v);
          sizeA += u * u;
          sizeB += v * v;
        }
        y.data[(matrix * m + i) * n + j] = sum;
        [terms, row, column] = [Math.max(terms, size), Math.max(row, sizeA), Math.max(column, sizeB)];
      }
    }
  });
  y.slack = terms + 2 * Math.sqrt(row) * b.slack + 2 * Math.sqrt(column) * a.slack;   // errors add up as a random walk does
  return y;
}

/** @param {Reference} x @param {number | number[] | null} [dim] @param {boolean | { keepdim?: boolean }} [keepdim] @returns {Reference} */
export function mean(x, dim = null, keepdim = false) {
  const keep = typeof keepdim === 'object' ? keepdim.keepdim ?? false : keepdim;
  const dims = new Set(dim === null ? x.shape.keys() : [dim].flat().map((d) => front(x.shape, d)));
  const kept = x.shape.map((size, i) => (dims.has(i) ? 1 : size));
  const [sums, sizes] = [new Float64Array(count(kept)), new Float64Array(count(kept))];
  each(x.shape, (index, i) => {
    const at = within(kept, index);
    sums[at] += x.data[i];
    sizes[at] += Math.abs(x.data[i]);
  });
  const number = count(x.shape.filter((_, i) => dims.has(i)));
  return tensor(keep ? kept : x.shape.filter((_, i) => !dims.has(i)), sums.map((v) => v / number), largest(sizes) / number + x.slack);
}

/** exp(x - max) / sum. @param {Reference} x @param {number} dim @returns {Reference} */
export function softmax(x, dim) {
  const axis = front(x.shape, dim);
  const kept = x.shape.map((size, i) => (i === axis ? 1 : size));
  const [most, sums] = [new Float64Array(count(kept)).fill(-Infinity), new Float64Array(count(kept))];
  each(x.shape, (index, i) => { most[within(kept, index)] = Math.max(most[within(kept, index)], x.data[i]); });
  const y = x.data.slice();
  each(x.shape, (index, i) => { sums[within(kept, index)] += y[i] = Math.exp(x.data[i] - most[within(kept, index)]); });
  each(x.shape, (index, i) => { y[i] /= sums[within(kept, index)]; });
  return tensor(x.shape, y, largest(y) * (1 + 2 * x.slack));
}

/** Abramowitz and Stegun 7.1.5 and 7.1.14: the series where it does not cancel, else a continued fraction. @param {number} x */
function erf(x) {
  const z = Math.abs(x);
  if (z > 6) return Math.sign(x);
  if (z < 2.5) {
    let [sum, term] = [0, z];
    for (let n = 0; Math.abs(term) > 1e-18; n++) {
      sum += term / (2 * n + 1);
      term *= -z * z / (n + 1);
    }
    return Math.sign(x) * 2 / Math.sqrt(Math.PI) * sum;
  }
  let fraction = z;
  for (let n = 60; n > 0; n--) fraction = z + n / 2 / fraction;
  return Math.sign(x) * (1 - Math.exp(-z * z) / Math.sqrt(Math.PI) / fraction);
}

const sigmoidOf = (/** @type {number} */ x) => 1 / (1 + Math.exp(-x));
const softplusOf = (/** @type {number} */ x) => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));

/**
 * None of them is steeper than 1.2. Far below zero those that gate x leave the small rest of a cancellation, x (1 + erf) / 2 say: they
 * are as exact as x is, not as their result.
 * @param {(x: number) => number} f @param {boolean} [gated]
 */
const pointwise = (f, gated = false) => (/** @type {Reference} */ x) => {
  const y = x.data.map((v) => f(v));
  return tensor(x.shape, y, Math.max(largest(y), gated ? largest(x.data) / 16 : 0) + 1.2 * x.slack);
};

export const relu = pointwise((x) => Math.max(x, 0));
export const sigmoid = pointwise(sigmoidOf);
export const silu = pointwise((x) => x * sigmoidOf(x), true);
export const tanh = pointwise(Math.tanh);
export const quickGelu = pointwise((x) => x * sigmoidOf(1.702 * x), true);
export const mish = pointwise((x) => x * Math.tanh(softplusOf(x)), true);
/** @param {Reference} x @param {{ beta?: number, threshold?: number }} [options] */
export const softplus = (x, { beta = 1, threshold = 20 } = {}) => pointwise((v) => (beta * v > threshold ? v : softplusOf(beta * v) / beta))(x);
const geluErf = pointwise((x) => x * (1 + erf(x / Math.SQRT2)) / 2, true);
const geluTanh = pointwise((x) => x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3))) / 2, true);

/** @param {Reference} x @param {{ approximate?: string }} [options] */
export const gelu = (x, { approximate = 'none' } = {}) => (approximate === 'tanh' ? geluTanh(x) : geluErf(x));
