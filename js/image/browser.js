/** Pictures in browsers and their workers. */
import { abortable } from '../abortable.js';
import { show } from '../arguments.js';
import { LamellaError } from '../errors.js';
import { hasCanvas } from '../platform.js';
import { withoutOrientation } from './exif.js';

/** @typedef {import('./resample.js').Pixels} Pixels */
/** @typedef {import('./prepare.js').Found} Found */
/** @typedef {'from-image' | 'none'} Orientation */

/** Neither colour management nor multiplication by alpha: Pillow does neither. @type {ImageBitmapOptions} */
const AS_STORED = { premultiplyAlpha: 'none', colorSpaceConversion: 'none' };
/** Pixels of the largest canvas that Safari on phones has. */
const MAX_AREA = 1 << 24;

/**
 * @param {Blob} file
 * @param {Orientation} orientation
 * @returns {Promise<Pixels>}
 */
export async function decodeInBrowser(file, orientation) {
  const upright = orientation === 'none' ? await withoutOrientation(file) : file;
  if (/^image\/svg/.test(file.type)) return decodeAsElement(upright);
  const bitmap = await createImageBitmap(upright, AS_STORED).catch(() => null);
  return bitmap ? drawBitmap(bitmap) : decodeAsElement(upright);
}

/** @param {ImageBitmap} bitmap It is closed. @returns {Pixels} */
export function drawBitmap(bitmap) {
  try {
    return draw(bitmap, bitmap.width, bitmap.height);
  } finally {
    bitmap.close();
  }
}

/**
 * What createImageBitmap does not take, SVG above all, an image element may.
 * @param {Blob} file
 */
async function decodeAsElement(file) {
  const kind = `${file.size} bytes${file.type ? ` of type ${file.type}` : ''}`;
  if (typeof Image !== 'function') throw new LamellaError('image', `image: ${kind} are no picture that this worker can decode; SVG needs a page`);
  const element = new Image();
  const url = URL.createObjectURL(file);
  element.src = url;
  try {
    await element.decode();
    return draw(element, ...imageSize(element));
  } catch (cause) {
    if (cause instanceof LamellaError) throw cause;
    throw new LamellaError('image', `image: ${kind} are no picture that this browser knows`, { cause });
  } finally {
    URL.revokeObjectURL(url);
  }
}

/**
 * @param {any} source An element or object that a canvas can draw.
 * @param {{ orientation: Orientation, signal: AbortSignal | null }} options
 * @param {(address: string) => Promise<Found>} fetched What lies at an address.
 * @returns {Promise<Found>}
 */
export async function readElement(source, { orientation, signal }, fetched) {
  const kind = hasCanvas ? Object.prototype.toString.call(source).slice(8, -1) : '';
  switch (kind) {
    case 'HTMLImageElement': return orientation === 'none' ? fetched(source.currentSrc || source.src) : readImage(source);
    case 'SVGImageElement': return fetched(new URL(source.href.baseVal, source.baseURI).href);
    case 'HTMLVideoElement':
      await abortable(hasFrame(source), signal);
      return drawn(source, source.videoWidth, source.videoHeight);
    case 'VideoFrame': return drawn(source, source.displayWidth, source.displayHeight);
    case 'HTMLCanvasElement': case 'OffscreenCanvas': case 'ImageBitmap': return drawn(source, source.width, source.height);
    default:
  }
  const elements = hasCanvas ? 'an image, canvas or video element, an ImageBitmap, ImageData or VideoFrame, ' : 'a path, ';
  throw new LamellaError('image', `image: expected a URL, ${elements}encoded bytes, or { data, width, height }, got ${show(source)}`);
}

/** @param {CanvasImageSource} source @param {number} width @param {number} height @returns {Found} */
const drawn = (source, width, height) => ({ pixels: draw(source, width, height), own: true });

/** @param {HTMLImageElement} element @returns {Promise<Found>} */
async function readImage(element) {
  await element.decode().catch((cause) => {
    throw new LamellaError('image', `image: the image element did not load ${element.currentSrc || element.src || 'anything: it has no src'}`, { cause });
  });
  const bitmap = await createImageBitmap(element, AS_STORED).catch(() => null);   // not of an SVG without size
  return bitmap ? { bitmap } : drawn(element, ...imageSize(element));
}

/**
 * @param {HTMLImageElement} element
 * @returns {[number, number]}
 */
const imageSize = (element) => [element.naturalWidth || element.width, element.naturalHeight || element.height];

/**
 * Waits until a video has a picture.
 * @param {HTMLVideoElement} video
 * @returns {Promise<void>}
 */
function hasFrame(video) {
  if (video.readyState >= video.HAVE_CURRENT_DATA) return Promise.resolve();
  return new Promise((resolve, reject) => {
    const fail = () => reject(new LamellaError('image', `image: the video cannot be played: ${video.error?.message || video.currentSrc || 'it has no source'}`));
    if (video.error || video.networkState === video.NETWORK_EMPTY) return fail();
    video.addEventListener('error', fail, { once: true });
    return video.addEventListener('loadeddata', () => {
      video.removeEventListener('error', fail);
      resolve();
    }, { once: true });
  });
}

/**
 * Pixels by way of a canvas. It multiplies colours by alpha and divides them again; what comes of that multiplies to the same
 * numbers once more, which is what resizing does first.
 * @param {CanvasImageSource} source
 * @param {number} width
 * @param {number} height
 * @returns {Pixels}
 */
function draw(source, width, height) {
  if (!(width > 0 && height > 0)) throw new LamellaError('image', `image: the ${Object.prototype.toString.call(source).slice(8, -1)} has no picture: it is ${width} x ${height} pixels`);
  const strip = Math.max(1, Math.min(height, Math.floor(MAX_AREA / width)));
  const canvas = typeof OffscreenCanvas === 'function' ? new OffscreenCanvas(width, strip) : Object.assign(document.createElement('canvas'), { width, height: strip });
  const context = /** @type {OffscreenCanvasRenderingContext2D | null} */ (canvas.getContext('2d', { willReadFrequently: true }));
  if (!context) throw new LamellaError('image', `image: the browser gives no canvas of ${width} x ${strip} pixels to read with`);
  try {
    if (strip === height) {
      context.drawImage(source, 0, 0, width, height);
      return { data: context.getImageData(0, 0, width, height).data, width, height, channels: 4 };
    }
    const data = new Uint8ClampedArray(width * height * 4);
    for (let top = 0; top < height; top += strip) {
      context.clearRect(0, 0, width, strip);
      context.drawImage(source, 0, -top, width, height);
      data.set(context.getImageData(0, 0, width, Math.min(strip, height - top)).data, top * width * 4);
    }
    return { data, width, height, channels: 4 };
  } catch (cause) {
    const { name, message } = /** @type {Error} */ (cause);
    const hint = name === 'SecurityError' ? 'it comes from another site that does not let this page read it; load it with the crossorigin attribute, from a server that allows it' : message;
    throw new LamellaError('image', `image: the pixels cannot be read: ${hint}`, { cause });
  } finally {
    canvas.width = canvas.height = 0;   // Safari keeps the memory of canvases for long
  }
}
