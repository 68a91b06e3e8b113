/** The same numbers in another shape or order, parts of them, and several joined. */
import { badArgument, integer, show, showShape, sizes } from '../arguments.js';
import { KEEP } from '../trace.js';
import { axis, record, shapeError, symbolic } from './record.js';

/** @import { Operand } from '../tensor.js' */
/** @import { SymbolicTensor } from '../tensor.js' */

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
