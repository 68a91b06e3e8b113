/**
 * Resizing as Pillow does it for 8-bit pictures, to the byte: a separable filter widened by the scale (antialias), weights in fixed point
 * with 22 bits, first along x as a rule, each pass rounded and clipped to 0..255; colours weighted by alpha where there is alpha.
 * Facts: Pillow's src/libImaging/Resample.c, Geometry.c and Convert.c.
 */
import { LamellaError } from '../errors.js';

/** @typedef {{ data: Uint8Array | Uint8ClampedArray, width: number, height: number, channels: number }} Pixels Rows of interleaved channels: 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha. */
/** @typedef {{ left: number, top: number, width: number, height: number }} Box Part of the resized picture. */
/** @typedef {'nearest' | 'box' | 'bilinear' | 'hamming' | 'bicubic' | 'lanczos'} Interpolation */
/** @typedef {{ support: number, at: (x: number) => number }} Filter Half its width, and its value. */
/** @typedef {{ begin: Int32Array, length: Int32Array, weights: Int32Array, most: number }} Windows Where the window of each output position begins, how long it is, `most` places for its weights. */
/** @typedef {(row: number) => Int32Array} RowReader The pixels of a row, each as r | g << 8 | b << 16 | alpha << 24. */

/** @param {number} x */
const sinc = (x) => (x === 0 ? 1 : Math.sin(x * Math.PI) / (x * Math.PI));

/** @param {number} x */
function bicubic(x) {
  const d = Math.abs(x);
  const a = -0.5;
  if (d < 1) return ((a + 2) * d - (a + 3)) * d * d + 1;
  return d < 2 ? (((d - 5) * d + 8) * d - 4) * a : 0;
}

/** @type {Record<string, Filter>} */
const FILTERS = {
  box: { support: 0.5, at: (x) => (x > -0.5 && x <= 0.5 ? 1 : 0) },
  bilinear: { support: 1, at: (x) => Math.max(0, 1 - Math.abs(x)) },
  hamming: { support: 1, at: (x) => (Math.abs(x) >= 1 ? 0 : sinc(x) * (0.54 + 0.46 * Math.cos(x * Math.PI))) },
  bicubic: { support: 2, at: bicubic },
  lanczos: { support: 3, at: (x) => (x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0) },
};

const BITS = 22;
const HALF = 1 << (BITS - 1);

/** @param {number} sum */
function clip(sum) {
  const value = sum >> BITS;
  return value < 0 ? 0 : value > 255 ? 255 : value;
}

/**
 * The part `box` of a picture resized to width x height.
 * @param {Pixels} from
 * @param {number} width
 * @param {number} height
 * @param {Interpolation} interpolation
 * @param {Box} [box] All of it by default.
 * @returns {Pixels} RGB; RGB and alpha if the picture has some.
 */
export function resize({ data, ...sizes }, width, height, interpolation, box = { left: 0, top: 0, width, height }) {
  // Whatever kind of array it is (clamped, Node's Buffer), the loops see one.
  const from = { ...sizes, data: new Uint8Array(data.buffer, data.byteOffset, data.length) };
  const filter = FILTERS[interpolation];
  if (!filter && interpolation !== 'nearest') {
    throw new LamellaError('argument', `image: interpolation: expected one of nearest, ${Object.keys(FILTERS).join(', ')}, got ${interpolation}`);
  }
  const resizesX = from.width !== width;
  const resizesY = from.height !== height;
  if (!filter || (!resizesX && !resizesY)) return pick(from, positions(from.width, width, box.left, box.width), positions(from.height, height, box.top, box.height));
  // Only rows that the vertical pass reads.
  const y = windows(from.height, height, box.top, box.height, filter);
  const top = resizesY ? y.begin[0] : box.top;
  const bottom = resizesY ? y.begin[box.height - 1] + y.length[box.height - 1] : box.top + box.height;
  const hasAlpha = isTransparent(from, top, bottom);
  const rows = rowReader(from, hasAlpha);
  let now;
  if (!resizesX) {
    now = alongY(unpack(rows, box.left, box.width, top, bottom, hasAlpha), y, top);
  } else {
    const x = windows(from.width, width, box.left, box.width, filter);
    // As Pillow does since version 13: what becomes much lower is first made so. The rounding in between shows.
    const isVerticalFirst = from.height > height && from.height - height > (from.width - width) * 2;
    if (isVerticalFirst) {
      now = alongY(unpack(rows, 0, from.width, top, bottom, hasAlpha), y, top);
      now = alongX(rowReader(now, false), x, 0, box.height, hasAlpha);
    } else {
      now = alongX(rows, x, top, bottom, hasAlpha);
      if (resizesY) now = alongY(now, y, top);
    }
  }
  return hasAlpha ? straight(now) : now;
}

