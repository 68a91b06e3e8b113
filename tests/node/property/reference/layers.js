/** Layers with weights, in plain loops. */
import { add, matmul, mul } from './arithmetic.js';
import { narrow, reshape, squeeze, unsqueeze } from './shape.js';
import { both, count, largest, tensor } from './tensor.js';

/** @import { Reference } from './tensor.js' */

/** Padding as [top, left, bottom, right]. @param {any} padding @param {number[]} kernel @param {number[]} dilation */
function sides(padding, kernel, dilation) {
  if (padding === 'valid') return [0, 0, 0, 0];
  if (padding !== 'same') return [...both(padding), ...both(padding)];
  const whole = kernel.map((size, i) => dilation[i] * (size - 1));
  const before = whole.map((size) => Math.floor(size / 2));
  return [...before, ...whole.map((size, i) => size - before[i])];
}

/**
 * @param {Reference} x [n, c, h, w]
 * @param {Reference} weight [out, c / groups, kh, kw]
 * @param {Reference | null} [bias] [out]
 * @param {any} [options]
 * @returns {Reference}
 */
export function conv2d(x, weight, bias = null, { stride = 1, padding = 0, dilation = 1, groups = 1 } = {}) {
  const [[n, c, h, w], [out, inGroup, kh, kw]] = [x.shape, weight.shape];
  const [[sh, sw], [dh, dw]] = [both(stride), both(dilation)];
  const [top, left, bottom, right] = sides(padding, [kh, kw], [dh, dw]);
  const oh = Math.floor((h + top + bottom - dh * (kh - 1) - 1) / sh) + 1;
  const ow = Math.floor((w + left + right - dw * (kw - 1) - 1) / sw) + 1;
  const y = new Float64Array(n * out * oh * ow);
  let [at, terms] = [0, 0];
  for (let image = 0; image < n; image++) {
    for (let o = 0; o < out; o++) {
      const firstIn = Math.floor(o / (out / groups)) * inGroup;
      for (let i = 0; i < oh; i++) {
        for (let j = 0; j < ow; j++) {
          let sum = bias ? bias.data[o] : 0;
          let size = Math.abs(sum);
          for (let u = 0; u < kh; u++) {
            const row = i * sh - top + u * dh;
            if (row < 0 || row >= h) continue;
            for (let v = 0; v < kw; v++) {
              const column = j * sw - left + v * dw;
              if (column < 0 || column >= w) continue;
              for (let q = 0; q < inGroup; q++) {
                const term = weight.data[((o * inGroup + q) * kh + u) * kw + v] * x.data[((image * c + firstIn + q) * h + row) * w + column];
                sum += term;
                size += Math.abs(term);
              }
            }
          }
          y[at++] = sum;
          terms = Math.max(terms, size);
        }
      }
    }
  }
  return tensor([n, out, oh, ow], y, terms + gain(weight) * x.slack);
}

/**
 * How much a sum magnifies the errors of what it adds up: as those of a random walk, twice the root of the sum of squares.
 * @param {Reference} weight [out, ...]
 */
function gain(weight) {
  const row = count(weight.shape.slice(1));
  let most = 0;
  for (let o = 0; o < weight.shape[0]; o++) most = Math.max(most, weight.data.subarray(o * row, (o + 1) * row).reduce((sum, v) => sum + v * v, 0));
  return 2 * Math.sqrt(most);
}

/** @param {Reference} x @param {Reference} weight @param {Reference | null} [bias] @param {any} [options] */
export function conv1d(x, weight, bias = null, { stride = 1, padding = 0, dilation = 1, groups = 1 } = {}) {
  return squeeze(conv2d(unsqueeze(x, 2), unsqueeze(weight, 2), bias, { groups, stride: [1, stride], dilation: [1, dilation],
    padding: typeof padding === 'string' ? padding : [0, padding] }), 2);
}

/** @param {Reference} x [..., in] @param {Reference} weight [out, in] @param {Reference | null} [bias] */
export function linear(x, weight, bias = null) {
  const rows = { ...x, shape: [x.shape.slice(0, -1).reduce((a, b) => a * b, 1), weight.shape[1]] };
  const flat = matmul(rows, weight, { transposeB: true });
  const y = bias ? add(flat, bias) : flat;
  return { ...y, slack: Math.max(y.slack, flat.slack), shape: [...x.shape.slice(0, -1), weight.shape[0]] };
}

/** @param {Reference} x @param {Reference} weight @param {Reference | null} bias @param {number} first @param {number} rows */
export const linearRows = (x, weight, bias, first, rows) => linear(x, narrow(weight, 0, first, rows), bias && narrow(bias, 0, first, rows));

