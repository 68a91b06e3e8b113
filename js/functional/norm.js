/** Normalisation. */
import { badArgument, finite, integer, options, showShape, sizes } from '../arguments.js';
import { axis, optional, record, shapeError, symbolic, value } from './record.js';
import { transpose } from './shape.js';

/** @import { Operand } from '../tensor.js' */

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
    finite('batchNorm: eps', eps, 0)]);
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
  const axes = normalizedAxes('layerNorm', x, normalizedShape);
  return record('layer_norm', [value(x, 'layerNorm: input'), optional(weight, 'layerNorm: weight'), optional(bias, 'layerNorm: bias'),
    axes, finite('layerNorm: eps', eps, 0)]);
}

/**
 * Over the last axes: y = x / sqrt(mean(x^2) + eps) * weight.
 * @param {Operand} x [..., ...normalizedShape]
 * @param {number | number[]} normalizedShape
 * @param {Operand | null} [weight] Of the normalized shape.
 * @param {number | null} [eps] null: 2^-23, the distance from 1 to the next float.
 */
export function rmsNorm(x, normalizedShape, weight = null, eps = null) {
  const axes = normalizedAxes('rmsNorm', x, normalizedShape);
  return record('rms_norm', [value(x, 'rmsNorm: input'), optional(weight, 'rmsNorm: weight'), axes, finite('rmsNorm: eps', eps ?? 2 ** -23, 0)]);
}

/**
 * The channels (axis 1) in numGroups equal groups: y = (x - mean) / sqrt(variance + eps) * weight + bias with the statistics of the group over
 * all its positions, the variance being the biased one.
 * @param {Operand} x [n, c, ...]
 * @param {number} numGroups
 * @param {Operand | null} [weight] [c]
 * @param {Operand | null} [bias] [c]
 * @param {number} [eps]
 */
export function groupNorm(x, numGroups, weight = null, bias = null, eps = 1e-5) {
  return record('group_norm', [value(x, 'groupNorm: input'), optional(weight, 'groupNorm: weight'), optional(bias, 'groupNorm: bias'),
    integer('groupNorm: numGroups', numGroups, 1), finite('groupNorm: eps', eps, 0)]);
}

/**
 * Along an axis: x / max(sqrt(sum of squares), eps).
 * @param {Operand} x
 * @param {...any} rest Options, or PyTorch's order: `p` (2, the only one there is), `dim` (1), `eps` (1e-12).
 */
export function normalize(x, ...rest) {
  const { p, dim, eps } = options('normalize', rest, { p: 2, dim: 1, eps: 1e-12 });
  if (p !== 2) throw badArgument('normalize: p', '2', p);
  const input = symbolic(x, 'normalize: input');
  const [at, last] = [axis('normalize: dim', input, dim), input.ndim - 1];
  const turned = at === last ? input : transpose(input, at, last);
  const y = record('normalize', [turned.value, finite('normalize: eps', eps, 0)]);
  return at === last ? y : transpose(y, at, last);
}

/**
 * How many axes a norm goes over, if the input ends in them.
 * @param {string} what
 * @param {Operand} x
 * @param {number | number[]} normalizedShape
 * @returns {number}
 */
function normalizedAxes(what, x, normalizedShape) {
  const input = symbolic(x, `${what}: input`);
  const shape = sizes(`${what}: normalizedShape`, [normalizedShape].flat(), 1);
  const tail = input.shape.slice(input.shape.length - shape.length);
  if (!shape.length || tail.length !== shape.length || tail.some((size, i) => size !== null && size !== shape[i])) {
    throw shapeError(`${what}: expected an input that ends in ${showShape(shape)}, got ${showShape(input.shape)}`);
  }
  return shape.length;
}
