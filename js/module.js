import { sizes } from './arguments.js';
import { LamellaError } from './errors.js';
import { repr } from './repr.js';
import { TensorMethods } from './tensor.js';
import { callModule, lift } from './trace.js';

/**
 * A weight of a module: a shape now, numbers when a checkpoint is loaded. Its name in the checkpoint is the path of the attributes
 * that lead to it, `layer1.0.conv1.weight`. In `forward` it is used like any tensor.
 */
export class Parameter extends TensorMethods {
  /**
   * @param {number[]} shape Sizes; `[]` for a single number.
   * @param {{ dtype?: string }} [options] `dtype` is what PyTorch has here ('f32'); it is documentation only: a checkpoint may
   *   hold any number format, and the engine computes in f32.
   */
  constructor(shape, { dtype = 'f32' } = {}) {
    super();
    /** @type {readonly number[]} */
    this.shape = Object.freeze(sizes(`${new.target.name}: shape`, shape));
    /** @type {string} */
    this.dtype = dtype;
    /** May a checkpoint lack it? @type {boolean} */
    this.optional = false;
  }

  /**
   * @param {import('./trace.js').Trace} trace
   * @returns {number} The weight's value in the graph.
   */
  [lift](trace) {
    return trace.weight(this);
  }
}

/** A weight that training does not change, like the running mean of a batch norm: part of the checkpoint, not of `parameters()`. */
export class Buffer extends Parameter {
  /**
   * @param {number[]} shape
   * @param {{ dtype?: string, optional?: boolean }} [options] `optional`: a checkpoint may lack it.
   */
  constructor(shape, { dtype = 'f32', optional = false } = {}) {
    super(shape, { dtype });
    this.optional = optional;
  }
}

/** The base of Module: `new` returns a function that carries the class's prototype, which makes instances callable without eval. */
class CallableObject {
  constructor() {
    /** @param {unknown[]} inputs */
    const self = (...inputs) => callModule(/** @type {any} */ (self), inputs);
    // A function's own `name` and `length` are read-only and would stand in the way of attributes so called.
    delete (/** @type {any} */ (self).name);
    delete (/** @type {any} */ (self).length);
    return Object.setPrototypeOf(self, new.target.prototype);
  }
}

/** @typedef {new () => (...inputs: any[]) => any} CallableConstructor */

/**
 * A piece of a network: a class whose attributes are Parameters and other Modules, and whose `forward` says what it computes.
 *
 *     class Head extends Module {
 *       constructor(width) {
 *         super();
 *         this.norm = new nn.LayerNorm(width);
 *         this.proj = new nn.Linear(width, 10);
 *       }
 *       forward(x) { return this.proj(this.norm(x)); }
 *     }
 *
 * Attributes that hold weights are spelled as in the checkpoint. An array of modules counts as PyTorch's ModuleList: its weights
 * are called `blocks.0.…`. Call a module like a function, `this.proj(x)`, rather than its `forward`: errors and profiles then say
 * which one it was. `forward` runs once, in `compile`, on tensors that have a shape but no numbers yet.
 */
export class Module extends /** @type {CallableConstructor} */ (/** @type {unknown} */ (CallableObject)) {
  /**
   * What the module computes; subclasses replace it.
   * @param {...any} inputs Tensors.
   * @returns {any} A tensor, or an array or object of tensors.
   */
  forward(...inputs) {
    throw new LamellaError('argument', `${className(this)} has no forward method`);
  }

  /**
   * The modules among the attributes, with their names, in the order of definition.
   * @returns {Generator<[string, Module]>}
   */
  * namedChildren() {
    yield* children(members(this));
  }

  /** @returns {Generator<Module>} */
  * children() {
    for (const [, child] of this.namedChildren()) yield child;
  }

  /**
   * This module and all below it with their paths; the module itself has the path ''. A module that is reached twice comes twice.
   * @param {string} [prefix]
   * @returns {Generator<[string, Module]>}
   */
  * namedModules(prefix = '') {
    for (const { path, module } of walk(prefix, this)) yield [path, module];
  }

  /** @returns {Generator<Module>} */
  * modules() {
    yield* new Set([...this.namedModules()].map(([, module]) => module));
  }

  /**
   * The weights that training changes, with their names. A Parameter that is reached twice comes once.
   * @param {string} [prefix]
   * @returns {Generator<[string, Parameter]>}
   */
  * namedParameters(prefix = '') {
    const seen = new Set();
    for (const [name, parameter] of this.stateDict(prefix)) {
      if (parameter instanceof Buffer || seen.has(parameter)) continue;
      seen.add(parameter);
      yield [name, parameter];
    }
  }

