/**
 * One model on an engine: its graph, its weights, its session. The page and the worker run the same code; only `define` is
 * synchronous, because the trace wants its errors at the line that caused them.
 */
import { LamellaError } from '../js/errors.js';
import { breathe } from './breathe.js';

/** @typedef {import('./engine.js').Engine} Engine */
/** @typedef {import('../js/trace.js').CallArgument} CallArgument */
/** @typedef {{ data: Float32Array | Int32Array, shape: number[] }} Numbers Int32Array where the graph's value is i32. */
/** @typedef {[number, number]} Range The first and how many. */
/** @typedef {{ path: string, name: string, shape: number[], milliseconds: number, flops: number, bytes: number, gflops: number }} LayerProfile */
/** @typedef {{ outputs: Numbers[], layers: LayerProfile[] | null, bytes: MemoryUse, position: number, waits?: Waits }} Answer */
/** Why a run has stopped before its end: this layer of experts wants these, which may be outside. @typedef {{ layer: number, experts: number[] }} Waits */
/** What a slot of a layer is to hold: layer, slot, expert, and its packed weights. @typedef {[number, number, number, Uint8Array][]} Fills */
/**
 * Bytes held by a model.
 * @typedef {object} MemoryUse
 * @property {number} weights Packed weights.
 * @property {number} activations Everything between input and output; settled by the largest input so far.
 * @property {number} caches What sessions remember.
 * @property {{ f32: number, f16: number, q8: number }} cacheFormats The same by how it is kept.
 */
/**
 * A lam_session and what the graph's inputs and outputs are to it.
 * @typedef {object} OpenSession
 * @property {number} pointer
 * @property {Range} inputs Of the graph's.
 * @property {Range} outputs Of the graph's.
 * @property {number} context Tokens that it has room for, 0 when it keeps nothing.
 * @property {string} key Sizes it was last prepared for.
 * @property {string | null} prepared The same; null while a run of them is not finished.
 * @property {boolean} closed
 */
/**
 * @typedef {object} Compiled
 * @property {string[]} weights Names in the order of their numbers.
 * @property {number[][] | null} places Where experts stay outside: of each weight its layer (-1: it stays here), its expert and the bytes before and of it in a slot.
 * @property {MemoryUse} bytes
 */

/** @type {Readonly<MemoryUse>} */
export const NOTHING = { weights: 0, activations: 0, caches: 0, cacheFormats: { f32: 0, f16: 0, q8: 0 } };
/** The engine's lam_status and what a user reads in `error.code`. @type {Record<number, string>} */
const CODES = { [-1]: 'shape', [-2]: 'memory', [-3]: 'state', [-4]: 'argument' };
/** lam_type of whole numbers. */
export const I32 = 5;
/** Milliseconds between two looks at an AbortSignal. */
const SLICE = 8;

export class Runner {
  /** @param {Engine} engine */
  constructor(engine) {
    this.engine = engine;
    /** What has been defined, to be replayed elsewhere. @type {[string, readonly CallArgument[]][]} */
    this.calls = [];
    this.graph = engine.exports.lam_graph_new();
    /** @type {Map<number, OpenSession>} */
    this.sessions = new Map();
    this.nextSession = 0;
    /** lam_type of each input. @type {number[]} */
    this.inputs = [];
    /** Of experts outside, as in Compiled. @type {number[][] | null} */
    this.places = null;
    this.slotted = false;
    /** Where arrays and strings are put for the engine to read. */
    this.area = { at: 0, bytes: 0 };
    /** Where chunks of weights are put. */
    this.staging = { at: 0, bytes: 0 };
    if (!this.graph) throw new LamellaError('memory', 'out of memory: no room for a graph');
  }

  // ---- define -----------------------------------------------------------------------------------------------------

  /**
   * Calls `lam_<name>(graph, ...args)`.
   * @param {string} name
   * @param {readonly CallArgument[]} args
   * @returns {number} A value, negative when the layer cannot be defined: `error()` says why.
   */
  define(name, args) {
    this.calls.push([name, args]);
    if (name === 'input') this.inputs.push(/** @type {number} */ (args[0]));
    return this.engine.exports[`lam_${name}`](this.graph, ...this.marshal(args));
  }

  /**
   * @param {number} value
   * @returns {(number | null)[]} null where a size varies.
   */
  shape(value) {
    const { lam_rank: rank, lam_dim: dim } = this.engine.exports;
    return Array.from({ length: rank(this.graph, value) }, (_, i) => {
      const size = dim(this.graph, value, i);
      return size < 0 ? null : size;
    });
  }

  /** The graph's first error. @returns {LamellaError} */
  error() {
    const { lam_graph_error: text, lam_graph_status: status } = this.engine.exports;
    return new LamellaError(CODES[status(this.graph)] ?? 'state', this.engine.string(text(this.graph)));
  }

