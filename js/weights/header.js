/** The header of a safetensors file: read, and checked as the Rust library checks it. */
import { show, showShape } from '../arguments.js';
import { LamellaError } from '../errors.js';
import { readBytes } from './bytes.js';
import { DTYPES } from './dtype.js';

/** @typedef {import('./bytes.js').Source} Source */
/**
 * @typedef {object} Entry
 * @property {string} name
 * @property {string} dtype A name of `DTYPES`.
 * @property {readonly number[]} shape
 * @property {number} begin First byte in the file.
 * @property {number} end
 */
/** @typedef {{ entries: Entry[], metadata: Record<string, string>, size: number }} Header Entries in the order of their bytes. */

/** What a file of another kind is called that `compile` can read all the same. */
const GGUF = 'a GGUF file';
/** What the Rust library takes at most. */
const MAX_HEADER = 100_000_000;

/**
 * @param {Source} source
 * @param {{ signal?: AbortSignal | null }} [options]
 * @returns {Promise<{ header: Header } | { json: string }>} The text, if the source is a JSON file: the index of shards.
 * @throws {LamellaError} 'safetensors', 'html', 'truncated'
 */
export async function readHeader(source, { signal } = {}) {
  const { name, size } = source;
  const first = await readBytes(source, 0, 8, { signal, short: true });
  if (first.length < 8) throw new LamellaError('truncated', `${name}: expected a safetensors file, got ${first.length} bytes${first.length ? '' : ': it is empty'}`, { path: name });
  const stated = new DataView(first.buffer, first.byteOffset).getBigUint64(0, true);
  const length = Number(stated);
  if (length > MAX_HEADER) {
    if (first[0] === 0x7b) return { json: await readText(source, first, signal) };
    throw await notSafetensors(source, first, signal, `its first 8 bytes give a header of ${stated} bytes, at most ${MAX_HEADER} are allowed`);
  }
  if (size !== undefined && 8 + length > size) {
    throw await notSafetensors(source, first, signal, `its first 8 bytes give a header of ${length} bytes, but the file has ${size}`);
  }
  const bytes = await readBytes(source, 8, 8 + length, { signal });
  return { header: parseHeader(name, bytes, 8 + length, size) };
}

/**
 * @param {Source} source
 * @param {Uint8Array} first
 * @param {AbortSignal | null} [signal]
 */
async function readText(source, first, signal) {
  const decoder = new TextDecoder();
  let text = decoder.decode(first, { stream: true });
  for await (const piece of source.stream(first.length, undefined, { signal })) {
    text += decoder.decode(piece, { stream: true });
    if (text.length > MAX_HEADER) throw new LamellaError('safetensors', `${source.name}: the JSON file is larger than ${MAX_HEADER} bytes`, { path: source.name });
  }
  return text;
}

/**
 * Says what the file is instead, if that can be seen.
 * @param {Source} source
 * @param {Uint8Array} first
 * @param {AbortSignal | null | undefined} signal
 * @param {string} problem
 */
async function notSafetensors(source, first, signal, problem) {
  const { name } = source;
  const more = await readBytes(source, first.length, 512, { signal, short: true });
  const text = String.fromCharCode(...first, ...more).trimStart();
  if (/^<(!doctype|html|head|body|\?xml|!--)/i.test(text)) return new LamellaError('html', `${name}: expected weights, got an HTML page: ${show(text.slice(0, 60))}`, { path: name });
  const kinds = [
    [/^version https/, 'a pointer of Git LFS in place of the file; use the address with /resolve/ rather than /raw/'],
    [/^PK\x03\x04/, 'a zip archive, as PyTorch saves .pt and .bin; save it with safetensors.torch.save_file'],
    [/^\x80[\x02-\x05]/, 'a Python pickle; save it with safetensors.torch.save_file'],
    [/^GGUF/, GGUF],
    [/^\x89HDF/, 'an HDF5 file'],
  ];
  const kind = kinds.find(([pattern]) => /** @type {RegExp} */ (pattern).test(text));
  const error = new LamellaError('safetensors', `${name}: expected a safetensors file, got ${kind ? kind[1] : `something else: ${problem}`}`, { path: name });
  return kind?.[1] === GGUF ? Object.assign(error, { isGguf: true }) : error;
}

/**
 * @param {string} file For errors.
 * @param {Uint8Array} bytes The JSON.
 * @param {number} dataBegin Where the numbers begin in the file.
 * @param {number | undefined} size Of the file.
 * @returns {Header}
 */
