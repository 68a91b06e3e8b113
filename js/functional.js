/**
 * The layers as functions, `F.conv2d(x, weight, bias, { stride: 2 })`: what `forward` is made of. They run inside `compile` only,
 * on tensors that have a shape but no numbers yet (`SymbolicTensor`); weights are Parameters of a module. Wherever a tensor is
 * expected a Parameter will do, and so will a number or a `Tensor`, which become constants of the model.
 *
 * Shapes are PyTorch's: images [n, c, h, w]. Arguments after the tensors come in PyTorch's order or as one object.
 * Every function throws a LamellaError with the code 'shape' or 'argument' that says what was expected and what came, and
 * whose `path` is the module being recorded.
 */
import { badArgument, boolean, divides, finite, integer, options, pair, show, showShape, sizes } from './arguments.js';
import { LamellaError } from './errors.js';
import { SymbolicTensor, Tensor } from './tensor.js';
import { ANY, KEEP, currentTrace } from './trace.js';

/** @typedef {import('./tensor.js').Operand} Operand */
/** @typedef {import('./tensor.js').TensorMethods} TensorMethods */
/** @typedef {number | [number, number]} Pair An integer for both axes, or [height, width]. */

/** lam_activation, in the order of the engine's header. */
const ACTIVATIONS = /** @type {const} */ (['identity', 'relu', 'sigmoid', 'silu', 'tanh', 'gelu', 'gelu_tanh', 'quick_gelu', 'mish', 'softplus']);
const ARITHMETIC = /** @type {const} */ (['add', 'sub', 'mul', 'div']);

/**
 * Records a layer.
 * @param {string} name
 * @param {(number | readonly number[])[]} args
 * @param {'f32' | 'bool'} [dtype]
 * @returns {SymbolicTensor}
 */
function record(name, args, dtype = 'f32') {
  const trace = currentTrace(name);
  const value = trace.define(name, ...args);
  return new SymbolicTensor(trace, value, trace.graph.shape(value), dtype);
}

/** @param {Operand} x @param {string} what */
const value = (x, what) => currentTrace(what).lift(x, what);
/** @param {Operand | null | undefined} x @param {string} what */
const optional = (x, what) => currentTrace(what).liftOptional(x, what);

/**
 * The tensor in the graph with its shape, whatever it was.
 * @param {Operand} x
 * @param {string} what
 * @returns {SymbolicTensor}
 */
function symbolic(x, what) {
  if (x instanceof SymbolicTensor) return x;
  const trace = currentTrace(what);
  const id = trace.lift(x, what);
  return new SymbolicTensor(trace, id, trace.graph.shape(id), x instanceof Tensor && x.dtype === 'bool' ? 'bool' : 'f32');
}

/** A Parameter, a Tensor or a number as the tensor it is inside forward. @param {Operand} x */
export const asTensor = (x) => symbolic(x, 'asTensor');

/** @param {string} message @returns {LamellaError} */
const shapeError = (message) => currentTrace(message).error('shape', message);

/**
 * An axis counted from the front.
 * @param {string} what
 * @param {SymbolicTensor} x
 * @param {unknown} dim Negative counts from the end.
 * @returns {number}
 */
function axis(what, x, dim) {
  const rank = x.shape.length;
  const index = integer(what, dim);
  if (index >= -rank && index < rank) return index < 0 ? index + rank : index;
  throw shapeError(`${what}: ${index} is outside the ${rank} axes of ${showShape(x.shape)}`);
}

// ---- arithmetic ---------------------------------------------------------------------------------------------------

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

// ---- layers -------------------------------------------------------------------------------------------------------

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

/**
 * y = (x - mean) / sqrt(variance + eps) * weight + bias for each channel (axis 1), with the statistics of training.
 * @param {Operand} x [n, c, ...]
 * @param {Operand} runningMean [c]
 * @param {Operand} runningVar [c]
 * @param {Operand | null} [weight] [c]
 * @param {Operand | null} [bias] [c]
 * @param {{ eps?: number }} [options] `eps` (1e-5)
 */
