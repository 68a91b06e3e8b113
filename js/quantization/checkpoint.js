/** A checkpoint in fewer bits, made while it is read. js/MODELS.md, "Fewer bits in the file", is its format. */
import { abortSignal, badArgument, show } from '../arguments.js';
import { LamellaError } from '../errors.js';
import { DTYPES, toFloat16, toFloat32 } from '../weights/dtype.js';
import { open, Weights } from '../weights/safetensors.js';
import { encodeHeader } from '../weights/write.js';
import { BLOCK, codesOf4, codesOf8 } from './codes.js';
import { decide, isTied, overriding } from './rule.js';

/** @typedef {import('../quantize.js').QuantizeOptions} QuantizeOptions */
/** @typedef {import('../quantize.js').Stored} Stored */
/** @typedef {import('./rule.js').Decision} Decision */
/** @typedef {{ name: string, dtype: string, shape: readonly number[], bytes: number }} Entry A tensor of the new file. */
/** @typedef {Decision & { name: string, dtype: string, shape: readonly number[], entries: Entry[] }} Plan A tensor of the source, and what becomes of it. */
/**
 * @typedef {object} QuantizedTensor
 * @property {string} name
 * @property {readonly number[]} shape
 * @property {string} from The source's dtype.
 * @property {string} to 'q4', 'q8', or a dtype.
 * @property {string} why Why it is not what was asked for; '' where it is.
 * @property {number} sourceBytes
 * @property {number} bytes With its scales.
 */

const PRECISIONS = ['q4', 'q8', 'f16'];
const LAYOUT = 'q8: NAME I8 [rows, ...] and NAME_scale F32 [rows, 1]. q4: NAME_packed I32 [rows, columns / 8], lowest bits first, code + 8, NAME_scale BF16 [rows, '
  + 'ceil(columns / 32)] and NAME_shape. Weight = scale * code. As compressed-tensors lays out int-quantized and pack-quantized.';

/**
 * js/quantize.js has the documentation.
 * @param {any} source
 * @param {QuantizeOptions} options
 */
export async function quantize(source, { precision = 'q4', overrides, metadata, signal: given, ...others } = {}) {
  const [unknown] = Object.keys(others);
  if (unknown) throw new LamellaError('argument', `quantize: there is no option ${show(unknown)}; known: precision, overrides, metadata, signal`);
  if (!PRECISIONS.includes(precision)) throw badArgument('quantize: precision', `one of ${PRECISIONS.map((name) => `'${name}'`).join(', ')}`, precision);
  const signal = abortSignal('quantize: signal', given);
  const override = overriding(overrides);
  const weights = source instanceof Weights ? source : await open(source, { signal });
  try {
    const tied = isTied(weights.keys());
    const plans = [...weights.keys()].map((name) => plan(name, /** @type {any} */ (weights.get(name)), (info) => override(name, info, decide(name, info, precision, tied))));
    refuseTwice(weights, plans);
    return new QuantizedCheckpoint(weights, plans, { ...weights.metadata, ...metadata, 'lamella.precision': precision, 'lamella.layout': LAYOUT }, signal, weights !== source);
  } catch (error) {
    if (weights !== source) await weights.close();
    throw error;
  }
}

/**
 * @param {string} name
 * @param {{ dtype: string, shape: readonly number[], bytes: number }} info
 * @param {(info: { dtype: string, shape: readonly number[] }) => Decision} decision
 * @returns {Plan}
 */
function plan(name, { dtype, shape, bytes }, decision) {
  const { to, why } = decision({ dtype, shape });
  const rows = shape[0] ?? 1;
  const elements = shape.reduce((product, size) => product * size, 1);
  const entry = (/** @type {string} */ suffix, /** @type {string} */ as, /** @type {readonly number[]} */ form, /** @type {number} */ size) => ({ name: name + suffix, dtype: as, shape: form, bytes: size });
  /** @type {Entry[]} */
  let entries;
  if (to === 'q4') {
    const blocks = Math.ceil(shape[1] / BLOCK);
    entries = [entry('_shape', 'I64', [2], 16), entry('_scale', 'BF16', [rows, blocks], rows * blocks * 2), entry('_packed', 'I32', [rows, shape[1] / 8], elements / 2)];
  } else if (to === 'q8') entries = [entry('_scale', 'F32', [rows, 1], rows * 4), entry('', 'I8', shape, elements)];
  else if (to === 'keep' || dtype === to.toUpperCase()) entries = [entry('', dtype, shape, bytes)];
  else entries = [entry('', to.toUpperCase(), shape, elements * DTYPES[to.toUpperCase()].bits / 8)];
  return { name, dtype, shape, to, why, entries };
}

/** @param {Weights} weights @param {Plan[]} plans */
function refuseTwice(weights, plans) {
  for (const { name, entries } of plans) {
    const twice = entries.find((entry) => entry.name !== name && weights.has(entry.name));
    if (twice) throw new LamellaError('quantize', `${name}: the checkpoint has a tensor ${show(twice.name)} already: is it quantised?`, { path: name });
  }
}

/**
 * Where a tensor begins it must be aligned for its type: by falling width, and the scales in front of their codes where that keeps it, so that codes can be
 * used as soon as they are read.
 * @param {Plan[]} plans
 * @returns {{ entry: Entry, plan: Plan }[]}
 */
