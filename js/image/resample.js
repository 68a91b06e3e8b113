/**
 * Resizing as Pillow does it for 8-bit pictures, to the byte: a separable filter widened by the scale (antialias), weights in fixed point
 * with 22 bits, horizontal pass first, each pass rounded and clipped to 0..255.
 * Facts: Pillow's src/libImaging/Resample.c and Convert.c.
 */
import { LamellaError } from '../errors.js';

/** @typedef {{ data: Uint8Array | Uint8ClampedArray, width: number, height: number, channels: number }} Pixels Rows of interleaved channels. */
/** @typedef {{ left: number, top: number, width: number, height: number }} Box Part of the resized picture. */
/** @typedef {'nearest' | 'box' | 'bilinear' | 'hamming' | 'bicubic' | 'lanczos'} Interpolation */

/** @param {number} x */
const sinc = (x) => (x === 0 ? 1 : Math.sin(x * Math.PI) / (x * Math.PI));

/** Half width and value of each filter. @type {Record<string, { support: number, at: (x: number) => number }>} */
const FILTERS = {
  box: { support: 0.5, at: (x) => (x > -0.5 && x <= 0.5 ? 1 : 0) },
  bilinear: { support: 1, at: (x) => Math.max(0, 1 - Math.abs(x)) },
  hamming: {
    support: 1,
    at: (x) => {
      const d = Math.abs(x);
      return d === 0 ? 1 : d >= 1 ? 0 : (Math.sin(d * Math.PI) / (d * Math.PI)) * (0.54 + 0.46 * Math.cos(d * Math.PI));
    },
  },
  bicubic: {
    support: 2,
    at: (x) => {
      const d = Math.abs(x);
      const a = -0.5;
      if (d < 1) return ((a + 2) * d - (a + 3)) * d * d + 1;
      return d < 2 ? (((d - 5) * d + 8) * d - 4) * a : 0;
    },
  },
  lanczos: { support: 3, at: (x) => (x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0) },
};

const BITS = 22;
const HALF = 1 << (BITS - 1);

/** @param {number} sum */
const clip = (sum) => {
  const value = sum >> BITS;
  return value < 0 ? 0 : value > 255 ? 255 : value;
};

/**
 * For output positions [first, first + count): where each one's window begins, how long it is, and its weights.
 * @param {number} from Size of the input.
 * @param {number} to Size of the whole output.
 * @param {number} first
 * @param {number} count
 * @param {{ support: number, at: (x: number) => number }} filter
 */
function windows(from, to, first, count, { support, at }) {
  const scale = from / to;
  const stretch = Math.max(scale, 1);
  const reach = support * stretch;
  const most = Math.ceil(reach) * 2 + 1;
  const begin = new Int32Array(count);
  const length = new Int32Array(count);
  const weights = new Int32Array(count * most);
  const exact = new Float64Array(most);
  for (let i = 0; i < count; i++) {
    const centre = (first + i + 0.5) * scale;
    begin[i] = Math.max(0, Math.trunc(centre - reach + 0.5));
    length[i] = Math.min(from, Math.trunc(centre + reach + 0.5)) - begin[i];
    let sum = 0;
    for (let x = 0; x < length[i]; x++) sum += exact[x] = at((x + begin[i] - centre + 0.5) * (1 / stretch));
    for (let x = 0; x < length[i]; x++) {
      const weight = sum ? exact[x] / sum : exact[x];
      weights[i * most + x] = Math.trunc(weight * (1 << BITS) + (weight < 0 ? -0.5 : 0.5));
    }
  }
  return { begin, length, weights, most };
}

/**
 * Rows [top, top + rows) filtered along x.
 * @param {Pixels} from
 * @param {ReturnType<typeof windows>} w
 * @param {number} top
 * @param {number} rows
 * @returns {Pixels}
 */
function alongX({ data, width, channels }, { begin, length, weights, most }, top, rows) {
  const columns = begin.length;
  const y = new Uint8Array(rows * columns * channels);
  for (let row = 0, out = 0; row < rows; row++) {
    const line = (top + row) * width * channels;
    for (let i = 0; i < columns; i++) {
      const start = line + begin[i] * channels;
      const w = i * most;
      const n = length[i];
      for (let c = 0; c < channels; c++) {
        let sum = HALF;
        for (let k = 0, at = start + c; k < n; k++, at += channels) sum += Math.imul(data[at], weights[w + k]);
        y[out++] = clip(sum);
      }
    }
  }
  return { data: y, width: columns, height: rows, channels };
}

