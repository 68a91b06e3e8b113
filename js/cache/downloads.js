/** Downloads that are kept. Fetched by who asks for it. */
import { badArgument, options as known } from '../arguments.js';
import { LamellaError } from '../errors.js';
import { isNode } from '../platform.js';
import { reason } from '../weights/bytes.js';
import { openHttp, versionOf } from '../weights/http.js';
import { openBrowserShelf } from './browser.js';
import { defaultFolder, FolderShelf } from './folder.js';
import { Half } from './half.js';
import { sha256 } from './sha256.js';
import { CachedSource } from './source.js';

/** @typedef {import('../weights/bytes.js').Source} Source */
/** @typedef {import('../weights/http.js').HttpSource} HttpSource */
/** @typedef {import('./half.js').Note} Note */
/** @typedef {import('./half.js').Shelf} Shelf */
/** @typedef {import('../cache.js').CacheOptions} CacheOptions */

const defaults = {
  folder: /** @type {string | undefined} */ (undefined), sha256: /** @type {string | Record<string, string> | undefined} */ (undefined), revalidate: false,
  warn: /** @type {(error: LamellaError) => void} */ ((error) => console.warn(error.message)),
};

/**
 * @param {unknown} given
 * @returns {typeof defaults}
 */
function checked(given) {
  if (given === true) return { ...defaults };
  const options = known('cache', [given], defaults);
  if (options.folder !== undefined && typeof options.folder !== 'string') throw badArgument('cache: folder', 'a path', options.folder);
  if (typeof options.warn !== 'function') throw badArgument('cache: warn', 'a function', options.warn);
  const sums = typeof options.sha256 === 'object' && options.sha256 ? Object.values(options.sha256) : [options.sha256 ?? '0'.repeat(64)];
  const wrong = sums.find((sum) => !/^[0-9a-f]{64}$/i.test(String(sum)));
  if (wrong !== undefined) throw badArgument('cache: sha256', '64 hexadecimal digits, or { [file name]: digits }', wrong);
  return options;
}

/** @param {{ folder?: string }} options @returns {Promise<Shelf>} */
async function openShelf({ folder }) {
  if (isNode) return new FolderShelf(folder ?? defaultFolder()).open();
  return openBrowserShelf();
}

/**
 * The address without its fragment, and a name for it that any file system takes.
 * @param {string} url
 */
