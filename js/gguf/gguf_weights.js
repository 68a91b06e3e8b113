/** GGUF files: the weights under the names of the modules. */
import { show, showShape } from '../arguments.js';
import { LamellaError } from '../errors.js';
import { PieceReader, readBytes, truncated } from '../weights/bytes.js';
import { codedQ40, halfAt } from './blocks.js';
import { ARCHITECTURES, configOf, one } from './config.js';
import { weightsIn } from './names.js';
import { closeParts, openParts } from './parts.js';
import { tokenizerOf } from './tokenizer.js';

/** @typedef {import('../weights/source.js').SourceLike} SourceLike */
/** @typedef {import('../weights/source.js').SourceOptions} SourceOptions */
/** @typedef {import('../load.js').Chunk} Chunk */
/** @typedef {import('./blocks.js').Kind} Kind */
/** @typedef {import('./names.js').Part} Part */
/** @typedef {import('./header.js').Stored} Stored */
/** @typedef {{ name: string, part: Part, stored: Stored, shape: readonly number[] }} Weight */

/** Bytes of the file that are turned into numbers at once. */
const PIECE = 1 << 18;

/**
 * @param {SourceLike | readonly SourceLike[]} like A file, or all parts of a model; one of them stands for those beside it.
 * @param {SourceOptions} [options]
 * @returns {Promise<GgufWeights>}
 * @throws {LamellaError} 'gguf' when it is none or contradicts itself, 'truncated', and what opening throws.
 */
export async function openGguf(like, options = {}) {
  const parts = await openParts(Array.isArray(like) ? like : [like], options);
  try {
    const frequencies = parts.flatMap(({ tensors }) => tensors).find(({ name }) => name === 'rope_freqs.weight');
    const bytes = frequencies && (await readBytes(frequencies.source, frequencies.begin, frequencies.end, { signal: options.signal })).slice();
    return new GgufWeights(parts, bytes ? new Float32Array(bytes.buffer) : null);
  } catch (error) {
    await closeParts(parts);
    throw error;
  }
}

/** The weights of a GGUF file, or of several that are one model, read like any checkpoint's. */
export class GgufWeights {
  #sources;
  #name;
  #exact = false;
  /** @type {Map<string, Weight>} */
  #weights = new Map();
  /** @type {Map<string, Stored>} */
  #stored;
  /** @type {Map<string, Blob>} */
  #beside = new Map();