/**
 * @param {Reference} x [n, c, ...]
 * @param {Reference} mean [c]
 * @param {Reference} variance [c]
 * @param {Reference | null} [weight] [c]
 * @param {Reference | null} [bias] [c]
 * @param {{ eps?: number }} [options]
 */
export function batchNorm(x, mean, variance, weight = null, bias = null, { eps = 1e-5 } = {}) {
  const [c, inner] = [x.shape[1], count(x.shape.slice(2))];
  let [terms, steepest] = [0, 0];
  const y = x.data.map((v, i) => {
    const channel = Math.floor(i / inner) % c;
    const factor = (weight ? weight.data[channel] : 1) / Math.sqrt(variance.data[channel] + eps);
    const shift = bias ? bias.data[channel] : 0;
    terms = Math.max(terms, Math.abs(v * factor) + Math.abs(mean.data[channel] * factor) + Math.abs(shift));
    steepest = Math.max(steepest, Math.abs(factor));
    return (v - mean.data[channel]) * factor + shift;
  });
  return tensor(x.shape, y, terms + steepest * x.slack);
}

/**
 * The mean of a row is as inexact as its numbers are large, however near to it they lie.
 * @param {Reference} x @param {number | number[]} normalizedShape @param {Reference | null} [weight] @param {Reference | null} [bias] @param {number} [eps]
 */
export function layerNorm(x, normalizedShape, weight = null, bias = null, eps = 1e-5) {
  const d = count([normalizedShape].flat());
  const y = new Float64Array(x.data.length);
  const most = weight ? largest(weight.data) : 1;
  let [steepest, terms] = [0, bias ? largest(bias.data) : 0];
  for (let at = 0; at < y.length; at += d) {
    const row = x.data.subarray(at, at + d);
    const mean = row.reduce((sum, v) => sum + v, 0) / d;
    const deviation = Math.sqrt(row.reduce((sum, v) => sum + (v - mean) ** 2, 0) / d + eps);
    for (let i = 0; i < d; i++) y[at + i] = (row[i] - mean) / deviation * (weight ? weight.data[i] : 1) + (bias ? bias.data[i] : 0);
    terms = Math.max(terms, largest(row) / deviation * most);
    steepest = Math.max(steepest, (2 + largest(row.map((v) => v - mean)) / deviation) / deviation * most);
  }
  return tensor(x.shape, y, largest(y) + terms + steepest * x.slack);
}

/** @param {Reference} x @param {number | number[]} normalizedShape @param {Reference | null} [weight] @param {number | null} [eps] */
export function rmsNorm(x, normalizedShape, weight = null, eps = null) {
  const d = count([normalizedShape].flat());
  const y = new Float64Array(x.data.length);
  const most = weight ? largest(weight.data) : 1;
  let steepest = 0;
  for (let at = 0; at < y.length; at += d) {
    const row = x.data.subarray(at, at + d);
    const root = Math.sqrt(row.reduce((sum, v) => sum + v * v, 0) / d + (eps ?? 2 ** -23));
    for (let i = 0; i < d; i++) y[at + i] = row[i] / root * (weight ? weight.data[i] : 1);
    steepest = Math.max(steepest, (1 + largest(row) / root) / root * most);
  }
  return tensor(x.shape, y, largest(y) + steepest * x.slack);
}

/** @param {Reference} x [n, c, ...] @param {number} groups @param {Reference | null} [weight] [c] @param {Reference | null} [bias] [c] @param {number} [eps] */
export function groupNorm(x, groups, weight = null, bias = null, eps = 1e-5) {
  const [n, c, ...rest] = x.shape;
  const d = c / groups * count(rest);
  const along = (/** @type {Reference} */ w) => reshape(w, [c, ...rest.map(() => 1)]);
  const plain = d ? reshape(layerNorm(reshape(x, [n, groups, d]), d, null, null, eps), x.shape) : x;
  const scaled = weight ? mul(plain, along(weight)) : plain;
  return bias ? add(scaled, along(bias)) : scaled;
}

/** @param {Reference} x @param {{ dim?: number, eps?: number }} [options] @returns {Reference} */
export function normalize(x, { dim = 1, eps = 1e-12 } = {}) {
  const at = dim < 0 ? dim + x.shape.length : dim;
  const [size, inner] = [x.shape[at], count(x.shape.slice(at + 1))];
  const y = new Float64Array(x.data.length);
  let steepest = 0;
  for (let i = 0; i < y.length; i++) {
    const first = Math.floor(i / (size * inner)) * size * inner + i % inner;
    let sum = 0;
    for (let j = 0; j < size; j++) sum += x.data[first + j * inner] ** 2;
    const length = Math.max(Math.sqrt(sum), eps);
    y[i] = x.data[i] / length;
    steepest = Math.max(steepest, 2 / length);
  }
  return tensor(x.shape, y, largest(y) + steepest * x.slack);
}
