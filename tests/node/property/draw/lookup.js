/** Rows by number. */
import { several } from '../check.js';

/** @import { Draw, Spec } from '../check.js' */
/** @import { Random } from '../random.js' */

/** Whole numbers below n. @param {number[]} shape @param {number} n @returns {Spec} */
const below = (shape, n) => ({ shape, dtype: 'i32', values: (r) => r.int(0, n - 1) });

/** Of a table that is a weight, or one that is computed. @type {Draw} */
export function embedding(r) {
  const [rows, width, rank, computed] = [r.size(30), r.sizeOrZero(20), r.int(0, 5), r.chance(0.2)];
  return {
    args: { computed },
    runs: several(r, () => [below(r.shape(rank, rank), rows), ...computed ? [[rows, width]] : []]),
    weights: computed ? {} : { table: [rows, width] },
    program: (f, [ids, table], w) => f.embedding(ids, computed ? f.add(table, 0) : w.table),
  };
}

/** Of whole numbers, of others, and where many are equal. @type {Draw} */
export function argmax(r) {
  const rank = r.int(1, 6);
  const dim = r.axis(rank);
  const axis = dim < 0 ? dim + rank : dim;
  const kind = r.pick(['whole', 'few', 'normal']);
  return {
    args: { dim, kind },
    runs: several(r, () => {
      const shape = r.shape(rank, rank).with(axis, r.size(20));
      return [kind === 'whole' ? below(shape, r.pick([3, 49408])) : { shape, values: kind === 'few' ? (/** @type {Random} */ q) => q.int(-2, 2) : 'normal' }];
    }),
    program: (f, [x]) => f.argmax(x, dim),
  };
}

/** By an index that is an input, or the place of the largest number. @type {Draw} */
export function select(r) {
  const [rank, width, fixed] = [r.int(0, 4), r.size(20), r.size(12)];
  const kind = r.pick(['input', 'argmax', 'ids']);
  return {
    args: { kind },
    runs: several(r, () => {
      const lead = Array.from({ length: rank }, () => r.sizeOrZero(rank > 2 ? 3 : 6));
      const x = [...lead, fixed, width];
      return [x, ...kind === 'argmax' ? [] : [kind === 'input' ? below(lead, fixed) : below([...lead, fixed], 49408)]];
    }),
    program: (f, [x, index]) => f.select(x, kind === 'input' ? index : kind === 'ids' ? f.argmax(index, -1) : f.argmax(f.mean(x, -1), -1)),
  };
}

/** A plain forward remembers nothing. How wide a row is must be known. @type {Draw} */
export function cache(r) {
  const [stride, width] = [r.int(2, 5), r.size(9)];
  return {
    args: { stride, width },
    runs: several(r, () => [{ shape: [r.int(1, 3), r.size(12), width], known: true }]),
    program: (f, [x]) => [f.cache(f.add(x, 1)), f.cache(x, { stride })],
  };
}
