/** Attention: PyTorch's multi-head attention and CLIP's attention pool. */
import { badArgument, boolean, divides, integer, options, probability, showShape } from '../arguments.js';
import { LamellaError } from '../errors.js';
import * as F from '../functional.js';
import { additiveMask } from '../functional/attention.js';
import { linearRows } from '../functional/layers.js';
import { symbolic } from '../functional/record.js';
import { Module, Parameter } from '../module.js';
import { Tensor } from '../tensor.js';
import { Linear } from './layers.js';
import { LayerNorm } from './norm.js';

/** @import { SymbolicTensor, Operand } from '../tensor.js' */

/**
 * Multi-head attention: heads of softmax(q k^T / sqrt(d)) v over projections of query, key and value, joined and projected again.
 * Weights: `in_proj_weight` [3 embedDim, embedDim] (or `q_proj_weight`, `k_proj_weight`, `v_proj_weight` where kdim or vdim differ),
 * `in_proj_bias` [3 embedDim], `out_proj.weight`, `out_proj.bias`, and with addBiasKv `bias_k`, `bias_v` [1, 1, embedDim].
 */
export class MultiheadAttention extends Module {
  /**
   * @param {number} embedDim
   * @param {number} numHeads Divides embedDim.
   * @param {{ dropout?: number, bias?: boolean, addBiasKv?: boolean, addZeroAttn?: boolean, kdim?: number | null, vdim?: number | null, batchFirst?: boolean } | number} [dropout]
   *   Options, or PyTorch's order: dropout (ignored), bias (true), addBiasKv (false: no extra learned key and value), addZeroAttn
   *   (false: no extra zero key and value), kdim and vdim (embedDim), batchFirst (false: inputs are [t, n, embedDim]).
   * @param {...any} rest
   */
  constructor(embedDim, numHeads, dropout, ...rest) {
    super();
    const o = options('MultiheadAttention', [dropout, ...rest], { dropout: 0, bias: true, addBiasKv: false, addZeroAttn: false, kdim: /** @type {number | null} */ (null), vdim: /** @type {number | null} */ (null), batchFirst: false });
    probability('MultiheadAttention: dropout', o.dropout);
    this.embedDim = integer('MultiheadAttention: embedDim', embedDim, 1);
    this.numHeads = integer('MultiheadAttention: numHeads', numHeads, 1);
    divides('MultiheadAttention', 'embedDim', embedDim, 'numHeads', numHeads);
    this.kdim = integer('MultiheadAttention: kdim', o.kdim ?? embedDim, 1);
    this.vdim = integer('MultiheadAttention: vdim', o.vdim ?? embedDim, 1);
    this.batchFirst = boolean('MultiheadAttention: batchFirst', o.batchFirst);
    this.addZeroAttn = boolean('MultiheadAttention: addZeroAttn', o.addZeroAttn);
    const packed = this.kdim === embedDim && this.vdim === embedDim;
    this.in_proj_weight = packed ? new Parameter([3 * embedDim, embedDim]) : null;
    this.q_proj_weight = packed ? null : new Parameter([embedDim, embedDim]);
    this.k_proj_weight = packed ? null : new Parameter([embedDim, this.kdim]);
    this.v_proj_weight = packed ? null : new Parameter([embedDim, this.vdim]);
    const bias = boolean('MultiheadAttention: bias', o.bias);
    this.in_proj_bias = bias ? new Parameter([3 * embedDim]) : null;
    this.out_proj = new Linear(embedDim, embedDim, { bias });
    const extra = boolean('MultiheadAttention: addBiasKv', o.addBiasKv);
    this.bias_k = extra ? new Parameter([1, 1, embedDim]) : null;
    this.bias_v = extra ? new Parameter([1, 1, embedDim]) : null;
  }

