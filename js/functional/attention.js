/** Attention. */
import { badArgument, boolean, divides, finite, integer, options, pair, showShape } from '../arguments.js';
import { div, sub } from './arithmetic.js';
import { optional, record, shapeError, symbolic, value } from './record.js';

/** @import { Operand } from '../tensor.js' */
/** @import { SymbolicTensor } from '../tensor.js' */

/**
 * softmax(scale q k^T + mask) v.  q [..., t, d], k [..., s, d], v [..., s, e] -> [..., t, e].
 * @param {Operand} query
 * @param {Operand} key
 * @param {Operand} value_
 * @param {object} [options]
 * @param {Operand | null} [options.attnMask] Broadcastable to [..., t, s]. Added to the scores; one of dtype 'bool' (an input declared
 *   as `{ shape, dtype: 'bool' }`) says instead which scores count: true counts, false does not.
 * @param {number} [options.dropoutP] Does nothing: there is no dropout outside training.
 * @param {boolean} [options.isCausal] Query i sees keys 0 to i.
 * @param {number | null} [options.scale] Defaults to 1 / sqrt(d).
 * @param {boolean} [options.enableGqa] The heads (axis -3) of q are a multiple of those of k and v.
 * @param {number | [number, number]} [options.windowSize] Query i sees keys i - left to i + right: [left, right], or one number for both; -1
 *   (the default) is unlimited. With isCausal right is 0. The time grows with the window instead of with s.
 * @param {'start' | 'end'} [options.align] Which keys isCausal and windowSize mean: query i stands at key i ('start', as in PyTorch), or
 *   the last query stands at the last key ('end', as with cached keys: query i stands at key i + s - t).
 * A query that sees no key gives zeros.
 */
export function scaledDotProductAttention(query, key, value_, { attnMask = null, isCausal = false, scale = null, enableGqa = false, windowSize = -1, align = 'start', ...rest } = {}) {
  options('scaledDotProductAttention', [rest], { dropoutP: 0 });
  const [left, right] = pair('scaledDotProductAttention: windowSize', windowSize, -1);
  if (align !== 'start' && align !== 'end') throw badArgument('scaledDotProductAttention: align', "'start' or 'end'", align);
  const [q, k, v] = [symbolic(query, 'attention: query'), symbolic(key, 'attention: key'), symbolic(value_, 'attention: value')];
  const [queryHeads, keyHeads] = [q.shape.at(-3), k.shape.at(-3)];
  if (typeof queryHeads === 'number' && typeof keyHeads === 'number' && queryHeads !== keyHeads) {
    if (!enableGqa) throw shapeError(`scaledDotProductAttention: query ${showShape(q.shape)} and key ${showShape(k.shape)} differ in axis -3; grouped heads need { enableGqa: true }`);
    divides('scaledDotProductAttention', 'query heads', queryHeads, 'key heads', keyHeads);
  }
  const mask = attnMask === null ? null : additiveMask(symbolic(attnMask, 'attention: attnMask'), true);
  return record('attention', [q.value, k.value, v.value, optional(mask, 'attention: attnMask'),
    scale === null ? NaN : finite('scaledDotProductAttention: scale', scale), [left, boolean('scaledDotProductAttention: isCausal', isCausal) ? 0 : right],
    Number(align === 'end')]);
}

/**
 * A mask to add to scores: 0 where a score counts, -infinity where it does not. A mask that is not bool is one already.
 * @param {SymbolicTensor} mask
 * @param {boolean} keep What a true element of a bool mask means: the score counts, or it does not.
 * @returns {SymbolicTensor}
 */
export function additiveMask(mask, keep) {
  if (mask.dtype !== 'bool') return mask;
  const rest = sub(1, mask);
  return keep ? div(sub(0, rest), mask) : div(sub(0, mask), rest);   // -0 / 1 or -1 / 0
}

/**
 * CLIP's attention pool. With T = [mean of pixels; pixels] + positionalEmbedding [h w + 1, c], layer-normalised where `ln` is given:
 * y = c_proj(attention of q_proj(T_0) over k_proj(T) and v_proj(T)).  x [n, c, h, w] -> [n, out].
 * @param {Operand} x
 * @param {object} weights Parameters, each [weight, bias] but the first.
 * @param {Operand} weights.positionalEmbedding
 * @param {[Operand, Operand]} weights.qProj
 * @param {[Operand, Operand]} weights.kProj
 * @param {[Operand, Operand]} weights.vProj
 * @param {[Operand, Operand]} weights.cProj
 * @param {[Operand, Operand] | null} [weights.ln]
 * @param {number} numHeads
 * @param {{ eps?: number, projectTwice?: boolean }} [options] `eps` (1e-5) of the layer norm; `projectTwice` (false): q, k and v pass
 *   through their projections a second time.
 */
export function attentionPool2d(x, { positionalEmbedding, qProj, kProj, vProj, cProj, ln = null }, numHeads, { eps = 1e-5, projectTwice = false } = {}) {
  const weights = [positionalEmbedding, ...qProj, ...kProj, ...vProj, ...cProj].map((w) => value(w, 'attentionPool2d: weight'));
  const norm = (ln ?? [null, null]).map((w) => optional(w, 'attentionPool2d: ln'));
  return record('attention_pool2d', [value(x, 'attentionPool2d: input'), [...weights, ...norm],
    integer('attentionPool2d: numHeads', numHeads, 1), finite('attentionPool2d: eps', eps, 0), Number(projectTwice)]);
}

/**
 * DeepSeek-V2's latent attention, causal; with a cache (kv longer than q) the queries are the last tokens.
 * y = softmax(scale (q_nope (latent W_UK^T)^T + q_rope k_rope^T)) latent W_UV^T per head.
 * @param {Operand} q [b, t, heads (nope + rope)], of each head the last `rope` columns turned (F.rotary).
 * @param {Operand} kv [b, s, c + rope]: the normalised latents, then the turned part that all heads share. What a session keeps.
 * @param {Operand} kvB A Parameter [heads (nope + v), c], `kv_b_proj.weight`: of each head the rows of W_UK, then those of W_UV.
 * @param {{ heads: number, nope: number, rope: number, v: number, scale?: number }} options `scale` defaults to 1 / sqrt(nope + rope).
 * @returns {SymbolicTensor} [b, t, heads v]
 */
export function mla(q, kv, kvB, { heads, nope, rope, v, scale = 1 / Math.sqrt(nope + rope) }) {
  const sizes = [integer('mla: heads', heads, 1), integer('mla: nope', nope, 1), integer('mla: rope', rope, 0), integer('mla: v', v, 1)];
  return record('mla', [value(q, 'mla: q'), value(kv, 'mla: kv'), value(kvB, 'mla: kvB'), ...sizes, finite('mla: scale', scale)]);
}
