/** Arithmetic, matrix products, means, and functions of single numbers. */
import { badArgument, boolean, finite, options, showShape } from '../arguments.js';
import { ACTIVATIONS } from './activations.js';
import { axis, record, shapeError, symbolic, value } from './record.js';

/** @import { Activation } from './activations.js' */
/** @import { Operand } from '../tensor.js' */

/** lam_binary, in the order of the engine's header. */
const ARITHMETIC = /** @type {const} */ (['add', 'sub', 'mul', 'div', 'expandAs']);

/** @param {typeof ARITHMETIC[number]} op @param {Operand} a @param {Operand} b */
const arithmetic = (op, a, b) => record('arithmetic', [value(a, `${op}: first operand`), value(b, `${op}: second operand`), ARITHMETIC.indexOf(op)]);

/** a + b with broadcasting. @param {Operand} a @param {Operand} b */
export const add = (a, b) => arithmetic('add', a, b);
/** a - b with broadcasting. @param {Operand} a @param {Operand} b */
export const sub = (a, b) => arithmetic('sub', a, b);
/** a b, element by element, with broadcasting. @param {Operand} a @param {Operand} b */
export const mul = (a, b) => arithmetic('mul', a, b);
/** a / b with broadcasting. @param {Operand} a @param {Operand} b */
export const div = (a, b) => arithmetic('div', a, b);

/**
 * x repeated to the shape of `other`, along its axes of size 1 and those it does not have: what PyTorch's `expand` does for a batch whose
 * size varies. `F.cat([F.expandAs(this.class_token, tokens.narrow(1, 0, 1)), tokens], 1)`
 * @param {Operand} x
 * @param {Operand} other Only its shape counts.
 */
export function expandAs(x, other) {
  const [small, large] = [symbolic(x, 'expandAs: input'), symbolic(other, 'expandAs: other')];
  const beyond = large.ndim - small.ndim;
  if (beyond < 0 || small.shape.some((size, i) => size !== 1 && size !== large.shape[beyond + i])) {
    throw shapeError(`expandAs: ${showShape(small.shape)} does not expand to ${showShape(large.shape)}`);
  }
  return arithmetic('expandAs', large, small);
}

/**
 * Matrix product of the last two axes, the leading ones broadcast: a [..., m, k], b [..., k, n] -> [..., m, n].
 * @param {Operand} a
 * @param {Operand} b
 * @param {{ transposeB?: boolean }} [options] `transposeB`: b is [..., n, k].
 */
export function matmul(a, b, { transposeB = false } = {}) {
  return record('matmul', [value(a, 'matmul: first operand'), value(b, 'matmul: second operand'), Number(transposeB)]);
}

/**
 * Mean over an axis, several, or everything.
 * @param {Operand} x
 * @param {number | number[] | null} [dim] null: all axes.
 * @param {boolean | { keepdim?: boolean }} [keepdim] Keep the axis with size 1 (default false).
 */
export function mean(x, dim = null, keepdim = false) {
  const input = symbolic(x, 'mean: input');
  const keep = boolean('mean: keepdim', typeof keepdim === 'object' ? keepdim.keepdim ?? false : keepdim);
  const dims = dim === null ? [...input.shape.keys()] : [dim].flat().map((d) => axis('mean: dim', input, d));
  const descending = [...new Set(dims)].sort((a, b) => b - a);
  return descending.reduce((y, d) => record('mean', [y.value, d, Number(keep)]), input);
}

/** @param {Activation} kind @param {Operand} x */
const activate = (kind, x) => record('activate', [value(x, `${kind}: input`), ACTIVATIONS.indexOf(kind)]);

/** max(x, 0). @param {Operand} x */
export const relu = (x) => activate('relu', x);
/** 1 / (1 + e^-x). @param {Operand} x */
export const sigmoid = (x) => activate('sigmoid', x);
/** x sigmoid(x). @param {Operand} x */
export const silu = (x) => activate('silu', x);
/** @param {Operand} x */
export const tanh = (x) => activate('tanh', x);
/** x sigmoid(1.702 x), CLIP's. @param {Operand} x */
export const quickGelu = (x) => activate('quick_gelu', x);
/** x tanh(softplus(x)). @param {Operand} x */
export const mish = (x) => activate('mish', x);
/**
 * log(1 + e^(beta x)) / beta; x itself where beta x > threshold.
 * @param {Operand} x
 * @param {...any} rest Options, or PyTorch's order: `beta` (1; not 0), `threshold` (20).
 */
export function softplus(x, ...rest) {
  const { beta, threshold } = options('softplus', rest, { beta: 1, threshold: 20 });
  if (finite('softplus: beta', beta) === 0) throw badArgument('softplus: beta', 'a number other than 0', beta);
  // Above 20 the logarithm is x to the precision of f32, and the activation can join the layer before it.
  if (finite('softplus: threshold', threshold) >= 20 && beta === 1) return activate('softplus', x);
  return record('softplus', [value(x, 'softplus: input'), beta, threshold]);
}

/**
 * x Phi(x), or its approximation by tanh.
 * @param {Operand} x
 * @param {{ approximate?: 'none' | 'tanh' }} [options]
 */
export function gelu(x, { approximate = 'none' } = {}) {
  if (approximate !== 'none' && approximate !== 'tanh') throw badArgument('gelu: approximate', "'none' or 'tanh'", approximate);
  return activate(approximate === 'tanh' ? 'gelu_tanh' : 'gelu', x);
}

/**
 * exp(x - max) / sum along an axis.
 * @param {Operand} x
 * @param {number} dim
 */
export function softmax(x, dim) {
  const input = symbolic(x, 'softmax: input');
  return record('softmax', [input.value, axis('softmax: dim', input, dim)]);
}
