/**
 * The blocks that GGUF keeps numbers in, as ggml lays them out (ggml-common.h): in which bytes they lie, and what they stand for.
 *
 *     Q4_0   32 numbers in 18 bytes: scale f16, 16 bytes, of which the low halves are the first 16 codes; number = scale * (code - 8)
 *     Q8_0   32 in 34: scale f16, 32 signed codes
 *     Q4_K   256 in 144: d and m f16, 12 bytes with 8 scales and 8 minima of 6 bits, 128 bytes of codes; number = d * scale * code - m * minimum
 *     Q6_K   256 in 210: 128 bytes of low halves, 64 of the two bits above, 16 signed scales, d f16; number = d * scale * (code - 32)
 */

/**
 * @typedef {object} Kind
 * @property {string} name
 * @property {number} numbers In a block.
 * @property {number} bytes Of a block; 0 where its blocks cannot be read.
 * @property {string} dtype What the numbers are handed on as: 'F32' where they are taken out of their blocks.
 * @property {'f16' | 'q8' | 'q4'} [precision] What the engine keeps them in by itself; missing: f32.
 * @property {(to: Float32Array, from: Uint8Array, block: number) => void} [expand] Takes all blocks out.
 */

const NAMES = [
  'F32', 'F16', 'Q4_0', 'Q4_1', '', '', 'Q5_0', 'Q5_1', 'Q8_0', 'Q8_1', 'Q2_K', 'Q3_K', 'Q4_K', 'Q5_K', 'Q6_K', 'Q8_K', 'IQ2_XXS', 'IQ2_XS', 'IQ3_XXS', 'IQ1_S', 'IQ4_NL',
  'IQ3_S', 'IQ2_S', 'IQ4_XS', 'I8', 'I16', 'I32', 'I64', 'F64', 'IQ1_M', 'BF16',
];

/** @type {Record<string, Omit<Kind, 'name'>>} */
const KINDS = {
  F32: { numbers: 1, bytes: 4, dtype: 'F32' },
  F16: { numbers: 1, bytes: 2, dtype: 'F16', precision: 'f16' },
  BF16: { numbers: 1, bytes: 2, dtype: 'BF16' },
  Q4_0: { numbers: 32, bytes: 18, dtype: 'F32', precision: 'q4', expand: expandQ40 },
  Q8_0: { numbers: 32, bytes: 34, dtype: 'F32', precision: 'q8', expand: expandQ80 },
  Q4_K: { numbers: 256, bytes: 144, dtype: 'F32', precision: 'q4', expand: expandQ4K },
  Q6_K: { numbers: 256, bytes: 210, dtype: 'F32', precision: 'q8', expand: expandQ6K },
};

/** @param {number} type ggml_type @returns {Kind} */
export function kindOf(type) {
  const name = NAMES[type] || `type ${type}`;
  return { name, ...(KINDS[name] ?? { numbers: 1, bytes: 0, dtype: name }) };
}

const single = new Float32Array(1);
const word = new Uint32Array(single.buffer);

/** @param {Uint8Array} bytes @param {number} at */
export function halfAt(bytes, at) {
  const half = bytes[at] | bytes[at + 1] << 8;
  const magnitude = half & 0x7fff;
  const sign = half & 0x8000 ? -1 : 1;
  if (magnitude < 0x400) return sign * magnitude * 2 ** -24;
  if (magnitude >= 0x7c00) return magnitude === 0x7c00 ? sign * Infinity : NaN;
  word[0] = (magnitude << 13) + 0x38000000;
  return sign * single[0];
}

/** @param {Float32Array} to @param {Uint8Array} from */
function expandQ40(to, from) {
  for (let at = 0, i = 0; at < from.length; at += 18, i += 32) {
    const scale = halfAt(from, at);
    for (let j = 0; j < 16; j++) {
      const byte = from[at + 2 + j];
      to[i + j] = scale * ((byte & 15) - 8);
      to[i + j + 16] = scale * ((byte >> 4) - 8);
    }
  }
}

/** @param {Float32Array} to @param {Uint8Array} from */
function expandQ80(to, from) {
  for (let at = 0, i = 0; at < from.length; at += 34, i += 32) {
    const scale = halfAt(from, at);
    for (let j = 0; j < 32; j++) to[i + j] = scale * (from[at + 2 + j] << 24 >> 24);
  }
}

/** @param {Float32Array} to @param {Uint8Array} from */
function expandQ4K(to, from) {
  for (let at = 0, i = 0; at < from.length; at += 144, i += 256) {
    const [d, m] = [halfAt(from, at), halfAt(from, at + 2)];
    for (let group = 0; group < 8; group++) {
      // The first four have their 6 bits together; of the others the two highest are in the highest of the first.
      const [x, y] = [from[at + 4 + group % 4], from[at + 8 + group % 4]];
      const z = from[at + 12 + group % 4];
      const scale = Math.fround(d * (group < 4 ? x & 63 : (z & 15) | x >> 6 << 4));
      const minimum = Math.fround(m * (group < 4 ? y & 63 : z >> 4 | y >> 6 << 4));
      const codes = at + 16 + (group >> 1) * 32;
      const shift = group % 2 * 4;
      for (let j = 0; j < 32; j++) to[i + group * 32 + j] = Math.fround(scale * (from[codes + j] >> shift & 15)) - minimum;
    }
  }
}

/** @param {Float32Array} to @param {Uint8Array} from */
function expandQ6K(to, from) {
  for (let at = 0, i = 0; at < from.length; at += 210, i += 256) {
    const d = halfAt(from, at + 208);
    for (let group = 0; group < 8; group++) {
      const half = group >> 2;   // of 128 numbers
      const low = at + half * 64 + group % 2 * 32;
      const high = at + 128 + half * 32;
      const [lowShift, highShift] = [(group >> 1) % 2 * 4, group % 4 * 2];
      for (let j = 0; j < 32; j++) {
        const scale = Math.fround(d * (from[at + 192 + group * 2 + (j >> 4)] << 24 >> 24));
        to[i + group * 32 + j] = scale * (((from[low + j] >> lowShift & 15) | (from[high + j] >> highShift & 3) << 4) - 32);
      }
    }
  }
}

/**
 * Blocks of Q4_0 as the engine takes rows of codes: the same codes, and their scales as bfloat16, which moves each by at most 1 part in 256.
 * @param {Uint8Array} from Whole rows.
 * @param {number} columns
 * @returns {Uint8Array}
 */
export function codedQ40(from, columns) {
  const blocks = columns / 32;
  const to = new Uint8Array(from.length);   // 18 bytes for a block here as there
  for (let row = 0; row < from.length; row += blocks * 18) {
    for (let block = 0; block < blocks; block++) {
      const at = row + block * 18;
      single[0] = halfAt(from, at);
      const bits = word[0] + 0x7fff + (word[0] >>> 16 & 1) >>> 16;
      to[row + block * 2] = bits;
      to[row + block * 2 + 1] = bits >> 8;
      const codes = row + blocks * 2 + block * 16;
      for (let j = 0; j < 8; j++) {
        const [a, b] = [from[at + 2 + j * 2], from[at + 3 + j * 2]];
        to[codes + j] = (a & 15) | (b & 15) << 4;
        to[codes + 8 + j] = a >> 4 | b & 0xf0;
      }
    }
  }
  return to;
}
