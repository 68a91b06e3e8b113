/** Checkpoints in safetensors files: opened without reading the numbers, streamed in pieces, written. */
import { LamellaError } from '../errors.js';
import { BITS, LONGEST, parseHeader, refuse } from './header.js';
import { dtypeOf, StoredTensor, toBytes } from './numbers.js';
import { openSource } from './source.js';

/** @typedef {import('./source.js').ByteSource} ByteSource */
/** @typedef {import('./source.js').Source} Source */
/** @typedef {import('./source.js').SourceOptions} SourceOptions */
/** @typedef {{ dtype: string, shape: readonly number[], bytes: number }} TensorInfo */
/** @typedef {{ name: string, offset: number, data: Uint8Array }} Chunk Bytes of a tensor from its byte `offset` on. */
/** @typedef {{ source: Source, key: string, begin: number, end: number, info: TensorInfo }} Place */

/** Tensors closer than this are asked for in one request. */
const GAP = 1 << 16;
/** Bytes of a chunk at most, unless a single unit is larger. */
const CHUNK = 1 << 20;

/**
 * Opens a checkpoint and reads its header; the numbers stay where they are.
 *
 *     const weights = await safetensors.open('open_clip_model.safetensors');
 *     weights.names;                                   // ['logit_scale', 'positional_embedding', ...]
 *     const bias = await weights.tensor('visual.attnpool.c_proj.bias');
 *
 * @param {ByteSource | readonly ByteSource[]} source A URL, a path (Node), a File, a Blob, bytes, a Response or a stream; a list of shards; or
 *   the `model.safetensors.index.json` beside the shards (with Files: all of them in a list, the index among them or not).
 * @param {SourceOptions} [options] `signal` aborts the opening and every later read; `request` is passed on to fetch.
 * @returns {Promise<Weights>}
 * @throws {LamellaError} 'safetensors' when the file is not what it says; 'http', 'html', 'truncated', 'file', 'source' when it cannot be read.
 */
export async function open(source, options = {}) {
  const list = Array.isArray(source) ? source : [source];
  if (!list.length) throw new LamellaError('source', 'expected a checkpoint, got an empty list of shards');
  const indexes = list.filter((from) => /\.json$/i.test(nameOf(from)));
  if (indexes.length) return openIndex(indexes[0], list.filter((from) => from !== indexes[0]), options);
  /** @type {Weights[]} */
  const shards = [];
  try {
    for (const from of list) shards.push(await openFile(/** @type {ByteSource} */ (from), options));
    return join(shards);
  } catch (error) {
    for (const shard of shards) await shard.close();
    throw error;
  }
}