  /**
   * query [t, n, embedDim], key [s, n, kdim], value [s, n, vdim]; [n, t, embedDim] and so on with batchFirst; without n: one sequence.
   * Masks are inputs of the model or constants. One of dtype 'bool' (an input declared as `{ shape, dtype: 'bool' }` in compile's
   * `inputs`, or a Tensor of dtype 'bool') hides where it is true; any other is added to the scores.
   * @param {SymbolicTensor} query
   * @param {SymbolicTensor} key
   * @param {SymbolicTensor} value
   * @param {object} [options]
   * @param {Operand | null} [options.keyPaddingMask] [n, s] (or [s] for one sequence)
   * @param {boolean} [options.needWeights] Also return the attention weights. Pass false where they are not used: that is faster.
   * @param {Operand | null} [options.attnMask] [t, s] or [n numHeads, t, s]
   * @param {boolean} [options.averageAttnWeights] Weights are the mean over the heads.
   * @param {boolean} [options.isCausal] Row i sees columns 0 to i. With needWeights or a keyPaddingMask, attnMask must say so too (as
   *   in PyTorch, where this is only a hint).
   * @returns {[SymbolicTensor, SymbolicTensor | null]} The output, shaped as query, and the weights [n, t, s] ([n, numHeads, t, s] if not averaged) or null.
   */
  forward(query, key, value, { keyPaddingMask = null, needWeights = true, attnMask = null, averageAttnWeights = true, isCausal = false } = {}) {
    const rank = query.shape.length;
    if ((rank !== 3 && rank !== 2) || key.shape.length !== rank || value.shape.length !== rank) {
      throw new LamellaError('shape', `MultiheadAttention: expected query, key and value of 3 axes each (2 without a batch), got ${[query, key, value].map((x) => showShape(x.shape)).join(', ')}`);
    }
    const batchFirst = this.batchFirst || rank === 2;
    const batched = (/** @type {SymbolicTensor} */ x) => (rank === 3 ? x : F.unsqueeze(x, 0));
    const [q, k, v] = this.project(batched(query), batched(key), batched(value)).map((x) => this.splitHeads(x, batchFirst));
    const causal = isCausal && keyPaddingMask === null && !needWeights;
    if (isCausal && !causal && attnMask === null) {
      throw new LamellaError('argument', 'MultiheadAttention: isCausal with needWeights or keyPaddingMask needs an attnMask');
    }
    const mask = causal ? null : this.mask(attnMask, keyPaddingMask, rank);
    const explicit = needWeights || this.bias_k !== null || this.addZeroAttn;
    const [heads, weights] = explicit ? this.attend(q, k, v, mask, causal) : [F.scaledDotProductAttention(q, k, v, { attnMask: mask, isCausal: causal }), null];
    const joined = F.flatten(F.permute(heads, batchFirst ? [0, 2, 1, 3] : [2, 0, 1, 3]), 2);
    const output = this.out_proj(joined);
    return [rank === 3 ? output : F.squeeze(output, 0), needWeights && weights ? this.reported(weights, averageAttnWeights, rank) : null];
  }

  /**
   * @param {SymbolicTensor} query
   * @param {SymbolicTensor} key
   * @param {SymbolicTensor} value
   * @returns {SymbolicTensor[]}
   */
  project(query, key, value) {
    const e = this.embedDim;
    if (this.in_proj_weight) {
      const packed = this.in_proj_weight;
      return [query, key, value].map((x, i) => linearRows(x, packed, this.in_proj_bias, i * e, e));
    }
    const weights = [this.q_proj_weight, this.k_proj_weight, this.v_proj_weight];
    return [query, key, value].map((x, i) => {
      const y = F.linear(x, /** @type {Parameter} */ (weights[i]));
      return this.in_proj_bias ? F.add(y, F.narrow(this.in_proj_bias, 0, i * e, e)) : y;
    });
  }

  /**
   * [n, t, e] or [t, n, e] -> [n, heads, t, e / heads].
   * @param {SymbolicTensor} x
   * @param {boolean} batchFirst
   */
  splitHeads(x, batchFirst) {
    const split = F.unflatten(x, 2, [this.numHeads, this.embedDim / this.numHeads]);
    return F.permute(split, batchFirst ? [0, 2, 1, 3] : [1, 2, 0, 3]);
  }

  /**
   * Both masks as one to add to scores [n, heads, t, s].
   * @param {Operand | null} attnMask
   * @param {Operand | null} keyPaddingMask
   * @param {number} rank
   * @returns {SymbolicTensor | null}
   */
  mask(attnMask, keyPaddingMask, rank) {
    let mask = null;
    if (attnMask !== null) {
      mask = additiveMask(asMask('attnMask', attnMask), false);
      if (mask.shape.length === 3) mask = F.unflatten(mask, 0, [-1, this.numHeads]);
      else if (mask.shape.length !== 2) throw new LamellaError('shape', `MultiheadAttention: expected attnMask [t, s] or [n numHeads, t, s], got ${showShape(mask.shape)}`);
    }
    if (keyPaddingMask !== null) {
      let padding = additiveMask(asMask('keyPaddingMask', keyPaddingMask), false);
      if (padding.shape.length !== rank - 1) throw new LamellaError('shape', `MultiheadAttention: expected keyPaddingMask ${rank === 3 ? '[n, s]' : '[s]'}, got ${showShape(padding.shape)}`);
      padding = rank === 3 ? F.unflatten(padding, 1, [1, 1, -1]) : F.unflatten(padding, 0, [1, 1, 1, -1]);
      mask = mask === null ? padding : F.add(padding, mask);
    }
    return mask;
  }

