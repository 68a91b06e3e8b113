/** The types of numbers in a checkpoint, and their way to and from f32. */

/** @typedef {Float64Array | Float32Array | BigUint64Array | BigInt64Array | Uint32Array | Int32Array | Uint16Array | Int16Array | Uint8Array | Int8Array} NumberArray */
/**
 * @typedef {object} Dtype
 * @property {number} bits Of one element.
 * @property {new (buffer: any, offset?: number, length?: number) => NumberArray} array What the bytes are read as; bit patterns where
 *   JavaScript has no such numbers.
 */

/**
 * By the names of safetensors, in the order of its writer: the widest first.
 * @type {Readonly<Record<string, Dtype>>}
 */
export const DTYPES = Object.freeze({
  U64: { bits: 64, array: BigUint64Array },
  I64: { bits: 64, array: BigInt64Array },
  F64: { bits: 64, array: Float64Array },
  C64: { bits: 64, array: Float32Array },
  F32: { bits: 32, array: Float32Array },
  U32: { bits: 32, array: Uint32Array },
  I32: { bits: 32, array: Int32Array },
  BF16: { bits: 16, array: Uint16Array },
  F16: { bits: 16, array: Uint16Array },
  U16: { bits: 16, array: Uint16Array },
  I16: { bits: 16, array: Int16Array },
  F8_E5M2FNUZ: { bits: 8, array: Uint8Array },
  F8_E4M3FNUZ: { bits: 8, array: Uint8Array },
  F8_E8M0: { bits: 8, array: Uint8Array },
  F8_E4M3: { bits: 8, array: Uint8Array },
  F8_E5M2: { bits: 8, array: Uint8Array },
  I8: { bits: 8, array: Int8Array },
  U8: { bits: 8, array: Uint8Array },
  F6_E3M2: { bits: 6, array: Uint8Array },
  F6_E2M3: { bits: 6, array: Uint8Array },
  F4: { bits: 4, array: Uint8Array },
  BOOL: { bits: 8, array: Uint8Array },
});

const INTEGERS = ['U64', 'I64', 'U32', 'I32', 'U16', 'I16', 'U8', 'I8', 'BOOL'];

/**
 * Numbers as f32, each rounded to the nearest.
 * @param {string} dtype
 * @param {NumberArray} data
 * @returns {Float32Array | null} The array itself where it is f32; null for types this cannot read (f8, f6, f4, complex).
 */
export function toFloat32(dtype, data) {
  if (dtype === 'F32') return /** @type {Float32Array} */ (data);
  if (dtype === 'F16') return fromFloat16(/** @type {Uint16Array} */ (data));
  if (dtype === 'BF16') return fromBfloat16(/** @type {Uint16Array} */ (data));
  if (dtype === 'F64' || INTEGERS.includes(dtype)) return Float32Array.from(/** @type {ArrayLike<any>} */ (data), Number);
  return null;
}

/**
 * @param {Uint16Array} halves Bit patterns of f16.
 * @returns {Float32Array}
 */
function fromFloat16(halves) {
  const floats = new Float32Array(halves.length);
  const words = new Uint32Array(floats.buffer);
  for (let i = 0; i < halves.length; i++) {
    const half = halves[i];
    const sign = (half & 0x8000) << 16;
    const exponent = half & 0x7c00;
    const fraction = half & 0x3ff;
    if (exponent === 0) floats[i] = (sign ? -fraction : fraction) * 2 ** -24;
    else words[i] = sign | (fraction << 13) | (exponent === 0x7c00 ? 0x7f800000 : (exponent << 13) + 0x38000000);
  }
  return floats;
}

/**
 * @param {Uint16Array} halves Bit patterns of bf16.
 * @returns {Float32Array}
 */
function fromBfloat16(halves) {
  const floats = new Float32Array(halves.length);
  const words = new Uint32Array(floats.buffer);
  for (let i = 0; i < halves.length; i++) words[i] = halves[i] << 16;
  return floats;
}

/**
 * Rounds to the nearest f16, ties to even; beyond 65504 it becomes infinite.
 * @param {Float32Array} floats
 * @returns {Uint16Array} Bit patterns.
 */
export function toFloat16(floats) {
  const halves = new Uint16Array(floats.length);
  const words = new Uint32Array(floats.buffer, floats.byteOffset, floats.length);
  const half = new Float32Array(1);
  const halfWord = new Uint32Array(half.buffer);
  for (let i = 0; i < floats.length; i++) {
    const word = words[i];
    const magnitude = word & 0x7fffffff;
    let bits;
    if (magnitude > 0x7f800000) bits = 0x7e00;
    else if (magnitude >= 0x477ff000) bits = 0x7c00;
    else if (magnitude < 0x38800000) {
      // The last place of 0.5 in f32 is that of a subnormal f16, so the addition rounds.
      half[0] = Math.abs(floats[i]) + 0.5;
      bits = halfWord[0] - 0x3f000000;
    } else bits = (magnitude - 0x38000000 + 0xfff + ((magnitude >>> 13) & 1)) >>> 13;
    halves[i] = ((word >>> 16) & 0x8000) | bits;
  }
  return halves;
}

/**
 * Rounds to the nearest bf16, ties to even.
 * @param {Float32Array} floats
 * @returns {Uint16Array} Bit patterns.
 */
export function toBfloat16(floats) {
  const words = new Uint32Array(floats.buffer, floats.byteOffset, floats.length);
  return Uint16Array.from(words, (word) => ((word & 0x7fffffff) > 0x7f800000 ? (word >>> 16) | 0x40 : (word + 0x7fff + ((word >>> 16) & 1)) >>> 16));
}