  /**
   * Numbers as they are; strings and arrays of ints as addresses of copies in the area.
   * @param {readonly CallArgument[]} args
   * @returns {number[]}
   */
  marshal(args) {
    const pieces = args.map((arg) => (typeof arg === 'number' ? null : typeof arg === 'string' ? encoder.encode(`${arg}\0`) : Int32Array.from(arg)));
    const needed = pieces.reduce((sum, piece) => sum + (piece ? roundUp(piece.byteLength) : 0), 0);
    this.reserve(this.area, needed, 'arguments');
    let at = this.area.at;
    return args.map((arg, i) => {
      const piece = pieces[i];
      if (!piece) return /** @type {number} */ (arg);
      const start = at;
      this.engine.u8().set(new Uint8Array(piece.buffer, piece.byteOffset, piece.byteLength), start);
      at += roundUp(piece.byteLength);
      return start;
    });
  }

  /**
   * Makes a piece of the engine's memory at least this large.
   * @param {{ at: number, bytes: number }} area
   * @param {number} bytes
   * @param {string} what
   */
  reserve(area, bytes, what) {
    if (bytes <= area.bytes) return;
    this.release(area);
    const wanted = Math.max(bytes, 1024);
    area.at = this.engine.exports.lam_alloc(wanted) >>> 0;
    if (!area.at) throw new LamellaError('memory', `out of memory: ${wanted} bytes for ${what}`);
    area.bytes = wanted;
  }

  /** @param {{ at: number, bytes: number }} area */
  release(area) {
    if (area.at) this.engine.exports.lam_free(area.at);
    area.at = area.bytes = 0;
  }

  // ---- compile and load -------------------------------------------------------------------------------------------

  /**
   * Defines what another runner has recorded.
   * @param {[string, readonly CallArgument[]][]} calls
   */
  async replay(calls) {
    for (const [name, args] of calls) this.define(name, args);
    if (this.engine.exports.lam_graph_status(this.graph) !== 0) throw this.error();
  }

  /**
   * Settles how the weights are kept, before there is room for them.
   * @param {number} context
   * @returns {number} Bytes for them and for a session of so many tokens.
   */
  measure(context) {
    const { exports } = this.engine;
    if (exports.lam_plan(this.graph) !== 0) throw this.error();
    return exports.lam_planned_bytes(this.graph, context);
  }

  /** Layers of experts, once the graph is measured: how many each has, and bytes of one. @returns {{ count: number, bytes: number }[]} */
  expertLayers() {
    const { lam_expert_layers: layers, lam_expert_count: count, lam_expert_bytes: bytes } = this.engine.exports;
    return Array.from({ length: layers(this.graph) }, (_, layer) => ({ count: count(this.graph, layer), bytes: bytes(this.graph, layer) >>> 0 }));
  }

  /**
   * For so many experts each layer has room; all are kept outside.
   * @param {number[]} slots
   */
  async setSlots(slots) {
    this.measure(0);
    this.slotted = true;
    slots.forEach((count, layer) => {
      if (this.engine.exports.lam_expert_slots(this.graph, layer, count) !== 0) throw this.error();
    });
  }

  /**
   * Fuses the graph and makes room for its weights.
   * @returns {Promise<Compiled>}
   */
  async compile() {
    const { exports } = this.engine;
    if (exports.lam_compile(this.graph) !== 0) throw this.error();
    const weights = Array.from({ length: exports.lam_weight_count(this.graph) }, (_, i) => this.engine.string(exports.lam_weight_name(this.graph, i)));
    if (this.slotted) this.places = weights.map((_, i) => [0, 1, 2, 3].map((what) => exports.lam_expert_place(this.graph, i, what)));
    return { weights, bytes: this.bytes, places: this.places };
  }

  /**
   * Rows [first, first + rows) of a weight.
   * @param {number} weight
   * @param {number} type lam_type
   * @param {Uint8Array} data
   * @param {number} first
   * @param {number} rows
   * @returns {Promise<Uint8Array | null>} With the last row of a weight that is kept outside: the weight, packed.
   */
  async load(weight, type, data, first, rows) {
    const { exports } = this.engine;
    this.reserve(this.staging, data.byteLength, 'a chunk of weights');
    this.engine.u8().set(data, this.staging.at);
    if (exports.lam_load(this.graph, weight, type, this.staging.at, first, rows) !== 0) throw this.error();
    const [layer, , before, bytes] = this.places?.[weight] ?? [-1];
    if (layer < 0 || exports.lam_loaded_rows(this.graph, weight) < exports.lam_weight_dim(this.graph, weight, 0)) return null;
    const at = (exports.lam_expert_slot(this.graph, layer, 0) >>> 0) + before;
    return this.engine.u8().slice(at, at + bytes);
  }

