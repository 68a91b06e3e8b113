/** Native sparse attention. */
import { boolean, divides, integer, showShape } from '../arguments.js';
import { record, shapeError, shaped, value } from './record.js';

/** @import { Operand } from '../tensor.js' */

/**
 * Windows of `block` tokens that end every `stride` tokens, with zeros before the first token; a remainder of tokens is left out.
 * x [b, t, heads d] -> [b, heads, floor(t / stride), block, d]. In a session x is a cache (F.cache), and the windows are those that the
 * call completes.
 * @param {Operand} x
 * @param {number} heads
 * @param {number} block
 * @param {number} stride At most block.
 */
export function windows(x, heads, block, stride) {
  const input = shaped('windows', x, ['b', 't', 'w']);
  integer('windows: heads', heads, 1);
  if (input.shape[2] !== null) divides('windows', 'width', input.shape[2], 'heads', heads);
  integer('windows: stride', stride, 1);
  return record('windows', [input.value, heads, integer('windows: block', block, stride), stride]);
}

/**
 * Three attentions softmax(q k^T / sqrt(d)) v, weighted by gates and added, for each query and head:
 *
 * - compressed: q over the memory and the compressed blocks; causal: over those that end before the query;
 * - fine: rotated q over the `numSelectedBlocks` blocks of `selectionBlockSize` keys with the best compressed scores, and causal: over the
 *   query's own block up to itself;
 * - sliding: rotated q over the keys at most `slidingWindowSize` before it, and not causal: after it.
 *
 * Cost grows with t slidingWindowSize, t numSelectedBlocks selectionBlockSize and t^2 / stride. -> [b, t, heads d]
 * @param {object} tensors
 * @param {Operand} tensors.query [b, t, heads d]
 * @param {Operand} tensors.rotatedQuery As query.
 * @param {Operand} tensors.rotatedKey [b, s, kvHeads d]; the queries belong to the last t of the s tokens.
 * @param {Operand} tensors.value As rotatedKey.
 * @param {Operand} tensors.compressedKey [b, floor(s / stride), kvHeads d]
 * @param {Operand} tensors.compressedValue As compressedKey.
 * @param {Operand} tensors.memory [2, kvHeads, m, d]: keys and values that stand before the compressed ones.
 * @param {Operand} tensors.gates [b, t, heads 3], head by head: compressed, fine, sliding.
 * @param {object} options
 * @param {number} options.heads
 * @param {number} [options.kvHeads] heads. Query head h belongs to key head floor(h / (heads / kvHeads)).
 * @param {number} options.slidingWindowSize
 * @param {number} options.stride Tokens to a compressed block.
 * @param {number} options.selectionBlockSize A multiple of stride.
 * @param {number} options.numSelectedBlocks
 * @param {boolean} [options.causal] false
 * @param {boolean} [options.shareSelected] true: the query heads of one key head choose blocks together, by the mean of their scores.
 */
export function sparseAttention({ query, rotatedQuery, rotatedKey, value: value_, compressedKey, compressedValue, memory, gates },
  { heads, kvHeads = heads, slidingWindowSize, stride, selectionBlockSize, numSelectedBlocks, causal = false, shareSelected = true }) {
  const what = 'sparseAttention';
  const q = shaped(`${what}: query`, query, ['b', 't', 'w']);
  divides(what, 'heads', integer(`${what}: heads`, heads, 1), 'kvHeads', integer(`${what}: kvHeads`, kvHeads, 1));
  if (q.shape[2] === null || q.shape[2] % heads) throw shapeError(`${what}: query ${showShape(q.shape)} is not [b, t, ${heads} heads]`);
  divides(what, 'selectionBlockSize', integer(`${what}: selectionBlockSize`, selectionBlockSize, 1), 'stride', integer(`${what}: stride`, stride, 1));
  const tensors = [query, rotatedQuery, rotatedKey, value_, compressedKey, compressedValue, memory, gates];
  return record('sparse_attention', [tensors.map((x) => value(x, `${what}: input`)), [
    heads, kvHeads, integer(`${what}: slidingWindowSize`, slidingWindowSize, 1), stride, selectionBlockSize,
    integer(`${what}: numSelectedBlocks`, numSelectedBlocks, 0), Number(boolean(`${what}: causal`, causal)), Number(boolean(`${what}: shareSelected`, shareSelected)),
  ]]);
}
