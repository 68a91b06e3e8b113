/** The header of a safetensors file: its JSON, checked as strictly as the format's own library does. */
import { LamellaError } from '../errors.js';

/** Bits of one element, by the format's names. @type {Record<string, number>} */
export const BITS = {
  BOOL: 8, U8: 8, I8: 8, F8_E5M2: 8, F8_E4M3: 8, F8_E8M0: 8, F8_E4M3FNUZ: 8, F8_E5M2FNUZ: 8, F4: 4, F6_E2M3: 6, F6_E3M2: 6,
  I16: 16, U16: 16, F16: 16, BF16: 16, I32: 32, U32: 32, F32: 32, C64: 64, F64: 64, I64: 64, U64: 64,
};
/** Longest header that the format allows, in bytes. */
export const LONGEST = 100_000_000;

/** @typedef {{ dtype: string, shape: number[], begin: number, end: number }} Entry Place of a tensor, counted from the start of the file. */
/** @typedef {{ tensors: Map<string, Entry>, metadata: Record<string, string>, end: number }} Header */

/** @param {string} file @param {string} message @param {{ path?: string, cause?: unknown }} [details] */
export const refuse = (file, message, { path = file, cause } = {}) => new LamellaError('safetensors', `${file}: ${message}`, { path, cause });

/**
 * @param {string} file For messages.
 * @param {Uint8Array} bytes The header's JSON.
 * @param {number} start Where tensor data begins in the file.
 * @param {number | undefined} size Of the file, if known.
 * @returns {Header}
 */
export function parseHeader(file, bytes, start, size) {
  const text = decode(file, bytes);
  if (text[0] !== '{') throw refuse(file, `not a safetensors file: its header begins with ${JSON.stringify(text.slice(0, 16))}, expected "{"`);
  /** @type {Record<string, any>} */
  let json;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw refuse(file, `the header is not JSON: ${/** @type {Error} */ (cause).message}`, { cause });
  }
  const twice = duplicateKey(text);
  if (twice !== null) throw refuse(file, `the tensor "${twice}" is described twice`, { path: twice });
  const { __metadata__: metadata = {}, ...entries } = json;
  if (!isObject(metadata) || Object.values(metadata).some((value) => typeof value !== 'string')) throw refuse(file, '__metadata__ should map strings to strings');
  const tensors = new Map(Object.entries(entries).map(([name, entry]) => [name, readEntry(file, name, entry, start)]));
  const end = checkPlaces(file, tensors, start, size);
  return { tensors, metadata: /** @type {Record<string, string>} */ (metadata), end };
}

/** @param {string} file @param {Uint8Array} bytes */
function decode(file, bytes) {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (cause) {
    throw refuse(file, 'not a safetensors file: its header is not UTF-8', { cause });
  }
}

/** @param {unknown} value @returns {value is Record<string, any>} */
const isObject = (value) => typeof value === 'object' && value !== null && !Array.isArray(value);

/** @param {unknown} value @returns {value is number} */
const isSize = (value) => Number.isSafeInteger(value) && /** @type {number} */ (value) >= 0;

/**
 * @param {string} file
 * @param {string} name
 * @param {unknown} entry
 * @param {number} start
 * @returns {Entry}
 */
function readEntry(file, name, entry, start) {
  const wrong = (/** @type {string} */ what) => refuse(file, `tensor "${name}": ${what}`, { path: name });
  if (!isObject(entry)) throw wrong(`expected an object, got ${JSON.stringify(entry)}`);
  const { dtype, shape, data_offsets: offsets } = entry;
  const bits = Object.hasOwn(BITS, dtype) ? BITS[dtype] : undefined;
  if (bits === undefined) throw wrong(`unknown dtype ${JSON.stringify(dtype)}`);
  if (!Array.isArray(shape) || !shape.every(isSize)) throw wrong(`shape ${JSON.stringify(shape)} is not a list of sizes`);
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isSize) || offsets[0] > offsets[1]) {
    throw wrong(`data_offsets ${JSON.stringify(offsets)} are not a range of bytes`);
  }
  const expected = shape.reduce((n, size) => n * size, 1) * bits / 8;
  if (offsets[1] - offsets[0] !== expected) throw wrong(`${dtype} [${shape.join(', ')}] takes ${expected} bytes, data_offsets give it ${offsets[1] - offsets[0]}`);
  return { dtype, shape, begin: start + offsets[0], end: start + offsets[1] };
}

/**
 * Tensors must fill the file without holes or overlap.
 * @param {string} file
 * @param {Map<string, Entry>} tensors
 * @param {number} start
 * @param {number | undefined} size
 */
function checkPlaces(file, tensors, start, size) {
  let at = start;
  for (const [name, { begin, end }] of [...tensors].sort(([, a], [, b]) => a.begin - b.begin || a.end - b.end)) {
    if (begin !== at) {
      const what = begin < at ? 'overlaps the one before it' : `leaves a hole of ${begin - at} bytes before it`;
      throw refuse(file, `tensor "${name}": its data ${what}`, { path: name });
    }
    at = end;
  }
  if (size !== undefined && at !== size) {
    throw refuse(file, at > size ? `truncated: its header describes ${at} bytes, the file has ${size}` : `${size - at} bytes follow the last tensor`);
  }
  return at;
}

/**
 * JSON.parse keeps the last of two equal keys without a word.
 * @param {string} text Valid JSON, an object.
 * @returns {string | null} A key of the outermost object that comes twice.
 */
function duplicateKey(text) {
  const seen = new Set();
  let depth = 0;
  for (let i = 0; i < text.length; i++) {
    const c = text[i];
    if (c === '{' || c === '[') depth++;
    else if (c === '}' || c === ']') depth--;
    else if (c === '"') {
      const begin = i;
      for (i++; text[i] !== '"'; i++) if (text[i] === '\\') i++;
      if (depth !== 1) continue;
      let next = i + 1;
      while (/\s/.test(text[next])) next++;
      if (text[next] !== ':') continue;
      const key = JSON.parse(text.slice(begin, i + 1));
      if (seen.has(key)) return key;
      seen.add(key);
    }
  }
  return null;
}
