/** Attention over images and tokens with its own projections, and the feed-forward network that follows it in a transformer. */
import { boolean, divides, integer, options } from '../arguments.js';
import * as F from '../functional.js';
import { linearRows } from '../functional/layers.js';
import { shaped } from '../functional/record.js';
import { Module, Parameter } from '../module.js';
import { GELU } from './activations.js';
import { Sequential } from './containers.js';
import { Conv2d, Dropout, Linear } from './layers.js';

/** @import { Operand } from '../tensor.js' */

/**
 * Attention of every pixel to every pixel: with Q, K [h w, inChannels / 8] and V [h w, inChannels] from 1x1 convolutions of x,
 * y = gamma softmax(Q K^T) V + x (no scale).  x [n, inChannels, h, w] -> the same.
 * Weights: `query`, `key`, `value` (Conv2d), `gamma` [1].
 */
export class SelfAttention extends Module {
  /** @param {number} inChannels At least 8. Queries and keys have floor(inChannels / 8) channels. */
  constructor(inChannels) {
    super();
    this.inChannels = integer('SelfAttention: inChannels', inChannels, 8);
    const reduced = Math.floor(inChannels / 8);
    this.query = new Conv2d(inChannels, reduced, 1);
    this.key = new Conv2d(inChannels, reduced, 1);
    this.value = new Conv2d(inChannels, inChannels, 1);
    this.gamma = new Parameter([1]);
  }

  /** @param {Operand} x [n, inChannels, h, w] */
  forward(x) {
    const image = shaped('SelfAttention', x, ['n', this.inChannels, 'h', 'w']);
    // Queries stay rows of pixels, as heads that share the keys of the whole image: so h and w may both vary between calls.
    const rows = F.permute(this.query(image), [0, 2, 3, 1]);
    const [keys, values] = [this.key, this.value].map((project) => F.unsqueeze(F.flatten(F.permute(project(image), [0, 2, 3, 1]), 1, 2), 1));
    const attended = F.scaledDotProductAttention(rows, keys, values, { scale: 1, enableGqa: true });
    return F.add(F.mul(this.gamma, F.permute(attended, [0, 3, 1, 2])), image);
  }
}

/**
 * Multi-head self-attention over tokens: heads of softmax(q k^T / sqrt(d)) v with d = dim / numHeads, joined and projected.
 * x [n, t, dim] -> the same. Weights: `qkv.weight` [3 dim, dim] (query, key, value, each head after head), `qkv.bias` with useBias,
 * `proj.weight` [dim, dim], `proj.bias`.
 */
export class OptimizedAttention extends Module {
  /**
   * @param {number} dim
   * @param {{ numHeads?: number, attentionDropout?: number, useBias?: boolean } | number} [numHeads] Options, or in this order: numHeads
   *   (8; divides dim), attentionDropout (0; does nothing outside training), useBias (false; of qkv alone, proj always has one).
   * @param {...any} rest
   */
  constructor(dim, numHeads, ...rest) {
    super();
    const o = options('OptimizedAttention', [numHeads, ...rest], { numHeads: 8, attentionDropout: 0, useBias: false });
    this.dim = integer('OptimizedAttention: dim', dim, 1);
    this.numHeads = integer('OptimizedAttention: numHeads', o.numHeads, 1);
    divides('OptimizedAttention', 'dim', dim, 'numHeads', this.numHeads);
    this.qkv = new Linear(dim, 3 * dim, { bias: boolean('OptimizedAttention: useBias', o.useBias) });
    this.attn_drop = new Dropout(o.attentionDropout);
    this.proj = new Linear(dim, dim);
    this.proj_drop = new Dropout(o.attentionDropout);
  }

  /** @param {Operand} x [n, t, dim] */
  forward(x) {
    const { dim, numHeads } = this;
    const tokens = shaped('OptimizedAttention', x, ['n', 't', dim]);
    const [q, k, v] = [0, 1, 2].map((i) => {
      const rows = linearRows(tokens, this.qkv.weight, this.qkv.bias, i * dim, dim);
      return F.permute(F.unflatten(rows, 2, [numHeads, dim / numHeads]), [0, 2, 1, 3]);
    });
    const heads = F.scaledDotProductAttention(q, k, v);
    return this.proj(F.flatten(F.permute(heads, [0, 2, 1, 3]), 2));
  }

  extraRepr() {
    return `numHeads=${this.numHeads}`;
  }
}

/**
 * y = W_3 gelu(W_0 x + b_0) + b_3 over the last axis, with the exact GELU.  x [..., dim] -> the same.
 * Weights: `net.0.weight` [hiddenDim, dim], `net.3.weight` [dim, hiddenDim], with useBias `net.0.bias`, `net.3.bias`.
 */
export class ImprovedFeedForward extends Module {
  /**
   * @param {number} dim
   * @param {number} hiddenDim
   * @param {{ dropout?: number, useBias?: boolean } | number} [dropout] Options, or in this order: dropout (0; does nothing outside
   *   training), useBias (false).
   * @param {boolean} [useBias]
   */
  constructor(dim, hiddenDim, dropout, useBias) {
    super();
    const o = options('ImprovedFeedForward', [dropout, useBias], { dropout: 0, useBias: false });
    integer('ImprovedFeedForward: dim', dim, 1);
    integer('ImprovedFeedForward: hiddenDim', hiddenDim, 1);
    const bias = boolean('ImprovedFeedForward: useBias', o.useBias);
    this.net = new Sequential(
      new Linear(dim, hiddenDim, { bias }), new GELU(), new Dropout(o.dropout), new Linear(hiddenDim, dim, { bias }), new Dropout(o.dropout),
    );
  }

  /** @param {Operand} x [..., dim] */
  forward(x) {
    return this.net(x);
  }
}
