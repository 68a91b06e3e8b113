/** Rows by number, and what a session remembers. */
import { integer } from '../arguments.js';
import { axis, record, shaped, symbolic, value } from './record.js';

/** @import { Operand } from '../tensor.js' */

/**
 * Rows of a table: ids [...] -> [..., width]. Ids come from an input declared as `{ shape, dtype: 'i32' }`; one outside the table makes
 * the model's forward throw (`error.code` 'argument').
 * @param {Operand} ids Whole numbers.
 * @param {Operand} weight [rows, width]
 */
export function embedding(ids, weight) {
  return record('embedding', [value(ids, 'embedding: ids'), value(weight, 'embedding: weight')]);
}

/**
 * Where the largest number of an axis is, the first of equal ones. The result holds whole numbers (i32) and lacks the axis.
 * @param {Operand} x
 * @param {number} dim
 */
export function argmax(x, dim) {
  const input = symbolic(x, 'argmax: input');
  return record('argmax', [input.value, axis('argmax: dim', input, dim)], 'i32');
}

/**
 * y[...] = x[..., index[...]], one row of each matrix: x [..., t, w], index [...] of whole numbers -> [..., w].
 * @param {Operand} x
 * @param {Operand} index
 */
export function select(x, index) {
  return record('select', [value(x, 'select: input'), value(index, 'select: index')]);
}

/**
 * What `model.session()` remembers: x [b, t, w] -> [b, past + t, w], the rows of earlier calls before those of this one. In
 * `model.forward`, which remembers nothing, it is x.
 * @param {Operand} x
 * @param {{ stride?: number }} [options] `stride` (1): tokens that a row stands for. A model that remembers has a cache of stride 1.
 */
export function cache(x, { stride = 1 } = {}) {
  const input = shaped('cache', x, ['b', 't', 'w']);
  return record('cache', [input.value, integer('cache: stride', stride, 1)]);
}