/**
 * For output positions [first, first + count): their windows and weights.
 * @param {number} from Size of the input.
 * @param {number} to Size of the whole output.
 * @param {number} first
 * @param {number} count
 * @param {Filter} filter
 * @returns {Windows}
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
 * Whether any of the rows [top, bottom) has a pixel that is not opaque.
 * @param {Pixels} from
 * @param {number} top
 * @param {number} bottom
 */
function isTransparent({ data, width, channels }, top, bottom) {
  if (channels === 1 || channels === 3) return false;
  let all = 255;
  for (let i = top * width * channels + channels - 1; i < bottom * width * channels; i += channels) all &= data[i];
  return all !== 255;
}

/**
 * Rows of any picture in one form, that of RGBA in memory, colours multiplied by alpha if it has some.
 * @param {Pixels} from
 * @param {boolean} hasAlpha
 * @returns {RowReader} The array is good until the next row is asked for.
 */
function rowReader({ data, width, channels }, hasAlpha) {
  if (channels === 4 && !hasAlpha && data.byteOffset % 4 === 0) {
    const packed = new Int32Array(data.buffer, data.byteOffset, data.length / 4);
    return (row) => packed.subarray(row * width, (row + 1) * width);
  }
  const line = new Int32Array(width);
  const green = channels < 3 ? 0 : 1;
  const blue = channels < 3 ? 0 : 2;
  if (!hasAlpha) {
    return (row) => {
      for (let i = 0, at = row * width * channels; i < width; i++, at += channels) line[i] = data[at] | (data[at + green] << 8) | (data[at + blue] << 16);
      return line;
    };
  }
  return (row) => {
    for (let i = 0, at = row * width * channels; i < width; i++, at += channels) {
      const alpha = data[at + channels - 1];
      line[i] = times(data[at], alpha) | (times(data[at + green], alpha) << 8) | (times(data[at + blue], alpha) << 16) | (alpha << 24);
    }
    return line;
  };
}

/**
 * value * alpha / 255, rounded.
 * @param {number} value
 * @param {number} alpha
 */
function times(value, alpha) {
  const product = value * alpha + 128;
  return ((product >> 8) + product) >> 8;
}

/**
 * Rows [top, bottom) filtered along x.
 * @param {RowReader} rows
 * @param {Windows} windows_
 * @param {number} top
 * @param {number} bottom
 * @param {boolean} hasAlpha
 * @returns {Pixels}
 */
function alongX(rows, windows_, top, bottom, hasAlpha) {
  const width = windows_.begin.length;
  const channels = hasAlpha ? 4 : 3;
  const data = new Uint8Array((bottom - top) * width * channels);
  const filterRow = hasAlpha ? filterRgba : filterRgb;
  for (let row = top; row < bottom; row++) filterRow(rows(row), windows_, data, (row - top) * width * channels);
  return { data, width, height: bottom - top, channels };
}

/**
 * @param {Int32Array} line
 * @param {Windows} windows_
 * @param {Uint8Array} y
 * @param {number} out Where in y.
 */
