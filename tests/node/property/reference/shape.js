/** The same numbers in another shape or order. */
import { count, front, moved, tensor } from './tensor.js';

/** @import { Reference } from './tensor.js' */

/** @param {Reference} x @param {readonly number[]} shape @returns {Reference} */
const shaped = (x, shape) => ({ ...x, shape: [...shape] });

/** One -1 replaced so that the product is `total`. @param {number[]} shape @param {number} total */
const inferred = (shape, total) => shape.map((size) => (size === -1 ? total / count(shape.filter((other) => other !== -1)) : size));

/** @param {Reference} x @param {(number | null)[]} shape */
export const reshape = (x, shape) => shaped(x, inferred(shape.map((size, i) => size ?? x.shape[i]), x.data.length));
export const view = reshape;

/** @param {Reference} x @param {number} [startDim] @param {number} [endDim] */
export function flatten(x, startDim = 0, endDim = -1) {
  const [first, last] = [front(x.shape, startDim), front(x.shape, endDim)];
  return shaped(x, [...x.shape.slice(0, first), count(x.shape.slice(first, last + 1)), ...x.shape.slice(last + 1)]);
}

/** @param {Reference} x @param {number} dim @param {number[]} shape */
export function unflatten(x, dim, shape) {
  const axis = front(x.shape, dim);
  return shaped(x, [...x.shape.slice(0, axis), ...inferred(shape, x.shape[axis]), ...x.shape.slice(axis + 1)]);
}

/** @param {Reference} x @param {number} dim */
export const unsqueeze = (x, dim) => shaped(x, x.shape.toSpliced(dim < 0 ? dim + x.shape.length + 1 : dim, 0, 1));
/** @param {Reference} x @param {number} dim */
export const squeeze = (x, dim) => shaped(x, x.shape.toSpliced(front(x.shape, dim), 1));

/** @param {Reference} x @param {number[]} dims */
export function permute(x, dims) {
  const order = dims.map((d) => front(x.shape, d));
  return moved(x, order.map((axis) => x.shape[axis]), (index) => x.shape.map((_, axis) => index[order.indexOf(axis)]));
}

/** @param {Reference} x @param {number} dim0 @param {number} dim1 */
export function transpose(x, dim0, dim1) {
  const order = x.shape.map((_, i) => i);
  const [a, b] = [front(x.shape, dim0), front(x.shape, dim1)];
  [order[a], order[b]] = [b, a];
  return permute(x, order);
}

/** @param {Reference} x @param {number} dim @param {number} start @param {number} length */
export function narrow(x, dim, start, length) {
  const axis = front(x.shape, dim);
  const first = start < 0 ? start + x.shape[axis] : start;
  const size = length < 0 ? x.shape[axis] - first : length;
  return moved(x, x.shape.with(axis, size), (index) => index.with(axis, index[axis] + first));
}

/** @param {Reference} x @param {number | number[]} sizeOrSizes @param {number} [dim] @returns {Reference[]} */
export function split(x, sizeOrSizes, dim = 0) {
  const whole = x.shape[front(x.shape, dim)];
  const parts = [];
  for (let at = 0, i = 0; i === 0 || at < whole || (Array.isArray(sizeOrSizes) && i < sizeOrSizes.length); i++) {
    const size = Array.isArray(sizeOrSizes) ? sizeOrSizes[i] : Math.min(sizeOrSizes, whole - at);
    parts.push(narrow(x, dim, at, size));
    at += size;
  }
  return parts;
}

/** @param {Reference} x @param {number} chunks @param {number} [dim] */
export const chunk = (x, chunks, dim = 0) => split(x, Math.max(1, Math.ceil(x.shape[front(x.shape, dim)] / chunks)), dim);

/** @param {Reference[]} tensors @param {number} [dim] @returns {Reference} */
export function cat(tensors, dim = 0) {
  const axis = front(tensors[0].shape, dim);
  const shape = tensors[0].shape.with(axis, tensors.reduce((sum, x) => sum + x.shape[axis], 0));
  const outer = count(shape.slice(0, axis));
  const y = tensor(shape, new Float64Array(count(shape)), Math.max(...tensors.map((x) => x.slack)));
  let at = 0;
  for (let o = 0; o < outer; o++) {
    for (const x of tensors) {
      const piece = x.data.length / outer;
      for (let i = 0; i < piece; i++) y.data[at++] = x.data[o * piece + i];
    }
  }
  if (tensors.every((x) => x.bool)) y.bool = true;
  return y;
}
