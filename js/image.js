/** Pictures as the inputs of networks, prepared as CLIP's reference code prepares them. */
import { badArgument, integer, show } from './arguments.js';
import { LamellaError } from './errors.js';
import { pixelsOf } from './image/pixels.js';
import { crop as cropped, resize as resized } from './image/resample.js';
import { Tensor } from './tensor.js';

/** @typedef {import('./image/pixels.js').ImageSource} ImageSource */
/** @typedef {import('./image/resample.js').Pixels} Pixels */
/** @typedef {import('./image/resample.js').Interpolation} Interpolation */
/**
 * @typedef {object} ImageOptions
 * @property {number | [number, number]} [size] Side of the result, or [height, width]; 224.
 * @property {'shortest' | 'squash' | 'none'} [resize] 'shortest' (default): the shorter side becomes the size, the longer keeps the proportion; 'squash': both
 *   sides become the size; 'none': the picture's own size, `size` is not used.
 * @property {boolean} [crop] After 'shortest', cut the middle out (default true); false: the longer side stays longer.
 * @property {Interpolation} [interpolation] 'bicubic'; also 'bilinear', 'lanczos', 'hamming', 'box', 'nearest'; all with antialias but the last.
 * @property {readonly number[]} [mean] Subtracted after division by 255, per channel; CLIP's.
 * @property {readonly number[]} [std] Divided by after that; CLIP's.
 * @property {'from-image' | 'none'} [orientation] 'from-image' (default) turns a photograph upright as its EXIF data says; Pillow, and so CLIP's training,
 *   does not: 'none'. Of no effect on pictures that are decoded already.
 * @property {AbortSignal | null} [signal]
 */

/** CLIP's normalisation. */
export const CLIP_MEAN = Object.freeze([0.48145466, 0.4578275, 0.40821073]);
export const CLIP_STD = Object.freeze([0.26862954, 0.26130258, 0.27577711]);

/** Half to even, as Python's round. @param {number} x */
const round = (x) => (x % 1 === 0.5 && Math.floor(x) % 2 === 0 ? Math.floor(x) : Math.round(x));

/**
 * A picture as a Tensor [1, 3, height, width]; a list of pictures as [n, 3, height, width].
 *
 * What open_clip does at evaluation: Pillow's bicubic resize with antialias on 8-bit pixels, centre crop, RGB without alpha, / 255,
 * mean and std. The resize gives Pillow's bytes exactly. Decoding is the browser's or sharp's: lossless formats give the same pixels
 * everywhere; JPEG decoders differ in the last bit, and a browser's canvas may round the colours of half-transparent pixels.
 * @param {ImageSource | readonly ImageSource[]} source A URL, a Blob or File, an image, canvas or video element, ImageBitmap, ImageData, VideoFrame,
 *   encoded bytes or a path (in Node through the optional package sharp), or { data, width, height, channels }.
 * @param {ImageOptions} [options]
 * @returns {Promise<Tensor>}
 * @throws {LamellaError} 'image' when the source is no picture or cannot be read, 'sharp-missing', 'argument'.
 */
export async function toTensor(source, options = {}) {
  if (!Array.isArray(source)) return normalise(await prepared(/** @type {ImageSource} */ (source), options), options);
  if (!source.length) throw badArgument('image.toTensor: source', 'a picture or a list of them', source);
  const tensors = [];
  for (const one of source) tensors.push(normalise(await prepared(one, options), options));
  const [, ...shape] = tensors[0].shape;
  const stride = shape.reduce((n, size) => n * size, 1);
  const data = new Float32Array(tensors.length * stride);
  for (const [i, tensor] of tensors.entries()) {
    if (tensor.shape.slice(1).join() !== shape.join()) throw new LamellaError('image', `image: pictures of one batch should be equally large, got ${shape.slice(1).join(' x ')} and ${tensor.shape.slice(2).join(' x ')}`);
    data.set(/** @type {Float32Array} */ (tensor.data), i * stride);
  }
  return new Tensor(data, [tensors.length, ...shape]);
}

