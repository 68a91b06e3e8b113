/**
 * Compressions of native sparse attention: keys or values in windows, kv [b, heads, w, n, dimHead], to one vector for each window,
 * [b, heads, w, dimHead].
 */
import { badArgument, finite, integer, options, showShape } from '../arguments.js';
import * as F from '../functional.js';
import { shapeError, shaped } from '../functional/record.js';
import { Module, Parameter } from '../module.js';
import { GELU } from './activations.js';
import { Sequential } from './containers.js';
import { Conv1d, Dropout, Flatten, Linear, ReLU } from './layers.js';

/** @import { Operand, SymbolicTensor } from '../tensor.js' */

/**
 * Windows one after the other, channels of all heads together: [b, heads, w, n, d] -> [b, heads d, w n].
 * @param {SymbolicTensor} kv
 */
const asSequence = (kv) => F.flatten(F.flatten(F.permute(kv, [0, 1, 4, 2, 3]), 3, 4), 1, 2);

/**
 * [b, heads d, w] -> [b, heads, w, d].
 * @param {SymbolicTensor} sequence
 * @param {number} heads
 * @param {number} dimHead
 */
const perHead = (sequence, heads, dimHead) => F.permute(F.unflatten(sequence, 1, [heads, dimHead]), [0, 1, 3, 2]);

/**
 * A convolution over the positions of a window, with weights of its own for each head.  kv [b, heads, w, n, dimHead] ->
 * [b, heads, floor(w n / compressBlockSize), dimHead]: the windows are joined to one sequence and cut anew, a remainder is dropped.
 * Weights: `conv.weight` [heads dimHead, dimHead, compressBlockSize], `conv.bias` [heads dimHead].
 */
export class ConvLinearCompress extends Module {
  /**
   * @param {number} heads
   * @param {number} dimHead
   * @param {number} compressBlockSize
   */
  constructor(heads, dimHead, compressBlockSize) {
    super();
    this.heads = integer('ConvLinearCompress: heads', heads, 1);
    this.dimHead = integer('ConvLinearCompress: dimHead', dimHead, 1);
    const stride = integer('ConvLinearCompress: compressBlockSize', compressBlockSize, 1);
    this.conv = new Conv1d(heads * dimHead, heads * dimHead, compressBlockSize, { stride, groups: heads });
  }

  /** @param {Operand} kv [b, heads, w, n, dimHead] */
  forward(kv) {
    const { heads, dimHead } = this;
    return perHead(this.conv(asSequence(shaped('ConvLinearCompress', kv, ['b', heads, 'w', 'n', dimHead]))), heads, dimHead);
  }
}

/**
 * ConvLinearCompress through fewer channels: a 1x1 convolution to 1 / reductionFactor of them, the convolution over positions, and a
 * 1x1 convolution back, each with weights of its own for each head.  kv [b, heads, w, n, dimHead] ->
 * [b, heads, floor(w n / compressBlockSize), dimHead]: the windows are joined to one sequence and cut anew, a remainder is dropped.
 * Weights: `channel_reduction`, `grouped_conv`, `channel_expansion` (Conv1d).
 */
export class EfficientConvLinearCompress extends Module {
  /**
   * @param {number} heads
   * @param {number} dimHead
   * @param {number} compressBlockSize
   * @param {{ reductionFactor?: number } | number} [reductionFactor] 2. floor(heads dimHead / reductionFactor) must be a multiple of heads.
   */
  constructor(heads, dimHead, compressBlockSize, reductionFactor) {
    super();
    const o = options('EfficientConvLinearCompress', [reductionFactor], { reductionFactor: 2 });
    this.heads = integer('EfficientConvLinearCompress: heads', heads, 1);
    this.dimHead = integer('EfficientConvLinearCompress: dimHead', dimHead, 1);
    const stride = integer('EfficientConvLinearCompress: compressBlockSize', compressBlockSize, 1);
    this.reductionFactor = integer('EfficientConvLinearCompress: reductionFactor', o.reductionFactor, 1);
    const channels = heads * dimHead;
    const reduced = Math.floor(channels / this.reductionFactor);
    if (reduced < 1 || reduced % heads) {
      throw badArgument('EfficientConvLinearCompress: reductionFactor', `one that leaves a multiple of ${heads} heads of the ${channels} channels`, this.reductionFactor);
    }
    this.channel_reduction = new Conv1d(channels, reduced, 1, { groups: heads });
    this.grouped_conv = new Conv1d(reduced, reduced, compressBlockSize, { stride, groups: heads });
    this.channel_expansion = new Conv1d(reduced, channels, 1, { groups: heads });
  }

  /** @param {Operand} kv [b, heads, w, n, dimHead] */
  forward(kv) {
    const { heads, dimHead } = this;
    const reduced = this.channel_reduction(asSequence(shaped('EfficientConvLinearCompress', kv, ['b', heads, 'w', 'n', dimHead])));
    return perHead(this.channel_expansion(this.grouped_conv(reduced)), heads, dimHead);
  }
}