function arrange(plans) {
  /** @type {{ entry: Entry, plan: Plan }[][]} */
  const widths = [[], [], [], []];   // of 8, 4, 2 and 1 bytes
  for (const of of plans) {
    const parts = of.entries.map((entry) => ({ entry, plan: of, width: Math.max(1, DTYPES[entry.dtype].bits / 8) }));
    const pair = parts.filter(({ width }) => width !== 8);
    const together = pair.length === 2 && pair.every(({ entry }) => entry.bytes % 4 === 0);
    for (const part of parts) widths[together && part.width < 8 ? 1 : 3 - Math.log2(part.width)].push(part);
  }
  return widths.flat();
}

/** What `quantize` makes: the bytes of a safetensors file, made while they are iterated over. */
export class QuantizedCheckpoint {
  #weights;
  #order;
  #header;
  #signal;
  #own;

  /**
   * @param {Weights} weights
   * @param {Plan[]} plans
   * @param {Record<string, string>} metadata
   * @param {AbortSignal | null} signal
   * @param {boolean} own Whether `weights` is to be closed at the end.
   */
  constructor(weights, plans, metadata, signal, own) {
    this.#weights = weights;
    this.#order = arrange(plans);
    this.#header = encodeHeader(this.#order.map(({ entry }) => entry), metadata);
    this.#signal = signal;
    this.#own = own;
    const sum = (/** @type {Entry[]} */ entries) => entries.reduce((total, { bytes }) => total + bytes, 0);
    /** Of each tensor of the source what becomes of it. @type {readonly QuantizedTensor[]} */
    this.tensors = plans.map(({ name, dtype, shape, to, why, entries }) => ({
      name, shape, from: dtype, to: to === 'q4' || to === 'q8' ? to : entries[0].dtype, why,
      sourceBytes: /** @type {{ bytes: number }} */ (weights.get(name)).bytes, bytes: sum(entries),
    }));
    /** Bytes of the file. */
    this.size = this.#header.length + sum(this.#order.map(({ entry }) => entry));
    /** Bytes of the source's tensors. */
    this.sourceSize = this.tensors.reduce((total, { sourceBytes }) => total + sourceBytes, 0);
  }

  /** The file in pieces, each a new array. No more is in memory than the codes of one weight and a piece of the source. @returns {AsyncGenerator<Uint8Array<ArrayBuffer>, void, void>} */
  async* [Symbol.asyncIterator]() {
    try {
      yield this.#header;
      /** Codes whose other part comes later in the file. @type {Map<Plan, Map<string, Uint8Array<ArrayBuffer>>>} */
      const made = new Map();
      for (const { entry, plan: of } of this.#order) {
        if (entry.dtype === 'I64' && of.to === 'q4') yield shapeBytes(of.shape);
        else if (of.to !== 'q4' && of.to !== 'q8') yield* this.#plain(of, entry);
        else {
          const parts = made.get(of) ?? await this.#codes(of);
          const bytes = /** @type {Uint8Array<ArrayBuffer>} */ (parts.get(entry.name));
          parts.delete(entry.name);
          if (parts.size) made.set(of, parts);
          else made.delete(of);
          yield bytes;
        }
      }
    } finally {
      await this.close();
    }
  }

  /** The whole file. @returns {Promise<Uint8Array<ArrayBuffer>>} */
  async bytes() {
    const file = new Uint8Array(this.size);
    let at = 0;
    for await (const piece of this) {
      file.set(piece, at);
      at += piece.length;
    }
    return file;
  }

  /** Frees the source; done when the bytes have been read. */
  async close() {
    if (this.#own) await this.#weights.close();
  }

  /** @param {Plan} of @param {Entry} entry */
  async* #plain({ name, dtype }, entry) {
    for await (const { data } of this.#weights.chunks([name], { signal: this.#signal })) {
      if (entry.dtype === dtype) yield new Uint8Array(data);
      else {
        const floats = floatsOf(dtype, data);
        yield new Uint8Array(/** @type {ArrayBuffer} */ ((entry.dtype === 'F16' ? toFloat16(floats.map(clamped)) : floats).buffer));
      }
    }
  }

  /**
   * @param {Plan} of
   * @returns {Promise<Map<string, Uint8Array<ArrayBuffer>>>} By the names of the new tensors.
   */
  async #codes({ name, dtype, shape, to, entries }) {
    const parts = new Map(entries.filter((entry) => entry.dtype !== 'I64').map((entry) => [entry.name, new Uint8Array(entry.bytes)]));
    const [scales, codes] = [...parts.values()];
    const columns = shape.slice(1).reduce((product, size) => product * size, 1);
    const row = columns * DTYPES[dtype].bits / 8;
    for await (const { data, offset } of this.#weights.chunks([name], { signal: this.#signal, unit: () => row })) {
      const floats = floatsOf(dtype, data);
      if (to === 'q4') codesOf4(name, floats, columns, offset / row, { scales: new Uint16Array(scales.buffer), codes });
      else codesOf8(name, floats, columns, offset / row, { scales: new Float32Array(scales.buffer), codes: new Int8Array(codes.buffer) });
    }
    return parts;
  }
}

/** @param {readonly number[]} shape */
function shapeBytes(shape) {
  const bytes = new Uint8Array(shape.length * 8);
  shape.forEach((size, i) => new DataView(bytes.buffer).setBigInt64(i * 8, BigInt(size), true));
  return bytes;
}

/** What the engine makes of a number that halves cannot hold. @param {number} x */
const clamped = (x) => (x > 65504 ? 65504 : x < -65504 ? -65504 : x);

/**
 * @param {string} dtype
 * @param {Uint8Array} data
 */
const floatsOf = (dtype, data) => /** @type {Float32Array<ArrayBuffer>} */ (toFloat32(dtype, new DTYPES[dtype].array(data.slice().buffer)));
