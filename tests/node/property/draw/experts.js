/** Mixtures of experts: gates by every rule, and experts with few, many and no tokens. */
import { several } from '../check.js';

/** @import { Draw } from '../check.js' */
/** @import { Random } from '../random.js' */

/**
 * A coarse grid, so that scores are equal or clearly apart: near a tie another rounding would choose another expert. Not around 0, where
 * sums of two sigmoids are 1 more often than they should.
 * @param {Random} r
 */
const grid = (r) => r.int(-16, 16) / 4 + 0.1;

/** @param {Random} r @param {number} experts */
function rule(r, experts) {
  const nGroup = r.pick([1, 2, 3, 4].filter((n) => experts % n === 0));
  const methods = ['greedy', 'group_limited_greedy', ...experts / nGroup >= 2 ? ['noaux_tc'] : []];
  const method = r.pick(methods);
  return {
    topK: r.int(1, Math.min(experts, 6)), scoring: r.pick(['softmax', 'sigmoid']), method, ...r.chance(0.3) && { norm: true }, ...r.chance(0.3) && { scale: 2.5 },
    ...method !== 'greedy' && { nGroup, topkGroup: r.int(1, nGroup), ...r.chance(0.3) && { masked: -Infinity } },
  };
}

/** @type {Draw} */
export function route(r) {
  const [experts, rank] = [r.size(24), r.int(0, 3)];
  const options = rule(r, experts);
  const bias = options.method === 'noaux_tc' && r.chance(0.7);
  return {
    args: { ...options, masked: String(options.masked) },
    runs: several(r, () => [{ shape: [...r.shape(rank, rank, 20), experts], values: grid, known: true }]),
    weights: bias ? { bias: { shape: [experts], values: (/** @type {Random} */ q) => q.int(-4, 4) / 8 } } : {},
    program: (f, [logits], w) => f.route(logits, w.bias ?? null, options),
  };
}

/** Behind a gate, or with any routing. @type {Draw} */
export function experts(r) {
  const [count, width, inter, out, rank] = [r.int(1, 8), r.size(20), r.size(r.chance(0.1) ? 150 : 30), r.size(20), r.int(0, 3)];
  const gated = r.chance();
  const options = { ...rule(r, count), masked: 0 };
  const act = r.pick(['identity', 'relu', 'sigmoid', 'silu', 'silu', 'tanh', 'gelu', 'gelu_tanh', 'quick_gelu', 'mish', 'softplus']);
  const sparse = (/** @type {Random} */ q) => (q.chance(0.6) ? 0 : q.normal());
  const long = r.chance(0.1);
  const shapes = [...Array(count).keys()].flatMap((e) => [[`gate${e}`, [inter, width]], [`up${e}`, [inter, width]], [`down${e}`, [out, inter]]]);
  return {
    args: { gated, act, ...gated && options },
    runs: several(r, () => {
      const lead = r.shape(rank, rank, long && rank === 1 ? 700 : 12);
      return [[...lead, width], { shape: [...lead, count], values: gated ? grid : sparse, known: true }];
    }),
    weights: Object.fromEntries(shapes.map(([name, shape]) => [name, { shape: /** @type {number[]} */ (shape), values: 'small' }])),
    program: (f, [x, routing], w) => f.experts(x, gated ? f.route(routing, null, options) : routing,
      Array.from({ length: count }, (_, e) => [w[`gate${e}`], w[`up${e}`], w[`down${e}`]]), act),
  };
}
