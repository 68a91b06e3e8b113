/** Attention: heads that are shared, masks of every kind, more keys than a tile. */
import { several } from '../check.js';

/** @import { Draw } from '../check.js' */

/** @type {Draw} */
export function scaledDotProductAttention(r) {
  const rank = r.int(0, 3);                       // leading axes, heads last
  const long = r.chance(0.1);
  const [d, e, kvHeads, shared] = [r.size(18), r.size(18), r.int(1, 3), rank && r.chance(0.3) ? r.int(2, 3) : 1];
  const mask = r.pick(['none', 'none', 'added', 'bool']);
  const maskRank = r.int(1, rank + 2);
  const ones = Array.from({ length: maskRank }, (_, i) => r.chance(i === maskRank - 1 ? 0.1 : 0.3));
  const options = { isCausal: r.chance(0.3), ...r.chance(0.3) && { scale: r.pick([0, 0.3, 1, 2.5]) }, ...shared > 1 && { enableGqa: true },
    ...r.chance(0.4) && { windowSize: r.chance(0.2) ? r.int(0, 6) : [r.int(-1, long ? 70 : 8), r.int(-1, long ? 70 : 8)] },
    ...r.chance(0.4) && { align: r.pick(['start', 'end']) } };
  const values = r.chance(0.15) ? 'loud' : 'normal';
  return {
    args: { ...options, mask },
    runs: several(r, () => {
      const lead = Array.from({ length: Math.max(rank - 1, 0) }, () => r.int(1, 3));
      const [t, s] = [r.sizeOrZero(long ? 110 : 13), r.sizeOrZero(long ? 140 : 13)];
      const full = [...lead, ...rank ? [kvHeads * shared] : [], t, s];
      const of = (/** @type {number} */ heads, /** @type {number[]} */ ...rest) => [...lead, ...rank ? [heads] : [], ...rest];
      const shape = full.slice(full.length - ones.length).map((size, i) => (ones[i] ? 1 : size));
      return [{ shape: of(kvHeads * shared, t, d), values }, { shape: of(kvHeads, s, d), values }, of(kvHeads, s, e), ...mask === 'none' ? [] : [{ shape, dtype: /** @type {const} */ (mask === 'bool' ? 'bool' : 'f32') }]];
    }),
    program: (f, [q, k, v, m]) => f.scaledDotProductAttention(q, k, v, { ...options, ...mask !== 'none' && { attnMask: m } }),
  };
}

/** @type {Draw} */
export function mla(r) {
  const [heads, nope, rope, v, c] = [r.int(1, 4), r.size(9), r.int(0, 6), r.size(9), r.size(20)];
  const long = r.chance(0.2);   // both of its forms: many queries and few, over many keys
  const options = { heads, nope, rope, v, ...r.chance() && { scale: r.pick([0.1, 0.5, 1]) } };
  return {
    args: { ...options, c },
    runs: several(r, () => {
      const [b, t, more] = [r.int(1, 2), r.size(long ? 80 : 9), r.pick([0, r.int(0, long ? 120 : 9)])];
      return [[b, t, heads * (nope + rope)], [b, t + more, c + rope]];
    }),
    weights: { kvB: { shape: [heads * (nope + v), c], values: 'small' } },
    program: (f, [q, kv], { kvB }) => f.mla(q, kv, kvB, options),
  };
}

/** @type {Draw} */
export function attentionPool2d(r) {
  const [heads, d] = [r.int(1, 4), r.size(9)];
  const [c, out, h, w] = [heads * d, r.size(20), r.int(1, 5), r.int(1, 5)];
  const options = { eps: r.pick([1e-5, 0.1]), projectTwice: r.chance() };
  const ln = r.chance(0.3);
  const small = (/** @type {number[]} */ ...shape) => ({ shape, values: 'small' });
  return {
    args: { heads, ...options, ln },
    runs: several(r, () => [[r.sizeOrZero(4), c, h, w]]),
    weights: {
      position: [h * w + 1, c], qw: small(c, c), qb: small(c), kw: small(c, c), kb: small(c), vw: small(c, c), vb: small(c), cw: small(out, c), cb: small(out),
      ...ln && { lw: small(c), lb: small(c) },
    },
    program: (f, [x], p) => f.attentionPool2d(x, { positionalEmbedding: p.position, qProj: [p.qw, p.qb], kProj: [p.kw, p.kb], vProj: [p.vw, p.vb],
      cProj: [p.cw, p.cb], ...ln && { ln: [p.lw, p.lb] } }, heads, options),
  };
}
