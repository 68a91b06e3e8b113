/** Native sparse attention whole. */
import { badArgument, boolean, divides, finite, integer, options } from '../arguments.js';
import { deepCopy } from '../copy.js';
import { LamellaError } from '../errors.js';
import * as F from '../functional.js';
import { linearRows } from '../functional/layers.js';
import { shaped } from '../functional/record.js';
import { Module, Parameter } from '../module.js';
import { Sequential } from './containers.js';
import { Flatten, Linear, ReLU, Sigmoid } from './layers.js';
import { RMSNorm } from './norm.js';
import { RotaryEmbedding } from './rotary.js';

/** @import { SymbolicTensor, Operand } from '../tensor.js' */
/** @typedef {Module | (() => Module)} ModuleOrMaker A module, or a function that makes one. */
/**
 * @typedef {object} SparseAttentionOptions
 * @property {number} dim Width of a token.
 * @property {number} dimHead Width of a head, even. heads dimHead need not be dim.
 * @property {number} heads
 * @property {number} slidingWindowSize A query sees so many tokens before it and itself; not causal: as many after it.
 * @property {number} compressBlockSize Tokens that are compressed to one.
 * @property {number} compressBlockSlidingStride Tokens from one such block to the next, at most compressBlockSize: they may overlap.
 * @property {number} selectionBlockSize Tokens to a block of fine attention, a multiple of the stride.
 * @property {number} numSelectedBlocks Blocks that a query picks, 0 or more.
 * @property {number | null} [kvHeads] heads. Divides them: heads / kvHeads query heads in a row share keys and values.
 * @property {number} [numCompressedMemKv] 1. Learned keys and values that stand before the compressed ones.
 * @property {boolean} [causal] false
 * @property {boolean} [norm] true: an RMSNorm comes first.
 * @property {boolean} [useDiffTopk] Matters in training only.
 * @property {boolean} [useTritonKernel] Does nothing.
 * @property {boolean} [queryHeadsShareSelectedKv] true: query heads that share keys pick blocks together.
 * @property {ModuleOrMaker | null} [compressMlp] What compresses windows [b, kvHeads, w, compressBlockSize, dimHead] to
 *   [b, kvHeads, w, dimHead]: a module, which is copied for keys and for values, or a function that is called for each. Default: an MLP with
 *   ReLU that all heads share.
 * @property {number} [compressMlpExpandFactor] 1. Hidden features of that MLP, times compressBlockSize dimHead.
 * @property {ModuleOrMaker | null} [strategyCombineMlp] From tokens [b, t, dim] to gates before the sigmoid, [b, t, 3 heads]; a Linear by default.
 */

const DEFAULTS = {
  dim: /** @type {any} */ (undefined), dimHead: /** @type {any} */ (undefined), heads: /** @type {any} */ (undefined),
  slidingWindowSize: /** @type {any} */ (undefined), compressBlockSize: /** @type {any} */ (undefined),
  compressBlockSlidingStride: /** @type {any} */ (undefined), selectionBlockSize: /** @type {any} */ (undefined),
  numSelectedBlocks: /** @type {any} */ (undefined), kvHeads: /** @type {number | null} */ (null), numCompressedMemKv: 1, causal: false, norm: true,
  useDiffTopk: false, useTritonKernel: false, queryHeadsShareSelectedKv: true, compressMlp: /** @type {ModuleOrMaker | null} */ (null),
  compressMlpExpandFactor: 1, strategyCombineMlp: /** @type {ModuleOrMaker | null} */ (null),
};