/** Mean of each window with weights softmax over n of scale kv W^T, each channel for itself. */
class WindowPool extends Module {
  /**
   * @param {string} what The layer's name.
   * @param {number} dimHead
   * @param {number} compressBlockSize
   */
  constructor(what, dimHead, compressBlockSize) {
    super();
    this.what = what;
    this.dimHead = integer(`${what}: dimHead`, dimHead, 1);
    integer(`${what}: compressBlockSize`, compressBlockSize, 1);
    this.to_attn_logits = new Linear(dimHead, dimHead, { bias: false });
    this.scale = 1;
  }

  /** @param {Operand} kv [b, heads, w, n, dimHead] */
  forward(kv) {
    const input = shaped(this.what, kv, ['b', 'heads', 'w', 'n', this.dimHead]);
    const logits = this.to_attn_logits(input);
    const weights = F.softmax(this.scale === 1 ? logits : F.mul(logits, this.scale), -2);
    // A sum as a quotient of two means, which needs no n: the weights' own mean is 1 / n.
    return F.div(F.mean(F.mul(input, weights), -2), F.mean(weights, -2));
  }
}

/**
 * Mean of each window weighted by softmax over n of kv W^T, each channel for itself.  kv [b, heads, w, n, dimHead] ->
 * [b, heads, w, dimHead] for any n. Weight: `to_attn_logits.weight` [dimHead, dimHead].
 */
export class AttentionPool extends WindowPool {
  /**
   * @param {number} dimHead
   * @param {number} compressBlockSize Takes part in nothing.
   */
  constructor(dimHead, compressBlockSize) {
    super('AttentionPool', dimHead, compressBlockSize);
  }
}

/**
 * AttentionPool with logits kv W^T / sqrt(dimHead).  kv [b, heads, w, n, dimHead] -> [b, heads, w, dimHead] for any n.
 * Weight: `to_attn_logits.weight` [dimHead, dimHead].
 */
export class ScaledAttentionPool extends WindowPool {
  /**
   * @param {number} dimHead
   * @param {number} compressBlockSize Takes part in nothing.
   */
  constructor(dimHead, compressBlockSize) {
    super('ScaledAttentionPool', dimHead, compressBlockSize);
    this.scale = dimHead ** -0.5;
  }
}

/**
 * A linear layer for each head: y[b, h, w] = x[b, h, w] weight[h] + bias[h], what einops' EinMix makes of 'b h w i -> b h w o' with
 * weights 'h i o'. Weights: `weight` [heads, inFeatures, outFeatures] (not transposed as Linear's), `bias` [1, heads, 1, outFeatures].
 */
class EinMix extends Module {
  /**
   * @param {number} heads
   * @param {number} inFeatures
   * @param {number} outFeatures
   * @param {{ bias?: boolean }} [options] `bias` (true)
   */
  constructor(heads, inFeatures, outFeatures, { bias = true } = {}) {
    super();
    this.weight = new Parameter([heads, inFeatures, outFeatures]);
    this.bias = bias ? new Parameter([1, heads, 1, outFeatures]) : null;
  }

  /** @param {Operand} x [b, heads, w, inFeatures] */
  forward(x) {
    const y = F.matmul(x, this.weight);
    return this.bias ? F.add(y, this.bias) : y;
  }

  extraRepr() {
    const [heads, inFeatures, outFeatures] = this.weight.shape;
    return `'b h w i -> b h w o', h=${heads}, i=${inFeatures}, o=${outFeatures}`;
  }
}

/**
 * The sizes of a grouped MLP, checked.
 * @param {string} what
 * @param {number} dimHead
 * @param {number} compressBlockSize
 * @param {number} heads
 * @param {number} expandFactor
 * @returns {[number, number]} Numbers of inputs and of hidden features for each head.
 */
function groupedSizes(what, dimHead, compressBlockSize, heads, expandFactor) {
  integer(`${what}: heads`, heads, 1);
  const dim = integer(`${what}: dimHead`, dimHead, 1) * integer(`${what}: compressBlockSize`, compressBlockSize, 1);
  const hidden = Math.trunc(dim * finite(`${what}: expandFactor`, expandFactor));
  if (hidden < 1) throw badArgument(`${what}: expandFactor`, `at least ${1 / dim}, for one hidden feature`, expandFactor);
  return [dim, hidden];
}

/**
 * An MLP for each head over the numbers of a window: relu(x W_0 + b_0) W_2 + b_2 with x the window's n vectors in a row.
 * kv [b, heads, w, compressBlockSize, dimHead] -> [b, heads, w, dimHead]. Weights, with hidden = floor(expandFactor dimHead
 * compressBlockSize): `net.0.weight` [heads, compressBlockSize dimHead, hidden], `net.0.bias` [1, heads, 1, hidden],
 * `net.2.weight` [heads, hidden, dimHead], `net.2.bias` [1, heads, 1, dimHead].
 */
