/** Checkpoints whose weights are codes already, as compressed-tensors names and lays them out (js/MODELS.md, "Fewer bits in the file"). */
import { show, showShape } from '../arguments.js';
import { LamellaError } from '../errors.js';
import { DTYPES, toFloat32 } from './dtype.js';

/** @typedef {import('../load.js').WeightsReader} WeightsReader */
/** @typedef {import('../load.js').Chunk} Chunk */
/** @typedef {{ dtype: string, shape: readonly number[], bytes: number }} Info */
/**
 * A weight that is codes.
 * @typedef {object} Coded
 * @property {Info} info dtype 'Q8' or 'Q4', the weight's own shape, bytes with the scales.
 * @property {string} codes The tensor that holds the codes.
 * @property {string} scale The one that holds the scales.
 * @property {number} storedBytes All of the scales, as they are stored.
 * @property {number} scaleBytes Of one row, as the engine wants them.
 * @property {number} codeBytes Of one row.
 * @property {(bytes: Uint8Array) => Uint8Array} scales All rows' as the engine wants them.
 */

/** What the engine takes together in 4 bits. */
const BLOCK = 32;

/**
 * The checkpoint with its codes under the names of the weights: 'Q8' or 'Q4', rows of scales and codes behind each other (kernels/quantized.h).
 * @param {WeightsReader} weights
 * @param {string[]} names Of the weights that are codes.
 * @returns {CodedReader}
 * @throws {LamellaError} 'safetensors' where the codes are of a kind that cannot be loaded.
 */
export function withCodes(weights, names) {
  return new CodedReader(weights, new Map(names.map((name) => [name, (weights.get(`${name}_packed`) ? inFours : inEights)(weights, name, `${name}_scale`)])));
}

/**
 * @param {string} name
 * @param {string} what
 * @param {string} expected
 * @param {Info} got
 */
const unlike = (name, what, expected, got) => new LamellaError('safetensors', `${name}: ${what}: expected ${expected}, got ${got.dtype} ${showShape(got.shape)}`, { path: name });

/** @param {WeightsReader} weights @param {string} name */
const infoOf = (weights, name) => /** @type {Info} */ (weights.get(name));

/**
 * @param {WeightsReader} weights
 * @param {string} name
 * @param {string} scale
 * @returns {Coded}
 */
function inEights(weights, name, scale) {
  const { shape } = infoOf(weights, name);
  const scales = infoOf(weights, scale);
  const rows = shape[0] ?? 1;
  checkPlain(weights, name);
  if (!['F32', 'F16', 'BF16'].includes(scales.dtype) || scales.shape[0] !== rows || scales.shape.slice(1).some((size) => size !== 1)) {
    throw unlike(name, scale, `F32, F16 or BF16 [${rows}, 1], a scale for each row of codes`, scales);
  }
  const codeBytes = shape.slice(1).reduce((product, size) => product * size, 1);
  return {
    info: { dtype: 'Q8', shape, bytes: rows * (4 + codeBytes) }, codes: name, scale, storedBytes: scales.bytes, scaleBytes: 4, codeBytes,
    scales: (bytes) => new Uint8Array(/** @type {Float32Array} */ (toFloat32(scales.dtype, new DTYPES[scales.dtype].array(bytes.buffer))).buffer),
  };
}

/**
 * @param {WeightsReader} weights
 * @param {string} name
 * @param {string} scale
 * @returns {Coded}
 */
function inFours(weights, name, scale) {
  const codes = `${name}_packed`;
  const packed = infoOf(weights, codes);
  const scales = infoOf(weights, scale);
  checkPlain(weights, name);
  if (packed.dtype !== 'I32' || packed.shape.length !== 2) throw unlike(name, codes, 'I32 [rows, columns / 8]', packed);
  const [rows, words] = packed.shape;
  const blocks = Math.ceil(words * 8 / BLOCK);
  const [, columns = 1] = scales.shape;
  const times = blocks / columns;   // blocks that share a scale
  if (scales.dtype !== 'BF16' || scales.shape[0] !== rows || !Number.isInteger(times) || (times > 1 && words * 8 % (BLOCK * times))) {
    throw unlike(name, scale, `BF16 [${rows}, ${blocks}], a scale for each ${BLOCK} codes of a row, or for a multiple of ${BLOCK}`, scales);
  }
  return {
    info: { dtype: 'Q4', shape: [rows, words * 8], bytes: rows * (blocks * 2 + words * 4) }, codes, scale, storedBytes: scales.bytes, scaleBytes: blocks * 2, codeBytes: words * 4,
    scales: (bytes) => (times === 1 ? bytes : repeated(bytes, times)),
  };
}

