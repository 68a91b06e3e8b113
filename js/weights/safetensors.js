/** Checkpoints in the safetensors format: open one, read tensors from it, write one. */
import { badArgument, show } from '../arguments.js';
import { LamellaError } from '../errors.js';
import { readBytes } from './bytes.js';
import { readChunks } from './chunks.js';
import { DTYPES, toFloat32 } from './dtype.js';
import { readHeader } from './header.js';
import { findShards, parseIndex } from './index-file.js';
import { openSource } from './source.js';

export { write } from './write.js';

/** @typedef {import('./bytes.js').Source} Source */
/** @typedef {import('./chunks.js').Chunk} Chunk */
/** @typedef {import('./dtype.js').NumberArray} NumberArray */
/** @typedef {import('./header.js').Entry} Entry */
/** @typedef {import('./header.js').Header} Header */
/** @typedef {import('./source.js').SourceLike} SourceLike */
/** @typedef {import('./source.js').SourceOptions} SourceOptions */
/** @typedef {{ source: Source, content: { header: Header } | { json: string } }} Opened */
/** @typedef {Entry & { source: Source, fileEnd: number }} Place A tensor and the file it lies in. */
/**
 * @typedef {object} TensorInfo
 * @property {string} dtype As in the file: 'F32', 'F16', 'BF16', 'I64'...
 * @property {readonly number[]} shape
 * @property {number} bytes
 * @property {string} file Where it lies.
 */

/**
 * Opens a checkpoint: reads and checks its header, no more.
 *
 *     const weights = await safetensors.open('https://example.org/model.safetensors');
 *     weights.get('conv1.weight');               // { dtype: 'F32', shape: [32, 3, 3, 3], bytes: 3456, file: ... }
 *     (await weights.tensor('logit_scale')).data[0];
 *
 * From a server that answers range requests only what is wanted is fetched; from another the file comes as one stream, and what
 * lies before the bytes already read costs another download.
 *
 * @param {SourceLike | readonly SourceLike[]} source A URL, a path (in Node), a File, bytes, a Response or stream; or a list of shards. A
 *   `model.safetensors.index.json` stands for its shards: they are looked for beside it, or by name in the list it is part of.
 * @param {SourceOptions} [options] `signal`; `request`, what `fetch` is told (headers, credentials); `cache`: keep what is downloaded, as compile does.
 * @returns {Promise<Weights>}
 * @throws {LamellaError} 'safetensors' when the file is not one or contradicts itself, 'truncated', 'html', 'http', 'file'.
 */
export async function open(source, options = {}) {
  const list = Array.isArray(source) ? source : [source];
  if (!list.length) throw badArgument('safetensors.open', 'at least one shard', source);
  /** @type {Opened[]} */
  const opened = [];
  try {
    await openAll(list, options, opened);
    const index = opened.find((file) => 'json' in file.content);
    if (!index) return new Weights(places(opened), metadataOf(opened), options.cache);
    const parsed = parseIndex(index.source, /** @type {{ json: string }} */ (index.content).json);
    opened.splice(opened.indexOf(index), 1);
    await index.source.close();
    await openAll(findShards(parsed, opened.map((file) => file.source.name)), options, opened);
    return new Weights(parsed.select(places(opened)), metadataOf(opened), options.cache);
  } catch (error) {
    await Promise.all(opened.map((file) => file.source.close()));
    throw error;
  }
}

/**
 * @param {readonly SourceLike[]} list
 * @param {SourceOptions} options
 * @param {Opened[]} opened What has been opened is added here, in the list's order, also when something fails.
 */
async function openAll(list, options, opened) {
  const results = await Promise.allSettled(list.map(async (like) => {
    const source = await openSource(like, options);
    try {
      return { source, content: await readHeader(source, options) };
    } catch (error) {
      if (error instanceof LamellaError && error.code !== 'http' && !(/** @type {any} */ (error).isGguf)) await source.discard?.();
      await source.close();
      throw error;
    }
  }));
  for (const result of results) if (result.status === 'fulfilled') opened.push(result.value);
  for (const result of results) if (result.status === 'rejected') throw result.reason;
}

/**
 * @param {Opened[]} shards
 * @returns {Map<string, Place>}
 * @throws {LamellaError} when one is no shard, or two have the same tensor.
 */
function places(shards) {
  /** @type {Map<string, Place>} */
  const found = new Map();
  for (const { source, content } of shards) {
    if (!('header' in content)) throw new LamellaError('safetensors', `${source.name}: expected a shard, got a JSON file`, { path: source.name });
    const { header } = content;
    for (const entry of header.entries) {
      const other = found.get(entry.name);
      if (other) throw new LamellaError('safetensors', `tensor ${show(entry.name)} is in two shards: ${other.source.name} and ${source.name}`, { path: entry.name });
      found.set(entry.name, { ...entry, source, fileEnd: header.size });
    }
  }
  return found;
}

/** @param {Opened[]} shards @returns {Record<string, string>} */
const metadataOf = (shards) => Object.assign({}, ...shards.map(({ content }) => 'header' in content && content.header.metadata));

/** The tensors of a checkpoint, by name. Nothing is read before it is asked for. `open` makes one. */
export class Weights {
  /** @type {Map<string, Place>} */
  #places;

