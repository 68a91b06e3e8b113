/** Attention, score by score. */
import { cat, flatten, narrow, permute, reshape, unsqueeze } from './shape.js';
import { add, broadcast, mean, within } from './arithmetic.js';
import { layerNorm, linear } from './layers.js';
import { count, each, largest, tensor } from './tensor.js';

/** @import { Reference } from './tensor.js' */

/**
 * @param {Reference} q [..., heads, t, d]
 * @param {Reference} k [..., kv heads, s, d]
 * @param {Reference} v [..., kv heads, s, e]
 * @param {any} [options]
 * @returns {Reference}
 */
export function scaledDotProductAttention(q, k, v, { attnMask = null, isCausal = false, scale = null, windowSize = -1, align = 'start' } = {}) {
  const [left, right] = typeof windowSize === 'number' ? [windowSize, windowSize] : windowSize;
  const [[t, d], [s, e], lead] = [q.shape.slice(-2), v.shape.slice(-2), q.shape.slice(0, -2)];
  const factor = scale === null ? 1 / Math.sqrt(d) : scale;
  const shared = lead.length ? lead[lead.length - 1] / k.shape[lead.length - 1] : 1;   // query heads for each key head
  const y = new Float64Array(count(lead) * t * e);
  let steep = 0;
  each([...lead, t], (index, row) => {
    const head = Math.floor(row / t / (lead.at(-1) ?? 1)) * (k.shape.at(-3) ?? 1) + (lead.length ? Math.floor(index[lead.length - 1] / shared) : 0);
    const i = index[lead.length];
    const scores = [];
    for (let j = 0; j < s; j++) {
      let [sum, size] = [0, 0];
      for (let l = 0; l < d; l++) {
        const term = q.data[row * d + l] * k.data[(head * s + j) * d + l] * factor;
        sum += term;
        size += Math.abs(term);
      }
      if (attnMask) {
        const mask = attnMask.data[within(attnMask.shape, [...index, j])];
        sum += attnMask.bool ? (mask ? 0 : -Infinity) : mask;
        if (Number.isFinite(sum)) size += Math.abs(sum);
      }
      const at = align === 'end' ? i + s - t : i;
      if ((isCausal && j > at) || (left >= 0 && j < at - left) || (right >= 0 && j > at + right)) sum = -Infinity;
      steep = Math.max(steep, size);
      scores.push(sum);
    }
    const most = Math.max(...scores);
    const weights = scores.map((score) => (most === -Infinity ? 0 : Math.exp(score - most)));
    const total = weights.reduce((sum, w) => sum + w, 0);
    for (let c = 0; c < e; c++) {
      let sum = 0;
      for (let j = 0; j < s; j++) sum += weights[j] * v.data[(head * s + j) * e + c];
      y[row * e + c] = total ? sum / total : 0;   // PyTorch: a row that sees nothing is zero
    }
  });
  // A weight is as wrong as its score is, which is a sum of d terms; an eighth, since roundings seldom all point one way.
  const scores = steep / 8 + 2 * factor * (q.slack * largest(k.data) + k.slack * largest(q.data)) * d;
  return tensor([...lead, t, e], y, largest(v.data) * (1 + scores) + v.slack);
}

/**
 * As written in its definition: all tokens through all projections, then the first one's attention.
 * @param {Reference} x [n, c, h, w]
 * @param {any} weights
 * @param {number} heads
 * @param {{ eps?: number, projectTwice?: boolean }} [options]
 */
export function attentionPool2d(x, { positionalEmbedding, qProj, kProj, vProj, cProj, ln = null }, heads, { eps = 1e-5, projectTwice = false } = {}) {
  const pixels = permute(flatten(x, 2), [0, 2, 1]);
  let tokens = add(cat([mean(pixels, 1, true), pixels], 1), positionalEmbedding);
  const [n, count1, c] = tokens.shape;
  if (ln) tokens = layerNorm(tokens, c, ln[0], ln[1], eps);
  const [q, k, v] = [[narrow(tokens, 1, 0, 1), qProj], [tokens, kProj], [tokens, vProj]].map(([from, [weight, bias]]) => {
    const once = linear(from, weight, bias);
    const whole = projectTwice ? linear(once, weight, bias) : once;
    return permute(reshape(whole, [n, whole.shape[1], heads, c / heads]), [0, 2, 1, 3]);
  });
  const y = scaledDotProductAttention(q, k, v);
  return linear(reshape(permute(y, [0, 2, 1, 3]), [n, c]), cProj[0], cProj[1]);
}

/**
 * The textbook's: keys and values of every token and head, then attention.
 * @param {Reference} q @param {Reference} kv @param {Reference} kvB
 * @param {{ heads: number, nope: number, rope: number, v: number, scale?: number }} options
 */
export function mla(q, kv, kvB, { heads, nope, rope, v, scale = 1 / Math.sqrt(nope + rope) }) {
  const [[b, t], c] = [q.shape, kvB.shape[1]];
  const perHead = (/** @type {Reference} */ x, /** @type {number} */ width) => permute(reshape(x, [b, x.shape[1], heads, width]), [0, 2, 1, 3]);
  const made = perHead(linear(narrow(kv, 2, 0, c), kvB), nope + v);
  const turned = unsqueeze(narrow(kv, 2, c, rope), 1);
  const keys = cat([narrow(made, 3, 0, nope), cat(Array(heads).fill(turned), 1)], 3);
  const y = scaledDotProductAttention(perHead(q, nope + rope), keys, narrow(made, 3, nope, v), { isCausal: true, align: 'end', scale });
  const joined = reshape(permute(y, [0, 2, 1, 3]), [b, t, heads * v]);
  // Absorbed or expanded, the products are summed in another order: as inexact as a score made of `nope` sums over the latents.
  return tensor(joined.shape, joined.data, joined.slack + largest(kv.data) * largest(kvB.data) * c * (1 + largest(q.data) * Math.abs(scale) * nope) / 8);
}
