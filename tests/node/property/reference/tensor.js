/**
 * What the references compute with: f64 numbers in row-major order.
 *
 * `slack` says how far a right f32 result may be away, in units of the relative tolerance. Where nothing cancels it is the largest
 * number of the result, as in the fixtures. A sum whose terms cancel is as inexact as its terms are large, so there it is the largest
 * sum of |terms|; and what a layer's inputs may be wrong by is carried on, times how much the layer magnifies it. Layers that only move
 * numbers add nothing: after them alone the slack is 0, and every number must be equal.
 *
 * @typedef {{ shape: number[], data: Float64Array, slack: number, bool?: boolean }} Reference
 */

/** @param {readonly number[]} shape */
export const count = (shape) => shape.reduce((product, size) => product * size, 1);

/** @param {readonly number[]} shape @param {Float64Array} data @param {number} [slack] @returns {Reference} */
export const tensor = (shape, data, slack = 0) => ({ shape: [...shape], data, slack });

/** A number as the engine sees it. @param {Reference | number} x @returns {Reference} */
export const lift = (x) => (typeof x === 'number' ? tensor([], Float64Array.of(Math.fround(x))) : x);

/** The largest finite |number|. @param {ArrayLike<number>} data */
export function largest(data) {
  let most = 0;
  for (let i = 0; i < data.length; i++) {
    const size = Math.abs(data[i]);
    if (size > most && size < Infinity) most = size;
  }
  return most;
}

/** @param {readonly number[]} shape @returns {number[]} */
export function strides(shape) {
  const result = new Array(shape.length);
  for (let i = shape.length - 1, step = 1; i >= 0; step *= shape[i--]) result[i] = step;
  return result;
}

/** Where an index lies. @param {readonly number[]} shape @param {readonly number[]} index */
export function place(shape, index) {
  let at = 0;
  for (let i = 0; i < shape.length; i++) at = at * shape[i] + index[i];
  return at;
}

/** Every index of a shape in row-major order; the array is used again. @param {readonly number[]} shape @param {(index: number[], i: number) => void} visit */
export function each(shape, visit) {
  const index = shape.map(() => 0);
  const total = count(shape);
  for (let i = 0; i < total; i++) {
    visit(index, i);
    for (let axis = shape.length - 1; axis >= 0 && ++index[axis] === shape[axis]; axis--) index[axis] = 0;
  }
}

/**
 * A tensor whose numbers are those of x in other places.
 * @param {Reference} x
 * @param {readonly number[]} shape
 * @param {(index: number[]) => number[]} from Which of x's.
 * @returns {Reference}
 */
export function moved(x, shape, from) {
  const y = tensor(shape, new Float64Array(count(shape)), x.slack);
  each(shape, (index, i) => { y.data[i] = x.data[place(x.shape, from(index))]; });
  if (x.bool) y.bool = true;
  return y;
}

/** An axis counted from the front. @param {readonly number[]} shape @param {number} axis */
export const front = (shape, axis) => (axis < 0 ? axis + shape.length : axis);

/** @param {number | readonly [number, number] | number[]} value @returns {number[]} */
export const both = (value) => (typeof value === 'number' ? [value, value] : [...value]);
