/** From logits to a token. */
import { LamellaError } from '../errors.js';

/**
 * @typedef {object} SamplingOptions
 * @property {number} [temperature] Logits are divided by it; 0 (default) takes the likeliest token, the first of equals.
 * @property {number} [topK] Only so many of the likeliest tokens; 0 (default): all.
 * @property {number} [topP] Of those only the fewest likeliest that together have this probability; default 1: all.
 * @property {number} [minP] Of those only the ones at least this many times as probable as the likeliest; default 0: all.
 */

/**
 * Draws a token from softmax(logits / temperature), cut by topK, then topP, then minP; the order is that of transformers.
 * @param {Float32Array} logits Left as they are. -Infinity excludes a token, Infinity makes it certain; NaN counts as -Infinity.
 * @param {SamplingOptions} [options]
 * @param {() => number} [random] A number in [0, 1), asked for once if temperature is above 0.
 * @returns {number}
 * @throws {LamellaError} 'state': no token is possible.
 */
export function sample(logits, { temperature = 0, topK = 0, topP = 1, minP = 0 } = {}, random = Math.random) {
  let best = -1;
  for (let i = 0, most = -Infinity; i < logits.length; i++) if (logits[i] > most) most = logits[best = i];
  if (best < 0) throw new LamellaError('state', `no token is possible: none of ${logits.length} logits is a number above -Infinity`);
  if (!temperature || topK === 1 || logits[best] === Infinity) return best;
  const weights = logits.map((x) => Math.exp((x - logits[best]) / temperature) || 0);
  const ids = (topK || topP < 1 ? likeliest(weights, topK, topP) : atLeast(weights, 0)).filter((i) => weights[i] >= minP);
  let rest = random() * sum(weights, ids);
  return ids.find((i) => (rest -= weights[i]) < 0) ?? best;
}

/**
 * Divides the positive logits of these tokens by the penalty and multiplies the others, in place (CTRL, arXiv 1909.05858).
 * @param {Float32Array} logits
 * @param {Iterable<number>} tokens Each once.
 * @param {number} penalty Above 1: less likely.
 */
export function penalize(logits, tokens, penalty) {
  for (const i of tokens) logits[i] = logits[i] > 0 ? logits[i] / penalty : logits[i] * penalty;
}

/**
 * Numbers in [0, 1), the same ones for the same seed: a counter through an integer hash of two multiplications (the constants are of hash-prospector).
 * @param {number} seed
 * @returns {() => number}
 */
export function randomNumbers(seed) {
  let state = seed;
  return () => {
    state = (state + 0x9e3779b9) | 0;
    let x = Math.imul(state ^ (state >>> 16), 0x21f0aaad);
    x = Math.imul(x ^ (x >>> 15), 0x735a2d97);
    return ((x ^ (x >>> 15)) >>> 0) / 2 ** 32;
  };
}

/**
 * The largest weights in falling order, equal ones as they come. Sorted are only those above a floor that is searched for, e^-x.
 * @param {Float32Array} weights The largest is 1.
 * @param {number} topK 0: any number
 * @param {number} topP
 */
function likeliest(weights, topK, topP) {
  const all = topK ? 0 : topP * sum(weights, weights.keys());
  let [few, enough] = [0, 104];   // e^-104 is 0 in f32
  for (let i = 0; i < 14; i++) {
    const [x, floor] = [(few + enough) / 2, Math.exp(-(few + enough) / 2)];
    let amount = 0;
    for (let j = 0; j < weights.length; j++) if (weights[j] >= floor) amount += topK ? 1 : weights[j];
    if (amount >= (topK || all)) enough = x;
    else few = x;
  }
  const ids = atLeast(weights, enough < 104 ? Math.exp(-enough) : 0).sort((a, b) => weights[b] - weights[a]).slice(0, topK || undefined);
  let rest = topP < 1 ? all || topP * sum(weights, ids) : Infinity;
  return ids.filter((i) => rest > 0 && ((rest -= weights[i]), true));
}

/** @param {Float32Array} weights @param {number} floor */
function atLeast(weights, floor) {
  const found = [];
  for (let i = 0; i < weights.length; i++) if (weights[i] >= floor) found.push(i);
  return found;
}

/** @param {Float32Array} weights @param {Iterable<number>} ids */
function sum(weights, ids) {
  let total = 0;
  for (const i of ids) total += weights[i];
  return total;
}
