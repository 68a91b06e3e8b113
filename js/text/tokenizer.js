/** From text to token ids and back, by a `tokenizer.json`. */
import { badArgument, boolean, integer, show } from '../arguments.js';
import { LamellaError } from '../errors.js';
import { readJson } from '../weights/whole.js';

/** @typedef {import('../weights/source.js').SourceLike} SourceLike */
/** @typedef {import('../weights/source.js').SourceOptions} SourceOptions */
/**
 * What is used of the package's Tokenizer.
 * @typedef {object} HuggingFaceTokenizer
 * @property {(text: string, options?: { add_special_tokens?: boolean }) => { ids: number[] }} encode
 * @property {(ids: number[], options?: { skip_special_tokens?: boolean }) => string} decode
 * @property {(token: string) => number | undefined} token_to_id
 * @property {(withAddedTokens?: boolean) => Map<string, number>} get_vocab
 */
/**
 * A `tokenizer.json`: a URL, a path (in Node), a File or Blob, bytes, a Response; or what it holds, parsed; or a Tokenizer.
 * @typedef {SourceLike | Tokenizer | Record<string, unknown>} TokenizerSource
 */

/**
 * Loads a tokenizer as Hugging Face's libraries save it.
 *
 *     const tokenizer = await text.loadTokenizer('https://example.org/tokenizer.json');
 *     tokenizer.encode('a photo of a cat');        // [49406, 320, 1125, 539, 320, 2368, 49407]
 *
 * The algorithms are those of the package @huggingface/tokenizers, which comes with lamella and is fetched when this is called.
 *
 * @param {TokenizerSource} source
 * @param {SourceOptions} [options] `signal`; `request`, what `fetch` is told (headers, credentials); `cache`: keep what is downloaded, as compile does.
 * @returns {Promise<Tokenizer>}
 * @throws {LamellaError} 'tokenizer' when that is no tokenizer.json; 'http', 'html', 'file', 'argument'.
 */
export async function loadTokenizer(source, options = {}) {
  if (source instanceof Tokenizer) return source;
  const isParsed = Object.prototype.toString.call(source) === '[object Object]' && typeof (/** @type {any} */ (source)[Symbol.asyncIterator]) !== 'function';
  const { name, json } = isParsed ? checkTokenizer(source, 'tokenizer') : await readJson(/** @type {SourceLike} */ (source), options, { file: 'tokenizer.json', code: 'tokenizer', check: checkTokenizer });
  const { Tokenizer: Own } = await import('../../dist/tokenizers.js');
  try {
    return new Tokenizer(new Own(json, {}));
  } catch (cause) {
    throw new LamellaError('tokenizer', `${name}: cannot be used: ${/** @type {Error} */ (cause).message}`, { path: name, cause });
  }
}

/** @param {any} json @param {string} name */
function checkTokenizer(json, name) {
  if (typeof json?.model === 'object' && json.model?.vocab) return { name, json };
  const isObject = typeof json === 'object' && json !== null && !Array.isArray(json);
  const got = isObject ? `{ ${Object.keys(json).slice(0, 8).join(', ')} }` : show(json);
  throw new LamellaError('tokenizer', `${name}: expected a tokenizer.json, with "model" and its "vocab", got ${got}`, { path: name });
}

/** Turns text into token ids and back. `loadTokenizer` makes one. */
export class Tokenizer {
  #own;
  #vocabSize = 0;

  /** @param {HuggingFaceTokenizer} own */
  constructor(own) {
    this.#own = own;
  }

  /** One more than the largest id: rows that the embedding of a model for this tokenizer has. */
  get vocabSize() {
    if (!this.#vocabSize) for (const id of this.#own.get_vocab(true).values()) this.#vocabSize = Math.max(this.#vocabSize, id + 1);
    return this.#vocabSize;
  }

  /**
   * @param {string} text
   * @param {{ addSpecialTokens?: boolean }} [options] `addSpecialTokens` (true): what the tokenizer.json puts around a text, start and end.
   * @returns {number[]} Ids, of any number.
   * @throws {LamellaError} 'tokenizer': a character has no token.
   */
  encode(text, { addSpecialTokens = true } = {}) {
    if (typeof text !== 'string') throw badArgument('encode: text', 'a string', text);
    const { ids } = this.#own.encode(text, { add_special_tokens: boolean('encode: addSpecialTokens', addSpecialTokens) });
    if (ids.every(Number.isInteger)) return ids;
    throw new LamellaError('tokenizer', `encode: the vocabulary has no token for a part of ${show(text.length > 80 ? `${text.slice(0, 80)}...` : text)}, and none for what is unknown`);
  }

  /**
   * @param {ArrayLike<number | bigint>} ids
   * @param {{ skipSpecialTokens?: boolean }} [options] `skipSpecialTokens` (true): leave out start, end and their like.
   * @returns {string}
   */
  decode(ids, { skipSpecialTokens = true } = {}) {
    const list = Array.from(ids, (id, i) => integer(`decode: ids[${i}]`, Number(id), 0, this.vocabSize - 1));
    return list.length ? this.#own.decode(list, { skip_special_tokens: boolean('decode: skipSpecialTokens', skipSpecialTokens) }) : '';
  }

  /**
   * The id of a token as the vocabulary spells it, '<|endoftext|>'; undefined if there is no such token.
   * @param {string} token
   * @returns {number | undefined}
   */
  idOf(token) {
    return this.#own.token_to_id(token);
  }
}
