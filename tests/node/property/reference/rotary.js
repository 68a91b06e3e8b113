/** Rotary position embedding. */
import { count, each, front, largest, place, tensor } from './tensor.js';

/** @import { Reference } from './tensor.js' */

/**
 * An angle is a product rounded to f32, so its sine is as inexact as the angle is large; a sixteenth of the tolerance for each radian.
 * @param {Reference} x @param {Reference} freqs [half] @param {any} [options] @returns {Reference}
 */
export function rotaryTable(x, freqs, { dim = -2, scale = 1, dynamic = null } = {}) {
  const [tokens, half] = [x.shape[front(x.shape, dim)], freqs.data.length];
  const ratio = dynamic && tokens > dynamic.maxPositionEmbeddings ? dynamic.factor * tokens / dynamic.maxPositionEmbeddings - (dynamic.factor - 1) : 1;
  const y = tensor([tokens, 2, half], new Float64Array(tokens * 2 * half));
  let most = 0;
  each(y.shape, ([i, which, j], at) => {
    const stretch = half > 1 ? ratio ** (-2 * j / (2 * half - 2)) : 1;   // base^(-2j/d) with base times ratio^(d/(d-2))
    const angle = i * freqs.data[j] * stretch;
    y.data[at] = scale * (which ? Math.sin(angle) : Math.cos(angle));
    most = Math.max(most, Math.abs(angle));
  });
  y.slack = Math.abs(scale) * (1 + most / 16);
  return y;
}

/** @param {Reference} x @param {Reference} table [t, 2, half] @param {any} [options] @returns {Reference} */
export function rotary(x, table, { dim = -2, first = 0, interleaved = false } = {}) {
  const [axis, last, half] = [front(x.shape, dim), x.shape.length - 1, table.shape[2]];
  const y = tensor(x.shape, x.data.slice());
  each([...x.shape.slice(0, -1), count(x.shape) ? half : 0], (index, _) => {
    const [token, j] = [index[axis], index[last]];
    const at = (/** @type {number} */ column) => place(x.shape, index.with(last, first + column));
    const [a, b] = interleaved ? [at(2 * j), at(2 * j + 1)] : [at(j), at(j + half)];
    const [cos, sin] = [table.data[token * 2 * half + j], table.data[(token * 2 + 1) * half + j]];
    y.data[a] = x.data[a] * cos - x.data[b] * sin;
    y.data[b] = x.data[b] * cos + x.data[a] * sin;
  });
  y.slack = 2 * largest(x.data) * (largest(table.data) + table.slack) + 2 * x.slack * largest(table.data);
  return y;
}
