/** Native sparse attention, query by query, as native-sparse-attention-pytorch computes a whole sequence. */
import { best } from './experts.js';
import { largest, tensor } from './tensor.js';

/** @import { Reference } from './tensor.js' */
/** Where a row of numbers lies. @typedef {{ data: Float64Array, at: number }} Row */
/** A key and its value; null: both are zeros. @typedef {{ key: Row, value: Row } | null} Pair */

/** @param {Reference} x [b, t, heads d] @param {number} heads @param {number} block @param {number} stride @returns {Reference} */
export function windows(x, heads, block, stride) {
  const [b, t, width] = x.shape;
  const [count, d] = [Math.floor(t / stride), width / heads];
  const y = tensor([b, heads, count, block, d], new Float64Array(b * heads * count * block * d), x.slack);
  let at = 0;
  for (let batch = 0; batch < b; batch++) {
    for (let head = 0; head < heads; head++) {
      for (let w = 0; w < count; w++) {
        for (let slot = 0; slot < block; slot++) {
          const token = (w + 1) * stride - block + slot;
          for (let i = 0; i < d; i++) y.data[at++] = token < 0 ? 0 : x.data[(batch * t + token) * width + head * d + i];
        }
      }
    }
  }
  return y;
}

/** @param {Row} q @param {Pair} pair @param {number} d */
function score(q, pair, d) {
  let sum = 0;
  for (let i = 0; pair && i < d; i++) sum += q.data[q.at + i] * pair.key.data[pair.key.at + i];
  return sum / Math.sqrt(d);
}

/** y += gate softmax(scores) values. @param {Float64Array} y @param {number} gate @param {number[]} scores @param {Pair[]} pairs */
function attend(y, gate, scores, pairs) {
  const most = Math.max(...scores);
  const weights = scores.map((s) => Math.exp(s - most));
  const total = weights.reduce((sum, w) => sum + w, 0);
  pairs.forEach((pair, j) => {
    for (let i = 0; pair && i < y.length; i++) y[i] += gate * weights[j] / total * pair.value.data[pair.value.at + i];
  });
}

/**
 * The keys of fine attention for the query at `position`, and whether all count the same.
 * @param {number[][]} scores Of the compressed blocks that it sees, for each query head that chooses with it.
 * @param {number} position
 * @param {{ keys: number, stride: number, selection: number, selected: number, causal: boolean }} o
 * @returns {{ keys: (number | null)[], equal: boolean }} null: zeros.
 */
function chooseKeys(scores, position, { keys, stride, selection, selected, causal }) {
  const [together, own] = [selection / stride, Math.floor(position / selection)];
  const means = scores[0].map((_, j) => scores.reduce((sum, row) => sum + row[j], 0) / scores.length);
  const importance = Array.from({ length: Math.floor(means.length / together) }, (_, c) => means.slice(c * together, (c + 1) * together).reduce((a, b) => a + b, 0) / together);
  if (!causal && together > 1 && own < importance.length) importance[own] = -Infinity;
  const listed = best(importance, selected);
  const most = Math.max(-1000, ...importance);
  const sum = Math.exp(-1000 - most) + importance.reduce((total, v) => total + Math.exp(v - most), 0);
  const counted = listed.filter((c) => Math.exp(importance[c] - most) / sum > 1e-10);
  const block = (/** @type {number} */ c) => Array.from({ length: selection }, (_, i) => c * selection + i);
  if (causal) return { keys: [...counted.flatMap(block), ...block(own).filter((key) => key <= position)], equal: false };
  if (!listed.length) return { keys: block(own).map((key) => (key < keys ? key : null)), equal: false };
  return { keys: (counted.length ? counted : listed).flatMap(block), equal: !counted.length };
}

