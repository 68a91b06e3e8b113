/** Rotary position embedding: its table, and what it turns. */
import { several } from '../check.js';

/** @import { Draw, Spec } from '../check.js' */
/** @import { Random } from '../random.js' */

/** Frequencies from 1 downwards, as models have them. @param {number} half @returns {Spec} */
const frequencies = (half) => ({ shape: [half], values: Array.from({ length: half }, (_, j) => 100 ** (-j / half)) });

/** @param {Random} r */
const scaling = (r) => ({ ...r.chance() && { scale: 0.5 + r.unit() }, ...r.chance(0.3) && { dynamic: { factor: 1 + 3 * r.unit(), maxPositionEmbeddings: r.int(1, 30) } } });

/** @type {Draw} */
export function rotaryTable(r) {
  const [rank, half] = [r.int(1, 4), r.size(20)];
  const options = { ...(rank < 2 || r.chance()) && { dim: r.axis(rank) }, ...scaling(r) };
  return {
    args: options,
    runs: several(r, () => [r.shape(rank, rank, 40)]),
    weights: { freqs: frequencies(half) },
    program: (f, [x], w) => f.rotaryTable(x, w.freqs, options),
  };
}

/** Turned by a table computed beside it, or by any numbers. @type {Draw} */
export function rotary(r) {
  const [rank, half, first] = [r.int(2, 5), r.size(9), r.chance() ? 0 : r.int(0, 5)];
  const width = first + 2 * half + (r.chance() ? 0 : r.int(0, 5));
  const dim = r.chance() ? -2 : r.chance() ? r.int(0, rank - 2) : r.int(-rank, -2);
  const options = { ...(dim !== -2 || r.chance()) && { dim }, ...first && { first }, ...r.chance() && { interleaved: true } };
  const given = r.chance();
  const scaled = scaling(r);
  return {
    args: { ...options, ...!given && scaled },
    runs: several(r, () => {
      const shape = [...r.shape(rank - 1, rank - 1, 20), width];
      return [shape, ...given ? [{ shape: [/** @type {number} */ (shape.at(dim)), 2, half], known: true }] : []];
    }),
    weights: given ? {} : { freqs: frequencies(half) },
    program: (f, [x, table], w) => f.rotary(x, given ? table : f.rotaryTable(x, w.freqs, { dim, ...scaled }), options),
  };
}
