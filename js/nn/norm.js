/** Normalisation of each token or group of channels by its own statistics. */
import { badArgument, boolean, divides, finite, integer, options, show, sizes } from '../arguments.js';
import * as F from '../functional.js';
import { Module, Parameter } from '../module.js';

/** @import { Operand } from '../tensor.js' */

/** Normalises over the last axes: y = (x - mean) / sqrt(variance + eps) * weight + bias. Weights: `weight`, `bias` of the normalized shape. */
export class LayerNorm extends Module {
  /**
   * @param {number | number[]} normalizedShape
   * @param {{ eps?: number, elementwiseAffine?: boolean, bias?: boolean } | number} [eps] Options, or PyTorch's order: eps (1e-5), elementwiseAffine (true), bias (true).
   * @param {...any} rest
   */
  constructor(normalizedShape, eps, ...rest) {
    super();
    const o = options('LayerNorm', [eps, ...rest], { eps: 1e-5, elementwiseAffine: true, bias: true });
    this.normalizedShape = sizes('LayerNorm: normalizedShape', [normalizedShape].flat(), 1);
    if (!this.normalizedShape.length) throw badArgument('LayerNorm: normalizedShape', 'at least one size', normalizedShape);
    this.eps = finite('LayerNorm: eps', o.eps, 0);
    const affine = boolean('LayerNorm: elementwiseAffine', o.elementwiseAffine);
    this.weight = affine ? new Parameter(this.normalizedShape) : null;
    this.bias = boolean('LayerNorm: bias', o.bias) && affine ? new Parameter(this.normalizedShape) : null;
  }

  /** @param {Operand} x [..., ...normalizedShape] */
  forward(x) {
    return F.layerNorm(x, this.normalizedShape, this.weight, this.bias, this.eps);
  }

  extraRepr() {
    return `${show(this.normalizedShape)}, eps=${this.eps}${this.weight ? '' : ', elementwiseAffine=false'}`;
  }
}

/** Normalises over the last axes: y = x / sqrt(mean(x^2) + eps) * weight. Weights: `weight` of the normalized shape. */
export class RMSNorm extends Module {
  /**
   * @param {number | number[]} normalizedShape
   * @param {{ eps?: number | null, elementwiseAffine?: boolean } | number | null} [eps] Options, or PyTorch's order: eps (null, which is
   *   2^-23), elementwiseAffine (true).
   * @param {...any} rest
   */
  constructor(normalizedShape, eps, ...rest) {
    super();
    const o = options('RMSNorm', [eps, ...rest], { eps: /** @type {number | null} */ (null), elementwiseAffine: true });
    this.normalizedShape = sizes('RMSNorm: normalizedShape', [normalizedShape].flat(), 1);
    if (!this.normalizedShape.length) throw badArgument('RMSNorm: normalizedShape', 'at least one size', normalizedShape);
    this.eps = o.eps === null ? null : finite('RMSNorm: eps', o.eps, 0);
    this.weight = boolean('RMSNorm: elementwiseAffine', o.elementwiseAffine) ? new Parameter(this.normalizedShape) : null;
  }

  /** @param {Operand} x [..., ...normalizedShape] */
  forward(x) {
    return F.rmsNorm(x, this.normalizedShape, this.weight, this.eps);
  }

  extraRepr() {
    return `${show(this.normalizedShape)}, eps=${this.eps}${this.weight ? '' : ', elementwiseAffine=false'}`;
  }
}

/**
 * Normalises the channels of [n, numChannels, ...] in equal groups: y = (x - mean) / sqrt(variance + eps) * weight + bias with the statistics of
 * the group over all its positions. Weights: `weight` and `bias` [numChannels].
 */
export class GroupNorm extends Module {
  /**
   * @param {number} numGroups
   * @param {number} numChannels
   * @param {{ eps?: number, affine?: boolean } | number} [eps] Options, or PyTorch's order: eps (1e-5), affine (true).
   * @param {...any} rest
   */
  constructor(numGroups, numChannels, eps, ...rest) {
    super();
    const o = options('GroupNorm', [eps, ...rest], { eps: 1e-5, affine: true });
    this.numGroups = integer('GroupNorm: numGroups', numGroups, 1);
    this.numChannels = integer('GroupNorm: numChannels', numChannels, 1);
    divides('GroupNorm', 'numChannels', numChannels, 'numGroups', numGroups);
    this.eps = finite('GroupNorm: eps', o.eps, 0);
    const affine = boolean('GroupNorm: affine', o.affine);
    this.weight = affine ? new Parameter([numChannels]) : null;
    this.bias = affine ? new Parameter([numChannels]) : null;
  }

  /** @param {Operand} x [n, numChannels, ...] */
  forward(x) {
    return F.groupNorm(x, this.numGroups, this.weight, this.bias, this.eps);
  }

  extraRepr() {
    return `${this.numGroups}, ${this.numChannels}, eps=${this.eps}, affine=${this.weight !== null}`;
  }
}
