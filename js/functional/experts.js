/** Mixtures of experts. */
import { badArgument, boolean, finite, indexOf, integer } from '../arguments.js';
import { ACTIVATIONS } from './activations.js';
import { optional, record, symbolic, value } from './record.js';

/** @import { Activation } from './activations.js' */
/** @import { Operand, SymbolicTensor } from '../tensor.js' */

/** lam_scoring and lam_route_method, in the order of the engine's header. */
const SCORINGS = /** @type {const} */ (['softmax', 'sigmoid']);
const METHODS = /** @type {const} */ (['greedy', 'group_limited_greedy', 'noaux_tc']);

/**
 * The gate of a mixture of experts: weights for the experts that each token goes to, 0 for the others.  logits [..., experts] -> the same
 * shape, for `F.experts`. Of equal scores the expert with the lowest index is chosen.
 * @param {Operand} logits
 * @param {Operand | null} bias [experts], 'noaux_tc' only: added to the scores for the choice, not to the weights.
 * @param {object} options
 * @param {number} options.topK Experts for each token.
 * @param {'softmax' | 'sigmoid'} [options.scoring] Scores from logits: 'softmax' over the experts, or 'sigmoid' of each.
 * @param {'greedy' | 'group_limited_greedy' | 'noaux_tc'} [options.method] 'greedy': the best of all. 'group_limited_greedy': the best of
 *   those `topkGroup` groups of neighbouring experts whose best score is best. 'noaux_tc': the same with the bias, groups by the sum of their
 *   two best scores.
 * @param {number} [options.nGroup] How many groups, 1.
 * @param {number} [options.topkGroup] How many of them are kept, 1.
 * @param {number} [options.masked] What experts of the other groups compete with: 0, as DeepSeek-V2's code does, or -Infinity (V3's inference
 *   code, transformers' V3). It matters only where fewer than topK experts of the kept groups have a greater score.
 * @param {boolean} [options.norm] Divide a token's weights by their sum + 1e-20, false. (DeepSeek-VL2's code does so only if topK is above 1.)
 * @param {number} [options.scale] And multiply them by this, 1.
 * @returns {SymbolicTensor}
 */
export function route(logits, bias, { topK, scoring = 'softmax', method = 'greedy', nGroup = 1, topkGroup = 1, masked = 0, norm = false, scale = 1 }) {
  if (masked !== -Infinity) finite('route: masked', masked);
  return record('route', [value(logits, 'route: logits'), optional(bias, 'route: bias'), integer('route: topK', topK), indexOf('route: scoring', SCORINGS, scoring),
    indexOf('route: method', METHODS, method), integer('route: nGroup', nGroup), integer('route: topkGroup', topkGroup), masked,
    Number(boolean('route: norm', norm)), finite('route: scale', scale)]);
}

/**
 * A mixture of gated layers: y = sum over experts e of routing[..., e] down_e(act(gate_e x) * (up_e x)). An expert computes only the tokens whose
 * routing is not 0; sums are taken in the order of the experts.  x [..., in], routing [..., experts] -> [..., out].
 * @param {Operand} x
 * @param {Operand} routing From `F.route`.
 * @param {readonly (readonly [Operand, Operand, Operand])[]} weights Parameters gate [inter, in], up [inter, in] and down [out, inter] of each.
 * @param {Activation} [act] 'silu'
 * @returns {SymbolicTensor}
 */
export function experts(x, routing, weights, act = 'silu') {
  if (!Array.isArray(weights) || !weights.length) throw badArgument('experts: weights', 'an array of [gate, up, down]', weights);
  const values = weights.flatMap((parts, i) => {
    if (!Array.isArray(parts) || parts.length !== 3) throw badArgument(`experts: expert ${i}`, '[gate, up, down]', parts);
    return parts.map((weight, part) => value(weight, `experts: ${['gate', 'up', 'down'][part]} of expert ${i}`));
  });
  return record('experts', [symbolic(x, 'experts: input').value, value(routing, 'experts: routing'), indexOf('experts: act', ACTIVATIONS, act), weights.length, values]);
}
