import { Module, Parameter } from './module.js';

/**
 * A module with the same structure and weights of its own, as Python's copy.deepcopy makes it; what occurs in it twice does so in the
 * copy. Attributes other than modules, weights and arrays are shared. (A class with private fields cannot be copied.)
 * @param {Module} module
 * @returns {Module}
 */
export function deepCopy(module) {
  return copy(module, new Map());
}

/** @param {any} value @param {Map<object, object>} seen */
function copy(value, seen) {
  if (!(value instanceof Module || value instanceof Parameter || Array.isArray(value))) return value;
  const known = seen.get(value);
  if (known) return known;
  const empty = Array.isArray(value) ? [] : Object.setPrototypeOf(value instanceof Module ? new Module() : {}, Object.getPrototypeOf(value));
  seen.set(value, empty);
  for (const key of Reflect.ownKeys(value)) if (key !== 'length' || !Array.isArray(value)) empty[key] = copy(/** @type {any} */ (value)[key], seen);
  return empty;
}
