/** Pictures as the inputs of networks. What decodes and resizes them is fetched with the first picture. */
import { Tensor } from './tensor.js';

export { CLIP_MEAN, CLIP_STD } from './image/clip.js';

/** @typedef {import('./image/find.js').ImageSource} ImageSource */
/** @typedef {import('./image/resample.js').Pixels} Pixels */
/** @typedef {import('./image/resample.js').Interpolation} Interpolation */
/**
 * @typedef {object} ImageOptions
 * @property {number | readonly [number, number]} [size] Side in pixels, or [height, width]. Default 224.
 * @property {'shortest' | 'squash' | 'none'} [resize] 'shortest' (default): the proportion is kept, and the shorter side becomes `size`; of [height, width]
 *   that side which leaves the other long enough. 'squash': both sides become `size`. 'none': the picture stays as large as it is, `size` and `crop`
 *   are not used.
 * @property {boolean | number} [crop] After 'shortest': true (default) cuts the middle of `size` out, a number a square of that side; false keeps all.
 * @property {Interpolation} [interpolation] 'bicubic' (default), 'bilinear', 'lanczos', 'hamming', 'box': all with antialias; 'nearest'.
 * @property {readonly number[]} [mean] Three numbers, subtracted from red, green and blue in 0..1; CLIP's.
 * @property {readonly number[]} [std] Three numbers to divide by after that; CLIP's.
 * @property {'from-image' | 'none'} [orientation] 'from-image' (default) turns a photograph upright as its EXIF data says; Pillow, and so CLIP's training,
 *   does not: 'none'. In browsers 'none' is for JPEG; it does nothing to pictures that are decoded already.
 * @property {boolean} [worker] Decode and resize in a worker that all pictures share, so that a large photograph does not stop the page (default false; a model
 *   that runs in a worker does so). Where there can be none (a content security policy without worker-src blob:, an SVG, a page of a worker's) it is done here.
 * @property {AbortSignal | null} [signal]
 */

/**
 * A picture as a Tensor [1, 3, height, width]; a list of pictures as [n, 3, height, width].
 *
 * What open_clip does at evaluation: Pillow's bicubic resize with antialias on 8-bit pixels (the very bytes of Pillow 13), centre crop, RGB
 * without alpha, / 255, mean and std. Decoding is the browser's or sharp's: lossless formats give the same pixels everywhere, JPEG decoders may
 * differ by a step or two. Pillow resizes pictures with a palette (GIF, some PNG) by 'nearest'; here they are RGB like all others.
 *
 * @param {ImageSource | readonly ImageSource[]} source A URL, a Blob or File, encoded bytes, an image, canvas or video element, ImageBitmap, ImageData,
 *   VideoFrame, or { data, width, height, channels }. In Node: a path, a URL, a Blob, encoded bytes (these four through the optional package
 *   sharp), or { data, width, height, channels }.
 * @param {ImageOptions} [options]
 * @returns {Promise<Tensor>}
 * @throws {LamellaError} 'image' when the source is no picture or cannot be read, 'sharp-missing', 'argument'.
 */
export async function toTensor(source, options) {
  const { normalised } = await import('./image/pictures.js');
  const { data, shape } = await normalised(source, options);
  return new Tensor(data, shape);
}
