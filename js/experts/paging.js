/** Models whose experts are more than the engine's memory holds: all are kept outside, some are brought in, those first that a run wants. */
import { abortable } from '../abortable.js';
import { badArgument, finite, options as known } from '../arguments.js';
import { LamellaError } from '../errors.js';
import { reason } from '../weights/bytes.js';
import { openFile, openMemory } from './store.js';

/** @typedef {import('../../web/runner.js').Answer} Answer */
/** @typedef {import('../../web/runner.js').Fills} Fills */
/** @typedef {import('../../web/runner.js').Runner} Runner */
/** @typedef {import('../../web/worker.js').RemoteRunner} RemoteRunner */
/** @typedef {import('./store.js').Store} Store */
/** @typedef {{ signal?: AbortSignal | null, profile?: boolean }} RunOptions */
/**
 * A layer of experts.
 * @typedef {object} Layer
 * @property {number} count Its experts.
 * @property {number} bytes Of one.
 * @property {number} begin Where the first is kept.
 * @property {number} slots For how many there is room.
 * @property {Map<number, number>} here Expert -> slot, the one that was wanted longest ago first.
 */

/**
 * Settles for how many experts there is room, and tells the graph.
 * @param {Runner} graph Recorded.
 * @param {unknown} given compile's option.
 * @returns {Promise<Paging | null>} null for a graph without experts.
 */
export async function planPaging(graph, given) {
  const { memory, store, folder, warn } = known('compile: experts', [given], {
    memory: -1, store: 'file', folder: /** @type {string | undefined} */ (undefined), warn: /** @type {(error: LamellaError) => void} */ ((error) => console.warn(error.message)),
  });
  finite('compile: experts: memory', memory, 0);
  if (store !== 'file' && store !== 'memory') throw badArgument('compile: experts: store', "'file' or 'memory'", store);
  if (folder !== undefined && typeof folder !== 'string') throw badArgument('compile: experts: folder', 'a path', folder);
  if (typeof warn !== 'function') throw badArgument('compile: experts: warn', 'a function', warn);
  graph.measure(0);
  const found = graph.expertLayers();
  if (!found.length) return null;
  const share = memory / found.length;
  let begin = 0;
  const layers = found.map(({ count, bytes }) => {
    const layer = { count, bytes, begin, slots: Math.max(1, Math.min(count, Math.floor(share / bytes))), here: new Map() };
    begin += count * bytes;
    return layer;
  });
  const paging = new Paging(layers, { bytes: begin, store, folder, warn });
  await graph.setSlots(paging.slots);
  return paging;
}

class Paging {
  /**
   * @param {Layer[]} layers
   * @param {{ bytes: number, store: 'file' | 'memory', folder: string | undefined, warn: (error: LamellaError) => void }} options
   */
  constructor(layers, options) {
    this.layers = layers;
    this.options = options;
  }

  get slots() {
    return this.layers.map(({ slots }) => slots);
  }

  /**
   * A runner that keeps the experts of another one outside.
   * @param {Runner | RemoteRunner} runner
   */
  async wrap(runner) {
    const { bytes, store, folder, warn } = this.options;
    let opened = null;
    try {
      if (store === 'file') opened = await openFile(bytes, folder);
      if (!opened && store === 'file') warn(new LamellaError('file', 'experts: this browser has no files to keep them in; they are kept in memory outside of the engine'));
    } catch (cause) {
      throw cause instanceof LamellaError ? cause : new LamellaError('file', `experts: cannot be kept in a file: ${reason(/** @type {Error} */ (cause))}`, { path: folder, cause });
    }
    return new PagedRunner(runner, this.layers, opened ?? openMemory(), bytes);
  }
}

/** A Runner, or one in a worker, whose runs bring in the experts that they want. */
export class PagedRunner {
  /** Of the weights that are kept outside. @type {number[][]} */
  #places = [];
  #hits = 0;
  #misses = 0;
  #bytesRead = 0;
  #isOver = false;

  /**
   * @param {Runner | RemoteRunner} runner
   * @param {Layer[]} layers
   * @param {Store} store
   * @param {number} stored
   */
  constructor(runner, layers, store, stored) {
    this.runner = runner;
    this.layers = layers;
    this.store = store;
    this.stored = stored;
  }

  get engine() {
    return this.runner.engine;
  }

  get bytes() {
    return this.runner.bytes;
  }

  /** What a graph has recorded is with the other. @returns {Promise<void>} */
  async replay() {}

