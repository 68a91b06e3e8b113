/** Arithmetic, products, means and functions of single numbers. */
import { several } from '../check.js';

/** @import { Draw } from '../check.js' */
/** @import { Random } from '../random.js' */

/** Two shapes that broadcast, of ranks up to six. @param {Random} r */
function operands(r) {
  const shape = r.shape(0, r.chance(0.1) ? 6 : 4, 12);
  const kind = r.int(0, 4);
  const cut = kind === 0 ? shape : shape.slice(r.chance() ? 0 : r.int(0, shape.length)).map((size) => (r.chance(0.3) ? 1 : size));
  const full = kind === 1 ? shape.map((size) => (r.chance(0.2) ? 1 : size)) : shape;
  return r.chance() ? [full, cut] : [cut, full];
}

/** The second operand is an input, a weight or a number. @param {string} name @param {string} [second] Values. @returns {Draw} */
const arithmetic = (name, second = 'normal') => (r) => {
  const kind = r.pick(['input', 'input', 'weight', 'number', 'itself']);
  const number = (r.chance() ? 1 : -1) * (0.5 + r.unit());
  const swap = second === 'normal' && r.chance();
  const [a, b] = operands(r);
  const shapes = { a, b };
  const program = (/** @type {any} */ f, /** @type {any[]} */ [x, y], /** @type {any} */ w) => {
    const other = { input: y, weight: w.b, number, itself: x }[kind];
    return swap ? f[name](other, x) : f[name](x, other);
  };
  return {
    args: { kind, swap, ...kind === 'number' && { number } },
    runs: kind === 'input' ? several(r, () => {
      const kept = { ...shapes };
      if (r.chance()) [shapes.a, shapes.b] = resized(r, a, b);   // other sizes, the same ranks
      return [kept.a, { shape: kept.b, values: second }];
    }) : several(r, () => [{ shape: a, values: kind === 'itself' ? second : 'normal' }]),
    weights: kind === 'weight' ? { b: { shape: b, values: second } } : {},
    program,
  };
};

/** The same pattern of equal sizes and ones with other sizes. @param {Random} r @param {number[]} a @param {number[]} b */
function resized(r, a, b) {
  const rank = Math.max(a.length, b.length);
  const [x, y] = [[...a], [...b]];
  for (let i = 1; i <= rank; i++) {
    const size = r.size(6);
    if (i <= x.length && x[x.length - i] !== 1) x[x.length - i] = size;
    if (i <= y.length && y[y.length - i] !== 1) y[y.length - i] = size;
  }
  return [x, y];
}

export const add = arithmetic('add');
export const sub = arithmetic('sub');
export const mul = arithmetic('mul');
export const div = arithmetic('div', 'divisor');

/** Of a weight, or of a part of what it is expanded as. @type {Draw} */
export function expandAs(r) {
  const shape = r.shape(0, 5, 9);
  const small = shape.slice(r.int(0, shape.length)).map((size) => (r.chance() ? 1 : size));
  const [part, dim] = [shape.length > 0 && r.chance(0.3), r.int(0, Math.max(shape.length - 1, 0))];
  const varies = shape.map((_, i) => i < shape.length - small.length || small[i - shape.length + small.length] === 1);
  const least = (/** @type {number} */ axis) => (part && axis === dim ? 1 : 0);
  return {
    args: { part, small, dim },
    runs: several(r, () => [{ shape: shape.map((size, i) => (varies[i] || part ? Math.max(r.sizeOrZero(5), least(i)) : Math.max(size, least(i)))), known: !part }]),
    weights: part ? {} : { w: small },
    program: (f, [x], { w }) => f.expandAs(part ? f.narrow(x, dim, 0, 1) : w, x),
  };
}

