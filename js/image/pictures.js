/** Pictures as the inputs of networks, prepared as CLIP's reference code prepares them. */
import { abortSignal, badArgument, boolean, integer, pair, show } from '../arguments.js';
import { LamellaError } from '../errors.js';
import { CLIP_MEAN, CLIP_STD } from './clip.js';
import { find } from './find.js';
import { prepare } from './prepare.js';

/** @typedef {import('./find.js').ImageSource} ImageSource */
/** @typedef {import('./resample.js').Pixels} Pixels */
/** @typedef {import('../image.js').ImageOptions} ImageOptions */
/** @typedef {Required<ImageOptions>} Settings */

/** @type {Settings} */
const DEFAULTS = {
  size: 224, resize: 'shortest', crop: true, interpolation: 'bicubic', mean: CLIP_MEAN, std: CLIP_STD, orientation: 'from-image', worker: false, signal: null,
};

/**
 * What image.toTensor makes a Tensor of.
 * @param {ImageSource | readonly ImageSource[]} source
 * @param {ImageOptions} [options]
 * @returns {Promise<{ data: Float32Array, shape: number[] }>}
 */
export async function normalised(source, options = {}) {
  const settings = checked(options);
  const list = /** @type {readonly ImageSource[]} */ (Array.isArray(source) ? source : [source]);
  if (!list.length) throw badArgument('image.toTensor: source', 'a picture or a list of pictures', source);
  /** @type {Pixels[]} */
  const pictures = [];
  for (const one of list) pictures.push(await prepared(one, settings));
  const [{ width, height }] = pictures;
  const tables = [0, 1, 2].map((c) => normalisation(settings.mean[c], settings.std[c]));
  const stride = 3 * height * width;
  const data = new Float32Array(pictures.length * stride);
  pictures.forEach((picture, i) => {
    if (picture.width !== width || picture.height !== height) {
      throw new LamellaError('image', `image.toTensor: pictures of one batch must be equally large: number 0 is ${width} x ${height}, number ${i} ${picture.width} x ${picture.height}`);
    }
    tables.forEach((table, c) => spread(picture, c, table, data.subarray(i * stride + c * height * width)));
  });
  return { data, shape: [pictures.length, 3, height, width] };
}

/**
 * @param {ImageSource} source
 * @param {Settings} settings
 * @returns {Promise<Pixels>}
 */
async function prepared(source, settings) {
  const found = await find(source, settings);
  if (settings.worker) {
    const done = await (await import('./apart.js')).prepareApart(found, settings);
    if (done) return done;
  }
  // What went to a worker that could do nothing with it is gone.
  const pixels = await prepare(settings.worker ? await find(source, settings) : found, settings);
  settings.signal?.throwIfAborted();
  return pixels;
}

/**
 * @param {ImageOptions} options
 * @returns {Settings}
 */
function checked(options) {
  for (const name of Object.keys(options)) {
    if (!Object.hasOwn(DEFAULTS, name)) throw new LamellaError('argument', `image.toTensor: there is no option ${show(name)}; known: ${Object.keys(DEFAULTS).join(', ')}`);
  }
  const given = Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
  const settings = /** @type {Settings} */ ({ ...DEFAULTS, ...given });
  const { size, resize, crop, mean, std, orientation, worker, signal } = settings;
  abortSignal('image.toTensor: signal', signal);
  if (!['shortest', 'squash', 'none'].includes(resize)) throw badArgument('image.toTensor: resize', "'shortest', 'squash' or 'none'", resize);
  if (!['from-image', 'none'].includes(orientation)) throw badArgument('image.toTensor: orientation', "'from-image' or 'none'", orientation);
  boolean('image.toTensor: worker', worker);
  pair('image.toTensor: size', size, 1);
  if (typeof crop === 'number') integer('image.toTensor: crop', crop, 1);
  else boolean('image.toTensor: crop', crop);
  for (const [name, values] of Object.entries({ mean, std })) {
    if (!Array.isArray(values) || values.length !== 3 || !values.every(Number.isFinite)) throw badArgument(`image.toTensor: ${name}`, 'three numbers', values);
  }
  if (std.includes(0)) throw badArgument('image.toTensor: std', 'numbers other than 0', std);
  return settings;
}

/**
 * What becomes of each of the 256 values, in f32 step by step as PyTorch computes it.
 * @param {number} mean
 * @param {number} std
 * @returns {Float32Array}
 */
function normalisation(mean, std) {
  const { fround } = Math;
  return Float32Array.from({ length: 256 }, (_, value) => fround(fround(value / 255) - fround(mean)) / fround(std));
}

/**
 * One channel of a picture, each value by the table.
 * @param {Pixels} picture RGB, alpha not used.
 * @param {number} c
 * @param {Float32Array} table
 * @param {Float32Array} y
 */
function spread({ data, width, height, channels }, c, table, y) {
  for (let i = 0, at = c; i < width * height; i++, at += channels) y[i] = table[data[at]];
}
