/** Views, moves, parts and joins. Nothing is computed, so every number must be equal. */
import { several } from '../check.js';

/** @import { Draw } from '../check.js' */
/** @import { Random } from '../random.js' */

/** Sizes as a product of as many factors. @param {Random} r @param {number} total @param {number} parts */
function factors(r, total, parts) {
  const sizes = new Array(parts).fill(1);
  for (let rest = total, prime = 2; rest > 1; prime++) {
    for (; rest % prime === 0; rest /= prime) sizes[r.int(0, parts - 1)] *= prime;
  }
  return sizes;
}

/** Every size but the first of a reshape is settled; the first varies between the runs. @param {string} name @returns {Draw} */
const reshaped = (name) => (r) => {
  const rest = Array.from({ length: r.int(0, 3) }, () => r.size(8));
  const total = rest.reduce((a, b) => a * b, 1);
  const kind = r.pick(['kept', 'inferred', 'settled']);
  const first = r.size(6);
  const parts = r.int(total > 1 || (kind === 'settled' && first > 1) || r.chance() ? 1 : 0, 4);
  const sizes = parts ? factors(r, kind === 'settled' ? first * total : total, parts) : [];
  if (kind !== 'settled') sizes.unshift(/** @type {any} */ (kind === 'kept' ? null : -1));
  if (kind === 'kept' && parts && r.chance()) sizes[r.int(1, parts)] = -1;
  return {
    args: { sizes },
    runs: kind === 'settled' ? several(r, () => [[first, ...rest]]) : several(r, () => [[r.size(6), ...rest]]),
    program: (f, [x]) => f[name](x, sizes),
  };
};

export const reshape = reshaped('reshape');
export const view = reshaped('view');

/** @type {Draw} */
export function flatten(r) {
  const rank = r.int(1, 6);
  const [a, b] = [r.int(0, rank - 1), r.int(0, rank - 1)].sort((x, y) => x - y);
  const args = r.chance(0.2) ? [a] : [r.chance() ? a : a - rank, r.chance() ? b : b - rank];
  return { args, runs: several(r, () => [r.shape(rank, rank)]), program: (f, [x]) => f.flatten(x, ...args) };
}

/** @type {Draw} */
export function unflatten(r) {
  const rank = r.int(1, 3);
  const axis = r.int(0, rank - 1);
  const parts = Array.from({ length: r.int(1, 3) }, () => r.size(4));
  const open = r.chance() ? r.int(0, parts.length - 1) : -1;
  const sizes = parts.map((size, i) => (i === open ? -1 : size));
  const dim = r.chance() ? axis : axis - rank;
  return {
    args: { dim, sizes },
    runs: several(r, () => {
      const all = parts.map((size, i) => (i === open ? r.size(4) : size)).reduce((a, b) => a * b, 1);
      return [r.shape(rank, rank).with(axis, all)];
    }),
    program: (f, [x]) => f.unflatten(x, dim, sizes),
  };
}

/** @type {Draw} */
export function unsqueeze(r) {
  const rank = r.int(0, 5);
  const dim = r.int(-rank - 1, rank);
  return { args: { dim }, runs: several(r, () => [r.shape(rank, rank)]), program: (f, [x]) => f.unsqueeze(x, dim) };
}

/** @type {Draw} */
export function squeeze(r) {
  const rank = r.int(1, 6);
  const dim = r.axis(rank);
  const shape = r.shape(rank, rank);
  shape[dim < 0 ? dim + rank : dim] = 1;
  return { args: { dim }, runs: several(r, () => [{ shape, known: true }]), program: (f, [x]) => f.squeeze(x, dim) };
}

/** @type {Draw} */
export function permute(r) {
  const rank = r.int(1, 6);
  const dims = r.shuffled([...Array(rank).keys()]).map((d) => (r.chance(0.3) ? d - rank : d));
  return { args: { dims }, runs: several(r, () => [r.shape(rank, rank, 20)]), program: (f, [x]) => f.permute(x, dims) };
}

/** @type {Draw} */
export function transpose(r) {
  const rank = r.int(1, 6);
  const dims = [r.axis(rank), r.axis(rank)];
  return { args: dims, runs: several(r, () => [r.shape(rank, rank, 20)]), program: (f, [x]) => f.transpose(x, ...dims) };
}

/** Of an image in the order of convolutions, too. @type {Draw} */
export function narrow(r) {
  const rank = r.int(1, 6);
  const dim = r.axis(rank);
  const axis = dim < 0 ? dim + rank : dim;
  const size = r.size(12);
  const first = r.int(0, size);
  const length = r.chance(0.3) ? -1 : r.int(0, size - first);
  const start = r.chance(0.3) && first < size ? first - size : first;
  const pooled = rank === 4 && r.chance();
  return {
    args: { dim, start, length, pooled },
    runs: several(r, () => {
      const shape = r.shape(rank, rank).with(axis, length === -1 || start >= 0 ? size + (start >= 0 ? r.int(0, 3) : 0) : size);
      return [pooled ? shape.map((n) => Math.max(n, 1)) : shape];
    }),
    program: (f, [x]) => f.narrow(pooled ? f.maxPool2d(x, 1) : x, dim, start, length),
  };
}

/** @type {Draw} */
export function split(r) {
  const rank = r.int(1, 4);
  const dim = r.axis(rank);
  const parts = Array.from({ length: r.int(1, 4) }, () => r.sizeOrZero(5));
  const whole = parts.reduce((a, b) => a + b, 0);
  const sizes = r.chance() ? parts : r.int(1, 6);
  const shape = r.shape(rank, rank).with(dim < 0 ? dim + rank : dim, whole);
  return { args: { dim, sizes }, runs: several(r, () => [{ shape, known: true }]), program: (f, [x]) => f.split(x, sizes, dim) };
}

/** @type {Draw} */
export function chunk(r) {
  const rank = r.int(1, 4);
  const dim = r.axis(rank);
  const chunks = r.int(1, 6);
  const shape = r.shape(rank, rank, 14);
  return { args: { dim, chunks }, runs: several(r, () => [{ shape, known: true }]), program: (f, [x]) => f.chunk(x, chunks, dim) };
}

/** Inputs, weights and one thing twice; images in the order of convolutions too. @type {Draw} */
export function cat(r) {
  const rank = r.int(1, 5);
  const dim = r.axis(rank);
  const axis = dim < 0 ? dim + rank : dim;
  const parts = r.int(1, 4);
  const [twice, pooled] = [r.chance(0.2), rank === 4 && r.chance()];
  const program = (/** @type {any} */ f, /** @type {any[]} */ inputs) => {
    const tensors = inputs.map((x, i) => (pooled && i < 2 ? f.maxPool2d(x, 1) : x));
    return f.cat(twice ? [...tensors, tensors[0]] : tensors, dim);
  };
  return {
    args: { dim, twice, pooled },
    runs: several(r, () => {
      const shape = r.shape(rank, rank).map((size) => (pooled ? Math.max(size, 1) : size));
      return Array.from({ length: parts }, () => shape.with(axis, pooled ? r.size(6) : r.sizeOrZero(6)));
    }),
    program,
  };
}
