/** Writing a safetensors file. */
import { badArgument, show, showShape, sizes } from '../arguments.js';
import { LamellaError } from '../errors.js';
import { DTYPES, toBfloat16, toFloat16 } from './dtype.js';

/** @typedef {import('../tensor.js').Tensor} Tensor */
/** @typedef {import('./dtype.js').NumberArray} NumberArray */
/**
 * @typedef {object} Writable
 * @property {NumberArray | Uint8ClampedArray | readonly number[]} data
 * @property {readonly number[]} shape
 * @property {string} [dtype] 'f32', 'F16', ...; default: what the array holds, f32 for plain numbers. Floats are rounded to 'f16' or 'bf16';
 *   a Uint16Array holds their bit patterns already.
 */

const RANK = new Map(Object.keys(DTYPES).map((dtype, i) => [dtype, i]));
/** @type {[Function, string][]} */
const OF_ARRAY = [
  [Float32Array, 'F32'], [Float64Array, 'F64'], [BigInt64Array, 'I64'], [BigUint64Array, 'U64'], [Int32Array, 'I32'], [Uint32Array, 'U32'],
  [Int16Array, 'I16'], [Uint16Array, 'U16'], [Int8Array, 'I8'], [Uint8Array, 'U8'], [Uint8ClampedArray, 'U8'], [Array, 'F32'],
];

/**
 * A safetensors file with these tensors, byte for byte as the Rust library writes it: the widest types first, then by name.
 *
 *     const bytes = safetensors.write({ weight: new Tensor(data, [2, 3]), half: { data, shape: [2, 3], dtype: 'f16' } });
 *
 * @param {Record<string, Writable | Tensor> | Iterable<[string, Writable | Tensor]>} tensors An object or a Map.
 * @param {Record<string, string>} [metadata] Becomes `__metadata__`.
 * @returns {Uint8Array}
 * @throws {LamellaError} 'argument', 'shape', 'dtype'
 */
export function write(tensors, metadata) {
  const list = Symbol.iterator in Object(tensors) ? /** @type {Iterable<[string, Writable]>} */ (tensors) : Object.entries(tensors);
  const entries = Array.from(list, ([name, tensor]) => encode(name, /** @type {Writable} */ (tensor)));
  entries.sort((a, b) => rank(a.dtype) - rank(b.dtype) || compareBytes(a.name, b.name));
  const header = encodeHeader(entries.map(({ bytes, ...entry }) => ({ ...entry, bytes: bytes.length })), metadata);
  const file = new Uint8Array(entries.reduce((total, { bytes }) => total + bytes.length, header.length));
  file.set(header);
  let position = header.length;
  for (const { bytes } of entries) {
    file.set(bytes, position);
    position += bytes.length;
  }
  return file;
}

/**
 * What a file begins with.
 * @param {readonly { name: string, dtype: string, shape: readonly number[], bytes: number }[]} entries In the order of their bytes.
 * @param {Record<string, string>} [metadata]
 * @returns {Uint8Array<ArrayBuffer>}
 */
export function encodeHeader(entries, metadata) {
  /** @type {[string, unknown][]} */
  const header = metadata ? [['__metadata__', checkedMetadata(metadata)]] : [];
  let at = 0;
  for (const { name, dtype, shape, bytes } of entries) header.push([name, { dtype, shape, data_offsets: [at, at += bytes] }]);
  // By hand, because an object would put names such as "1" first.
  const json = new TextEncoder().encode(`{${header.map(([name, value]) => `${JSON.stringify(name)}:${JSON.stringify(value)}`).join(',')}}`);
  const headerBytes = Math.ceil(json.length / 8) * 8;
  const file = new Uint8Array(8 + headerBytes).fill(0x20);
  new DataView(file.buffer).setBigUint64(0, BigInt(headerBytes), true);
  file.set(json, 8);
  return file;
}

/** @param {string} dtype */
const rank = (dtype) => /** @type {number} */ (RANK.get(dtype));

/**
 * The order of UTF-8, which is that of code points and not that of JavaScript's strings.
 * @param {string} a
 * @param {string} b
 */
function compareBytes(a, b) {
  const [x, y] = [Array.from(a), Array.from(b)];
  const i = x.findIndex((char, k) => char !== y[k]);
  if (i < 0) return x.length - y.length;
  return i < y.length ? /** @type {number} */ (x[i].codePointAt(0)) - /** @type {number} */ (y[i].codePointAt(0)) : 1;
}

/** @param {Record<string, unknown>} metadata */
function checkedMetadata(metadata) {
  for (const [key, value] of Object.entries(metadata)) {
    if (typeof value !== 'string') throw badArgument(`safetensors.write: metadata ${show(key)}`, 'a string', value);
  }
  return metadata;
}

/**
 * @param {string} name
 * @param {Writable} tensor
 * @returns {{ name: string, dtype: string, shape: number[], bytes: Uint8Array }}
 */
function encode(name, tensor) {
  const what = `safetensors.write: ${show(name)}`;
  const data = tensor?.data;
  const own = OF_ARRAY.find(([type]) => data instanceof type)?.[1];
  if (!own || !Array.isArray(tensor.shape)) throw badArgument(what, 'a Tensor or { data, shape, dtype? }', tensor);
  const dtype = (tensor.dtype ?? own).toUpperCase();
  if (!Object.hasOwn(DTYPES, dtype)) throw new LamellaError('dtype', `${what}: dtype: expected one of ${Object.keys(DTYPES).join(', ')}, got ${show(tensor.dtype)}`, { path: name });
  const shape = sizes(`${what}: shape`, tensor.shape);
  const array = convert(what, data, own, dtype);
  const expected = shape.reduce((product, size) => product * size, DTYPES[dtype].bits) / 8;
  if (expected !== array.byteLength) {
    throw new LamellaError('shape', `${what}: ${showShape(shape)} of ${dtype} takes ${expected} bytes, the data has ${array.byteLength}`, { path: name });
  }
  return { name, dtype, shape, bytes: new Uint8Array(array.buffer, array.byteOffset, array.byteLength) };
}

/**
 * @param {string} what
 * @param {Writable['data']} data
 * @param {string} own What the array holds by itself.
 * @param {string} dtype What is wanted.
 * @returns {NumberArray | Uint8ClampedArray}
 */
function convert(what, data, own, dtype) {
  const { array } = DTYPES[dtype];
  const isPlain = Array.isArray(data);
  if (!isPlain && (own === dtype || data instanceof array || (own === 'U8' && array === Uint8Array))) return /** @type {NumberArray} */ (data);
  const numbers = /** @type {ArrayLike<any>} */ (data);
  const floats = isPlain || own === 'F32' || own === 'F64';
  if (floats && (dtype === 'F16' || dtype === 'BF16')) {
    const singles = data instanceof Float32Array ? data : Float32Array.from(numbers);
    return dtype === 'F16' ? toFloat16(singles) : toBfloat16(singles);
  }
  if (floats && (dtype === 'F32' || dtype === 'F64')) return dtype === 'F32' ? Float32Array.from(numbers) : Float64Array.from(numbers);
  if (isPlain && /^[IUB]/.test(dtype) && dtype !== 'BF16') {
    const bits64 = array === BigInt64Array || array === BigUint64Array;
    return /** @type {any} */ (array).from(numbers, bits64 ? BigInt : Number);
  }
  throw new LamellaError('dtype', `${what}: numbers of type ${own} cannot be written as ${dtype}`);
}
