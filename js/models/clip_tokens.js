/** What CLIP's text tower reads: sequences of token ids. */
import { badArgument, show } from '../arguments.js';
import { LamellaError } from '../errors.js';
import { Tensor } from '../tensor.js';
import { clean } from '../text/clean.js';

/** @import { Tokenizer } from '../text/tokenizer.js' */
/** @typedef {ArrayLike<number | bigint>} Ids */
/** @typedef {Tensor | Int32Array | BigInt64Array | readonly number[] | readonly Ids[]} TokenIds One sequence or several; a Tensor [n, t]; a typed array of whole contexts. */

/** What tokenizers for CLIP call the tokens around a text, where their tokenizer.json does not put them there itself. */
const NAMES = [['<|startoftext|>', '<|endoftext|>'], ['<start_of_text>', '<end_of_text>']];

/**
 * A text as ids: start, the cleaned text's tokens, end. A longer text than the context is cut, and the end kept.
 * @param {Tokenizer} tokenizer
 * @param {string} text
 * @param {number} contextLength
 * @returns {Int32Array}
 */
export function tokenize(tokenizer, text, contextLength) {
  const [start, end] = ends(tokenizer);
  const ids = [start, ...tokenizer.encode(clean(text), { addSpecialTokens: false }).slice(0, Math.max(0, contextLength - 2)), end];
  return Int32Array.from(ids.slice(-contextLength));
}

/** @param {Tokenizer} tokenizer @returns {[number, number]} */
function ends(tokenizer) {
  const own = tokenizer.encode('');
  const named = NAMES.map((pair) => pair.map((token) => tokenizer.idOf(token))).find((pair) => !pair.includes(undefined));
  const [start, end] = own.length === 2 ? own : named ?? [];
  if (start === undefined || end !== tokenizer.vocabSize - 1) {
    throw new LamellaError('tokenizer', `CLIP: expected a tokenizer that ends a text with its largest id, ${tokenizer.vocabSize - 1}, got ${end === undefined ? 'none that marks the end' : end}`);
  }
  return [start, end];
}

/**
 * Token ids in any form as sequences.
 * @param {TokenIds} ids
 * @param {number} contextLength
 * @param {number} vocabSize
 * @returns {Int32Array[]}
 */
export function idRows(ids, contextLength, vocabSize) {
  const sequences = split(ids, contextLength);
  if (!sequences.length) throw badArgument('encodeText: texts', 'a text, texts or token ids', ids);
  return sequences.map((sequence, row) => {
    const what = `encodeText: sequence ${row}`;
    if (!sequence.length) throw new LamellaError('argument', `${what}: expected token ids, got none`);
    if (sequence.length > contextLength) throw new LamellaError('argument', `${what}: ${sequence.length} tokens are more than the context of ${contextLength}`);
    return Int32Array.from(sequence, (id, i) => {
      const number = Number(id);
      const isId = (typeof id === 'number' || typeof id === 'bigint') && Number.isInteger(number) && number >= 0 && number < vocabSize;
      if (!isId) throw new LamellaError('argument', `${what}: token ${i}: expected an id from 0 to ${vocabSize - 1}, the vocabulary, got ${show(id)}`);
      return number;
    });
  });
}

/** @param {TokenIds} ids @param {number} contextLength @returns {Ids[]} */
function split(ids, contextLength) {
  if (ids instanceof Tensor) {
    if (ids.shape.length === 1) return [/** @type {Ids} */ (ids.data)];
    if (ids.shape.length !== 2) throw new LamellaError('shape', `encodeText: expected token ids [n, t], got a Tensor [${ids.shape.join(', ')}]`);
    return cut(ids.data, ids.shape[1]);
  }
  if (ArrayBuffer.isView(ids)) {
    const list = /** @type {any} */ (ids);
    return list.length > contextLength && list.length % contextLength === 0 ? cut(list, contextLength) : [list];
  }
  if (!Array.isArray(ids)) throw badArgument('encodeText: texts', 'a text, texts or token ids', ids);
  const isOne = typeof ids[0] === 'number' || typeof ids[0] === 'bigint';
  return isOne ? [/** @type {any} */ (ids)] : /** @type {any[]} */ (ids).map((row, i) => {
    if (Array.isArray(row) || ArrayBuffer.isView(row)) return /** @type {any} */ (row);
    throw badArgument(`encodeText: texts[${i}]`, 'token ids, like the first', row);
  });
}

/** @param {any} data @param {number} length @returns {Ids[]} */
const cut = (data, length) => Array.from({ length: data.length / length }, (_, i) => data.subarray(i * length, (i + 1) * length));

/**
 * A sequence up to its first largest id, where the embedding is taken: each token sees only those before it, so the others do not matter.
 * @param {Int32Array} ids
 */
export const untilEnd = (ids) => ids.subarray(0, ids.indexOf(ids.reduce((a, b) => Math.max(a, b))) + 1);