/**
 * All columns filtered along y; the input's row 0 is row `top` of the whole.
 * @param {Pixels} from
 * @param {ReturnType<typeof windows>} w
 * @param {number} top
 * @returns {Pixels}
 */
function alongY({ data, width, channels }, { begin, length, weights, most }, top) {
  const line = width * channels;
  const rows = begin.length;
  const y = new Uint8Array(rows * line);
  const sums = new Int32Array(line);
  for (let row = 0; row < rows; row++) {
    sums.fill(HALF);
    for (let k = 0; k < length[row]; k++) {
      const weight = weights[row * most + k];
      const at = (begin[row] - top + k) * line;
      for (let i = 0; i < line; i++) sums[i] += Math.imul(data[at + i], weight);
    }
    for (let i = 0; i < line; i++) y[row * line + i] = clip(sums[i]);
  }
  return { data: y, width, height: rows, channels };
}

/** @param {Pixels} from @param {Box} box @returns {Pixels} */
export function crop({ data, width, height, channels }, box) {
  if (box.left === 0 && box.top === 0 && box.width === width && box.height === height) return { data, width, height, channels };
  const line = box.width * channels;
  const y = new Uint8Array(box.height * line);
  for (let row = 0; row < box.height; row++) {
    const at = ((box.top + row) * width + box.left) * channels;
    y.set(data.subarray(at, at + line), row * line);
  }
  return { data: y, width: box.width, height: box.height, channels };
}

/** @param {Pixels} from @param {number} width @param {number} height @param {Box} box @returns {Pixels} */
function nearest(from, width, height, box) {
  const y = new Uint8Array(box.width * box.height * from.channels);
  let out = 0;
  for (let row = 0; row < box.height; row++) {
    const line = Math.floor((box.top + row + 0.5) * (from.height / height)) * from.width;
    for (let column = 0; column < box.width; column++) {
      const at = (line + Math.floor((box.left + column + 0.5) * (from.width / width))) * from.channels;
      for (let c = 0; c < from.channels; c++) y[out++] = from.data[at + c];
    }
  }
  return { data: y, width: box.width, height: box.height, channels: from.channels };
}

/**
 * The part `box` of `from` resized to width x height. With four channels the last is alpha, and colours are weighted by it.
 * @param {Pixels} from
 * @param {number} width
 * @param {number} height
 * @param {Interpolation} interpolation
 * @param {Box} [box] All of it by default.
 * @returns {Pixels}
 */
export function resize(from, width, height, interpolation, box = { left: 0, top: 0, width, height }) {
  if (interpolation === 'nearest') return nearest(from, width, height, box);
  const filter = FILTERS[interpolation];
  if (!filter) throw new LamellaError('argument', `image: interpolation: expected one of nearest, ${Object.keys(FILTERS).join(', ')}, got ${interpolation}`);
  if (from.width === width && from.height === height) return crop(from, box);
  const transparent = from.channels === 4 && from.data.some((value, i) => i % 4 === 3 && value !== 255);
  let now = transparent ? premultiplied(from) : from;
  const y = windows(from.height, height, box.top, box.height, filter);
  let top = 0;
  let bottom = from.height;
  if (from.height !== height) {   // only rows that the second pass reads
    top = y.begin[0];
    bottom = y.begin[box.height - 1] + y.length[box.height - 1];
  } else {
    top = box.top;
    bottom = box.top + box.height;
  }
  now = from.width !== width
    ? alongX(now, windows(from.width, width, box.left, box.width, filter), top, bottom - top)
    : crop(now, { left: box.left, top, width: box.width, height: bottom - top });
  if (from.height !== height) now = alongY(now, y, top);
  return transparent ? straight(now) : now;
}

/** Colours times alpha / 255, rounded. @param {Pixels} from @returns {Pixels} */
function premultiplied(from) {
  const y = Uint8Array.from(from.data);
  for (let i = 0; i < y.length; i += 4) {
    for (let c = 0; c < 3; c++) {
      const product = y[i + c] * y[i + 3] + 128;
      y[i + c] = ((product >> 8) + product) >> 8;
    }
  }
  return { ...from, data: y };
}

/** Back again; what is fully transparent or opaque stays. @param {Pixels} from @returns {Pixels} */
function straight(from) {
  const y = from.data;
  for (let i = 0; i < y.length; i += 4) {
    const alpha = y[i + 3];
    if (alpha === 0 || alpha === 255) continue;
    for (let c = 0; c < 3; c++) y[i + c] = Math.min(255, Math.trunc(255 * y[i + c] / alpha));
  }
  return from;
}
