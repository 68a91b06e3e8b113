/** The number formats of checkpoints as typed arrays, and 16-bit floats to and from f32. */
import { LamellaError } from '../errors.js';

/** Arrays that hold each dtype's elements; halves are their bits. @type {Record<string, new (buffer: ArrayBuffer) => ArrayLike<number | bigint> & ArrayBufferView>} */
const ARRAYS = {
  F32: Float32Array, F64: Float64Array, F16: Uint16Array, BF16: Uint16Array, I64: BigInt64Array, U64: BigUint64Array,
  I32: Int32Array, U32: Uint32Array, I16: Int16Array, U16: Uint16Array, I8: Int8Array, U8: Uint8Array, BOOL: Uint8Array,
};

const word = new Uint32Array(1);
const float = new Float32Array(word.buffer);

/** @param {number} half Bits of an f16. @returns {number} */
export function fromHalf(half) {
  const sign = half & 0x8000 ? -1 : 1;
  const exponent = (half >> 10) & 31;
  const fraction = half & 1023;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (exponent ? (1024 + fraction) * 2 ** (exponent - 25) : fraction * 2 ** -24);
}

/** @param {number} value @returns {number} Bits of the nearest f16, ties to even. */
export function toHalf(value) {
  float[0] = value;
  const sign = (word[0] >>> 16) & 0x8000;
  const size = Math.abs(float[0]);
  if (Number.isNaN(value)) return sign | 0x7e00;
  if (size >= 65520) return sign | 0x7c00;
  if (size < 2 ** -14) return sign | roundEven(size * 2 ** 24);
  const exponent = (word[0] >>> 23 & 255) - 127;
  return sign | (roundEven(size * 2 ** (10 - exponent)) - 1024 + ((exponent + 15) << 10));   // a carry moves into the exponent by itself
}

/** @param {number} value @returns {number} Bits of the nearest bf16, ties to even. */
export function toBrain(value) {
  float[0] = value;
  if (Number.isNaN(value)) return (word[0] >>> 16) | 0x40;
  return ((word[0] + 0x7fff + (word[0] >>> 16 & 1)) >>> 16) & 0xffff;
}

/** @param {number} value Not negative. */
function roundEven(value) {
  const down = Math.floor(value);
  const rest = value - down;
  return rest > 0.5 || (rest === 0.5 && down % 2) ? down + 1 : down;
}

/**
 * A tensor of a checkpoint: its numbers as they are stored.
 */
export class StoredTensor {
  /**
   * @param {string} dtype As in the file: 'F32', 'F16', 'BF16', 'I64', ...
   * @param {number[]} shape
   * @param {Uint8Array} bytes Of the file; a buffer of its own.
   */
  constructor(dtype, shape, bytes) {
    const Numbers = ARRAYS[dtype];
    if (!Numbers) throw new LamellaError('dtype', `numbers of type ${dtype} cannot be read; known: ${Object.keys(ARRAYS).join(', ')}`);
    this.dtype = dtype;
    this.shape = shape;
    /** The elements; F16 and BF16 as their bits (Uint16Array). @type {any} */
    this.data = new Numbers(/** @type {ArrayBuffer} */ (bytes.buffer));
  }

  /** The elements as f32, whatever the dtype. @returns {Float32Array} */
  toFloat32() {
    const { dtype, data } = this;
    if (dtype === 'F32') return data;
    const y = new Float32Array(data.length);
    if (dtype === 'F16') for (let i = 0; i < y.length; i++) y[i] = fromHalf(data[i]);
    else if (dtype === 'BF16') {
      const bits = new Uint32Array(y.buffer);
      for (let i = 0; i < y.length; i++) bits[i] = data[i] << 16;
    } else for (let i = 0; i < y.length; i++) y[i] = Number(data[i]);
    return y;
  }
}

/** dtype of a typed array that says nothing else. @param {ArrayBufferView} data */
export function dtypeOf(data) {
  const name = { Float32Array: 'F32', Float64Array: 'F64', BigInt64Array: 'I64', BigUint64Array: 'U64', Int32Array: 'I32', Uint32Array: 'U32', Int16Array: 'I16', Uint16Array: 'U16', Int8Array: 'I8', Uint8Array: 'U8' }[data.constructor.name];
  if (!name) throw new LamellaError('dtype', `a ${data.constructor.name} has no dtype in a safetensors file`);
  return name;
}

/**
 * Elements as the bytes of a file.
 * @param {string} dtype
 * @param {ArrayBufferView & ArrayLike<any>} data Floats for F16 and BF16 are rounded; a Uint16Array is taken as their bits.
 * @returns {Uint8Array}
 */
export function toBytes(dtype, data) {
  const Numbers = ARRAYS[dtype];
  if (!Numbers) throw new LamellaError('dtype', `numbers of type ${dtype} cannot be written; known: ${Object.keys(ARRAYS).join(', ')}`);
  let stored = data;
  if ((dtype === 'F16' || dtype === 'BF16') && !(data instanceof Uint16Array)) stored = Uint16Array.from(/** @type {any} */ (data), dtype === 'F16' ? toHalf : toBrain);
  else if (data.constructor !== Numbers) stored = /** @type {any} */ (Numbers).from(data, dtype.endsWith('64') && dtype !== 'F64' ? BigInt : Number);
  return new Uint8Array(stored.buffer, stored.byteOffset, stored.byteLength);
}