export function batchNorm(x, runningMean, runningVar, weight = null, bias = null, { eps = 1e-5 } = {}) {
  return record('batch_norm', [value(x, 'batchNorm: input'), value(runningMean, 'batchNorm: runningMean'),
    value(runningVar, 'batchNorm: runningVar'), optional(weight, 'batchNorm: weight'), optional(bias, 'batchNorm: bias'),
    finite('batchNorm: eps', eps)]);
}

/**
 * Over the last axes: y = (x - mean) / sqrt(variance + eps) * weight + bias, the variance being the biased one.
 * @param {Operand} x [..., ...normalizedShape]
 * @param {number | number[]} normalizedShape
 * @param {Operand | null} [weight] Of the normalized shape.
 * @param {Operand | null} [bias] Of the normalized shape.
 * @param {number} [eps]
 */
export function layerNorm(x, normalizedShape, weight = null, bias = null, eps = 1e-5) {
  const input = symbolic(x, 'layerNorm: input');
  const shape = sizes('layerNorm: normalizedShape', [normalizedShape].flat(), 1);
  const tail = input.shape.slice(input.shape.length - shape.length);
  if (!shape.length || tail.length !== shape.length || tail.some((size, i) => size !== null && size !== shape[i])) {
    throw shapeError(`layerNorm: expected an input that ends in ${showShape(shape)}, got ${showShape(input.shape)}`);
  }
  return record('layer_norm', [input.value, optional(weight, 'layerNorm: weight'), optional(bias, 'layerNorm: bias'),
    shape.length, finite('layerNorm: eps', eps)]);
}

/** @param {typeof ACTIVATIONS[number]} kind @param {Operand} x */
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
/** log(1 + e^x); x itself above 20. @param {Operand} x */
export const softplus = (x) => activate('softplus', x);

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

// ---- pooling ------------------------------------------------------------------------------------------------------

/**
 * Mean of each window of x [n, c, h, w]. Options: `stride` (the kernel), `padding` (0), `ceilMode` (false), `countIncludePad`
 * (true), `divisorOverride` (null: the window's size).
 * @param {Operand} x
 * @param {Pair} kernelSize
 * @param {...any} rest
 */
export function avgPool2d(x, kernelSize, ...rest) {
  const o = options('avgPool2d', rest, { stride: /** @type {Pair | null} */ (null), padding: /** @type {Pair} */ (0), ceilMode: false, countIncludePad: true, divisorOverride: /** @type {number | null} */ (null) });
  const kernel = pair('avgPool2d: kernelSize', kernelSize, 1);
  return record('avg_pool2d', [value(x, 'avgPool2d: input'), kernel, pair('avgPool2d: stride', o.stride ?? kernel, 1),
    poolPadding('avgPool2d', o.padding, kernel), Number(boolean('avgPool2d: ceilMode', o.ceilMode)),
    Number(boolean('avgPool2d: countIncludePad', o.countIncludePad)),
    o.divisorOverride === null ? 0 : integer('avgPool2d: divisorOverride', o.divisorOverride, 1)]);
}

/**
 * Largest element of each window of x [n, c, h, w]. Options: `stride` (the kernel), `padding` (0), `dilation` (1), `ceilMode` (false).
 * @param {Operand} x
 * @param {Pair} kernelSize
 * @param {...any} rest
 */
export function maxPool2d(x, kernelSize, ...rest) {
  const o = options('maxPool2d', rest, { stride: /** @type {Pair | null} */ (null), padding: /** @type {Pair} */ (0), dilation: /** @type {Pair} */ (1), ceilMode: false });
  const kernel = pair('maxPool2d: kernelSize', kernelSize, 1);
  return record('max_pool2d', [value(x, 'maxPool2d: input'), kernel, pair('maxPool2d: stride', o.stride ?? kernel, 1),
    poolPadding('maxPool2d', o.padding, kernel), pair('maxPool2d: dilation', o.dilation, 1),
    Number(boolean('maxPool2d: ceilMode', o.ceilMode))]);
}

/**
 * @param {string} what
 * @param {unknown} given
 * @param {[number, number]} kernel
 */
