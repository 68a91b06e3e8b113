/** What there is of whatever is or holds a picture: its file, its pixels. */
import { show } from '../arguments.js';
import { LamellaError } from '../errors.js';
import { hasCanvas, nodeModule } from '../platform.js';
import { readElement } from './browser.js';
import { decodeInNode } from './node.js';

/** @typedef {import('./resample.js').Pixels} Pixels */
/** @typedef {import('./prepare.js').Found} Found */
/** @typedef {{ data: Uint8Array | Uint8ClampedArray, width: number, height: number, channels?: number }} RawPixels Channels: 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha; default as many as there are. */
/**
 * @typedef {string | URL | Blob | ArrayBufferLike | ArrayBufferView | ImageData | ImageBitmap | HTMLImageElement | SVGImageElement | HTMLCanvasElement | OffscreenCanvas | HTMLVideoElement | VideoFrame | RawPixels} ImageSource
 */
/** @typedef {{ orientation?: 'from-image' | 'none', signal?: AbortSignal | null }} DecodeOptions */

/**
 * @param {ImageSource} source
 * @param {DecodeOptions} [options]
 * @returns {Promise<Found>} Alpha, if any, not multiplied into the colours.
 * @throws {LamellaError} 'image' when it is no picture or cannot be read; 'sharp-missing' in Node without sharp.
 */
export async function find(source, { orientation = 'from-image', signal = null } = {}) {
  signal?.throwIfAborted();
  const raw = rawPixels(source);
  if (raw) return { pixels: raw, own: false };
  const encoded = await encodedFile(source, signal);
  if (encoded === null) return readElement(source, { orientation, signal }, (address) => find(address, { orientation, signal }));
  if (hasCanvas) return { file: /** @type {Blob} */ (encoded) };
  const pixels = await decodeInNode(encoded, orientation);
  signal?.throwIfAborted();
  return { pixels, own: true };
}

/**
 * Pixels that are given as they are: ImageData and the like.
 * @param {any} source
 * @returns {Pixels | null}
 */
function rawPixels(source) {
  const { data, width, height, channels } = source ?? {};
  if (data === undefined || width === undefined || height === undefined) return null;
  if (!(data instanceof Uint8Array || data instanceof Uint8ClampedArray)) throw new LamellaError('image', `image: data: expected bytes, 0 to 255, in a Uint8Array or Uint8ClampedArray, got ${show(data)}`);
  if (![width, height].every((size) => Number.isInteger(size) && size > 0)) throw new LamellaError('image', `image: expected a width and a height above 0, got ${width} x ${height}`);
  const found = channels ?? data.length / (width * height);
  if (![1, 2, 3, 4].includes(found) || data.length !== width * height * found) {
    const expected = channels === undefined ? '1, 2, 3 or 4 channels' : `${channels} channels`;
    throw new LamellaError('image', `image: ${width} x ${height} pixels with ${expected} do not take ${data.length} bytes`);
  }
  return { data, width, height, channels: found };
}

/**
 * The file with the picture, where the source is or names one.
 * @param {any} source
 * @param {AbortSignal | null} signal
 * @returns {Promise<Blob | Uint8Array | string | null>} In browsers a Blob, in Node bytes or a path; null for what is no file.
 */
async function encodedFile(source, signal) {
  if (ArrayBuffer.isView(source)) return asFile(new Uint8Array(source.buffer, source.byteOffset, source.byteLength));
  switch (Object.prototype.toString.call(source)) {
    case '[object ArrayBuffer]': case '[object SharedArrayBuffer]': return asFile(new Uint8Array(source));
    case '[object Blob]': case '[object File]': return hasCanvas ? source : new Uint8Array(await source.arrayBuffer());
    default:
  }
  if (typeof source !== 'string' && !(source instanceof URL)) return null;
  const address = String(source);
  if (!hasCanvas && address.startsWith('file:')) return nodeModule('node:url').fileURLToPath(address);
  if (!hasCanvas && !/^(https?|data|blob):/i.test(address)) return address;
  const response = await fetch(address, { signal }).catch((cause) => {
    signal?.throwIfAborted();
    const hint = hasCanvas ? ' (no connection, or that server does not let pages of other sites read it: CORS)' : '';
    throw new LamellaError('image', `image: ${address.slice(0, 200)}: cannot be fetched: ${cause.message}${hint}`, { path: address, cause });
  });
  if (!response.ok) {
    response.body?.cancel().catch(() => {});
    throw new LamellaError('image', `image: ${address}: the server answered ${`${response.status} ${response.statusText}`.trim()}`, { path: address });
  }
  return hasCanvas ? response.blob() : new Uint8Array(await response.arrayBuffer());
}

/** @param {Uint8Array} bytes */
const asFile = (bytes) => (hasCanvas ? new Blob([/** @type {Uint8Array<ArrayBuffer>} */ (bytes)]) : bytes);