function filterRgb(line, { begin, length, weights, most }, y, out) {
  for (let i = 0; i < begin.length; i++) {
    let r = HALF;
    let g = HALF;
    let b = HALF;
    const end = i * most + length[i];
    for (let k = i * most, at = begin[i]; k < end; k++, at++) {
      const pixel = line[at];
      const weight = weights[k];
      r = (r + Math.imul(pixel & 255, weight)) | 0;
      g = (g + Math.imul((pixel >>> 8) & 255, weight)) | 0;
      b = (b + Math.imul((pixel >>> 16) & 255, weight)) | 0;
    }
    y[out++] = clip(r);
    y[out++] = clip(g);
    y[out++] = clip(b);
  }
}

/** @type {typeof filterRgb} */
function filterRgba(line, { begin, length, weights, most }, y, out) {
  for (let i = 0; i < begin.length; i++) {
    let r = HALF;
    let g = HALF;
    let b = HALF;
    let a = HALF;
    const end = i * most + length[i];
    for (let k = i * most, at = begin[i]; k < end; k++, at++) {
      const pixel = line[at];
      const weight = weights[k];
      r = (r + Math.imul(pixel & 255, weight)) | 0;
      g = (g + Math.imul((pixel >>> 8) & 255, weight)) | 0;
      b = (b + Math.imul((pixel >>> 16) & 255, weight)) | 0;
      a = (a + Math.imul(pixel >>> 24, weight)) | 0;
    }
    y[out++] = clip(r);
    y[out++] = clip(g);
    y[out++] = clip(b);
    y[out++] = clip(a);
  }
}

/**
 * Columns [left, left + width) of rows [top, bottom), as they are.
 * @param {RowReader} rows
 * @param {number} left
 * @param {number} width
 * @param {number} top
 * @param {number} bottom
 * @param {boolean} hasAlpha
 * @returns {Pixels}
 */
function unpack(rows, left, width, top, bottom, hasAlpha) {
  const channels = hasAlpha ? 4 : 3;
  const data = new Uint8Array((bottom - top) * width * channels);
  for (let row = top, out = 0; row < bottom; row++) {
    const line = rows(row);
    for (let i = 0; i < width; i++) {
      for (let c = 0; c < channels; c++) data[out++] = line[left + i] >>> (8 * c);
    }
  }
  return { data, width, height: bottom - top, channels };
}

/**
 * All columns filtered along y; the input's row 0 is row `top` of the whole.
 * @param {Pixels} from
 * @param {Windows} windows_
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

/**
 * Colours divided by alpha again, in place; what is fully transparent or opaque stays.
 * @param {Pixels} from
 * @returns {Pixels}
 */
function straight(from) {
  const { data } = from;
  for (let i = 0; i < data.length; i += 4) {
    const alpha = data[i + 3];
    if (alpha === 0 || alpha === 255) continue;
    for (let c = 0; c < 3; c++) data[i + c] = Math.min(255, Math.trunc(255 * data[i + c] / alpha));
  }
  return from;
}

/**
 * The input position nearest to each output position.
 * @param {number} from
 * @param {number} to
 * @param {number} first
 * @param {number} count
 */
function positions(from, to, first, count) {
  const scale = from / to;
  const found = new Int32Array(count);
  // Summed up rather than multiplied, with the same rounding errors as in Pillow.
  for (let i = 0, at = scale * 0.5; i < first + count; i++, at += scale) if (i >= first) found[i - first] = Math.min(from - 1, Math.trunc(at));
  return found;
}

/**
 * Single pixels, alpha as it is.
 * @param {Pixels} from
 * @param {Int32Array} columns
 * @param {Int32Array} rows
 * @returns {Pixels}
 */
function pick(from, columns, rows) {
  const hasAlpha = isTransparent(from, 0, from.height);
  const channels = hasAlpha ? 4 : 3;
  const data = new Uint8Array(rows.length * columns.length * channels);
  const last = from.channels - 1;
  const grey = from.channels < 3;
  let out = 0;
  for (const row of rows) {
    for (const column of columns) {
      const at = (row * from.width + column) * from.channels;
      for (let c = 0; c < 3; c++) data[out++] = from.data[at + (grey ? 0 : c)];
      if (hasAlpha) data[out++] = from.data[at + last];
    }
  }
  return { data, width: columns.length, height: rows.length, channels };
}