  /**
   * @param {import('./parts.js').FilePart[]} parts In their order: the first has the metadata.
   * @param {Float32Array | null} frequencies Of rope_freqs.weight.
   */
  constructor(parts, frequencies) {
    const [{ source, metadata }] = parts;
    const tensors = parts.flatMap((part) => part.tensors);
    this.#sources = parts.map((part) => part.source);
    this.#name = source.name;
    this.#stored = new Map(tensors.map((stored) => [stored.name, stored]));
    /** The file's own, as @huggingface/gguf reads it. */
    this.metadata = metadata;
    this.frequencies = frequencies;
    const architecture = metadata['general.architecture'];
    if (!ARCHITECTURES.includes(architecture)) {
      throw new LamellaError('gguf', `${source.name}: general.architecture: expected ${ARCHITECTURES.map(show).join(' or ')}, got ${show(architecture)}`, { path: source.name });
    }
    this.architecture = architecture;
    const count = (/** @type {string} */ key, /** @type {number} */ fallback) => Number(one(`${architecture}.attention.${key}`, metadata[`${architecture}.attention.${key}`] ?? fallback, source.name));
    const heads = count('head_count', 1);
    const model = { architecture, heads, keyHeads: count('head_count_kv', heads), has: (/** @type {string} */ name) => this.#stored.has(name) };
    for (const stored of tensors) {
      for (const [name, part] of weightsIn(stored.name, stored.shape, model)) this.#weights.set(name, { name, part, stored, shape: this.#shape(stored, part) });
    }
  }

  /** The fields of config.json. */
  get config() {
    const { metadata, frequencies } = this;
    return configOf({ name: this.#name, metadata, frequencies, shape: (name) => this.#stored.get(name)?.shape });
  }

  /** @param {Stored} stored @param {Part} part */
  #shape({ source, name, shape }, { slice, values, head }) {
    const fail = (/** @type {string} */ expected) => new LamellaError('gguf', `${source.name}: tensor ${show(name)}: expected ${expected}, got ${showShape(shape)}`, { path: name });
    if (slice !== undefined && shape.length !== 3) throw fail('[experts, rows, columns]');
    if (head !== undefined && (!Number.isInteger(head) || head % 2)) throw fail('rows of even heads');
    if (!values) return slice === undefined ? shape : shape.slice(1);
    const other = /** @type {Stored} */ (this.#stored.get(values)).shape;
    if (shape.length !== 3 || other.length !== 3 || other[0] !== shape[0] || other[2] !== shape[1]) throw fail(`[heads, latent, nope] beside ${show(values)} ${showShape(other)} of [heads, v, latent]`);
    return [shape[0] * (shape[2] + other[1]), shape[1]];
  }

  keys() {
    return this.#weights.keys();
  }

  /**
   * @param {string} name
   * @returns {{ dtype: string, shape: readonly number[], bytes: number, precision?: 'f16' | 'q8' | 'q4' } | undefined}
   */
  get(name) {
    const weight = this.#weights.get(name);
    if (!weight) return undefined;
    const { stored: { kind }, shape } = weight;
    const numbers = shape.reduce((product, size) => product * size, 1);
    const { dtype, size } = this.#form(weight);
    return { dtype, shape, bytes: numbers * size, ...(kind.precision && shape.length === 2 && { precision: kind.precision }) };
  }

  /** Whether codes are to come as the numbers that they stand for: they are wanted in other bits than they are in. @param {boolean} on */
  asNumbers(on) {
    this.#exact = on;
  }

  /** What chunks hold: the type, and bytes of a number. @param {Weight} weight */
  #form({ stored: { kind }, part }) {
    if (kind.name === 'Q4_0' && !this.#exact && !part.values) return { dtype: 'Q4', size: 18 / 32 };
    if (part.values) return { dtype: 'F32', size: 4 };
    return { dtype: kind.dtype, size: kind.dtype === 'F32' ? 4 : kind.bytes };
  }

  /**
   * What lies beside a published checkpoint is in this file: tokenizer.json and tokenizer_config.json, with the chat template.
   * @param {string} name
   * @returns {any} A Blob; undefined where the file has none.
   */
  neighbour(name) {
    const made = this.#beside.get(name);
    if (made) return made;
    const files = { 'tokenizer.json': () => tokenizerOf(this.#name, this.metadata), 'tokenizer_config.json': () => this.#tokenizerConfig() };
    const make = /** @type {Record<string, () => object>} */ (files)[name];
    if (!make) return undefined;
    const blob = new Blob([JSON.stringify(make())]);
    this.#beside.set(name, blob);
    return blob;
  }

  #tokenizerConfig() {
    const { metadata } = this;
    const token = (/** @type {string} */ which) => metadata['tokenizer.ggml.tokens']?.[Number(metadata[`tokenizer.ggml.${which}_token_id`] ?? -1)] ?? null;
    return { chat_template: metadata['tokenizer.chat_template'], bos_token: token('bos'), eos_token: token('eos') };
  }

  /**
   * @param {Iterable<string>} names
   * @param {{ signal?: AbortSignal | null }} [options]
   * @returns {AsyncGenerator<Chunk>}
   */
  async* chunks(names, { signal = null } = {}) {
    const wanted = [...names].map((name) => /** @type {Weight} */ (this.#weights.get(name)));
    const file = (/** @type {Weight} */ { stored }) => this.#sources.indexOf(stored.source);
    wanted.sort((a, b) => file(a) - file(b) || a.stored.begin - b.stored.begin || (a.part.slice ?? 0) - (b.part.slice ?? 0));
    for (let i = 0; i < wanted.length;) {
      const { stored, part } = wanted[i];
      let end = i + 1;
      while (end < wanted.length && wanted[end].stored === stored) end++;
      if (part.values) yield* this.#keysAndValues(wanted[i], signal);
      else yield* this.#rows(stored, wanted.slice(i, end), signal);
      i = end;
    }
    for (const source of this.#sources) await source.finish?.(signal);
  }

  /**
   * All that is wanted of one tensor, in its order.
   * @param {Stored} stored
   * @param {Weight[]} weights
   * @param {AbortSignal | null} signal
   * @returns {AsyncGenerator<Chunk>}
   */
  async* #rows(stored, weights, signal) {
    const { source } = stored;
    const reader = new PieceReader(source, stored.begin, stored.end, signal);
    const scratch = { bytes: new Uint8Array(0) };
    try {
      for (const weight of weights) {
        const { name, part, shape } = weight;
        const columns = shape.length > 1 ? shape.slice(1).reduce((product, size) => product * size, 1) : 1;
        const rowBytes = columns / stored.kind.numbers * stored.kind.bytes;
        const whole = part.head ?? (shape.length > 1 ? 8 : 1);
        const step = Math.max(1, Math.floor(PIECE / rowBytes / whole)) * whole;
        const begin = stored.begin + (part.slice ?? 0) * shape[0] * rowBytes;
        const { size } = this.#form(weight);
        await reader.skipTo(begin);
        for (let row = 0; row < shape[0]; row += step) {
          signal?.throwIfAborted();
          const bytes = Math.min(step, shape[0] - row) * rowBytes;
          const raw = await reader.upTo(bytes, scratch);
          if (raw.length < bytes) throw truncated(source.name, begin, begin + shape[0] * rowBytes, reader.at);
          const data = this.#decoded(weight, raw, columns);
          yield { name, offset: row * columns * size, ...(source.from && { from: source.from }), data: part.head ? halvesApart(data, columns * size, part.head) : data };
        }
      }
    } finally {
      await reader.close();
    }
  }

  /** @param {Weight} weight @param {Uint8Array} raw @param {number} columns */
  #decoded(weight, raw, columns) {
    if (this.#form(weight).dtype === 'Q4') return codedQ40(raw, columns);
    const { kind } = weight.stored;
    return kind.expand ? bytesOf(expanded(kind, raw)) : raw;
  }

  /**
   * kv_b_proj out of its two parts: of each head the rows for keys, which are the columns here, and those for values.
   * @param {Weight} weight
   * @param {AbortSignal | null} signal
   * @returns {AsyncGenerator<Chunk>}
   */
  async* #keysAndValues({ name, part, stored }, signal) {
    const values = /** @type {Stored} */ (this.#stored.get(/** @type {string} */ (part.values)));
    const [heads, latent, nope] = stored.shape;
    const v = values.shape[1];
    for (let head = 0; head < heads; head++) {
      const [k, w] = await Promise.all([stored, values].map((tensor) => this.#head(tensor, head, signal)));
      const rows = new Float32Array((nope + v) * latent);
      for (let i = 0; i < nope; i++) for (let j = 0; j < latent; j++) rows[i * latent + j] = k[j * nope + i];
      rows.set(w, nope * latent);
      yield { name, offset: head * rows.byteLength, ...(stored.source.from && { from: stored.source.from }), data: bytesOf(rows) };
    }
  }

  /** @param {Stored} stored @param {number} head @param {AbortSignal | null} signal */
  async #head({ source, begin, end, shape, kind }, head, signal) {
    if (!kind.bytes) throw new LamellaError('dtype', `attn_k_b, attn_v_b: numbers of type ${kind.name} cannot be loaded`);
    const bytes = (end - begin) / shape[0];
    const raw = await readBytes(source, begin + head * bytes, begin + (head + 1) * bytes, { signal });
    return expanded(kind, raw);
  }

  /** Frees the files. */
  async close() {
    await Promise.all(this.#sources.map((source) => source.close()));
  }
}

/** @param {Kind} kind @param {Uint8Array} raw */
function expanded({ numbers, bytes, dtype, expand }, raw) {
  const floats = new Float32Array(raw.length / bytes * numbers);
  if (expand) expand(floats, raw, 0);
  else if (dtype === 'F32') bytesOf(floats).set(raw);
  else {
    const words = new Uint32Array(floats.buffer);
    const half = new DataView(raw.buffer, raw.byteOffset, raw.byteLength);
    for (let i = 0; i < floats.length; i++) {
      if (dtype === 'BF16') words[i] = half.getUint16(i * 2, true) << 16;
      else floats[i] = halfOf(half.getUint16(i * 2, true));
    }
  }
  return floats;
}

/** @param {number} bits */
const halfOf = (bits) => halfAt(Uint8Array.of(bits, bits >> 8), 0);

/** @param {Float32Array} floats */
const bytesOf = (floats) => new Uint8Array(floats.buffer);

/**
 * Rows 2j and 2j + 1 of each head become j and half + j.
 * @param {Uint8Array} data Whole heads.
 * @param {number} row Bytes.
 * @param {number} head Rows.
 */
function halvesApart(data, row, head) {
  const to = new Uint8Array(data.length);
  for (let i = 0; i < data.length / row; i++) {
    const [first, within] = [i - i % head, i % head];
    const target = first + (within % 2) * (head / 2) + (within >> 1);
    to.set(data.subarray(i * row, (i + 1) * row), target * row);
  }
  return to;
}