/** The file's name as far as it has one. @param {any} from @returns {string} */
function nameOf(from) {
  if (typeof from === 'string' || from instanceof URL) return String(from).replace(/[?#].*$/, '');
  return typeof from?.name === 'string' ? from.name : '';
}

/** @param {ByteSource} from @param {SourceOptions} options @returns {Promise<Weights>} */
async function openFile(from, options) {
  const source = await openSource(from, options);
  try {
    const length = await readLength(source);
    const json = await collect(source, 8, 8 + length);
    if (json.byteLength < length) throw refuse(source.name, `truncated: the header has ${length} bytes, ${json.byteLength} came`);
    const { tensors, metadata, end } = parseHeader(source.name, json, 8 + length, source.size);
    const places = [...tensors].map(([key, { dtype, shape, begin, end: stop }]) => /** @type {[string, Place]} */ ([key, { source, key, begin, end: stop, info: { dtype, shape, bytes: stop - begin } }]));
    return new Weights(new Map(places), metadata, [source], options.signal ?? null, end);
  } catch (error) {
    await source.close();
    throw error;
  }
}

/** @param {Source} source @returns {Promise<number>} */
async function readLength(source) {
  const start = await collect(source, 0, 8);
  if (looksLikeHtml(start)) throw new LamellaError('html', `${source.name}: expected a checkpoint, got an HTML page; is the address right?`, { path: source.name });
  if (start.byteLength < 8) throw refuse(source.name, `truncated: ${start.byteLength} bytes, not even the length of a header`);
  const length = new DataView(start.buffer, start.byteOffset).getBigUint64(0, true);
  if (length > BigInt(LONGEST)) throw refuse(source.name, `not a safetensors file, or a damaged one: its header would have ${length} bytes, at most ${LONGEST} are allowed`);
  if (length < 2n) throw refuse(source.name, `its header has ${length} bytes, the shortest is "{}"`);
  if (source.size !== undefined && Number(length) > source.size - 8) throw refuse(source.name, `truncated: the header has ${length} bytes, the whole file ${source.size}`);
  return Number(length);
}

/** @param {Uint8Array} bytes */
const looksLikeHtml = (bytes) => /^\s*<(!doc|html|head|\?xml)/i.test(String.fromCharCode(...bytes));

/** Bytes [begin, end), or fewer if the source ends. @param {Source} source @param {number} begin @param {number} end */
async function collect(source, begin, end) {
  /** Not sized by what a file says of itself: a lie should cost nothing. @type {Uint8Array[]} */
  const parts = [];
  for await (const piece of source.stream(begin, end)) parts.push(piece);
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.byteLength, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.byteLength;
  }
  return whole;
}

// ---- shards ---------------------------------------------------------------------------------------------------------

/**
 * @param {any} index
 * @param {any[]} others Shards given with it; without, they lie beside the index.
 * @param {SourceOptions} options
 * @returns {Promise<Weights>}
 */
async function openIndex(index, others, options) {
  const source = await openSource(index, options);
  const text = new TextDecoder().decode(await collect(source, 0, LONGEST).finally(() => source.close()));
  /** @type {Record<string, string>} */
  let map;
  try {
    map = JSON.parse(text).weight_map;
  } catch (cause) {
    throw refuse(source.name, `the index is not JSON: ${/** @type {Error} */ (cause).message}`, { cause });
  }
  if (typeof map !== 'object' || map === null || Object.values(map).some((file) => typeof file !== 'string')) throw refuse(source.name, 'the index has no "weight_map" from tensors to files');
  /** @type {Map<string, Weights>} */
  const files = new Map();
  try {
    for (const file of new Set(Object.values(map))) files.set(file, await openFile(shardNamed(file, index, others, source.name), options));
    for (const [name, file] of Object.entries(map)) {
      if (!files.get(file)?.has(name)) throw refuse(source.name, `the index places "${name}" in ${file}, which does not have it`, { path: name });
    }
    return join([...files.values()]);
  } catch (error) {
    for (const shard of files.values()) await shard.close();
    throw error;
  }
}

/** @param {string} file @param {any} index @param {any[]} others @param {string} indexName @returns {ByteSource} */
function shardNamed(file, index, others, indexName) {
  const given = others.find((from) => nameOf(from).split(/[\\/]/).pop() === file);
  if (given !== undefined) return given;
  if (typeof index === 'string' || index instanceof URL) {
    const at = String(index);
    return at.replace(/\?.*$/, '').replace(/[^\\/]*$/, '') + file + (/\?.*$/.exec(at)?.[0] ?? '');
  }
  throw new LamellaError('source', `${indexName} names the shard ${file}, which was not given`, { path: file });
}

/** Several files as one checkpoint. @param {Weights[]} shards @returns {Weights} */
function join(shards) {
  if (shards.length === 1) return shards[0];
  const places = new Map();
  for (const shard of shards) {
    for (const [name, place] of shard.places) {
      if (places.has(name)) throw refuse(place.source.name, `the tensor "${name}" is in another shard too`, { path: name });
      places.set(name, place);
    }
  }
  return new Weights(places, Object.assign({}, ...shards.map((shard) => shard.metadata)), shards.flatMap((shard) => shard.sources), shards[0].signal, undefined);
}

// ---- weights --------------------------------------------------------------------------------------------------------

/** An open checkpoint. Close it when done with it; `compile` closes those it opened. */
export class Weights {
  /**
   * @param {Map<string, Place>} places
   * @param {Record<string, string>} metadata
   * @param {Source[]} sources
   * @param {AbortSignal | null} signal
   * @param {number | undefined} end Where the data of a single file ends.
   */
  constructor(places, metadata, sources, signal, end) {
    this.places = places;
    /** The file's `__metadata__`. */
    this.metadata = metadata;
    this.sources = sources;
    this.signal = signal;
    this.end = end;
  }

  /** Names of all tensors, in the order of the header. */
  get names() {
    return [...this.places.keys()];
  }

  keys() {
    return this.places.keys();
  }

  /** @param {string} name */
  has(name) {
    return this.places.has(name);
  }

  /** dtype, shape and bytes of a tensor. @param {string} name @returns {TensorInfo | undefined} */
  get(name) {
    return this.places.get(name)?.info;
  }

  /**
   * The tensors whose names begin with a prefix, without it.
   * @param {string} prefix 'visual.'
   * @returns {Weights} Shares the files: closing either closes both.
   */
  under(prefix) {
    const places = [...this.places].filter(([name]) => name.startsWith(prefix)).map(([name, place]) => /** @type {[string, Place]} */ ([name.slice(prefix.length), place]));
    return new Weights(new Map(places), this.metadata, this.sources, this.signal, this.end);
  }

  /**
   * One tensor, whole. A source without random access gives each part once, in the order of the file.
   * @param {string} name
   * @returns {Promise<StoredTensor>}
   */
  async tensor(name) {
    const { source, begin, end, info } = this.#place(name);
    const bytes = await collect(source, begin, end);
    if (bytes.byteLength < info.bytes) throw truncated(source, name, begin + bytes.byteLength);
    return new StoredTensor(info.dtype, [...info.shape], bytes);
  }

  /**
   * The numbers of many tensors, in the order that costs least. Never holds more than a chunk and what the source hands over.
   * @param {Iterable<string>} [names] All by default.
   * @param {object} [options]
   * @param {(name: string) => number} [options.unit] Every chunk of a tensor is a multiple of this many bytes long; at least an element.
   * @param {number} [options.chunkBytes] Longest chunk, unless one unit is longer; 1 MiB.
   * @param {AbortSignal | null} [options.signal]
   * @returns {AsyncGenerator<Chunk>} The bytes are valid until the next chunk.
   */
  async* chunks(names = this.places.keys(), { unit = () => 1, chunkBytes = CHUNK, signal = null } = {}) {
    for (const run of requests([...names].map((name) => ({ name, place: this.#place(name) })))) {
      const cutters = run.map(({ name, place }) => new Cutter(name, place, Math.max(unit(name), Math.ceil(BITS[place.info.dtype] / 8)), chunkBytes));
      const { source, begin } = run[0].place;
      let at = begin;
      let next = 0;
      for await (const piece of source.stream(begin, run[run.length - 1].place.end)) {
        signal?.throwIfAborted();
        for (; next < cutters.length; next++) {
          yield* cutters[next].take(piece, at);
          if (cutters[next].left) break;
        }
        at += piece.byteLength;
      }
      for (; next < cutters.length; next++) {   // the last ones may be empty
        if (cutters[next].left) throw truncated(source, cutters[next].name, at);
      }
    }
  }

  async close() {
    for (const source of new Set(this.sources)) await source.close();
  }

  /** @param {string} name @returns {Place} */
  #place(name) {
    const place = this.places.get(name);
    if (!place) throw new LamellaError('keys', `the checkpoint has no tensor "${name}"`, { path: name });
    return place;
  }
}

/** @param {Source} source @param {string} name @param {number} came */
function truncated(source, name, came) {
  const of = source.size === undefined ? '' : ` of ${source.size}`;
  return new LamellaError('truncated', `${source.name}: ended after ${came}${of} bytes, in the middle of "${name}"`, { path: name });
}

/**
 * Tensors in file order, neighbours together.
 * @param {{ name: string, place: Place }[]} wanted
 * @returns {{ name: string, place: Place }[][]}
 */
function requests(wanted) {
  const order = new Map([...new Set(wanted.map(({ place }) => place.source))].map((source, i) => [source, i]));
  const rank = (/** @type {Place} */ place) => /** @type {number} */ (order.get(place.source));
  wanted.sort((a, b) => rank(a.place) - rank(b.place) || a.place.begin - b.place.begin || a.place.end - b.place.end);
  /** @type {{ name: string, place: Place }[][]} */
  const runs = [];
  for (const one of wanted) {
    const run = runs[runs.length - 1];
    const last = run?.[run.length - 1].place;
    if (last && last.source === one.place.source && one.place.begin - last.end <= GAP) run.push(one);
    else runs.push([one]);
  }
  return runs;
}

/** Cuts the pieces that pass by into chunks of one tensor. */
class Cutter {
  /** @param {string} name @param {Place} place @param {number} unit @param {number} chunkBytes */
  constructor(name, { begin, end }, unit, chunkBytes) {
    this.name = name;
    this.begin = begin;
    this.end = end;
    this.unit = unit;
    this.most = Math.max(unit, Math.floor(chunkBytes / unit) * unit);
    this.at = begin;
    /** The start of a unit that the next piece completes. @type {Uint8Array | null} */
    this.partial = null;
    this.filled = 0;
  }

  /** Bytes still to come. */
  get left() {
    return this.end - this.at;
  }

  /**
   * @param {Uint8Array} piece
   * @param {number} offset Of the piece in the file.
   * @returns {Generator<Chunk>}
   */
  * take(piece, offset) {
    while (this.left && this.at < offset + piece.byteLength) {
      const bytes = piece.subarray(this.at - offset, Math.min(piece.byteLength, this.end - offset));
      const whole = Math.min(this.most, Math.floor(bytes.byteLength / this.unit) * this.unit);
      const ends = this.at + bytes.byteLength === this.end;
      if (!this.filled && (whole || ends)) {
        const data = ends && bytes.byteLength <= this.most ? bytes : bytes.subarray(0, whole);
        yield this.#chunk(data, this.at);
        this.at += data.byteLength;
        continue;
      }
      this.partial ??= new Uint8Array(this.unit);
      const part = bytes.subarray(0, this.unit - this.filled);
      this.partial.set(part, this.filled);
      this.filled += part.byteLength;
      this.at += part.byteLength;
      if (this.filled === this.unit || !this.left) {
        const data = this.partial.subarray(0, this.filled);
        this.filled = 0;
        yield this.#chunk(data, this.at - data.byteLength);
      }
    }
  }

  /** @param {Uint8Array} data @param {number} at @returns {Chunk} */
  #chunk(data, at) {
    return { name: this.name, offset: at - this.begin, data };
  }
}

// ---- writing --------------------------------------------------------------------------------------------------------

/**
 * A safetensors file, laid out as the format's own library does: wide types first, then by name.
 * @param {Record<string, { data: any, shape: readonly number[], dtype?: string }>} tensors dtype defaults to the array's; 'F16' and 'BF16' round
 *   floats to the nearest.
 * @param {Record<string, string>} [metadata]
 * @returns {Uint8Array}
 * @throws {LamellaError} 'argument' when a shape does not fit its data.
 */
export function write(tensors, metadata) {
  const list = Object.entries(tensors).map(([name, { data, shape, dtype }]) => {
    const type = dtype ? dtype.toUpperCase() : dtypeOf(data);
    const bytes = toBytes(type, data);
    const expected = shape.reduce((n, size) => n * size, 1) * BITS[type] / 8;
    if (bytes.byteLength !== expected) throw new LamellaError('argument', `safetensors.write: "${name}": ${type} [${shape.join(', ')}] takes ${expected} bytes, its data has ${bytes.byteLength}`, { path: name });
    return { name, type, shape, bytes };
  });
  list.sort((a, b) => BITS[b.type] - BITS[a.type] || (a.name < b.name ? -1 : 1));
  /** @type {Record<string, unknown>} */
  const header = metadata ? { __metadata__: metadata } : {};
  let at = 0;
  for (const { name, type, shape, bytes } of list) header[name] = { dtype: type, shape: [...shape], data_offsets: [at, at += bytes.byteLength] };
  const json = new TextEncoder().encode(JSON.stringify(header));
  const length = Math.ceil(json.byteLength / 8) * 8;
  const file = new Uint8Array(8 + length + at).fill(32, 8, 8 + length);
  new DataView(file.buffer).setBigUint64(0, BigInt(length), true);
  file.set(json, 8);
  at = 8 + length;
  for (const { bytes } of list) {
    file.set(bytes, at);
    at += bytes.byteLength;
  }
  return file;
}
