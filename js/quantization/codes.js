/** Numbers into codes, each the one that the engine finds when it quantises while it loads (src/kernels/quantized_pack.c). */
import { LamellaError } from '../errors.js';

/** Weights that share a scale in 4 bits. */
export const BLOCK = 32;
const MOST = 127;
/** 1.5 * 2^52: the sum with it is a whole number, rounded as the engine rounds. */
const WHOLE = 6755399441055744;

/** In f32. @param {number} scale */
function reciprocal(scale) {
  const inverse = Math.fround(1 / scale);
  return Number.isFinite(inverse) ? inverse : 0;
}

/**
 * @param {Float32Array} values
 * @param {number} begin
 * @param {number} end
 * @returns {number} NaN where one is not finite.
 */
function largest(values, begin, end) {
  let most = 0;
  let nothing = 0;
  for (let i = begin; i < end; i++) {
    const size = Math.abs(values[i]);
    if (size > most) most = size;
    nothing += values[i] - values[i];
  }
  return nothing === 0 ? most : NaN;
}

/**
 * Rows of 8 bits: of each the scale, its largest magnitude / 127, and codes from -127 to 127.
 * @param {string} name Of the weight, for errors.
 * @param {Float32Array} values Whole rows.
 * @param {number} columns
 * @param {number} first Which row of the weight they begin with.
 * @param {{ scales: Float32Array, codes: Int8Array }} to Of the weight.
 */
export function codesOf8(name, values, columns, first, { scales, codes }) {
  for (let begin = 0, row = first; begin < values.length; begin += columns, row++) {
    const most = largest(values, begin, begin + columns);
    if (Number.isNaN(most)) throw notFinite(name, row);
    const scale = Math.fround(most / MOST);
    const inverse = scale > 0 ? reciprocal(scale) : 0;
    const at = row * columns;
    scales[row] = scale;
    for (let i = 0; i < columns; i++) {
      const code = Math.fround(values[begin + i] * inverse) + WHOLE - WHOLE;
      codes[at + i] = code > MOST ? MOST : code < -MOST ? -MOST : code;
    }
  }
}

const single = new Float32Array(1);
const word = new Uint32Array(single.buffer);

/** The bits of the bfloat16 nearest to x. @param {number} x */
function bfloat16(x) {
  single[0] = x;
  return (word[0] + 0x7fff + (word[0] >>> 16 & 1)) >>> 16;
}

/** @param {number} bits */
function fromBfloat16(bits) {
  word[0] = bits << 16;
  return single[0];
}

/**
 * Rows of 4 bits: of each block of 32 the scale, which makes the first of the largest by magnitude -8, and codes from -8 to 7, plus 8, two in a byte.
 * @param {string} name
 * @param {Float32Array} values Whole rows.
 * @param {number} columns A multiple of 8.
 * @param {number} first
 * @param {{ scales: Uint16Array, codes: Uint8Array }} to Of the weight; codes are zeros before.
 */
export function codesOf4(name, values, columns, first, { scales, codes }) {
  let block = first * Math.ceil(columns / BLOCK);
  for (let begin = 0, row = first; begin < values.length; begin += columns, row++) {
    for (let from = 0; from < columns; from += BLOCK, block++) {
      const to = Math.min(columns, from + BLOCK);
      const most = largest(values, begin + from, begin + to);
      if (Number.isNaN(most)) throw notFinite(name, row);
      let at = begin + from;
      while (Math.abs(values[at]) !== most) at++;
      let bits = bfloat16(values[at] / -8);
      const scale = fromBfloat16(bits);
      const inverse = scale !== 0 ? reciprocal(scale) : 0;
      if (scale !== 0 && inverse === 0) bits = 0;
      scales[block] = bits;
      for (let i = from; i < to; i++) {
        const rounded = Math.fround(values[begin + i] * inverse) + WHOLE - WHOLE;
        const code = (rounded > 7 ? 7 : rounded < -8 ? -8 : rounded) + 8;
        codes[(row * columns + i) >> 1] |= code << (i % 2 * 4);
      }
    }
  }
}

/** @param {string} name @param {number} row */
const notFinite = (name, row) => new LamellaError('quantize', `${name}: row ${row} has a NaN or an infinity, which has no code; keep the weight by overrides: { '${name}': 'keep' }`, { path: name });