  /** They are settled. @returns {Promise<void>} */
  async setSlots() {}

  /** What model.experts says. */
  get experts() {
    const sum = (/** @type {(layer: Layer) => number} */ of) => this.layers.reduce((total, layer) => total + of(layer), 0);
    return {
      count: sum(({ count }) => count), slots: sum(({ slots }) => slots), resident: sum(({ here }) => here.size), memory: sum(({ slots, bytes }) => slots * bytes),
      stored: this.stored, hits: this.#hits, misses: this.#misses, rate: this.#hits / (this.#hits + this.#misses || 1), bytesRead: this.#bytesRead,
    };
  }

  async compile() {
    const compiled = await this.runner.compile();
    this.#places = /** @type {number[][]} */ (compiled.places);
    return compiled;
  }

  /**
   * @param {number} weight
   * @param {number} type
   * @param {Uint8Array} data
   * @param {number} first
   * @param {number} rows
   */
  async load(weight, type, data, first, rows) {
    const packed = await this.runner.load(weight, type, data, first, rows);
    if (!packed) return;
    const [number, expert, before] = this.#places[weight];
    const { begin, bytes } = this.layers[number];
    await this.#tried(this.store.write(begin + expert * bytes + before, packed));
  }

  async loaded() {
    await this.#tried(this.store.written());
    return this.runner.loaded();
  }

  /** @param {Parameters<Runner['open']>[0]} session */
  open(session) {
    return this.runner.open(session);
  }

  /** @param {number} id */
  close(id) {
    return this.runner.close(id);
  }

  /** @param {number} id @param {number} position */
  seek(id, position) {
    return this.runner.seek(id, position);
  }

  /**
   * @param {Parameters<Runner['plan']>[0]} session
   * @param {number[][]} shapes
   */
  plan(session, shapes) {
    return this.runner.plan(session, shapes);
  }

  /**
   * @param {number} id
   * @param {import('../../web/runner.js').Numbers[]} inputs
   * @param {RunOptions} [options]
   * @returns {Promise<Answer>}
   */
  async forward(id, inputs, options = {}) {
    let answer = await this.runner.forward(id, inputs, options);
    while (answer.waits) {
      options.signal?.throwIfAborted();   // a worker may have ended its part before it was told
      const { layer, experts } = answer.waits;
      answer = await this.runner.resume(id, await this.#bring(layer, experts, options.signal ?? null), options);
    }
    return answer;
  }

  /**
   * @param {number} number The layer's.
   * @param {number[]} wanted More than there are slots for come in turns.
   * @param {AbortSignal | null} signal
   * @returns {Promise<Fills>}
   */
  async #bring(number, wanted, signal) {
    const { begin, bytes, slots, here } = this.layers[number];
    const now = wanted.slice(0, slots);
    const missing = now.filter((expert) => !here.has(expert));
    const read = await Promise.all(missing.map(async (expert) => {
      const data = await this.#tried(abortable(this.store.read(begin + expert * bytes, bytes), signal), signal);
      if (data.length < bytes) throw new LamellaError('file', `experts: expert ${expert} of layer ${number} is cut short: ${data.length} of ${bytes} bytes`);
      return data;
    }));
    this.#hits += now.length - missing.length;
    this.#misses += missing.length;
    this.#bytesRead += missing.length * bytes;
    for (const expert of now) {
      const slot = here.get(expert);
      if (slot === undefined) continue;
      here.delete(expert);   // behind all others
      here.set(expert, slot);
    }
    return missing.map((expert, i) => {
      let slot = here.size;
      if (slot === slots) {
        const [oldest, freed] = /** @type {[number, number]} */ (here.entries().next().value);
        here.delete(oldest);
        slot = freed;
      }
      here.set(expert, slot);
      return [number, slot, expert, read[i]];
    });
  }

  /**
   * @template T
   * @param {Promise<T>} promise
   * @param {AbortSignal | null} [signal]
   * @returns {Promise<T>}
   */
  #tried(promise, signal) {
    return promise.catch((cause) => {
      signal?.throwIfAborted();
      if (this.#isOver) throw new LamellaError('disposed', 'the model was disposed');
      throw new LamellaError('file', `experts: what is kept of them outside cannot be ${this.#places.length ? 'written or read' : 'written'}: ${reason(cause)}`, { cause });
    });
  }

  dispose() {
    this.runner.dispose();
    if (this.#isOver) return;
    this.#isOver = true;
    this.store.close().catch(() => {});
  }
}