/** @param {Uint8Array} bytes @param {number} times */
function repeated(bytes, times) {
  const from = new Uint16Array(bytes.buffer);
  return new Uint8Array(Uint16Array.from({ length: from.length * times }, (_, i) => from[Math.floor(i / times)]).buffer);
}

/** @param {WeightsReader} weights @param {string} name */
function checkPlain(weights, name) {
  for (const suffix of ['_zero_point', '_g_idx']) {
    if (weights.get(name + suffix)) throw new LamellaError('safetensors', `${name}: codes with ${show(name + suffix)} cannot be loaded: only symmetric ones in the order of the columns`, { path: name });
  }
}

/** A reader that joins codes and scales. */
export class CodedReader {
  /**
   * @param {WeightsReader} weights
   * @param {Map<string, Coded>} coded
   */
  constructor(weights, coded) {
    this.weights = weights;
    this.coded = coded;
    const hidden = new Set([...coded].flatMap(([name, { codes, scale }]) => [codes, scale, `${name}_shape`]));
    this.names = [...[...weights.keys()].filter((name) => !hidden.has(name)), ...coded.keys()];
  }

  keys() {
    return this.names;
  }

  /** @param {string} name */
  get(name) {
    return this.coded.get(name)?.info ?? this.weights.get(name);
  }

  get cache() {
    return this.weights.cache;
  }

  /** @param {string} name */
  neighbour(name) {
    return this.weights.neighbour?.(name);
  }

  /**
   * @param {string[]} names
   * @param {{ unit: (name: string) => number, signal?: AbortSignal | null }} options
   * @returns {AsyncGenerator<Chunk>}
   */
  async* chunks(names, { unit, signal }) {
    /** @type {Map<string, Joiner>} */
    const joiners = new Map();
    const wanted = names.flatMap((name) => {
      const coded = this.coded.get(name);
      if (!coded) return [name];
      const joiner = new Joiner(name, coded);
      joiners.set(coded.codes, joiner).set(coded.scale, joiner);
      return [coded.scale, coded.codes];
    });
    /** @param {string} name */
    const units = (name) => {
      const joiner = joiners.get(name);
      if (!joiner) return unit(name);
      const { info, codes, codeBytes } = joiner.coded;
      return name === codes ? unit(joiner.name) / (info.bytes / info.shape[0]) * codeBytes : 4;
    };
    for await (const chunk of this.weights.chunks(wanted, { unit: units, signal })) {
      const joiner = joiners.get(chunk.name);
      if (joiner) yield* joiner.join(chunk);
      else yield chunk;
    }
  }
}

/** Puts the two tensors of a weight together, whichever comes first. */
class Joiner {
  /** @param {string} name @param {Coded} coded */
  constructor(name, coded) {
    this.name = name;
    this.coded = coded;
    this.arrived = 0;
    /** @type {Uint8Array | null} */
    this.stored = null;
    /** @type {Uint8Array | null} */
    this.scales = null;
    /** Codes that came before their scales. @type {Chunk[]} */
    this.waiting = [];
  }

  /**
   * @param {Chunk} chunk
   * @returns {Generator<Chunk>}
   */
  * join(chunk) {
    const { coded } = this;
    if (chunk.name === coded.codes) {
      if (this.scales) yield this.rows(chunk);
      else this.waiting.push({ ...chunk, data: chunk.data.slice() });
      return;
    }
    this.stored ??= new Uint8Array(coded.storedBytes);
    this.stored.set(chunk.data, chunk.offset);
    this.arrived += chunk.data.length;
    if (this.arrived < this.stored.length) return;
    this.scales = coded.scales(this.stored);
    this.stored = null;
    for (const codes of this.waiting.splice(0)) yield this.rows(codes);
  }

  /**
   * Rows of codes with their scales in front.
   * @param {Chunk} codes
   * @returns {Chunk}
   */
  rows({ offset, data }) {
    const { scaleBytes, codeBytes } = this.coded;
    const scales = /** @type {Uint8Array} */ (this.scales);
    const [first, count] = [offset / codeBytes, data.length / codeBytes];
    const bytes = scaleBytes + codeBytes;
    const joined = new Uint8Array(count * bytes);
    for (let i = 0; i < count; i++) {
      joined.set(scales.subarray((first + i) * scaleBytes, (first + i + 1) * scaleBytes), i * bytes);
      joined.set(data.subarray(i * codeBytes, (i + 1) * codeBytes), i * bytes + scaleBytes);
    }
    return { name: this.name, offset: first * bytes, data: joined };
  }
}
