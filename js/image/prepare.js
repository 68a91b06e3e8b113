/** From what a picture was found as to the pixels that are wanted of it: what can be done in a worker. */
import { pair } from '../arguments.js';
import { LamellaError } from '../errors.js';
import { decodeInBrowser, drawBitmap } from './browser.js';
import { resize as resized } from './resample.js';

/** @typedef {import('./resample.js').Pixels} Pixels */
/** @typedef {import('./pictures.js').Settings} Settings */
/**
 * What there is of a picture when it is here: pixels (`own`: nobody else has them), or, in browsers, a file or a bitmap that nobody else has.
 * @typedef {{ pixels: Pixels, own: boolean } | { file: Blob } | { bitmap: ImageBitmap }} Found
 */

/**
 * @param {Found} found
 * @param {Settings} settings
 * @returns {Promise<Pixels>} Decoded, resized and cropped.
 */
export async function prepare(found, settings) {
  return fit(await decode(found, settings), settings);
}

/**
 * @param {Found} found
 * @param {Pick<Settings, 'orientation'>} settings
 * @returns {Promise<Pixels>}
 */
export async function decode(found, { orientation }) {
  if ('pixels' in found) return found.pixels;
  return 'file' in found ? decodeInBrowser(found.file, orientation) : drawBitmap(found.bitmap);
}

/**
 * @param {Pixels} picture
 * @param {Settings} settings
 * @returns {Pixels} Resized and cropped.
 */
function fit(picture, { size, resize, crop, interpolation }) {
  const { width, height } = picture;
  if (resize === 'none') return resized(picture, width, height, interpolation);
  const [h, w] = pair('image.toTensor: size', size, 1);
  if (resize === 'squash') return resized(picture, w, h, interpolation);
  // The division last, as in torchvision, because it rounds.
  const isTall = width * h <= w * height;
  const newWidth = isTall ? w : Math.max(w, Math.trunc(h * width / height));
  const newHeight = isTall ? Math.max(h, Math.trunc(w * height / width)) : h;
  if (crop === false) return resized(picture, newWidth, newHeight, interpolation);
  const [cropHeight, cropWidth] = crop === true ? [h, w] : [crop, crop];
  if (cropHeight > newHeight || cropWidth > newWidth) throw new LamellaError('argument', `image.toTensor: crop: expected at most ${Math.min(newWidth, newHeight)}, got ${crop}`);
  const left = halfToEven((newWidth - cropWidth) / 2);
  const top = halfToEven((newHeight - cropHeight) / 2);
  return resized(picture, newWidth, newHeight, interpolation, { left, top, width: cropWidth, height: cropHeight });
}

/**
 * Python's round.
 * @param {number} x A multiple of 0.5.
 */
function halfToEven(x) {
  const down = Math.floor(x);
  return x === down || down % 2 === 0 ? down : down + 1;
}