  /**
   * @param {Map<string, Place>} places_
   * @param {Record<string, string>} metadata
   * @param {SourceOptions['cache']} cache
   */
  constructor(places_, metadata, cache = false) {
    this.#places = places_;
    /** Whether what is downloaded is kept, as `open` was told; for what lies beside it, too: tokenizer, chat template. */
    this.cache = cache;
    /** `__metadata__` of the file, of all shards together. */
    this.metadata = metadata;
  }

  /** All names, in the order of their bytes. @returns {string[]} */
  get names() {
    return [...this.#places.keys()];
  }

  keys() {
    return this.#places.keys();
  }

  /** @param {string} name */
  has(name) {
    return this.#places.has(name);
  }

  /**
   * @param {string} name
   * @returns {TensorInfo | undefined}
   */
  get(name) {
    const place = this.#places.get(name);
    return place && { dtype: place.dtype, shape: place.shape, bytes: place.end - place.begin, file: place.source.name };
  }

  /**
   * The tensors whose names begin with `prefix`, without it.
   * @param {string} prefix 'visual.'
   * @returns {Weights} It reads from the same files; closing one closes both.
   */
  under(prefix) {
    const inside = [...this.#places].filter(([name]) => name.startsWith(prefix));
    return new Weights(new Map(inside.map(([name, place]) => [name.slice(prefix.length), place])), this.metadata, this.cache);
  }

  /**
   * One tensor.
   * @param {string} name
   * @param {{ signal?: AbortSignal | null }} [options]
   * @returns {Promise<StoredTensor>}
   * @throws {LamellaError} 'keys' when there is none of that name, 'truncated', 'http', 'file'.
   */
  async tensor(name, { signal = null } = {}) {
    const { source, begin, end, dtype, shape } = this.#place(name);
    const bytes = await readBytes(source, begin, end, { signal });
    const Numbers = DTYPES[dtype].array;
    // A copy: it is aligned, and the caller's own.
    return new StoredTensor(name, dtype, shape, new Numbers(bytes.slice().buffer));
  }

  /**
   * The bytes of tensors in pieces, in the order in which they are cheapest to read: that of the file. No more than a few pieces are in
   * memory at a time: each `data` is good until the next is asked for.
   * @param {Iterable<string>} [names] Default: all.
   * @param {{ signal?: AbortSignal | null, chunkBytes?: number, unit?: (name: string) => number }} [options] `chunkBytes`: what a piece
   *   measures at most, default 1 MiB. `unit`: bytes that are not to be cut apart, such as a row; default one element. A piece is a multiple
   *   of it (the tensor's last one may be short), and larger than chunkBytes if one unit is.
   * @returns {AsyncGenerator<Chunk, void, void>} `offset` counts bytes from the tensor's beginning. An empty tensor has one empty piece.
   */
  chunks(names = this.names, { signal = null, chunkBytes = 1 << 20, unit } = {}) {
    if (!(chunkBytes >= 1)) throw badArgument('chunks: chunkBytes', 'a number of at least 1', chunkBytes);
    const wanted = [...new Set(names)].map((name) => {
      const place = this.#place(name);
      const element = Math.max(1, DTYPES[place.dtype].bits / 8);
      const whole = unit ? unit(name) || element : element;
      if (!Number.isInteger(whole / Math.ceil(element))) throw badArgument(`chunks: unit(${show(name)})`, `a multiple of the ${element} bytes of ${place.dtype}`, whole);
      return { name, place, step: Math.max(1, Math.floor(chunkBytes / whole)) * whole };
    });
    return readChunks(wanted, signal);
  }

  /**
   * Where a file beside the checkpoint lies, as a URL or a path; undefined where nobody knows.
   * @param {string} name 'tokenizer.json'
   * @returns {string | undefined}
   */
  neighbour(name) {
    const first = this.#places.values().next().value;
    return first?.source.neighbour?.(name);
  }

  /** Frees connections. What has been read stays good. */
  async close() {
    await Promise.all([...new Set([...this.#places.values()].map((place) => place.source))].map((source) => source.close()));
  }

  /** @param {string} name */
  #place(name) {
    const place = this.#places.get(name);
    if (!place) throw new LamellaError('keys', `there is no tensor ${show(name)} in the checkpoint; it has ${this.#places.size}`, { path: name });
    return place;
  }
}

/** A tensor as a checkpoint keeps it. */
class StoredTensor {
  /**
   * @param {string} name
   * @param {string} dtype
   * @param {readonly number[]} shape
   * @param {NumberArray} data
   */
  constructor(name, dtype, shape, data) {
    this.name = name;
    /** As in the file: 'F32', 'F16', ... */
    this.dtype = dtype;
    this.shape = shape;
    /** The numbers; bit patterns where JavaScript has no array of them (f16, bf16, f8). */
    this.data = data;
  }

  /**
   * @returns {Float32Array} `data` itself where it is f32.
   * @throws {LamellaError} 'dtype'
   */
  toFloat32() {
    const floats = toFloat32(this.dtype, this.data);
    if (!floats) throw new LamellaError('dtype', `tensor ${show(this.name)}: ${this.dtype} cannot be turned into f32`, { path: this.name });
    return floats;
  }
}