function poolPadding(what, given, kernel) {
  const padding = pair(`${what}: padding`, given);
  if (padding.some((size, i) => size * 2 > kernel[i])) {
    throw new LamellaError('argument', `${what}: padding ${show(padding)} is more than half the kernel ${show(kernel)}`);
  }
  return padding;
}

/**
 * Mean over oh x ow windows that cover x [n, c, h, w]: window i has the rows floor(i h / oh) to ceil((i + 1) h / oh).
 * @param {Operand} x
 * @param {number | [number | null, number | null]} outputSize null keeps the input's size.
 */
export function adaptiveAvgPool2d(x, outputSize) {
  const both = Array.isArray(outputSize) ? outputSize : [outputSize, outputSize];
  if (both.length !== 2) throw badArgument('adaptiveAvgPool2d: outputSize', 'an integer or [height, width]', outputSize);
  const size = both.map((n) => (n === null ? KEEP : integer('adaptiveAvgPool2d: outputSize', n, 1)));
  return record('adaptive_avg_pool2d', [value(x, 'adaptiveAvgPool2d: input'), size]);
}

// ---- shapes -------------------------------------------------------------------------------------------------------

/**
 * The same numbers in another shape. One size may be -1, to be inferred; null takes the input's size at the same place.
 * @param {Operand} x
 * @param {(number | null)[]} shape
 */
export function reshape(x, shape) {
  const input = symbolic(x, 'reshape: input');
  const dims = shape.map((size, i) => (size === null ? KEEP : integer(`reshape: size ${i}`, size, -1)));
  if (dims.includes(0) && !input.shape.includes(0)) {
    throw shapeError(`reshape: size 0 in ${showShape(shape)} of ${showShape(input.shape)}; a size that varies reads as null, and null * 7 is 0: write -1 for one such size`);
  }
  return record('reshape', [input.value, dims.length, dims], input.dtype);
}

/** The same as reshape. @param {Operand} x @param {(number | null)[]} shape */
export const view = (x, shape) => reshape(x, shape);

/**
 * Axes startDim to endDim as one.
 * @param {Operand} x
 * @param {number} [startDim]
 * @param {number} [endDim]
 */
export function flatten(x, startDim = 0, endDim = -1) {
  const input = symbolic(x, 'flatten: input');
  const [first, last] = [axis('flatten: startDim', input, startDim), axis('flatten: endDim', input, endDim)];
  if (first > last) throw shapeError(`flatten: startDim ${startDim} comes after endDim ${endDim} in ${showShape(input.shape)}`);
  return record('flatten', [input.value, first, last], input.dtype);
}

/**
 * One axis as several.
 * @param {Operand} x
 * @param {number} dim
 * @param {number[]} shape One size may be -1.
 */
export function unflatten(x, dim, shape) {
  const input = symbolic(x, 'unflatten: input');
  const parts = sizes('unflatten: sizes', shape, -1);
  return record('unflatten', [input.value, axis('unflatten: dim', input, dim), parts.length, parts], input.dtype);
}

/** A new axis of size 1 before `dim`. @param {Operand} x @param {number} dim */
export function unsqueeze(x, dim) {
  const input = symbolic(x, 'unsqueeze: input');
  const rank = input.shape.length;
  const at = integer('unsqueeze: dim', dim, -rank - 1, rank) + (dim < 0 ? rank + 1 : 0);
  if (rank === 0) return reshape(input, [1]);
  return at < rank ? unflatten(input, at, [1, -1]) : unflatten(input, rank - 1, [-1, 1]);
}

/** Without the axis `dim`, which has size 1. @param {Operand} x @param {number} dim */
export function squeeze(x, dim) {
  const input = symbolic(x, 'squeeze: input');
  const at = axis('squeeze: dim', input, dim);
  if (input.shape[at] !== 1) throw shapeError(`squeeze: axis ${dim} of ${showShape(input.shape)} does not have size 1`);
  if (input.shape.length === 1) return reshape(input, []);
  return at + 1 < input.shape.length ? flatten(input, at, at + 1) : flatten(input, at - 1, at);
}

