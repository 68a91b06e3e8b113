/** Pixels of whatever holds a picture, in browsers and in Node. */
import { LamellaError } from '../errors.js';

/** @typedef {import('./resample.js').Pixels} Pixels */
/**
 * @typedef {string | URL | Blob | ArrayBuffer | ArrayBufferView | ImageData | ImageBitmap | HTMLImageElement | SVGImageElement | HTMLCanvasElement | OffscreenCanvas | HTMLVideoElement | VideoFrame | { data: Uint8Array | Uint8ClampedArray, width: number, height: number, channels?: number }} ImageSource
 */
/** The package's name, put together so that no bundler takes it for a dependency: few pages have it installed. */
const SHARP = ['sha', 'rp'].join('');

/** @typedef {{ orientation?: 'from-image' | 'none', signal?: AbortSignal | null }} DecodeOptions */

/** @param {string} name @param {unknown} value */
const is = (name, value) => typeof (/** @type {any} */ (globalThis))[name] === 'function' && value instanceof (/** @type {any} */ (globalThis))[name];
/** @param {string} message @param {unknown} [cause] */
const refuse = (message, cause) => new LamellaError('image', `image: ${message}`, { cause });
const inBrowser = () => typeof createImageBitmap === 'function';

/**
 * @param {ImageSource} source
 * @param {DecodeOptions} [options]
 * @returns {Promise<Pixels>} Channels 1 (grey), 2 (grey, alpha), 3 or 4.
 * @throws {LamellaError} 'image' when it is no picture or cannot be read; 'sharp-missing' in Node without sharp.
 */
export async function pixelsOf(source, { orientation = 'from-image', signal = null } = {}) {
  signal?.throwIfAborted();
  const raw = rawPixels(source);
  if (raw) return raw;
  if (source === null || source === undefined || !['string', 'object'].includes(typeof source)) throw refuse(`expected a picture, got ${source === null ? 'null' : typeof source}`);
  const encoded = await encodedBytes(source, signal);
  signal?.throwIfAborted();
  if (!inBrowser()) {
    if (encoded === null) throw refuse(`expected a path, a URL, encoded bytes or { data, width, height }, got ${source.constructor?.name ?? 'an object'}`);
    return decodeWithSharp(encoded, orientation);
  }
  if (encoded !== null) return decodeInBrowser(/** @type {Blob} */ (encoded), orientation);
  return drawn(source);
}

/** Pixels that are given as they are: ImageData and the like. @param {any} source @returns {Pixels | null} */
function rawPixels(source) {
  const { data, width, height } = source ?? {};
  if (!(data instanceof Uint8Array || data instanceof Uint8ClampedArray) || is('VideoFrame', source)) return null;
  if (![width, height].every((size) => Number.isInteger(size) && size > 0)) throw refuse(`expected a width and a height above 0, got ${width} x ${height}`);
  const channels = source.channels ?? data.length / (width * height);
  if (![1, 2, 3, 4].includes(channels) || data.length !== width * height * channels) throw refuse(`${width} x ${height} pixels with ${channels} channels do not take ${data.length} bytes`);
  return { data, width, height, channels };
}

/**
 * The file's bytes, if that is what the source is; null for something that is a picture already.
 * @param {any} source
 * @param {AbortSignal | null} signal
 * @returns {Promise<Blob | Uint8Array | string | null>} In Node bytes or a path, in browsers a Blob.
 */
async function encodedBytes(source, signal) {
  const bytes = source instanceof ArrayBuffer ? new Uint8Array(source) : ArrayBuffer.isView(source) ? new Uint8Array(source.buffer, source.byteOffset, source.byteLength) : null;
  if (bytes) return inBrowser() ? new Blob([/** @type {any} */ (bytes)]) : bytes;
  if (is('Blob', source)) return inBrowser() ? source : new Uint8Array(await source.arrayBuffer());
  if (typeof source !== 'string' && !(source instanceof URL)) return null;
  const address = String(source);
  if (!inBrowser() && !/^(https?|data|blob):/i.test(address)) return source instanceof URL || address.startsWith('file:') ? decodeURIComponent(new URL(address).pathname) : address;
  const response = await fetch(address, { signal }).catch((cause) => {
    signal?.throwIfAborted();
    throw refuse(`${address}: no answer: ${cause.message}`, cause);
  });
  if (!response.ok) throw refuse(`${address}: the server answered ${response.status}`);
  return inBrowser() ? response.blob() : new Uint8Array(await response.arrayBuffer());
}

