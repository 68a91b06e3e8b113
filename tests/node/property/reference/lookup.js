/** Rows by number. */
import { count, each, front, tensor } from './tensor.js';

/** @import { Reference } from './tensor.js' */

/** @param {Reference} ids @param {Reference} weight [rows, width] @returns {Reference} */
export function embedding(ids, weight) {
  const width = weight.shape[1];
  const y = tensor([...ids.shape, width], new Float64Array(ids.data.length * width), weight.slack);
  ids.data.forEach((id, i) => y.data.set(weight.data.subarray(id * width, (id + 1) * width), i * width));
  return y;
}

/** The first of the largest. @param {Reference} x @param {number} dim @returns {Reference} */
export function argmax(x, dim) {
  const axis = front(x.shape, dim);
  const inner = count(x.shape.slice(axis + 1));
  const size = x.shape[axis];
  const y = tensor(x.shape.toSpliced(axis, 1), new Float64Array(count(x.shape.toSpliced(axis, 1))));
  each(y.shape, (_, i) => {
    const first = Math.floor(i / inner) * size * inner + i % inner;
    const numbers = Array.from({ length: size }, (__, k) => x.data[first + k * inner]);
    y.data[i] = numbers.indexOf(Math.max(...numbers));
  });
  return y;
}

/** @param {Reference} x [..., t, w] @param {Reference} index [...] @returns {Reference} */
export function select(x, index) {
  const [t, w] = x.shape.slice(-2);
  const y = tensor([...index.shape, w], new Float64Array(index.data.length * w), x.slack);
  index.data.forEach((row, i) => y.data.set(x.data.subarray((i * t + row) * w, (i * t + row + 1) * w), i * w));
  return y;
}

/** Without a session. @param {Reference} x */
export const cache = (x) => x;