export function parseHeader(file, bytes, dataBegin, size) {
  const fail = (/** @type {string} */ problem, /** @type {unknown} */ cause = undefined) => new LamellaError('safetensors', `${file}: ${problem}`, { path: file, cause });
  if (bytes[0] !== 0x7b) throw fail(`the header must begin with "{", got ${bytes.length ? `byte ${bytes[0]}` : 'an empty header'}`);
  let text;
  let json;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
    json = JSON.parse(text);
  } catch (cause) {
    throw fail(`the header is not JSON in UTF-8: ${/** @type {Error} */ (cause).message}`, cause);
  }
  const twice = duplicateKey(text);
  if (twice !== null) throw fail(`the header has the name ${show(twice)} twice`);
  const { __metadata__: metadata = {}, ...tensors } = json;
  if (!isObject(metadata) || Object.values(metadata).some((value) => typeof value !== 'string')) {
    throw fail(`__metadata__: expected an object of strings, got ${JSON.stringify(metadata).slice(0, 80)}`);
  }
  const entries = Object.entries(tensors).map(([name, info]) => parseEntry(name, info, dataBegin, fail));
  entries.sort((a, b) => a.begin - b.begin || a.end - b.end);
  return { entries, metadata, size: checkCoverage(entries, dataBegin, size, fail) };
}

/** @param {unknown} value */
const isObject = (value) => typeof value === 'object' && value !== null && !Array.isArray(value);

/**
 * @param {string} name
 * @param {any} info
 * @param {number} dataBegin
 * @param {(problem: string) => LamellaError} fail
 * @returns {Entry}
 */
function parseEntry(name, info, dataBegin, fail) {
  const failTensor = (/** @type {string} */ what, /** @type {string} */ expected, /** @type {unknown} */ got) =>
    fail(`tensor ${show(name)}: ${what}: expected ${expected}, got ${JSON.stringify(got)?.slice(0, 80) ?? 'nothing'}`);
  if (!isObject(info)) throw failTensor('entry', '{ dtype, shape, data_offsets }', info);
  const { dtype, shape, data_offsets: offsets } = info;
  if (!Object.hasOwn(DTYPES, dtype)) throw failTensor('dtype', `one of ${Object.keys(DTYPES).join(', ')}`, dtype);
  if (!Array.isArray(shape) || !shape.every(isCount)) throw failTensor('shape', 'a list of sizes', shape);
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isCount) || offsets[0] > offsets[1]) {
    throw failTensor('data_offsets', '[begin, end] with 0 <= begin <= end', offsets);
  }
  const bits = shape.reduce((/** @type {number} */ product, /** @type {number} */ dim) => product * dim, DTYPES[dtype].bits);
  if (bits > Number.MAX_SAFE_INTEGER) throw failTensor('shape', 'less than 2^53 bits', shape);
  if (bits % 8) throw failTensor('shape', `whole bytes of ${dtype}`, shape);
  const [begin, end] = offsets;
  if (end - begin !== bits / 8) {
    throw fail(`tensor ${show(name)}: ${showShape(shape)} of ${dtype} takes ${bits / 8} bytes, but data_offsets [${begin}, ${end}] give ${end - begin}`);
  }
  return { name, dtype, shape: Object.freeze(shape), begin: dataBegin + begin, end: dataBegin + end };
}

/** @param {unknown} value */
const isCount = (value) => Number.isSafeInteger(value) && /** @type {number} */ (value) >= 0;

/**
 * The tensors must fill the file without gaps and overlaps.
 * @param {Entry[]} entries In order.
 * @param {number} dataBegin
 * @param {number | undefined} size
 * @param {(problem: string) => LamellaError} fail
 * @returns {number} The file's size.
 */
function checkCoverage(entries, dataBegin, size, fail) {
  let at = dataBegin;
  let before = 'the header';
  for (const { name, begin, end } of entries) {
    if (begin !== at) {
      const what = begin > at ? 'leave a hole after' : 'overlap with';
      throw fail(`tensor ${show(name)}: data_offsets [${begin - dataBegin}, ${end - dataBegin}] ${what} ${before}, which ends at ${at - dataBegin}`);
    }
    at = end;
    before = `tensor ${show(name)}`;
  }
  if (size !== undefined && at > size) {
    const first = /** @type {Entry} */ (entries.find(({ end }) => end > size));
    throw fail(`the file is truncated: expected ${at} bytes, got ${size}; tensor ${show(first.name)} ends at byte ${first.end}`);
  }
  if (size !== undefined && at < size) throw fail(`the file is too long: ${before} ends at byte ${at}, the file has ${size}`);
  return at;
}

/**
 * A key that one object of the JSON has twice; JSON.parse keeps the last and says nothing.
 * @param {string} text Valid JSON.
 * @returns {string | null}
 */
function duplicateKey(text) {
  /** @type {Set<string>[]} */
  const open = [];
  // A loop, not a pattern: one long string would be too much for the stack of a regular expression.
  for (let i = 0; i < text.length; i++) {
    const c = text[i];
    if (c === '{') open.push(new Set());
    else if (c === '}') open.pop();
    if (c !== '"') continue;
    const begin = i;
    for (i++; text[i] !== '"'; i++) if (text[i] === '\\') i++;
    let next = i + 1;
    while (' \t\n\r'.includes(text[next] ?? '-')) next++;
    if (text[next] !== ':') continue;
    const name = JSON.parse(text.slice(begin, i + 1));
    const seen = open[open.length - 1];
    if (seen.has(name)) return name;
    seen.add(name);
  }
  return null;
}