// ---- browsers -------------------------------------------------------------------------------------------------------

/** @param {Blob} blob @param {'from-image' | 'none'} orientation @returns {Promise<Pixels>} */
async function decodeInBrowser(blob, orientation) {
  // Neither colour management nor premultiplication: Pillow does neither.
  const options = { imageOrientation: orientation, premultiplyAlpha: 'none', colorSpaceConversion: 'none' };
  const bitmap = await createImageBitmap(blob, /** @type {any} */ (options)).catch((cause) => decodeAsElement(blob, cause));
  try {
    return await drawn(bitmap);
  } finally {
    /** @type {any} */ (bitmap).close?.();
  }
}

/** What createImageBitmap does not take, SVG above all, an image element may. @param {Blob} blob @param {Error} cause */
async function decodeAsElement(blob, cause) {
  const bad = refuse(`the bytes are no picture that this browser knows${blob.type ? ` (${blob.type})` : ''}`, cause);
  if (typeof document === 'undefined') throw bad;
  const element = new Image();
  element.src = URL.createObjectURL(blob);
  try {
    await element.decode();
    return element;
  } catch {
    throw bad;
  } finally {
    URL.revokeObjectURL(element.src);
  }
}

/** Width and height of anything that a canvas can draw. @param {any} source @returns {[number, number]} */
function sizeOf(source) {
  if (is('HTMLImageElement', source)) return [source.naturalWidth, source.naturalHeight];
  if (is('HTMLVideoElement', source)) return [source.videoWidth, source.videoHeight];
  if (is('SVGImageElement', source)) return [source.width.baseVal.value, source.height.baseVal.value];
  if (is('VideoFrame', source)) return [source.displayWidth, source.displayHeight];
  return [source.width, source.height];
}

/** @param {any} source @returns {Promise<Pixels>} */
async function drawn(source) {
  const known = ['ImageBitmap', 'HTMLImageElement', 'SVGImageElement', 'HTMLCanvasElement', 'OffscreenCanvas', 'HTMLVideoElement', 'VideoFrame'];
  if (!known.some((name) => is(name, source))) throw refuse(`expected a picture, got ${source.constructor?.name ?? 'an object'}`);
  if (is('HTMLImageElement', source)) {
    await source.decode().catch((/** @type {Error} */ cause) => { throw refuse(`the image ${source.currentSrc || source.src} did not load`, cause); });
  }
  const [width, height] = sizeOf(source).map(Math.round);
  if (!(width > 0 && height > 0)) throw refuse(`the picture has no size yet (${width} x ${height})`);
  const canvas = typeof OffscreenCanvas === 'function' ? new OffscreenCanvas(width, height) : Object.assign(document.createElement('canvas'), { width, height });
  const context = /** @type {OffscreenCanvasRenderingContext2D | null} */ (canvas.getContext('2d', { willReadFrequently: true }));
  if (!context) throw refuse('this browser gives no canvas to read pixels with');
  try {
    context.drawImage(source, 0, 0, width, height);
    return { data: context.getImageData(0, 0, width, height).data, width, height, channels: 4 };
  } catch (cause) {
    throw refuse(`the pixels cannot be read: ${/** @type {Error} */ (cause).message}`, cause);
  }
}

// ---- Node -----------------------------------------------------------------------------------------------------------

/** @param {any} encoded @param {'from-image' | 'none'} orientation @returns {Promise<Pixels>} */
async function decodeWithSharp(encoded, orientation) {
  const { default: sharp } = await import(/* webpackIgnore: true */ /* @vite-ignore */ SHARP).catch((cause) => {
    throw new LamellaError('sharp-missing', 'image: decoding pictures in Node needs the package sharp: npm install sharp', { cause });
  });
  try {
    let picture = sharp(encoded, { ignoreIcc: true });
    if (orientation === 'from-image') picture = picture.rotate();
    const { data, info } = await picture.raw({ depth: 'uchar' }).toBuffer({ resolveWithObject: true });
    return { data, width: info.width, height: info.height, channels: info.channels };
  } catch (cause) {
    throw refuse(`${typeof encoded === 'string' ? encoded : 'the bytes'}: ${/** @type {Error} */ (cause).message}`, cause);
  }
}
