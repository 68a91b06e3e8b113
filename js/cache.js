/** Downloads that are kept: what `compile(module, { weights: url, cache: true })` keeps, listed and thrown away. The code is fetched when one of these is called. */
import { readWhole } from './weights/whole.js';

/** @import { LamellaError } from './errors.js' */

/**
 * How a download is kept.
 * @typedef {object} CacheOptions
 * @property {string} [folder] In Node: where. Default: `lamella` in the user's cache folder ($XDG_CACHE_HOME, ~/.cache).
 * @property {string | Record<string, string>} [sha256] What the file must have, or the files by their names. Hugging Face's servers tell it themselves (in Node).
 * @property {boolean} [revalidate] Ask the server whether the file is still the same (default false: what is kept whole is used without asking).
 * @property {(error: LamellaError) => void} [warn] Called when something cannot be kept, because the disk is full or the browser allows no
 *   more: loading goes on without. Default: `console.warn` of its message.
 */
/**
 * @typedef {object} Kept
 * @property {string} url
 * @property {number} bytes What is there of it.
 * @property {number | undefined} size Of the whole file, where the server told.
 * @property {boolean} complete
 * @property {string | undefined} sha256 That it was found to have.
 * @property {Date} time When it was last written.
 */
/** @typedef {{ folder?: string }} Where */

/**
 * Any other file, whole: from what is kept, or from the server, and then it is kept. For what `compile` and `fromPretrained` do not read themselves: labels, a `preprocessor_config.json`.
 *
 *     const labels = JSON.parse(new TextDecoder().decode(await cache.read('https://example.org/labels.json')));
 *
 * @param {string | URL} url
 * @param {CacheOptions & { signal?: AbortSignal | null, request?: RequestInit }} [options] `signal`; `request`, what `fetch` is told (headers, credentials); and how it is kept.
 * @returns {Promise<Uint8Array>}
 * @throws {LamellaError} 'http', 'html', 'truncated', 'checksum', 'argument'; the signal's reason.
 */
export async function read(url, { signal, request, ...cache } = {}) {
  return readWhole(url, { signal, request, cache }, (bytes) => bytes, 'cache.read');
}

/**
 * What is kept, the oldest first.
 * @param {Where} [options]
 * @returns {Promise<Kept[]>}
 */
export async function list(options = {}) {
  return (await import('./cache/downloads.js')).list(options);
}

/**
 * Throws away what is kept of an address.
 * @param {string | URL} url
 * @param {Where} [options]
 */
export async function remove(url, options = {}) {
  await (await import('./cache/downloads.js')).clear(String(url), options);
}

/**
 * Throws away everything.
 * @param {Where} [options]
 */
export async function clear(options = {}) {
  await (await import('./cache/downloads.js')).clear(undefined, options);
}