/**
 * Native sparse attention: for each token and head a sum, weighted by learned gates, of attention to all that is past in compressed form, to
 * the blocks of tokens that this finds most important, and to the neighbours; F.sparseAttention has the exact terms. Time and memory
 * grow far slower than the square of the length. x [b, t, dim] -> [b, t, dim].
 *
 * In `model.session({ context })` a causal one continues from call to call; all that it needs to go on or back (`seek`) is kept.
 *
 * Weights: `norm.weight` [dim], `rotary_emb.freqs` [dimHead / 2], `to_qkv.weight` [(heads + 2 kvHeads) dimHead, dim] (queries, keys, values),
 * `compress_mem_kv` [2, kvHeads, numCompressedMemKv, dimHead], `k_intrablock_positions`, `v_intrablock_positions` [kvHeads, compressBlockSize,
 * dimHead], `k_compress`, `v_compress`, `to_strategy_combine.0`, `combine_heads.weight` [dim, heads dimHead].
 */
export class SparseAttention extends Module {
  /**
   * @param {SparseAttentionOptions | number} dim Options, or what they begin with in the order above.
   * @param {...any} rest
   */
  constructor(dim, ...rest) {
    super();
    const o = options('SparseAttention', [dim, ...rest], DEFAULTS);
    /** @param {keyof typeof DEFAULTS} name @param {number} least */
    const size = (name, least) => integer(`SparseAttention: ${name}`, o[name], least);
    this.dim = size('dim', 1);
    this.dimHead = size('dimHead', 2);
    if (this.dimHead % 2) throw badArgument('SparseAttention: dimHead', 'an even number, for rotary embedding', this.dimHead);
    this.heads = size('heads', 1);
    this.kvHeads = o.kvHeads === null ? this.heads : size('kvHeads', 1);
    divides('SparseAttention', 'heads', this.heads, 'kvHeads', this.kvHeads);
    this.slidingWindowSize = size('slidingWindowSize', 1);
    this.compressBlockSize = size('compressBlockSize', 1);
    this.compressBlockSlidingStride = size('compressBlockSlidingStride', 1);
    if (this.compressBlockSlidingStride > this.compressBlockSize) {
      throw new LamellaError('argument', `SparseAttention: compressBlockSlidingStride ${this.compressBlockSlidingStride} is more than compressBlockSize ${this.compressBlockSize}`);
    }
    this.selectionBlockSize = size('selectionBlockSize', 1);
    divides('SparseAttention', 'selectionBlockSize', this.selectionBlockSize, 'compressBlockSlidingStride', this.compressBlockSlidingStride);
    this.numSelectedBlocks = size('numSelectedBlocks', 0);
    this.causal = boolean('SparseAttention: causal', o.causal);
    this.queryHeadsShareSelectedKv = boolean('SparseAttention: queryHeadsShareSelectedKv', o.queryHeadsShareSelectedKv);
    boolean('SparseAttention: useDiffTopk', o.useDiffTopk);
    boolean('SparseAttention: useTritonKernel', o.useTritonKernel);
    const { dimHead, heads, kvHeads, compressBlockSize } = this;
    this.norm = boolean('SparseAttention: norm', o.norm) ? new RMSNorm(this.dim) : null;
    this.rotary_emb = new RotaryEmbedding(dimHead, { interleaved: true, learnedFreq: true });
    this.to_qkv = new Linear(this.dim, (heads + 2 * kvHeads) * dimHead, { bias: false });
    this.compress_mem_kv = new Parameter([2, kvHeads, size('numCompressedMemKv', 1), dimHead]);
    this.k_intrablock_positions = new Parameter([kvHeads, compressBlockSize, dimHead]);
    this.v_intrablock_positions = new Parameter([kvHeads, compressBlockSize, dimHead]);
    const make = maker('compressMlp', o.compressMlp ?? (() => defaultMlp(compressBlockSize * dimHead, dimHead, o.compressMlpExpandFactor)));
    this.k_compress = make();
    this.v_compress = make();
    this.to_strategy_combine = new Sequential(maker('strategyCombineMlp', o.strategyCombineMlp ?? (() => new Linear(this.dim, 3 * heads)))(), new Sigmoid());
    this.combine_heads = new Linear(heads * dimHead, this.dim, { bias: false });
  }