/**
 * The same, up to and without the normalisation: the 8-bit pixels that the network will see.
 * @param {ImageSource} source
 * @param {ImageOptions} [options]
 * @returns {Promise<Pixels>} Three channels.
 */
export async function prepared(source, options = {}) {
  const { resize = 'shortest', crop = true, interpolation = 'bicubic', orientation = 'from-image', signal = null } = options;
  const [height, width] = sizes(options.size ?? 224);
  if (!['shortest', 'squash', 'none'].includes(resize)) throw badArgument('image.toTensor: resize', "'shortest', 'squash' or 'none'", resize);
  if (!['from-image', 'none'].includes(orientation)) throw badArgument('image.toTensor: orientation', "'from-image' or 'none'", orientation);
  const pixels = await pixelsOf(source, { orientation, signal });
  if (resize === 'none') return rgb(pixels);
  if (resize === 'squash') return rgb(resized(pixels, width, height, interpolation));
  const short = Math.min(height, width);
  if (height !== width && crop === false) throw badArgument('image.toTensor: size', "one number when crop is false", options.size);
  const wide = pixels.width > pixels.height;
  const long = Math.trunc(short * Math.max(pixels.width, pixels.height) / Math.min(pixels.width, pixels.height));
  const whole = { width: wide ? long : short, height: wide ? short : long };
  if (!crop) return rgb(resized(pixels, whole.width, whole.height, interpolation));
  if (height > whole.height || width > whole.width) throw new LamellaError('image', `image: a crop of ${width} x ${height} does not fit into the resized ${whole.width} x ${whole.height}`);
  const box = { left: round((whole.width - width) / 2), top: round((whole.height - height) / 2), width, height };
  return rgb(resized(pixels, whole.width, whole.height, interpolation, box));
}

/** @param {unknown} size @returns {[number, number]} */
function sizes(size) {
  if (Array.isArray(size) && size.length === 2) return [integer('image.toTensor: size[0]', size[0], 1), integer('image.toTensor: size[1]', size[1], 1)];
  const side = integer('image.toTensor: size', size, 1);
  return [side, side];
}

/** Three channels: grey repeated, alpha dropped. @param {Pixels} pixels @returns {Pixels} */
function rgb({ data, width, height, channels }) {
  if (channels === 3) return { data, width, height, channels };
  const y = new Uint8Array(width * height * 3);
  const grey = channels < 3;
  for (let i = 0; i < width * height; i++) {
    for (let c = 0; c < 3; c++) y[i * 3 + c] = data[i * channels + (grey ? 0 : c)];
  }
  return { data: y, width, height, channels: 3 };
}

/** @param {Pixels} pixels @param {ImageOptions} options @returns {Tensor} */
function normalise({ data, width, height }, { mean = CLIP_MEAN, std = CLIP_STD }) {
  for (const [name, values] of Object.entries({ mean, std })) {
    if (values.length !== 3 || !values.every(Number.isFinite)) throw badArgument(`image.toTensor: ${name}`, 'three numbers', values);
  }
  if (std.includes(0)) throw new LamellaError('argument', `image.toTensor: std: expected numbers other than 0, got ${show(std)}`);
  const y = new Float32Array(3 * width * height);
  for (let c = 0; c < 3; c++) {
    // In f32, step by step, as PyTorch does it: 256 values, so a table.
    const table = Float32Array.from({ length: 256 }, (_, value) => Math.fround(Math.fround(Math.fround(value / 255) - Math.fround(mean[c])) / Math.fround(std[c])));
    for (let i = 0, at = c; i < width * height; i++, at += 3) y[c * width * height + i] = table[data[at]];
  }
  return new Tensor(y, [1, 3, height, width]);
}

export { cropped as crop, resized as resize };
