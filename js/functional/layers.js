/** Layers with weights. */
import { badArgument, integer, options, pair, show, showShape } from '../arguments.js';
import { LamellaError } from '../errors.js';
import { SymbolicTensor, Tensor } from '../tensor.js';
import { ANY, currentTrace } from '../trace.js';
import { add } from './arithmetic.js';
import { optional, record, shaped, shapeError, symbolic, value } from './record.js';
import { squeeze, unsqueeze } from './shape.js';

/** @import { Operand } from '../tensor.js' */
/** @typedef {number | [number, number]} Pair An integer for both axes, or [height, width]. */

/**
 * y = x W^T + b.  x [..., in], weight [out, in], bias [out] -> [..., out].
 * @param {Operand} x
 * @param {Operand} weight A Parameter, or a computed tensor.
 * @param {Operand | null} [bias]
 */
export function linear(x, weight, bias = null) {
  const w = symbolic(weight, 'linear: weight');
  const input = value(x, 'linear: input');
  if (!(weight instanceof SymbolicTensor)) {
    return record('linear', [input, w.value, optional(bias, 'linear: bias'), 0, w.shape[0] ?? ANY]);
  }
  const y = record('matmul', [input, w.value, 1]);
  return bias === null ? y : add(y, bias);
}

/**
 * Rows [first, first + rows) of a linear layer: what a packed `in_proj_weight` needs for query, key and value.
 * @param {Operand} x
 * @param {Operand} weight A Parameter [out, in].
 * @param {Operand | null} bias [out]
 * @param {number} first
 * @param {number} rows
 */
export function linearRows(x, weight, bias, first, rows) {
  return record('linear', [value(x, 'linear: input'), value(weight, 'linear: weight'), optional(bias, 'linear: bias'), first, rows]);
}

/**
 * Convolution of x [n, c, h, w] with weight [out, c / groups, kh, kw]; zeros around the image.
 * Output height: floor((h + 2 padding - dilation (kh - 1) - 1) / stride) + 1. Options: `stride` (1), `padding` (0; an integer,
 * [h, w], 'valid', or 'same' with stride 1), `dilation` (1), `groups` (1).
 * @param {Operand} x
 * @param {Operand} weight A Parameter.
 * @param {Operand | null} [bias] A Parameter [out].
 * @param {...any} rest
 */
export function conv2d(x, weight, bias = null, ...rest) {
  const o = options('conv2d', rest, { stride: /** @type {Pair} */ (1), padding: /** @type {Pair | string} */ (0), dilation: /** @type {Pair} */ (1), groups: 1 });
  const w = symbolic(weight, 'conv2d: weight');
  const stride = pair('conv2d: stride', o.stride, 1);
  const dilation = pair('conv2d: dilation', o.dilation, 1);
  const padding = sides('conv2d: padding', o.padding, stride, dilation, [w.shape[2] ?? 1, w.shape[3] ?? 1]);
  return record('conv2d', [value(x, 'conv2d: input'), w.value, optional(bias, 'conv2d: bias'), stride, padding, dilation,
    integer('conv2d: groups', o.groups, 1)]);
}

/**
 * Convolution of x [n, c, l] with weight [out, c / groups, k]; zeros around the sequence. It is conv2d of images of height 1.
 * Output length: floor((l + 2 padding - dilation (k - 1) - 1) / stride) + 1. Options: `stride` (1), `padding` (0; an integer, 'valid',
 * or 'same' with stride 1), `dilation` (1), `groups` (1).
 * @param {Operand} x
 * @param {Operand} weight A Parameter.
 * @param {Operand | null} [bias] A Parameter [out].
 * @param {...any} rest
 */
export function conv1d(x, weight, bias = null, ...rest) {
  const o = options('conv1d', rest, { stride: 1, padding: /** @type {number | string} */ (0), dilation: 1, groups: 1 });
  const input = shaped('conv1d', x, ['n', 'c', 'l']);
  const w = heightOne(weight);
  const stride = /** @type {[number, number]} */ ([1, integer('conv1d: stride', o.stride, 1)]);
  const dilation = /** @type {[number, number]} */ ([1, integer('conv1d: dilation', o.dilation, 1)]);
  const padding = typeof o.padding === 'string' ? o.padding : [0, integer('conv1d: padding', o.padding, 0)];
  const y = record('conv2d', [unsqueeze(input, 2).value, w.value, optional(bias, 'conv1d: bias'), stride,
    sides('conv1d: padding', padding, stride, dilation, [1, w.shape[3] ?? 1]), dilation, integer('conv1d: groups', o.groups, 1)]);
  return squeeze(y, 2);
}

/**
 * A weight [out, c, k] as conv2d's [out, c, 1, k]. The engine packs it while it loads, so it is declared in that shape: a view of it
 * would be a computed tensor.
 * @param {Operand} weight
 * @returns {SymbolicTensor}
 */
function heightOne(weight) {
  const given = typeof weight === 'number' ? [] : /** @type {{ shape: readonly number[] }} */ (weight).shape;
  if (given?.length !== 3) throw shapeError(`conv1d: expected a weight [out, c / groups, k], got ${given ? showShape(given) : show(weight)}`);
  if (weight instanceof SymbolicTensor) return unsqueeze(weight, 2);
  const shape = [given[0], given[1], 1, given[2]];
  if (weight instanceof Tensor) return symbolic(new Tensor(weight.data, shape), 'conv1d: weight');
  const trace = currentTrace('conv1d');
  return new SymbolicTensor(trace, trace.weight(/** @type {any} */ (weight), shape), shape);
}

/**
 * Padding as { top, left, bottom, right }; PyTorch's 'same' puts the odd one at the end.
 * @param {string} what
 * @param {unknown} padding
 * @param {[number, number]} stride
 * @param {[number, number]} dilation
 * @param {[number, number]} kernel
 * @returns {[number, number, number, number]}
 */
function sides(what, padding, stride, dilation, kernel) {
  if (padding === 'valid') return [0, 0, 0, 0];
  if (padding === 'same') {
    if (stride[0] !== 1 || stride[1] !== 1) throw new LamellaError('argument', `${what}: 'same' needs stride 1, got ${show(stride)}`);
    const [h, w] = kernel.map((size, i) => dilation[i] * (size - 1));
    return [h >> 1, w >> 1, h - (h >> 1), w - (w >> 1)];
  }
  if (typeof padding === 'string') throw badArgument(what, "an integer, [height, width], 'same' or 'valid'", padding);
  const [h, w] = pair(what, padding);
  return [h, w, h, w];
}
