/** A transformer as a compression of native sparse attention. */
import { divides, integer, probability } from '../arguments.js';
import * as F from '../functional.js';
import { shapeError, shaped } from '../functional/record.js';
import { Module } from '../module.js';
import { GELU } from './activations.js';
import { ModuleList } from './containers.js';
import { Linear } from './layers.js';
import { RMSNorm } from './norm.js';

/** @import { SymbolicTensor, Operand } from '../tensor.js' */

/** Heads of softmax(q k^T / sqrt(d)) v among the tokens of each window. */
class WindowAttention extends Module {
  /** @param {number} dim @param {number} numHeads */
  constructor(dim, numHeads) {
    super();
    this.numHeads = numHeads;
    this.q_proj = new Linear(dim, dim);
    this.k_proj = new Linear(dim, dim);
    this.v_proj = new Linear(dim, dim);
    this.out_proj = new Linear(dim, dim);
  }

  /**
   * @param {SymbolicTensor} query [b, w, t, dim]
   * @param {SymbolicTensor} x [b, w, n, dim]
   */
  forward(query, x) {
    /** @param {SymbolicTensor} y */
    const heads = (y) => F.permute(F.unflatten(y, 3, [this.numHeads, -1]), [0, 1, 3, 2, 4]);
    const attended = F.scaledDotProductAttention(heads(this.q_proj(query)), heads(this.k_proj(x)), heads(this.v_proj(x)));
    return this.out_proj(F.flatten(F.permute(attended, [0, 1, 3, 2, 4]), 3));
  }
}

class FeedForward extends Module {
  /** @param {number} dim @param {number} hidden */
  constructor(dim, hidden) {
    super();
    this.fc1 = new Linear(dim, hidden);
    this.fc2 = new Linear(hidden, dim);
    this.act = new GELU();
  }

  /** @param {SymbolicTensor} x */
  forward(x) {
    return this.fc2(this.act(this.fc1(x)));
  }
}

/** x + attention(norm1(x)), and to that its own feed-forward of norm2. */
class Layer extends Module {
  /** @param {number} dim @param {number} numHeads @param {number} hidden */
  constructor(dim, numHeads, hidden) {
    super();
    this.norm1 = new RMSNorm(dim);
    this.norm2 = new RMSNorm(dim);
    this.attn = new WindowAttention(dim, numHeads);
    this.ff = new FeedForward(dim, hidden);
  }

  /**
   * @param {SymbolicTensor} x [b, w, n, dim]
   * @param {boolean} lastOnly Of the last token of each window only.
   */
  forward(x, lastOnly) {
    const normed = this.norm1(x);
    /** @param {SymbolicTensor} y */
    const wanted = (y) => (lastOnly ? F.narrow(y, 2, -1, 1) : y);
    const y = F.add(wanted(x), this.attn(wanted(normed), normed));
    return F.add(y, this.ff(this.norm2(y)));
  }
}

/**
 * Each window as a sequence of n tokens, all heads of a token together, through layers of x + attention(norm1(x)) and x + ff(norm2(x)); the
 * result is the last token.  kv [b, heads, w, n, dimHead] with heads dimHead = dim -> [b, heads, w, dimHead]. Weights:
 * `layers.I.norm1.weight`, `layers.I.norm2.weight` (RMSNorm), `layers.I.attn.{q,k,v,out}_proj` and `layers.I.ff.fc1`, `.fc2` (Linear).
 */
export class CompressTransformer extends Module {
  /**
   * @param {number} numLayers
   * @param {number} dim
   * @param {number} numHeads Divides dim; heads of the attention in the window, which need not be those of kv.
   * @param {number | null} [ffHiddenDim] 4 dim
   * @param {number} [dropout] Does nothing outside training.
   */
  constructor(numLayers, dim, numHeads, ffHiddenDim = null, dropout = 0) {
    super();
    integer('CompressTransformer: numLayers', numLayers, 1);
    this.dim = integer('CompressTransformer: dim', dim, 1);
    divides('CompressTransformer', 'dim', dim, 'numHeads', integer('CompressTransformer: numHeads', numHeads, 1));
    const hidden = integer('CompressTransformer: ffHiddenDim', ffHiddenDim ?? 4 * dim, 1);
    probability('CompressTransformer: dropout', dropout);
    this.layers = new ModuleList(Array.from({ length: numLayers }, () => new Layer(dim, numHeads, hidden)));
  }

  /** @param {Operand} kv [b, heads, w, n, dimHead] */
  forward(kv) {
    const input = shaped('CompressTransformer', kv, ['b', 'heads', 'w', 'n', 'dimHead']);
    const [, heads, , , dimHead] = input.shape;
    if (!heads || !dimHead || heads * dimHead !== this.dim) {
      throw shapeError(`CompressTransformer: ${heads ?? '?'} heads of ${dimHead ?? '?'} are not its dim ${this.dim}`);
    }
    let x = F.flatten(F.permute(input, [0, 2, 3, 1, 4]), 3);
    for (const [i, layer] of [...this.layers].entries()) x = /** @type {Layer} */ (layer)(x, i === this.layers.size - 1);
    return F.permute(F.unflatten(F.flatten(x, 2), 2, [heads, dimHead]), [0, 2, 1, 3]);
  }
}