  /** All weights are there: frees what only loading needed. */
  async loaded() {
    this.release(this.staging);
    return this.bytes;
  }

  /** @returns {MemoryUse} */
  get bytes() {
    const { exports } = this.engine;
    const sum = (/** @type {(pointer: number) => number} */ bytes) => [...this.sessions.values()].reduce((total, { pointer }) => total + (bytes(pointer) >>> 0), 0);
    const [f32, f16, q8] = [0, 1, 2].map((precision) => sum((pointer) => exports.lam_session_state_bytes(pointer, precision)));
    return { weights: exports.lam_packed_bytes(this.graph) >>> 0, activations: sum(exports.lam_session_bytes), caches: f32 + f16 + q8, cacheFormats: { f32, f16, q8 } };
  }

  // ---- run --------------------------------------------------------------------------------------------------------

  /**
   * @param {{ inputs: Range, outputs: Range, context?: number, cache?: number }} session Which inputs it takes and which outputs it makes; with a context
   *   of so many tokens it remembers, in caches of this lam_precision.
   * @returns {Promise<number>} Its number.
   */
  async open({ inputs, outputs, context = 0, cache = 0 }) {
    const { exports } = this.engine;
    const pointer = exports.lam_session_new(this.graph, this.engine.pool) >>> 0;
    if (!pointer) throw new LamellaError('memory', 'out of memory: no room for a session');
    const status = exports.lam_session_select(pointer, ...outputs) || (context && exports.lam_session_context(pointer, context, cache));
    if (status) {
      const error = this.sessionError(pointer, status);
      exports.lam_session_free(pointer);
      throw error;
    }
    exports.lam_session_donate(pointer, 1);   // forward writes all inputs
    this.sessions.set(this.nextSession, { pointer, inputs, outputs, context, key: '', prepared: null, closed: false });
    return this.nextSession++;
  }

  /** @param {number} id */
  async close(id) {
    this.free(id);
    return this.bytes;
  }

  /** @param {number} id */
  free(id) {
    const session = this.sessions.get(id);
    if (!session) return;
    session.closed = true;
    this.engine.exports.lam_session_free(session.pointer);
    this.sessions.delete(id);
  }

  /**
   * @param {number} id
   * @param {number} position Tokens that the next run comes after.
   */
  async seek(id, position) {
    const { pointer } = this.opened(id);
    const status = this.engine.exports.lam_session_seek(pointer, position);
    if (status) throw this.sessionError(pointer, status);
  }

  /** @param {number} id @returns {OpenSession} */
  opened(id) {
    const session = this.sessions.get(id);
    if (session) return session;
    throw new LamellaError('disposed', 'the session was disposed');
  }

  /** @param {number} pointer @param {number} status @returns {LamellaError} */
  sessionError(pointer, status) {
    return new LamellaError(CODES[status] ?? 'state', this.engine.string(this.engine.exports.lam_session_error(pointer)));
  }

  /**
   * @param {number} id The session's.
   * @param {Numbers[]} inputs
   * @param {{ signal?: AbortSignal | null, profile?: boolean }} [options] With a signal the run stops to look at it every few milliseconds.
   * @returns {Promise<Answer>}
   */
  async forward(id, inputs, { signal = null, profile = false } = {}) {
    const { exports } = this.engine;
    const session = this.opened(id);
    const { pointer } = session;
    this.prepare(session, inputs.map((input) => input.shape));
    inputs.forEach(({ data }, i) => {
      const input = session.inputs[0] + i;
      const at = exports.lam_session_input(pointer, input) >>> 0;
      if (!at) return;   // no layer reads it
      const words = this.inputs[input] === I32 ? this.engine.i32() : this.engine.f32();
      words.set(data, at / 4);
    });
    const status = exports.lam_session_check(pointer);
    if (status) throw this.sessionError(pointer, status);
    exports.lam_session_profile(pointer, Number(profile));
    return this.resume(id, [], { signal, profile });
  }

  /**
   * Goes on where `forward` has answered that it waits for experts.
   * @param {number} id
   * @param {Fills} fills
   * @param {{ signal?: AbortSignal | null, profile?: boolean }} [options]
   * @returns {Promise<Answer>}
   */
  async resume(id, fills, { signal = null, profile = false } = {}) {
    const { exports } = this.engine;
    const session = this.opened(id);
    const { pointer, outputs: [first, count] } = session;
    for (const [layer, slot, expert, bytes] of fills) {
      this.engine.u8().set(bytes, exports.lam_expert_slot(this.graph, layer, slot) >>> 0);
      exports.lam_expert_set(this.graph, layer, slot, expert);
    }
    await this.runInSlices(session, signal);
    const layer = exports.lam_session_waits(pointer);
    const rest = { bytes: this.bytes, position: exports.lam_session_position(pointer) };
    if (layer >= 0) {
      const experts = [];
      for (let e = -1; (e = exports.lam_session_wanted(pointer, e + 1)) >= 0;) experts.push(e);
      return { ...rest, outputs: [], layers: null, waits: { layer, experts } };
    }
    const outputs = Array.from({ length: count }, (_, i) => this.output(pointer, first + i));
    return { ...rest, outputs, layers: profile ? this.layers(pointer) : null };
  }

