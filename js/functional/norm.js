/** Normalisation. */
import { finite, showShape, sizes } from '../arguments.js';
import { optional, record, shapeError, symbolic, value } from './record.js';

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
  const axes = normalizedAxes('layerNorm', x, normalizedShape);
  return record('layer_norm', [value(x, 'layerNorm: input'), optional(weight, 'layerNorm: weight'), optional(bias, 'layerNorm: bias'),
    axes, finite('layerNorm: eps', eps)]);
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
  return record('rms_norm', [value(x, 'rmsNorm: input'), optional(weight, 'rmsNorm: weight'), axes, finite('rmsNorm: eps', eps ?? 2 ** -23)]);
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
