/** Mixtures of experts. */
import { add, gelu, mish, mul, quickGelu, relu, sigmoid, silu, softmax, softplus, tanh } from './arithmetic.js';
import { linear } from './layers.js';
import { narrow } from './shape.js';
import { largest, tensor } from './tensor.js';

/** @import { Reference } from './tensor.js' */

/** Indices of the `n` largest, the first of equal ones. @param {number[]} numbers @param {number} n */
export const best = (numbers, n) => [...numbers.keys()].sort((a, b) => numbers[b] - numbers[a] || a - b).slice(0, n);

/**
 * @param {Reference} logits [..., experts]
 * @param {Reference | null} bias
 * @param {any} options
 * @returns {Reference}
 */
export function route(logits, bias, { topK, scoring = 'softmax', method = 'greedy', nGroup = 1, topkGroup = 1, masked = 0, norm = false, scale = 1 }) {
  const [experts, all] = [/** @type {number} */ (logits.shape.at(-1)), scoring === 'softmax' ? softmax(logits, -1) : sigmoid(logits)];
  const y = tensor(logits.shape, new Float64Array(logits.data.length));
  for (let at = 0; at < y.data.length; at += experts) {
    const scores = Array.from(all.data.subarray(at, at + experts));
    let choice = scores.map((score, e) => score + (bias ? bias.data[e] : 0));
    if (method !== 'greedy') {
      const size = experts / nGroup;
      const groups = Array.from({ length: nGroup }, (_, g) => {
        const [first, second] = choice.slice(g * size, (g + 1) * size).sort((a, b) => b - a);
        return method === 'noaux_tc' ? first + second : first;
      });
      const kept = best(groups, topkGroup);
      choice = choice.map((score, e) => (kept.includes(Math.floor(e / size)) ? score : masked));
    }
    const chosen = best(choice, topK);
    const weights = chosen.map((e) => (method === 'group_limited_greedy' ? choice[e] : scores[e]));
    const divisor = norm ? weights.reduce((sum, w) => sum + w, 0) + 1e-20 : 1;
    chosen.forEach((e, i) => { y.data[at + e] = weights[i] / divisor * scale; });
  }
  y.slack = largest(y.data);
  return y;
}

/** @type {Record<string, (x: Reference) => Reference>} */
const ACTIVATIONS = { identity: (x) => x, relu, sigmoid, silu, tanh, gelu, gelu_tanh: (x) => gelu(x, { approximate: 'tanh' }), quick_gelu: quickGelu, mish, softplus };

/** Every expert for every token. @param {Reference} x @param {Reference} routing @param {Reference[][]} weights @param {string} [act] */
export const experts = (x, routing, weights, act = 'silu') => weights.map(([gate, up, down], e) =>
  mul(narrow(routing, -1, e, 1), linear(mul(ACTIVATIONS[act](linear(x, gate)), linear(x, up)), down))).reduce((a, b) => add(a, b));