  /**
   * Plans for inputs of these sizes, unless that is done.
   * @param {OpenSession} session
   * @param {number[][]} shapes
   */
  prepare(session, shapes) {
    const { exports } = this.engine;
    const key = JSON.stringify(shapes);
    const known = key === session.prepared;
    if (known && !session.context) return;
    session.prepared = null;
    const [first] = session.inputs;
    const statuses = known ? [] : shapes.map((shape, i) => exports.lam_session_resize(session.pointer, first + i, ...this.marshal([shape.length, shape])));
    const status = statuses.find((s) => s !== 0) ?? exports.lam_session_prepare(session.pointer);
    if (status !== 0) throw this.sessionError(session.pointer, status);
    session.prepared = session.key = key;
  }

  /**
   * Until the run is over, or waits for experts.
   * @param {OpenSession} session
   * @param {AbortSignal | null} signal
   */
  async runInSlices(session, signal) {
    session.prepared = null;   // without an end a prepare makes the next run begin at the first layer
    for (;;) {
      signal?.throwIfAborted();
      const status = this.engine.exports.lam_session_step(session.pointer, signal ? SLICE : Infinity);
      if (status === 1) session.prepared = session.key;
      if (status) return;
      await breathe();
      if (session.closed) throw new LamellaError('disposed', 'the model or its session was disposed during forward');
    }
  }

  /**
   * @param {number} pointer The session's.
   * @param {number} index Among the graph's outputs.
   * @returns {Numbers}
   */
  output(pointer, index) {
    const { exports } = this.engine;
    const rank = exports.lam_session_output_rank(pointer, index);
    const shape = Array.from({ length: rank }, (_, axis) => exports.lam_session_output_dim(pointer, index, axis));
    const size = shape.reduce((product, n) => product * n, 1);
    const start = (exports.lam_session_output(pointer, index) >>> 0) / 4;
    const words = exports.lam_output_type(this.graph, index) === I32 ? this.engine.i32() : this.engine.f32();
    return { data: words.slice(start, start + size), shape };
  }

  /** @param {number} pointer The session's. @returns {LayerProfile[]} */
  layers(pointer) {
    const { exports } = this.engine;
    return Array.from({ length: exports.lam_layer_count(pointer) }, (_, i) => {
      const milliseconds = exports.lam_layer_milliseconds(pointer, i);
      const flops = exports.lam_layer_flops(pointer, i);
      return {
        path: this.engine.string(exports.lam_layer_path(pointer, i)),
        name: this.engine.string(exports.lam_layer_name(pointer, i)),
        shape: Array.from({ length: exports.lam_layer_rank(pointer, i) }, (_unused, axis) => exports.lam_layer_dim(pointer, i, axis)),
        milliseconds, flops,
        bytes: exports.lam_layer_bytes(pointer, i),
        gflops: milliseconds > 0 ? flops / milliseconds / 1e6 : 0,
      };
    });
  }

  /**
   * The layers for inputs of these sizes, with the names of the weights that each reads. Nothing is run.
   * @param {{ inputs: Range, outputs: Range }} session As for open.
   * @param {number[][]} shapes
   * @returns {Promise<(LayerProfile & { weights: string[] })[]>}
   */
  async plan(session, shapes) {
    const { exports } = this.engine;
    const id = await this.open(session);
    try {
      const { pointer } = this.opened(id);
      this.prepare(this.opened(id), shapes);
      return this.layers(pointer).map((layer, i) => {
        const weights = [];
        for (let j = 0, weight; (weight = exports.lam_layer_weight(pointer, i, j)) >= 0; j++) weights.push(this.engine.string(exports.lam_weight_name(this.graph, weight)));
        return { ...layer, weights };
      });
    } finally {
      this.free(id);
    }
  }

  /** Frees everything; may be called at any time, and again. */
  dispose() {
    const { graph } = this;
    this.graph = 0;
    try {
      this.release(this.area);
      this.release(this.staging);
      for (const id of [...this.sessions.keys()]) this.free(id);
      if (graph) this.engine.exports.lam_graph_free(graph);
    } catch {
      // After a trap it may trap again: what it holds stays until the engine goes.
    }
  }
}

const encoder = new TextEncoder();

/** @param {number} bytes */
const roundUp = (bytes) => (bytes + 7) & ~7;