  /** @param {Operand} x [b, t, dim] */
  forward(x) {
    const { dimHead, heads, kvHeads, compressBlockSlidingStride: stride } = this;
    const input = shaped('SparseAttention', x, ['b', 't', this.dim]);
    const tokens = this.norm ? this.norm(input) : input;
    /** @param {number} first @param {number} count */
    const project = (first, count) => linearRows(tokens, this.to_qkv.weight, null, first * dimHead, count * dimHead);
    const query = project(0, heads);
    const key = project(heads, kvHeads);
    const value = F.cache(project(heads + kvHeads, kvHeads));
    const table = this.rotary_emb.table(key, 1);
    /** @param {SymbolicTensor} y @param {number} count */
    const rotated = (y, count) => F.flatten(this.rotary_emb(F.unflatten(y, 2, [count, dimHead]), table, 1), 2);
    const y = F.sparseAttention({
      query,
      rotatedQuery: rotated(query, heads),
      rotatedKey: F.cache(rotated(key, kvHeads)),
      value,
      compressedKey: this.compressed(F.cache(key), this.k_intrablock_positions, this.k_compress),
      compressedValue: this.compressed(value, this.v_intrablock_positions, this.v_compress),
      memory: this.compress_mem_kv,
      gates: this.to_strategy_combine(tokens),
    }, {
      heads, kvHeads, stride, slidingWindowSize: this.slidingWindowSize, selectionBlockSize: this.selectionBlockSize,
      numSelectedBlocks: this.numSelectedBlocks, causal: this.causal, shareSelected: this.queryHeadsShareSelectedKv,
    });
    return this.combine_heads(y);
  }

  /**
   * @param {SymbolicTensor} kv [b, t, kvHeads dimHead]
   * @param {Parameter} positions
   * @param {Module} compress
   * @returns {SymbolicTensor} [b, w, kvHeads dimHead]
   */
  compressed(kv, positions, compress) {
    const windows = F.windows(kv, this.kvHeads, this.compressBlockSize, this.compressBlockSlidingStride);
    const vectors = shaped('SparseAttention: what compressMlp returns', compress(F.add(windows, F.unsqueeze(positions, 1))), ['b', this.kvHeads, 'w', this.dimHead]);
    return F.cache(F.flatten(F.permute(vectors, [0, 2, 1, 3]), 2), { stride: this.compressBlockSlidingStride });
  }

  extraRepr() {
    const { dim, dimHead, heads, kvHeads, slidingWindowSize, compressBlockSize, compressBlockSlidingStride, selectionBlockSize, numSelectedBlocks, causal } = this;
    return Object.entries({ dim, dimHead, heads, kvHeads, slidingWindowSize, compressBlockSize, compressBlockSlidingStride, selectionBlockSize, numSelectedBlocks, causal })
      .map(([name, value]) => `${name}=${value}`).join(', ');
  }
}

/**
 * Makes a module of its own at each call.
 * @param {string} what
 * @param {ModuleOrMaker} given
 * @returns {() => Module}
 */
function maker(what, given) {
  return () => {
    const module = given instanceof Module ? deepCopy(given) : typeof given === 'function' ? given() : given;
    if (module instanceof Module) return module;
    throw badArgument(`SparseAttention: ${what}`, 'a module or a function that makes one', module);
  };
}

/**
 * @param {number} inFeatures
 * @param {number} outFeatures
 * @param {unknown} expandFactor
 */
function defaultMlp(inFeatures, outFeatures, expandFactor) {
  const hidden = Math.trunc(inFeatures * finite('SparseAttention: compressMlpExpandFactor', expandFactor));
  if (hidden < 1) throw badArgument('SparseAttention: compressMlpExpandFactor', `at least ${1 / inFeatures}, for one hidden feature`, expandFactor);
  return new Sequential(new Flatten(3), new Linear(inFeatures, hidden), new ReLU(), new Linear(hidden, outFeatures));
}