/**
 * The axes in another order: axis i of the result is axis dims[i] of x.
 * @param {Operand} x
 * @param {number[]} dims
 */
export function permute(x, dims) {
  const input = symbolic(x, 'permute: input');
  const order = dims.map((d) => axis('permute: dims', input, d));
  if (order.length !== input.shape.length || new Set(order).size !== order.length) {
    throw shapeError(`permute: ${show(dims)} is not an order of the axes of ${showShape(input.shape)}`);
  }
  return record('permute', [input.value, order], input.dtype);
}

/** Two axes swapped. @param {Operand} x @param {number} dim0 @param {number} dim1 */
export function transpose(x, dim0, dim1) {
  const input = symbolic(x, 'transpose: input');
  const order = [...input.shape.keys()];
  const [a, b] = [axis('transpose: dim0', input, dim0), axis('transpose: dim1', input, dim1)];
  [order[a], order[b]] = [b, a];
  return permute(input, order);
}

/**
 * Elements start to start + length along an axis.
 * @param {Operand} x
 * @param {number} dim
 * @param {number} start Negative counts from the end.
 * @param {number} length -1: all the rest.
 */
export function narrow(x, dim, start, length) {
  const input = symbolic(x, 'narrow: input');
  return record('narrow', [input.value, axis('narrow: dim', input, dim), integer('narrow: start', start), integer('narrow: length', length, -1)], input.dtype);
}

/**
 * Cut along an axis into pieces of one size (the last may be smaller) or of the sizes given.
 * @param {Operand} x
 * @param {number | number[]} sizeOrSizes
 * @param {number} [dim]
 * @returns {SymbolicTensor[]}
 */
export function split(x, sizeOrSizes, dim = 0) {
  const input = symbolic(x, 'split: input');
  const at = axis('split: dim', input, dim);
  const whole = input.shape[at];
  if (whole === null) throw shapeError(`split: axis ${dim} of ${showShape(input.shape)} varies; narrow takes a part of such an axis`);
  let parts = /** @type {number[]} */ (sizeOrSizes);
  if (!Array.isArray(sizeOrSizes)) {
    const size = integer('split: size', sizeOrSizes, 1);
    parts = Array.from({ length: Math.max(1, Math.ceil(whole / size)) }, (_, i) => Math.min(size, whole - i * size));
  }
  if (sizes('split: sizes', parts).reduce((sum, size) => sum + size, 0) !== whole) {
    throw shapeError(`split: sizes ${show(parts)} do not add up to axis ${dim} of ${showShape(input.shape)}`);
  }
  let start = 0;
  return parts.map((size) => narrow(input, at, (start += size) - size, size));
}

/**
 * Cut along an axis into `chunks` pieces of equal size (the last may be smaller, and there may be fewer).
 * @param {Operand} x
 * @param {number} chunks
 * @param {number} [dim]
 */
export function chunk(x, chunks, dim = 0) {
  const input = symbolic(x, 'chunk: input');
  const whole = input.shape[axis('chunk: dim', input, dim)];
  return split(input, Math.max(1, Math.ceil((whole ?? 0) / integer('chunk: chunks', chunks, 1))), dim);
}

/**
 * Tensors joined along an axis.
 * @param {Operand[]} tensors
 * @param {number} [dim]
 */
export function cat(tensors, dim = 0) {
  if (!Array.isArray(tensors) || !tensors.length) throw badArgument('cat: tensors', 'an array of tensors', tensors);
  const inputs = tensors.map((x, i) => symbolic(x, `cat: tensor ${i}`));
  const dtype = inputs.every((x) => x.dtype === 'bool') ? 'bool' : 'f32';
  return record('cat', [inputs.length, inputs.map((x) => x.value), axis('cat: dim', inputs[0], dim)], dtype);
}

// ---- attention ----------------------------------------------------------------------------------------------------