/** @param {number} position @param {number} keys @param {number} window @param {boolean} causal @returns {(number | null)[]} */
function slidingKeys(position, keys, window, causal) {
  const [first, padded] = [Math.max(0, position - window), Math.ceil(keys / window) * window];
  const end = causal ? position + 1 : Math.min(position + window + 1, padded);
  return Array.from({ length: end - first }, (_, i) => (first + i < keys ? first + i : null));
}

/**
 * @param {Record<string, Reference>} tensors
 * @param {any} options
 * @returns {Reference}
 */
export function sparseAttention({ query, rotatedQuery, rotatedKey, value, compressedKey, compressedValue, memory, gates },
  { heads, kvHeads = heads, slidingWindowSize, stride, selectionBlockSize, numSelectedBlocks, causal = false, shareSelected = true }) {
  const [[b, t, width], s, blocks, m] = [query.shape, rotatedKey.shape[1], compressedKey.shape[1], memory.shape[2]];
  const [d, group] = [width / heads, heads / kvHeads];
  const y = tensor(query.shape, new Float64Array(b * t * width));
  let steep = 0;
  const pairsOf = (/** @type {Reference} */ k, /** @type {Reference} */ v, /** @type {number} */ batch, /** @type {number} */ kv) => (/** @type {number | null} */ j) => {
    const at = (batch * k.shape[1] + Number(j)) * kvHeads * d + kv * d;
    return j === null ? null : { key: { data: k.data, at }, value: { data: v.data, at } };
  };
  for (let batch = 0; batch < b; batch++) {
    for (let i = 0; i < t; i++) {
      const position = s - t + i;
      const seen = causal ? Math.min(blocks, Math.floor(position / stride)) : blocks;
      for (let head = 0; head < heads; head++) {
        const kv = Math.floor(head / group);
        const row = (/** @type {Reference} */ q, /** @type {number} */ h) => ({ data: q.data, at: (batch * t + i) * width + h * d });
        const [compressed, near] = [pairsOf(compressedKey, compressedValue, batch, kv), pairsOf(rotatedKey, value, batch, kv)];
        const learned = Array.from({ length: m }, (_, j) => ({ key: { data: memory.data, at: (kv * m + j) * d }, value: { data: memory.data, at: ((kvHeads + kv) * m + j) * d } }));
        const seenPairs = Array.from({ length: seen }, (_, j) => compressed(j));
        const scores = (/** @type {Reference} */ q, /** @type {number} */ h, /** @type {Pair[]} */ pairs) => pairs.map((pair) => score(row(q, h), pair, d));
        const choosing = shareSelected ? Array.from({ length: group }, (_, g) => kv * group + g) : [head];
        const fine = chooseKeys(choosing.map((h) => scores(query, h, seenPairs)), position, { keys: s, stride, selection: selectionBlockSize, selected: numSelectedBlocks, causal });
        const [finePairs, slidingPairs] = [fine.keys.map(near), slidingKeys(position, s, slidingWindowSize, causal).map(near)];
        const all = [[...learned, ...seenPairs], finePairs, slidingPairs];
        const each = [scores(query, head, all[0]), scores(rotatedQuery, head, finePairs).map((v) => (fine.equal ? 0 : v)), scores(rotatedQuery, head, slidingPairs)];
        const out = y.data.subarray(row(query, head).at, row(query, head).at + d);
        all.forEach((pairs, branch) => attend(out, gates.data[((batch * t + i) * heads + head) * 3 + branch], each[branch], pairs));
        steep = Math.max(steep, largest(each.flat()));
      }
    }
  }
  const [most, values] = [largest(gates.data), Math.max(largest(value.data), largest(compressedValue.data), largest(memory.data))];
  const scores = (/** @type {Reference} */ q, /** @type {Reference} */ k) => 2 * Math.sqrt(d) * (q.slack * largest(k.data) + k.slack * largest(q.data));
  y.slack = 3 * most * (1 + steep / 8 + scores(query, compressedKey) + scores(rotatedQuery, rotatedKey)) * values
    + 3 * most * (value.slack + compressedValue.slack) + 3 * gates.slack * values;
  return y;
}
