/** Modules that hold other modules under numbers. */
import { badArgument, integer } from '../arguments.js';
import { Module, order } from '../module.js';

/**
 * The name and module of each entry: modules in a row, or named ones as an object, a Map or [name, module] pairs (PyTorch's
 * OrderedDict).
 * @param {unknown[]} given
 * @returns {[string, unknown][]}
 */
function entriesOf(given) {
  const [first] = given;
  /** @type {[string, unknown][]} */
  let entries = given.map((module, i) => [String(i), module]);
  if (given.length === 1 && !(first instanceof Module)) {
    if (first instanceof Map) entries = [...first].map(([name, module]) => [String(name), module]);
    else if (Array.isArray(first)) entries = first.map((entry, i) => (Array.isArray(entry) ? [String(entry[0]), entry[1]] : [String(i), entry]));
    else if (typeof first === 'object' && first !== null) entries = inOrder(Object.entries(first));
  }
  return entries;
}

/**
 * Of an object with the keys '-1', 0 and 1 JavaScript lists 0 and 1 first. Where all names are integers they count upwards instead.
 * @param {[string, unknown][]} entries
 * @returns {[string, unknown][]}
 */
function inOrder(entries) {
  if (!entries.every(([name]) => /^-?\d+$/.test(name))) return entries;
  return entries.sort(([a], [b]) => Number(a) - Number(b));
}

const put = Symbol('put');

/** Modules under names of their own, as attributes. */
class Container extends Module {
  /** The modules' names in order. */
  [order] = /** @type {string[]} */ ([]);

  /** @param {string} what @param {unknown[]} given */
  constructor(what, given) {
    super();
    for (const [name, module] of entriesOf(given)) this[put](`${what}: ${name}`, name, module);
  }

  /**
   * A further module.
   * @param {string} what As errors begin.
   * @param {string} name
   * @param {unknown} module
   */
  [put](what, name, module) {
    if (!(module instanceof Module)) throw badArgument(what, 'a module', module);
    if (!name || name.includes('.')) throw badArgument(what, 'a name without dots that is not empty', name);
    if (this[order].includes(name)) throw badArgument(what, 'a different name for each module', name);
    if (name in this) throw badArgument(what, 'a name that is no attribute of the container', name);
    this[order].push(name);
    /** @type {any} */ (this)[name] = module;
  }

  /** How many modules. */
  get size() {
    return this[order].length;
  }

  /**
   * The module at a place; negative counts from the end.
   * @param {number} index
   * @returns {Module | undefined}
   */
  at(index) {
    const name = this[order].at(integer('at: index', index));
    return name === undefined ? undefined : /** @type {any} */ (this)[name];
  }

  /** @returns {Generator<Module>} */
  * [Symbol.iterator]() {
    for (const name of this[order]) yield /** @type {any} */ (this)[name];
  }
}

/**
 * Modules one after the other. `new Sequential(a, b)` calls them 0 and 1; `new Sequential({ conv: a, norm: b })`, a Map or an array of
 * [name, module] give names. (In an object whose names are all integers, they count in ascending order, '-1' first.)
 */
export class Sequential extends Container {
  /** @param {...(Module | Map<string, Module> | Record<string, Module> | [string, Module][])} modules */
  constructor(...modules) {
    super('Sequential', modules);
  }

  /** @param {any} x */
  forward(x) {
    return [...this].reduce((y, module) => module(y), x);
  }
}

/** Modules in a list; a plain array as an attribute does the same. What they compute is up to the forward that owns them. */
export class ModuleList extends Container {
  /** @param {Iterable<Module>} [modules] */
  constructor(modules = []) {
    super('ModuleList', [[...modules]]);
  }

  /**
   * @param {Module} module
   * @returns {this}
   */
  append(module) {
    this[put]('ModuleList: append', String(this[order].length), module);
    return this;
  }
}
