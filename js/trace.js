/**
 * Recording: `forward` runs once on tensors without numbers, and each layer it calls becomes a call to the engine's graph.
 */
import { show } from './arguments.js';
import { LamellaError } from './errors.js';

/** What can stand for a value of the graph has a method of this name: `[lift](trace) -> value`. */
export const lift = Symbol('lift');

/**
 * The graph a trace writes to.
 * @typedef {object} GraphWriter
 * @property {(name: string, args: readonly CallArgument[]) => number} define Calls `lam_<name>(graph, ...args)`.
 * @property {(value: number) => (number | null)[]} shape
 * @property {() => LamellaError} error Why the last `define` failed.
 */
/** @typedef {number | string | readonly number[]} CallArgument A number, a C string or an array of C ints. */
/** @typedef {import('./module.js').Module} Module */
/** @typedef {import('./module.js').Parameter} Parameter */

export const BAD = -1;
export const NONE = -2;
export const ANY = -1;
export const KEEP = -3;

/** @type {Trace | null} */
let current = null;

/** One run of a module's forward, from its inputs to its outputs. */
export class Trace {
  /**
   * @param {Module} root
   * @param {GraphWriter} graph
   * @param {import('./precision.js').PrecisionOf} [precisionOf] What each weight is to be kept in.
   */
  constructor(root, graph, precisionOf) {
    this.graph = graph;
    this.precisionOf = precisionOf;
    /** Names of every weight of the tree; one that is reached by two paths has two. @type {Map<Parameter, string[]>} */
    this.names = new Map();
    for (const [name, parameter] of root.stateDict()) {
      const names = this.names.get(parameter);
      if (names) names.push(name);
      else this.names.set(parameter, [name]);
    }
    /** @type {Map<Module, string>} */
    this.paths = new Map();
    for (const [path, module] of root.namedModules()) if (!this.paths.has(module)) this.paths.set(module, path);
    /** Weights that forward has used, under their first name. @type {Map<string, Parameter>} */
    this.used = new Map();
    /** Their values in the graph. @type {Map<string, number>} */
    this.values = new Map();
    /** Numbers written in forward, as weights that need no checkpoint. @type {Map<string, { data: Float32Array, shape: number[] }>} */
    this.constants = new Map();
    /** Path of the module that is being recorded. */
    this.path = '';
    /** Path the graph was last told. */
    this.scope = '';
  }

  /**
   * Runs `record` with this trace as the one that tensors and modules write to.
   * @template T
   * @param {() => T} record
   * @returns {T}
   */
  run(record) {
    const outer = current;
    const { stackTraceLimit } = Error;
    current = this;
    Error.stackTraceLimit = 100;   // the line of the user's forward may lie below many calls of ours
    try {
      return record();
    } finally {
      current = outer;
      Error.stackTraceLimit = stackTraceLimit;
    }
  }

  /**
   * Records a layer.
   * @param {string} name The engine's function without `lam_`.
   * @param {...CallArgument} args
   * @returns {number} The layer's value.
   */
  define(name, ...args) {
    if (this.scope !== this.path) {
      this.scope = this.path;
      this.graph.define('scope', [this.path]);
    }
    const value = this.graph.define(name, args);
    if (value >= 0) return value;
    throw this.located(this.graph.error());
  }

  /**
   * An error of the engine, with the module it happened in.
   * @param {LamellaError} error
   * @returns {LamellaError}
   */
  located(error) {
    const message = this.path && !error.message.startsWith(this.path) ? `${this.path}: ${error.message}` : error.message;
    return new LamellaError(error.code, message, { path: this.path, cause: error.cause });
  }

  /**
   * @param {string} code
   * @param {string} message
   * @returns {LamellaError}
   */
  error(code, message) {
    return this.located(new LamellaError(code, message));
  }

  /**
   * The value of anything that may be an argument of a layer: a tensor, a weight, a number.
   * @param {unknown} value
   * @param {string} what "conv2d: weight", for the error.
   * @returns {number}
   */
  lift(value, what) {
    if (typeof value === 'number') return this.constant(Float32Array.of(value), [], String(value));
    const own = /** @type {any} */ (value)?.[lift];
    if (typeof own === 'function') return own.call(value, this);
    const hint = typeof value === 'function' ? '; call the module: layer(x)' : '';
    throw this.error('argument', `${what}: expected a tensor, got ${show(value)}${hint}`);
  }

  /**
   * As lift, with null and undefined for an argument that is left out.
   * @param {unknown} value
   * @param {string} what
   * @returns {number}
   */
  liftOptional(value, what) {
    return value === null || value === undefined ? NONE : this.lift(value, what);
  }

  /**
   * @param {Parameter} parameter
   * @param {readonly number[]} [shape] What the graph sees of it: the same numbers with the same first axis.
   * @returns {number}
   */
  weight(parameter, shape = parameter.shape) {
    const names = this.names.get(parameter);
    if (!names) {
      throw this.error('argument', `a Parameter of shape [${parameter.shape.join(', ')}] is used that is not an attribute of the model`
        + ' or of a module in it (arrays of modules count; plain objects, Maps and private fields do not)');
    }
    const value = this.define('weight', names[0], shape.length, shape);
    const precision = this.used.has(names[0]) ? 0 : this.precisionOf?.(names[0], parameter.shape);
    if (precision) this.define('weight_precision', value, precision);
    this.used.set(names[0], parameter);
    this.values.set(names[0], value);
    return value;
  }

  /**
   * Says how a weight that has been used is to be kept.
   * @param {string} name
   * @param {number} precision lam_precision
   */
  keep(name, precision) {
    this.define('weight_precision', /** @type {number} */ (this.values.get(name)), precision);
  }

  /**
   * Numbers written in forward.
   * @param {Float32Array} data
   * @param {number[]} shape
   * @param {string} [label] What makes two constants the same.
   * @returns {number}
   */
  constant(data, shape, label = `#${this.constants.size}`) {
    const name = `constant ${label}`;   // the blank keeps it apart from every module's path
    this.constants.set(name, { data, shape });
    return this.define('weight', name, shape.length, shape);
  }

  /**
   * @param {Module} module
   * @param {unknown[]} inputs
   * @returns {unknown}
   */
  call(module, inputs) {
    const outer = this.path;
    this.path = this.paths.get(module) ?? outer;
    try {
      return module.forward(...inputs);
    } finally {
      this.path = outer;
    }
  }
}

/**
 * The trace in progress; layers can be recorded only during one.
 * @param {string} what
 * @returns {Trace}
 */
export function currentTrace(what) {
  if (current) return current;
  throw new LamellaError('state', `${what}: layers run inside a compiled model: compile(module, ...), then model.forward(...)`);
}

/**
 * What `module(...inputs)` does.
 * @param {Module} module
 * @param {unknown[]} inputs
 * @returns {unknown}
 */
export function callModule(module, inputs) {
  return currentTrace(Object.getPrototypeOf(module).constructor.name).call(module, inputs);
}