  /** @returns {Generator<Parameter>} */
  * parameters() {
    for (const [, parameter] of this.namedParameters()) yield parameter;
  }

  /**
   * @param {string} [prefix]
   * @returns {Generator<[string, Buffer]>}
   */
  * namedBuffers(prefix = '') {
    const seen = new Set();
    for (const [name, buffer] of this.stateDict(prefix)) {
      if (!(buffer instanceof Buffer) || seen.has(buffer)) continue;
      seen.add(buffer);
      yield [name, buffer];
    }
  }

  /** @returns {Generator<Buffer>} */
  * buffers() {
    for (const [, buffer] of this.namedBuffers()) yield buffer;
  }

  /**
   * Every Parameter and Buffer under its name in the checkpoint, as the keys of PyTorch's `state_dict()`: one that is reached by
   * two paths has two names.
   * @param {string} [prefix]
   * @returns {Map<string, Parameter>}
   */
  stateDict(prefix = '') {
    /** @type {Map<string, Parameter>} */
    const result = new Map();
    for (const { path, own } of walk(prefix, this)) {
      for (const [name, value] of own) if (value instanceof Parameter) result.set(join(path, name), value);
    }
    return result;
  }

  /**
   * Does a checkpoint have this weight beside the module's own without being another model's? `compile` then passes it over. Subclasses may say so.
   * @param {string} name From this module on: 'rotary_emb.inv_freq'.
   * @returns {boolean}
   */
  ignoresWeight(name) {
    return false;
  }

  /** What `toString` shows between the parentheses, "64, 128, kernelSize=[3, 3]". @returns {string} */
  extraRepr() {
    return '';
  }

  /**
   * The tree of modules as PyTorch prints it, with the number of parameters and the shapes of the weights behind each line (js/repr.js).
   * In browsers, whose console shows a module as the function that it is: `console.log(String(module))`.
   * @returns {string}
   */
  toString() {
    return repr(this);
  }

  /** Node's console.log shows the tree rather than a function. @returns {string} */
  [Symbol.for('nodejs.util.inspect.custom')]() {
    return this.toString();
  }
}

/**
 * @param {Module} module
 * @returns {string}
 */
export function className(module) {
  return Object.getPrototypeOf(module).constructor.name || 'Module';
}

/**
 * @param {string} path
 * @param {string} name
 */
const join = (path, name) => (path ? `${path}.${name}` : name);

/**
 * The modules and parameters among the attributes; those in arrays are called `name.index`.
 * @param {Module} module
 * @returns {[string, Module | Parameter][]}
 */
export function members(module) {
  /** @type {[string, Module | Parameter][]} */
  const found = [];
  for (const [name, value] of attributes(module)) addNamed(found, name, value);
  return found;
}

/** @param {[string, Module | Parameter][]} own Of members. @returns {[string, Module][]} */
const children = (own) => /** @type {[string, Module][]} */ (own.filter(([, value]) => value instanceof Module));

/** A module that has an order of its own (Sequential: integer keys would come first) says so under this key. */
export const order = Symbol('order');

/**
 * Every attribute in that order.
 * @param {Module} module
 * @returns {[string, unknown][]}
 */
export function attributes(module) {
  const own = Object.keys(module);
  const first = /** @type {{ [order]?: readonly string[] }} */ (/** @type {unknown} */ (module))[order];
  const names = first ? [...first, ...own.filter((name) => !first.includes(name))] : own;
  return names.map((name) => [name, /** @type {any} */ (module)[name]]);
}

/**
 * @param {[string, Module | Parameter][]} to
 * @param {string} name
 * @param {unknown} value
 */
function addNamed(to, name, value) {
  if (value instanceof Module || value instanceof Parameter) to.push([name, value]);
  else if (Array.isArray(value)) value.forEach((element, i) => addNamed(to, `${name}.${i}`, element));
}

/** @typedef {{ path: string, module: Module, own: [string, Module | Parameter][] }} Branch `own`: what members gives. */

/**
 * A module and all below it. Lists, not generators: those of a large tree take as long as all the rest of recording it.
 * @param {string} path
 * @param {Module} module
 * @param {Module[]} [above]
 * @param {Branch[]} [found]
 * @returns {Branch[]}
 */
function walk(path, module, above = [], found = []) {
  if (above.includes(module)) throw new LamellaError('argument', `${path}: a module contains itself (${className(module)})`);
  const own = members(module);
  found.push({ path, module, own });
  above.push(module);
  for (const [name, child] of children(own)) walk(join(path, name), child, above, found);
  above.pop();
  return found;
}
