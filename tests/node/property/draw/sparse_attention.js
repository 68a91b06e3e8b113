/** Native sparse attention and its windows. */
import { several } from '../check.js';

/** @import { Draw } from '../check.js' */
/** @import { Random } from '../random.js' */

/** @type {Draw} */
export function windows(r) {
  const [heads, d, stride] = [r.int(1, 4), r.size(9), r.int(1, 5)];
  const block = stride + r.pick([0, 0, 1, 3, 7]);
  return {
    args: { heads, block, stride },
    runs: several(r, () => [{ shape: [r.sizeOrZero(3), r.sizeOrZero(20), heads * d], known: true }]),
    program: (f, [x]) => f.windows(x, heads, block, stride),
  };
}

/**
 * Which blocks are chosen must not hang on a rounding, so what they are chosen by is exact in f32: queries and compressed keys on a grid, and a
 * width whose root is a power of two; or else all blocks are chosen, or none.
 * @type {Draw}
 */
export function sparseAttention(r) {
  const [kvHeads, stride, window, m, exact] = [r.int(1, 3), r.int(1, 4), r.int(1, 9), r.int(1, 3), r.chance(0.7)];
  const [group, together] = [r.int(1, 3), r.int(1, 4)];
  const [heads, selection, d] = [kvHeads * group, stride * together, exact ? r.pick([1, 4, 4, 16]) : r.size(12)];
  const shared = r.chance() && (group < 3 || together === 1);   // a third of a third would not be exact
  const causal = r.chance(0.6);
  const selected = exact ? r.int(0, 4) : r.pick([0, 999]);
  const options = { heads, ...(kvHeads < heads || r.chance()) && { kvHeads }, slidingWindowSize: window, stride, selectionBlockSize: selection, numSelectedBlocks: selected,
    ...causal && { causal }, ...!shared && { shareSelected: false } };
  const loud = r.chance(0.3) ? 2 : 0.5;   // differences of scores above 23, so that chosen blocks do not count
  const grid = (/** @type {Random} */ q) => q.int(-8, 8) * loud / 2;
  const long = r.chance(0.1);
  return {
    args: options,
    runs: several(r, () => {
      const s = r.size(long ? 150 : 25);
      const [b, t] = [r.int(1, 2), causal && r.chance(0.3) ? r.int(1, s) : s];
      const of = (/** @type {number} */ tokens, /** @type {number} */ h, /** @type {any} */ values = 'normal') => ({ shape: [b, tokens, h], values, known: true });
      return [of(t, heads * d, grid), of(t, heads * d), of(s, kvHeads * d), of(s, kvHeads * d), of(Math.floor(s / stride), kvHeads * d, grid),
        of(Math.floor(s / stride), kvHeads * d), of(t, heads * 3, 'positive')];
    }),
    weights: { memory: [2, kvHeads, m, d] },
    program: (f, [query, rotatedQuery, rotatedKey, value, compressedKey, compressedValue, gates], { memory }) =>
      f.sparseAttention({ query, rotatedQuery, rotatedKey, value, compressedKey, compressedValue, memory, gates }, options),
  };
}
