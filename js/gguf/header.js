/** The header of a GGUF file, by @huggingface/gguf. */
import { show, showShape } from '../arguments.js';
import { LamellaError } from '../errors.js';
import { readBytes, truncated } from '../weights/bytes.js';
import { kindOf } from './blocks.js';

/** @typedef {import('../weights/bytes.js').Source} Source */
/** @typedef {import('./blocks.js').Kind} Kind */
/** @typedef {{ source: Source, name: string, shape: readonly number[], kind: Kind, begin: number, end: number }} Stored A tensor, where it lies; axes as PyTorch has them. */

const MAX_SAFE = BigInt(Number.MAX_SAFE_INTEGER);

/**
 * @param {Source} source
 * @param {AbortSignal | null} signal
 * @returns {Promise<{ metadata: Record<string, any>, tensors: Stored[] }>}
 */
export async function readHeader(source, signal) {
  const { name, size } = source;
  const fail = (/** @type {string} */ problem, /** @type {unknown} */ cause = undefined) => new LamellaError('gguf', `${name}: ${problem}`, { path: name, cause });
  const { gguf } = await import('../../dist/gguf.js');
  let parsed;
  try {
    // It asks for ranges of an address; they are answered from the source, whatever that is.
    parsed = await gguf('https://source/', { fetch: (/** @type {string} */ uri, /** @type {{ headers: { Range: string } }} */ { headers }) => answer(source, headers.Range, signal) });
  } catch (cause) {
    signal?.throwIfAborted();
    if (cause instanceof LamellaError) throw cause;
    if (cause instanceof RangeError) throw new LamellaError('truncated', `${name}: the header goes on behind the file's end${size === undefined ? '' : `, which is at byte ${size}`}`, { path: name, cause });
    throw fail(/** @type {Error} */ (cause).message, cause);
  }
  const { metadata, tensorInfos, tensorDataOffset, littleEndian, tensorInfoByteRange } = parsed;
  if (!littleEndian) throw fail('its numbers are big-endian, which is not supported');
  if (size !== undefined && tensorInfoByteRange[1] > size) throw truncated(name, 0, tensorInfoByteRange[1], size);
  const tensors = tensorInfos.map((/** @type {any} */ info) => storedOf(source, info, tensorDataOffset, fail));
  for (const tensor of tensors) {
    if (size !== undefined && tensor.end > size) throw new LamellaError('truncated', `${name}: the file is truncated: tensor ${show(tensor.name)} ends at byte ${tensor.end}, the file has ${size}`, { path: name });
  }
  return { metadata, tensors };
}

/**
 * @param {Source} source
 * @param {string} range
 * @param {AbortSignal | null} signal
 */
async function answer(source, range, signal) {
  const [, begin, last] = /** @type {RegExpExecArray} */ (/(\d+)-(\d+)/.exec(range));
  const end = Math.min(Number(last) + 1, source.size ?? Infinity);
  const bytes = Number(begin) < end ? await readBytes(source, Number(begin), end, { signal, short: true }) : new Uint8Array(0);
  if (!bytes.length) throw new LamellaError('truncated', `${source.name}: the header goes on behind the file's end, which is at byte ${begin}`, { path: source.name });
  return { headers: new Headers(), arrayBuffer: async () => bytes.slice().buffer };
}

/**
 * @param {Source} source
 * @param {{ name: string, shape: bigint[], dtype: number, offset: bigint }} info
 * @param {bigint} data
 * @param {(problem: string) => LamellaError} fail
 * @returns {Stored}
 */
function storedOf(source, { name, shape: dims, dtype, offset }, data, fail) {
  const kind = kindOf(dtype);
  const numbers = dims.reduce((product, size) => product * size, 1n);
  if (numbers * 8n > MAX_SAFE || data + offset > MAX_SAFE) throw fail(`tensor ${show(name)}: [${dims.join(', ')}] at byte ${offset} is more than a file can hold`);
  const shape = dims.map(Number).reverse();
  const columns = shape.at(-1) ?? 1;
  if (kind.bytes && columns % kind.numbers) throw fail(`tensor ${show(name)}: ${kind.name} needs rows of a multiple of ${kind.numbers}, got ${showShape(shape)}`);
  const begin = Number(data + offset);
  return { source, name, shape, kind, begin, end: begin + Number(numbers) / kind.numbers * kind.bytes };
}
