/** Normalisation of each channel by the statistics of training. */
import { badArgument, boolean, finite, integer, options } from '../arguments.js';
import * as F from '../functional.js';
import { shaped } from '../functional/record.js';
import { Buffer, Module, Parameter } from '../module.js';

/** @import { Operand } from '../tensor.js' */
/** @typedef {{ eps?: number, momentum?: number | null, affine?: boolean, trackRunningStats?: boolean }} BatchNormOptions */

/**
 * y = (x - running_mean) / sqrt(running_var + eps) * weight + bias for each channel, axis 1. Weights: `weight`, `bias` (without
 * `affine: false`), `running_mean`, `running_var`, all [numFeatures]; `num_batches_tracked` is accepted and ignored.
 */
class BatchNorm extends Module {
  /**
   * @param {string} what The layer's name.
   * @param {number} numFeatures
   * @param {unknown[]} rest
   */
  constructor(what, numFeatures, rest) {
    super();
    const o = options(what, rest, { eps: 1e-5, momentum: /** @type {any} */ (0.1), affine: true, trackRunningStats: true });
    if (o.trackRunningStats !== true) throw badArgument(`${what}: trackRunningStats`, 'true (statistics of a checkpoint)', o.trackRunningStats);
    const shape = [integer(`${what}: numFeatures`, numFeatures, 1)];
    this.numFeatures = numFeatures;
    this.eps = finite(`${what}: eps`, o.eps, 0);
    this.affine = boolean(`${what}: affine`, o.affine);
    this.weight = this.affine ? new Parameter(shape) : null;
    this.bias = this.affine ? new Parameter(shape) : null;
    this.running_mean = new Buffer(shape);
    this.running_var = new Buffer(shape);
    this.num_batches_tracked = new Buffer([], { dtype: 'i64', optional: true });
  }

  /** @param {Operand} x [n, numFeatures, ...] */
  forward(x) {
    return F.batchNorm(x, this.running_mean, this.running_var, this.weight, this.bias, { eps: this.eps });
  }

  extraRepr() {
    return `${this.numFeatures}, eps=${this.eps}${this.affine ? '' : ', affine=false'}`;
  }
}

/** Batch normalisation of rows [n, numFeatures] or sequences [n, numFeatures, l]; weights as BatchNorm2d. */
export class BatchNorm1d extends BatchNorm {
  /**
   * @param {number} numFeatures
   * @param {BatchNormOptions | number} [eps] Options, or PyTorch's order: eps (1e-5), momentum, affine (true), trackRunningStats, as of BatchNorm2d.
   * @param {...any} rest
   */
  constructor(numFeatures, eps, ...rest) {
    super('BatchNorm1d', numFeatures, [eps, ...rest]);
  }

  /** @param {Operand} x [n, numFeatures] or [n, numFeatures, l] */
  forward(x) {
    return super.forward(shaped('BatchNorm1d', x, ['n', this.numFeatures], ['n', this.numFeatures, 'l']));
  }
}

/**
 * y = (x - running_mean) / sqrt(running_var + eps) * weight + bias for each channel of [n, numFeatures, h, w]; folded into the
 * convolution before it. Weights: `weight`, `bias` (without `affine: false`), `running_mean`, `running_var`, all [numFeatures];
 * `num_batches_tracked` is accepted and ignored.
 */
export class BatchNorm2d extends BatchNorm {
  /**
   * @param {number} numFeatures
   * @param {BatchNormOptions | number} [eps] Options, or PyTorch's order: eps (1e-5), momentum (of training, ignored), affine (true),
   *   trackRunningStats (must be true: without it PyTorch normalises by the batch itself, also after training).
   * @param {...any} rest
   */
  constructor(numFeatures, eps, ...rest) {
    super('BatchNorm2d', numFeatures, [eps, ...rest]);
  }
}