function keyOf(url) {
  const address = url.replace(/#.*/s, '');
  const hash = sha256();
  hash.update(new TextEncoder().encode(address));
  return { address, key: hash.hex().slice(0, 24) };
}

/** @param {string} address */
function nameIn(address) {
  const name = /** @type {string} */ (new URL(address).pathname.split('/').pop());
  try {
    return decodeURIComponent(name);
  } catch {
    return name;   // 100%.safetensors
  }
}

/**
 * @param {string} url
 * @param {{ signal: AbortSignal | null, request: RequestInit, cache: true | CacheOptions }} options
 * @returns {Promise<Source>}
 */
export async function openCached(url, { signal, request, cache }) {
  const { warn, revalidate, folder, sha256: sums } = checked(cache);
  const { address, key } = keyOf(url);
  const given = typeof sums === 'string' ? sums : sums?.[nameIn(address)];
  const wanted = given?.toLowerCase();
  /** @type {HttpSource | undefined} */
  let network;
  /** @type {() => void} */
  let release = () => {};
  try {
    const shelf = await openShelf({ folder });
    const drawer = shelf.drawer(key, address);
    const note = await drawer.note();
    const whole = note?.complete && note.size === await drawer.bytes() && (!wanted || wanted === note.sha256) ? note : null;
    const keep = async (/** @type {Note} */ from, /** @type {number} */ stored, /** @type {HttpSource | null} */ source, sum = wanted) =>
      new CachedSource(from, { drawer, half: await Half.open(drawer, stored), network: source, release, sha256: sum, warn });
    if (whole && !revalidate) return await keep(whole, /** @type {number} */ (whole.size), null);
    network = await openHttp(address, { signal, request }).catch((error) => {
      if (whole && !signal?.aborted) return undefined;
      throw error;
    });
    if (whole && (!network || isSame(whole, network))) {
      network?.close();
      return await keep(whole, /** @type {number} */ (whole.size), null);
    }
    if (!network) throw new LamellaError('http', `${address}: cannot be fetched`, { path: address });
    const sum = wanted ?? network.version.sha256 ?? await linkedSum(address, network, { signal, request });
    const lock = await shelf.lock(key, address);
    if (!lock) return notKept(network, { warn, sum });   // another page or program is at it
    release = once(lock);
    const isRest = note && (isSame(note, network) || (sum && note.size === network.size)) && !(note.sha256 && note.sha256 !== sum);
    const half = isRest ? await drawer.bytes() : 0;
    if (!half) await drawer.remove();
    await checkRoom(shelf, (network.size ?? 0) - half);
    /** @type {Note} */
    const fresh = { url: address, size: network.size, etag: network.version.etag, modified: network.version.modified, complete: false, time: Date.now() };
    await drawer.setNote(fresh);
    return await keep(fresh, half, network, sum);
  } catch (cause) {
    release();
    if (signal?.aborted || (cause instanceof LamellaError && cause.code !== 'cache')) throw cause;
    warn(new LamellaError('cache', `${address}: it is not kept (${reason(/** @type {Error} */ (cause))}); loading goes on without`, { path: address, cause }));
    return notKept(network ?? await openHttp(address, { signal, request }), { warn, sum: wanted });
  }
}

/**
 * What cannot be kept is compared with its sum all the same.
 * @param {HttpSource} network
 * @param {{ warn: (error: LamellaError) => void, sum: string | undefined }} options
 * @returns {Source}
 */
function notKept(network, { warn, sum = network.version.sha256 }) {
  if (!sum) return network;
  const note = { url: network.name, size: network.size, complete: false, time: Date.now() };
  return new CachedSource(note, { drawer: null, half: null, network, release() {}, sha256: sum, warn });
}

/** @param {() => void} release */
function once(release) {
  let done = false;
  return () => {
    if (!done) release();
    done = true;
  };
}

/**
 * Is the file on the server the one that the note is about? Where the server does not say what would tell, it is not.
 * @param {Note} note
 * @param {HttpSource} network
 */
function isSame(note, { size, version }) {
  if (size !== undefined && note.size !== undefined && size !== note.size) return false;
  if (note.etag || version.etag) return note.etag === version.etag;
  return Boolean(note.modified) && note.modified === version.modified;
}

/**
 * Hugging Face names the sum where it sends on to where the file lies. Browsers do not show it.
 * @param {string} url
 * @param {HttpSource} network
 * @param {{ signal: AbortSignal | null, request: RequestInit }} options
 * @returns {Promise<string | undefined>}
 */
async function linkedSum(url, { version }, { signal, request }) {
  if (!isNode || !version.redirected) return undefined;
  const response = await fetch(url, { ...request, method: 'HEAD', redirect: 'manual', signal }).catch(() => null);
  signal?.throwIfAborted();
  return response ? versionOf(response).sha256 : undefined;
}

/**
 * @param {Shelf} shelf
 * @param {number} bytes
 */
async function checkRoom(shelf, bytes) {
  const room = await shelf.room().catch(() => undefined);
  if (room !== undefined && bytes > room) throw new LamellaError('cache', `${bytes} bytes are needed, ${Math.round(room)} are free`);
}

/**
 * @param {{ folder?: string }} options
 * @returns {Promise<import('../cache.js').Kept[]>}
 */
export async function list(options) {
  const drawers = await (await openShelf(checked(options))).drawers();
  const found = await Promise.all(drawers.map(async (drawer) => {
    const note = await drawer.note();
    return note && { url: note.url, bytes: await drawer.bytes(), size: note.size, complete: note.complete, sha256: note.sha256, time: new Date(note.time) };
  }));
  return found.filter((kept) => kept !== null).sort((a, b) => Number(a.time) - Number(b.time));
}

/**
 * @param {string | undefined} url undefined: all.
 * @param {{ folder?: string }} options
 */
export async function clear(url, options) {
  const shelf = await openShelf(checked(options));
  const wanted = url && keyOf(new URL(url, globalThis.location?.href).href);
  for (const drawer of wanted ? [shelf.drawer(wanted.key, wanted.address)] : await shelf.drawers()) await drawer.remove();
}