/** Of inputs, and with a weight on either side: a right one is packed while it loads. @type {Draw} */
export function matmul(r) {
  const [k, n, transposeB] = [r.sizeOrZero(24), r.size(24), r.chance()];
  const weight = r.pick(['none', 'none', 'right', 'right', 'left']);
  const [ranks, pattern] = [[r.int(0, 3), r.int(0, 3)], Array.from({ length: 3 }, () => r.pick(['both', 'both', 'a', 'b', 'one']))];
  const lead = (/** @type {number} */ rank, /** @type {string} */ side, /** @type {number[]} */ sizes) =>
    Array.from({ length: rank }, (_, i) => (pattern[rank - 1 - i] === 'both' || pattern[rank - 1 - i] === side ? sizes[rank - 1 - i] : 1));
  const draw = () => {
    const sizes = [0, 1, 2].map(() => r.sizeOrZero(4));
    return [[...lead(ranks[0], 'a', sizes), r.sizeOrZero(24), k], [...lead(ranks[1], 'b', sizes), ...transposeB ? [n, k] : [k, n]]];
  };
  const [a, b] = draw();
  const rows = () => a.with(-2, r.sizeOrZero(24));
  return {
    args: { transposeB, weight },
    runs: several(r, () => (weight === 'none' ? draw() : [weight === 'right' ? rows() : b])),
    weights: weight === 'none' ? {} : { w: weight === 'right' ? b : a },
    program: (f, [x, y], { w }) => (weight === 'left' ? f.matmul(w, x, { transposeB }) : f.matmul(x, weight === 'right' ? w : y, { transposeB })),
  };
}

/** @type {Draw} */
export function mean(r) {
  const rank = r.int(1, 5);
  const kind = r.int(0, 3);
  const dim = kind === 0 ? null : kind === 1 ? r.shuffled([...Array(rank).keys()]).slice(0, r.int(1, rank)) : r.axis(rank);
  const keepdim = r.chance();
  const kindOf = r.pick(['normal', 'offset', 'wide']);
  return {
    args: { dim, keepdim },
    runs: several(r, () => [{ shape: Array.from({ length: rank }, () => r.size(rank > 3 ? 5 : r.chance(0.1) ? 80 : 12)), values: kindOf }]),
    program: (f, [x]) => f.mean(x, dim, rank % 2 ? keepdim : { keepdim }),
  };
}

/** @type {Draw} */
export function softmax(r) {
  const rank = r.int(1, 5);
  const dim = r.axis(rank);
  const values = r.pick(['normal', 'offset', 'wide']);
  return {
    args: { dim },
    runs: several(r, () => [{ shape: Array.from({ length: rank }, () => r.sizeOrZero(rank > 3 ? 5 : r.chance(0.2) ? 40 : 9)), values }]),
    program: (f, [x]) => f.softmax(x, dim),
  };
}

/** On its own and behind a layer that takes it in. @param {string} name @param {() => any} [options] @returns {Draw} */
const activation = (name, options) => (r) => {
  const behind = r.pick(['nothing', 'nothing', 'add', 'matmul', 'linear', 'conv2d']);
  const args = options ? [r.pick(options())] : [];
  const n = r.size(18);
  const rank = { linear: 2, matmul: 2, conv2d: 4 }[behind] ?? r.int(0, 4);
  const values = r.pick(['normal', 'normal', 'wide', 'offset']);
  const weight = { add: [n], matmul: [5, n], linear: [n, 5], conv2d: [n, 5, 1, 2] }[behind];
  return {
    args: { behind, ...args.length && { args } },
    runs: several(r, () => [{ shape: behind === 'conv2d' ? [r.int(1, 2), 5, r.size(5), r.size(6, 2)] : behind === 'nothing' ? r.shape(rank, rank, 20)
      : [...r.shape(rank && rank - 1, rank && rank - 1), behind === 'add' ? n : 5], values }]),
    weights: weight ? { w: weight } : {},
    program: (f, [x], { w }) => f[name]({ nothing: () => x, add: () => f.add(x, w), matmul: () => f.matmul(x, w), linear: () => f.linear(x, w),
      conv2d: () => f.conv2d(x, w) }[behind](), ...args),
  };
};

export const relu = activation('relu');
export const sigmoid = activation('sigmoid');
export const silu = activation('silu');
export const tanh = activation('tanh');
export const quickGelu = activation('quickGelu');
export const mish = activation('mish');
/** Thresholds where what is left out is small: a jump would make rounded arguments fall to its other side. */
export const softplus = activation('softplus', () => [{}, { beta: 2 }, { beta: -0.5 }, { beta: 3, threshold: 15 }]);
export const gelu = activation('gelu', () => [{}, { approximate: 'none' }, { approximate: 'tanh' }]);
