/** Small files that are read whole: tokenizers, configurations, chat templates. */
import { LamellaError } from '../errors.js';
import { readAll } from './bytes.js';
import { openSource } from './source.js';

/** @typedef {import('./source.js').SourceLike} SourceLike */
/** @typedef {import('./source.js').SourceOptions} SourceOptions */

/**
 * @template T
 * @param {SourceLike} like
 * @param {SourceOptions} options
 * @param {(bytes: Uint8Array, name: string) => T} use What becomes of the bytes. A file that it throws at is not kept.
 * @param {string} [what] What is to be read, as an error about `like` begins.
 * @returns {Promise<T>}
 */
export async function readWhole(like, options, use, what) {
  const source = await openSource(like, options, what);
  try {
    const bytes = await readAll(source, options);
    try {
      return use(bytes, source.name);
    } catch (error) {
      await source.discard?.();
      throw error;
    }
  } finally {
    await source.close();
  }
}

/**
 * @param {SourceLike} like
 * @param {SourceOptions} options
 * @returns {Promise<string>}
 */
export const readText = (like, options) => readWhole(like, options, (bytes) => new TextDecoder().decode(bytes));

/**
 * @param {SourceLike} like
 * @param {SourceOptions} options
 * @param {object} expected
 * @param {string} expected.file What it should be, 'tokenizer.json'.
 * @param {string} expected.code Of the error when it is not.
 * @param {(json: any, name: string) => unknown} [expected.check] Throws where it is other JSON.
 * @param {string} [expected.what] As an error about `like` begins.
 * @returns {Promise<{ name: string, json: any }>}
 */
export function readJson(like, options, { file, code, check, what }) {
  return readWhole(like, options, (bytes, name) => {
    let json;
    try {
      json = JSON.parse(new TextDecoder().decode(bytes));
    } catch (cause) {
      throw new LamellaError(code, `${name}: expected a ${file}, got text that is not JSON: ${/** @type {Error} */ (cause).message}`, { path: name, cause });
    }
    check?.(json, name);
    return { name, json };
  }, what);
}
