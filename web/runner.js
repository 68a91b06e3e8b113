/**
 * One model on an engine: its graph, its weights, its session. The page and the worker run the same code; only `define` is
 * synchronous, because the trace wants its errors at the line that caused them.
 */
import { LamellaError } from '../js/errors.js';

/** @typedef {import('./engine.js').Engine} Engine */
/** @typedef {import('../js/trace.js').CallArgument} CallArgument */
/** @typedef {{ data: Float32Array, shape: number[] }} Numbers */
/** @typedef {{ path: string, name: string, shape: number[], milliseconds: number, flops: number, bytes: number, gflops: number }} LayerProfile */
/** @typedef {{ outputs: Numbers[], layers: LayerProfile[] | null, bytes: MemoryUse }} Answer */
/**
 * Bytes held by a model.
 * @typedef {object} MemoryUse
 * @property {number} weights Packed weights.
 * @property {number} activations Everything between input and output; settled by the largest input so far.
 */
/**
 * @typedef {object} Compiled
 * @property {string[]} weights Names in the order of their numbers.
 * @property {MemoryUse} bytes
 */

/** The engine's lam_status and what a user reads in `error.code`. @type {Record<number, string>} */
const CODES = { [-1]: 'shape', [-2]: 'memory', [-3]: 'state' };
/** Milliseconds between two looks at an AbortSignal. */
const SLICE = 8;

export class Runner {
  /** @param {Engine} engine */
  constructor(engine) {
    this.engine = engine;
    /** What has been defined, to be replayed elsewhere. @type {[string, readonly CallArgument[]][]} */
    this.calls = [];
    this.graph = engine.exports.lam_graph_new();
    this.session = 0;
    this.inputs = 0;
    /** Where arrays and strings are put for the engine to read. */
    this.area = { at: 0, bytes: 0 };
    /** Where chunks of weights are put. */
    this.staging = { at: 0, bytes: 0 };
    /** Sizes the session was last prepared for. @type {string | null} */
    this.prepared = null;
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
    if (name === 'input') this.inputs++;
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
   * Fuses the graph and makes room for its weights.
   * @returns {Promise<Compiled>}
   */
  async compile() {
    const { exports } = this.engine;
    if (exports.lam_compile(this.graph) !== 0) throw this.error();
    const weights = Array.from({ length: exports.lam_weight_count(this.graph) }, (_, i) => this.engine.string(exports.lam_weight_name(this.graph, i)));
    return { weights, bytes: this.bytes };
  }

  /**
   * Rows [first, first + rows) of a weight.
   * @param {number} weight
   * @param {number} type lam_type
   * @param {Uint8Array} data
   * @param {number} first
   * @param {number} rows
   */
  async load(weight, type, data, first, rows) {
    this.reserve(this.staging, data.byteLength, 'a chunk of weights');
    this.engine.u8().set(data, this.staging.at);
    if (this.engine.exports.lam_load(this.graph, weight, type, this.staging.at, first, rows) !== 0) throw this.error();
  }

  /** All weights are there: frees what only loading needed. */
  async loaded() {
    this.release(this.staging);
    this.session = this.engine.exports.lam_session_new(this.graph, this.engine.pool);
    if (!this.session) throw new LamellaError('memory', 'out of memory: no room for a session');
    return this.bytes;
  }

  /** @returns {MemoryUse} */
  get bytes() {
    const { exports } = this.engine;
    return {
      weights: exports.lam_packed_bytes(this.graph) >>> 0,
      activations: this.session ? exports.lam_session_bytes(this.session) >>> 0 : 0,
    };
  }

  // ---- run --------------------------------------------------------------------------------------------------------

  /**
   * @param {Numbers[]} inputs
   * @param {{ signal?: AbortSignal | null, profile?: boolean }} [options] With a signal the run stops to look at it every few milliseconds.
   * @returns {Promise<Answer>}
   */
  async forward(inputs, { signal = null, profile = false } = {}) {
    const { exports } = this.engine;
    this.prepare(inputs.map((input) => input.shape));
    inputs.forEach(({ data }, i) => {
      this.engine.f32().set(data, (exports.lam_session_input(this.session, i) >>> 0) / 4);
    });
    exports.lam_session_profile(this.session, Number(profile));
    if (signal) await this.runInSlices(signal);
    else exports.lam_session_run(this.session);
    const outputs = Array.from({ length: exports.lam_output_count(this.graph) }, (_, i) => this.output(i));
    return { outputs, layers: profile ? this.layers() : null, bytes: this.bytes };
  }

  /**
   * Plans for inputs of these sizes, unless that is done.
   * @param {number[][]} shapes
   */
  prepare(shapes) {
    const key = JSON.stringify(shapes);
    if (key === this.prepared) return;
    const { exports } = this.engine;
    this.prepared = null;
    const statuses = shapes.map((shape, i) => exports.lam_session_resize(this.session, i, ...this.marshal([shape.length, shape])));
    const status = statuses.find((s) => s !== 0) ?? exports.lam_session_prepare(this.session);
    if (status !== 0) throw new LamellaError(CODES[status] ?? 'state', this.engine.string(exports.lam_session_error(this.session)));
    this.prepared = key;
  }

  /** @param {AbortSignal} signal */
  async runInSlices(signal) {
    try {
      for (;;) {
        signal.throwIfAborted();
        if (this.engine.exports.lam_session_step(this.session, SLICE)) return;
        await breathe();
        if (!this.session) throw new LamellaError('disposed', 'the model was disposed during forward');
      }
    } catch (error) {
      this.prepared = null;   // a prepare makes the next run begin at the first layer
      throw error;
    }
  }

  /**
   * @param {number} index
   * @returns {Numbers}
   */
  output(index) {
    const { exports } = this.engine;
    const rank = exports.lam_session_output_rank(this.session, index);
    const shape = Array.from({ length: rank }, (_, axis) => exports.lam_session_output_dim(this.session, index, axis));
    const size = shape.reduce((product, n) => product * n, 1);
    const start = (exports.lam_session_output(this.session, index) >>> 0) / 4;
    return { data: this.engine.f32().slice(start, start + size), shape };
  }

  /** @returns {LayerProfile[]} */
  layers() {
    const { exports } = this.engine;
    return Array.from({ length: exports.lam_layer_count(this.graph) }, (_, i) => {
      const milliseconds = exports.lam_layer_milliseconds(this.session, i);
      const flops = exports.lam_layer_flops(this.session, i);
      return {
        path: this.engine.string(exports.lam_layer_path(this.graph, i)),
        name: this.engine.string(exports.lam_layer_name(this.graph, i)),
        shape: Array.from({ length: exports.lam_layer_rank(this.session, i) }, (_unused, axis) => exports.lam_layer_dim(this.session, i, axis)),
        milliseconds, flops,
        bytes: exports.lam_layer_bytes(this.session, i),
        gflops: milliseconds > 0 ? flops / milliseconds / 1e6 : 0,
      };
    });
  }

  /** Frees everything; may be called at any time, and again. */
  dispose() {
    const { exports } = this.engine;
    this.release(this.area);
    this.release(this.staging);
    if (this.session) exports.lam_session_free(this.session);
    if (this.graph) exports.lam_graph_free(this.graph);
    this.session = this.graph = 0;
  }
}

const encoder = new TextEncoder();

/** @param {number} bytes */
const roundUp = (bytes) => (bytes + 7) & ~7;

/** Lets the event loop do everything that waits: messages, input, painting. @returns {Promise<void>} */
function breathe() {
  if (typeof setImmediate === 'function') return new Promise((resolve) => { setImmediate(resolve); });
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(null);
  });
}