export class GroupedMLP extends Module {
  /**
   * @param {number} dimHead
   * @param {number} compressBlockSize
   * @param {number} heads
   * @param {{ expandFactor?: number } | number} [expandFactor] 1
   */
  constructor(dimHead, compressBlockSize, heads, expandFactor) {
    super();
    const o = options('GroupedMLP', [expandFactor], { expandFactor: 1 });
    const [dim, hidden] = groupedSizes('GroupedMLP', dimHead, compressBlockSize, heads, o.expandFactor);
    this.windows = ['b', heads, 'w', compressBlockSize, dimHead];
    this.net = new Sequential(new EinMix(heads, dim, hidden), new ReLU(), new EinMix(heads, hidden, dimHead));
  }

  /** @param {Operand} kv [b, heads, w, compressBlockSize, dimHead] */
  forward(kv) {
    return this.net(F.flatten(shaped('GroupedMLP', kv, this.windows), 3));
  }
}

/**
 * One projection of a window without bias.  kv [b, heads, w, compressBlockSize, dimHead] -> [b, heads, w, dimHead]. With heads = 1 (kv may have
 * any number of heads) of the window's n vectors in a row, weight `compress.1.weight` [dimHead, compressBlockSize dimHead]; with more of the
 * sum of its vectors, for each head with a matrix of its own, weight `compress.weight` [heads, dimHead, dimHead].
 */
export class SingleProjection extends Module {
  /**
   * @param {number} dimHead
   * @param {number} compressBlockSize
   * @param {number} [heads] 1
   */
  constructor(dimHead, compressBlockSize, heads = 1) {
    super();
    integer('SingleProjection: dimHead', dimHead, 1);
    this.block = integer('SingleProjection: compressBlockSize', compressBlockSize, 1);
    this.windows = ['b', integer('SingleProjection: heads', heads, 1) > 1 ? heads : 'heads', 'w', compressBlockSize, dimHead];
    this.compress = heads > 1 ? new EinMix(heads, dimHead, dimHead, { bias: false })
      : new Sequential(new Flatten(3), new Linear(dimHead * compressBlockSize, dimHead, { bias: false }));
  }

  /** @param {Operand} kv [b, heads, w, compressBlockSize, dimHead] */
  forward(kv) {
    const input = shaped('SingleProjection', kv, this.windows);
    if (this.compress instanceof Sequential) return this.compress(input);
    if (input.shape[3] === null) throw shapeError(`SingleProjection: the window must have a fixed size, ${this.block}, in ${showShape(input.shape)}`);
    return this.compress(F.mul(F.mean(input, 3), this.block));
  }
}

/**
 * An MLP for each head over the numbers of a window, added to the window's mean: y = mean over n of kv + residual_scale (gelu(x W_0 + b_0)
 * W_3 + b_3) with x the window's n vectors in a row and the exact GELU.  kv [b, heads, w, compressBlockSize, dimHead] ->
 * [b, heads, w, dimHead]. Weights, with hidden = floor(expandFactor dimHead compressBlockSize): `net.0.weight` [heads, compressBlockSize
 * dimHead, hidden], `net.0.bias` [1, heads, 1, hidden], `net.3.weight` [heads, hidden, dimHead], `net.3.bias` [1, heads, 1, dimHead],
 * `residual_scale` [1].
 */
export class EnhancedGroupedMLP extends Module {
  /**
   * @param {number} dimHead
   * @param {number} compressBlockSize
   * @param {number} heads
   * @param {{ expandFactor?: number, dropout?: number } | number} [expandFactor] Options, or in this order: expandFactor (1), dropout (0;
   *   does nothing outside training).
   * @param {number} [dropout]
   */
  constructor(dimHead, compressBlockSize, heads, expandFactor, dropout) {
    super();
    const o = options('EnhancedGroupedMLP', [expandFactor, dropout], { expandFactor: 1, dropout: 0 });
    const [dim, hidden] = groupedSizes('EnhancedGroupedMLP', dimHead, compressBlockSize, heads, o.expandFactor);
    this.windows = ['b', heads, 'w', compressBlockSize, dimHead];
    this.net = new Sequential(
      new EinMix(heads, dim, hidden), new GELU(), new Dropout(o.dropout), new EinMix(heads, hidden, dimHead), new Dropout(o.dropout),
    );
    this.residual_scale = new Parameter([1]);
  }

  /** @param {Operand} kv [b, heads, w, compressBlockSize, dimHead] */
  forward(kv) {
    const input = shaped('EnhancedGroupedMLP', kv, this.windows);
    return F.add(F.mean(input, 3), F.mul(this.residual_scale, this.net(F.flatten(input, 3))));
  }
}