/**
 * softmax(scale q k^T + mask) v.  q [..., t, d], k [..., s, d], v [..., s, e] -> [..., t, e].
 * @param {Operand} query
 * @param {Operand} key
 * @param {Operand} value_
 * @param {object} [options]
 * @param {Operand | null} [options.attnMask] Broadcastable to [..., t, s]. Added to the scores; one of dtype 'bool' (an input declared
 *   as `{ shape, dtype: 'bool' }`) says instead which scores count: true counts, false does not.
 * @param {number} [options.dropoutP] Does nothing: there is no dropout outside training.
 * @param {boolean} [options.isCausal] Row i sees columns 0 to i.
 * @param {number | null} [options.scale] Defaults to 1 / sqrt(d).
 * @param {boolean} [options.enableGqa] The heads (axis -3) of q are a multiple of those of k and v.
 */
export function scaledDotProductAttention(query, key, value_, { attnMask = null, isCausal = false, scale = null, enableGqa = false, ...rest } = {}) {
  options('scaledDotProductAttention', [rest], { dropoutP: 0 });
  const [q, k, v] = [symbolic(query, 'attention: query'), symbolic(key, 'attention: key'), symbolic(value_, 'attention: value')];
  const [queryHeads, keyHeads] = [q.shape.at(-3), k.shape.at(-3)];
  if (typeof queryHeads === 'number' && typeof keyHeads === 'number' && queryHeads !== keyHeads) {
    if (!enableGqa) throw shapeError(`scaledDotProductAttention: query ${showShape(q.shape)} and key ${showShape(k.shape)} differ in axis -3; grouped heads need { enableGqa: true }`);
    divides('scaledDotProductAttention', 'query heads', queryHeads, 'key heads', keyHeads);
  }
  const mask = attnMask === null ? null : additiveMask(symbolic(attnMask, 'attention: attnMask'), true);
  return record('attention', [q.value, k.value, v.value, optional(mask, 'attention: attnMask'),
    scale === null ? 0 : finite('scaledDotProductAttention: scale', scale), Number(boolean('scaledDotProductAttention: isCausal', isCausal))]);
}

/**
 * A mask to add to scores: 0 where a score counts, -infinity where it does not. A mask that is not bool is one already.
 * @param {SymbolicTensor} mask
 * @param {boolean} keep What a true element of a bool mask means: the score counts, or it does not.
 * @returns {SymbolicTensor}
 */
export function additiveMask(mask, keep) {
  if (mask.dtype !== 'bool') return mask;
  const rest = sub(1, mask);
  return keep ? div(sub(0, rest), mask) : div(sub(0, mask), rest);   // -0 / 1 or -1 / 0
}

/**
 * CLIP's attention pool. With T = [mean of pixels; pixels] + positionalEmbedding [h w + 1, c], layer-normalised where `ln` is given:
 * y = c_proj(attention of q_proj(T_0) over k_proj(T) and v_proj(T)).  x [n, c, h, w] -> [n, out].
 * @param {Operand} x
 * @param {object} weights Parameters, each [weight, bias] but the first.
 * @param {Operand} weights.positionalEmbedding
 * @param {[Operand, Operand]} weights.qProj
 * @param {[Operand, Operand]} weights.kProj
 * @param {[Operand, Operand]} weights.vProj
 * @param {[Operand, Operand]} weights.cProj
 * @param {[Operand, Operand] | null} [weights.ln]
 * @param {number} numHeads
 * @param {{ eps?: number, projectTwice?: boolean }} [options] `eps` (1e-5) of the layer norm; `projectTwice` (false): q, k and v pass
 *   through their projections a second time.
 */
export function attentionPool2d(x, { positionalEmbedding, qProj, kProj, vProj, cProj, ln = null }, numHeads, { eps = 1e-5, projectTwice = false } = {}) {
  const weights = [positionalEmbedding, ...qProj, ...kProj, ...vProj, ...cProj].map((w) => value(w, 'attentionPool2d: weight'));
  const norm = (ln ?? [null, null]).map((w) => optional(w, 'attentionPool2d: ln'));
  return record('attention_pool2d', [value(x, 'attentionPool2d: input'), [...weights, ...norm],
    integer('attentionPool2d: numHeads', numHeads, 1), finite('attentionPool2d: eps', eps), Number(projectTwice)]);
}