  /**
   * Attention with its weights at hand. The extra learned and zero keys are columns of scores of their own, which no mask touches.
   * @param {SymbolicTensor} q
   * @param {SymbolicTensor} k
   * @param {SymbolicTensor} v
   * @param {SymbolicTensor | null} mask
   * @param {boolean} causal
   * @returns {[SymbolicTensor, SymbolicTensor]} [n, heads, t, d] and [n, heads, t, s]
   */
  attend(q, k, v, mask, causal) {
    if (causal) throw new LamellaError('argument', 'MultiheadAttention: isCausal with addBiasKv or addZeroAttn needs an attnMask');
    const d = this.embedDim / this.numHeads;
    const scaled = F.mul(q, 1 / Math.sqrt(d));
    let scores = F.matmul(scaled, k, { transposeB: true });
    if (mask) scores = F.add(scores, mask);
    const extra = [];
    if (this.bias_k) extra.push(F.matmul(scaled, F.reshape(this.bias_k, [1, this.numHeads, 1, d]), { transposeB: true }));
    if (this.addZeroAttn) extra.push(F.matmul(scaled, new Tensor(new Float32Array(d), [1, 1, 1, d]), { transposeB: true }));
    if (!extra.length) {
      const weights = F.softmax(scores, -1);
      return [F.matmul(weights, v), weights];
    }
    // First, so that the others are "the rest" also where their number varies; PyTorch reports them last.
    const all = F.softmax(F.cat([...extra, scores], -1), -1);
    const own = F.narrow(all, -1, extra.length, -1);
    let output = F.matmul(own, v);
    if (this.bias_v) {
      output = F.add(output, F.mul(F.narrow(all, -1, 0, 1), F.reshape(this.bias_v, [1, this.numHeads, 1, d])));
    }
    return [output, F.cat([own, F.narrow(all, -1, 0, extra.length)], -1)];
  }

  /**
   * @param {SymbolicTensor} weights [n, heads, t, s]
   * @param {boolean} average
   * @param {number} rank
   */
  reported(weights, average, rank) {
    const result = average ? F.mean(weights, 1) : weights;
    return rank === 3 ? result : F.squeeze(result, 0);
  }
}

/**
 * @param {string} name
 * @param {Operand} mask
 * @returns {SymbolicTensor}
 */
function asMask(name, mask) {
  if (typeof mask === 'number') throw badArgument(`MultiheadAttention: ${name}`, 'a tensor', mask);
  return symbolic(mask, `MultiheadAttention: ${name}`);
}

/**
 * CLIP's attention pool of a feature map. With T = [mean of pixels; pixels] + positional_embedding, layer-normalised with `layerNorm`:
 * y = c_proj(multi-head attention of q_proj(T_0) over k_proj(T), v_proj(T)).  x [n, embedDim, spacialDim, spacialDim] -> [n, outputDim].
 * Weights: `positional_embedding` [spacialDim^2 + 1, embedDim], `k_proj`, `q_proj`, `v_proj`, `c_proj` (Linear) and `ln` (LayerNorm).
 */
export class AttentionPool2d extends Module {
  /**
   * @param {number} spacialDim Side of the feature map.
   * @param {number} embedDim
   * @param {number} numHeads Divides embedDim.
   * @param {{ outputDim?: number | null, layerNorm?: boolean, projectTwice?: boolean } | number | null} [outputDim] Options, or in this order: outputDim (embedDim),
   *   layerNorm (false: CLIP's checkpoints have none), projectTwice (false; true: query, key and value pass through their projections
   *   a second time).
   * @param {...any} rest
   */
  constructor(spacialDim, embedDim, numHeads, outputDim, ...rest) {
    super();
    const o = options('AttentionPool2d', [outputDim, ...rest], { outputDim: /** @type {number | null} */ (null), layerNorm: false, projectTwice: false });
    const tokens = integer('AttentionPool2d: spacialDim', spacialDim, 1) ** 2 + 1;
    integer('AttentionPool2d: embedDim', embedDim, 1);
    this.numHeads = integer('AttentionPool2d: numHeads', numHeads, 1);
    divides('AttentionPool2d', 'embedDim', embedDim, 'numHeads', numHeads);
    this.projectTwice = boolean('AttentionPool2d: projectTwice', o.projectTwice);
    this.positional_embedding = new Parameter([tokens, embedDim]);
    this.k_proj = new Linear(embedDim, embedDim);
    this.q_proj = new Linear(embedDim, embedDim);
    this.v_proj = new Linear(embedDim, embedDim);
    this.c_proj = new Linear(embedDim, integer('AttentionPool2d: outputDim', o.outputDim ?? embedDim, 1));
    this.ln = boolean('AttentionPool2d: layerNorm', o.layerNorm) ? new LayerNorm(embedDim) : null;
  }

  /** @param {Operand} x [n, embedDim, spacialDim, spacialDim] */
  forward(x) {
    /** @type {(layer: Linear | LayerNorm) => [Operand, Operand]} */
    const both = (layer) => [/** @type {Parameter} */ (layer.weight), /** @type {Parameter} */ (layer.bias)];
    return F.attentionPool2d(x, {
      positionalEmbedding: this.positional_embedding,
      qProj: both(this.q_proj), kProj: both(this.k_proj), vProj: both(this.v_proj), cProj: both(this.c_proj),
      ln: this.ln && both(this.ln),
    }, this.numHeads, { eps: this.ln?.eps ?? 1e-5, projectTwice: this.projectTwice });
  }

  extraRepr() {
    return `numHeads=${this.numHeads}${this.projectTwice ? ', projectTwice=true' : ''}`;
  }
}
