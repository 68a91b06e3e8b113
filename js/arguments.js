/**
 * Checks of what a user passes to a layer: each returns the value in the form the engine wants, or says what was expected and
 * what came. `what` is "Conv2d: stride": the layer and its argument, as the error begins.
 */
import { LamellaError } from './errors.js';

/**
 * A value as an error message shows it.
 * @param {unknown} value
 * @returns {string}
 */
export function show(value) {
  if (typeof value === 'string') return JSON.stringify(value);
  if (typeof value === 'bigint') return `${value}n`;
  if (Array.isArray(value)) {
    const shown = value.slice(0, 8).map(show).join(', ');
    return `[${shown}${value.length > 8 ? ', ...' : ''}]`;
  }
  if (ArrayBuffer.isView(value)) return `${value.constructor.name}(${/** @type {any} */ (value).length ?? value.byteLength})`;
  if (typeof value === 'function' || (typeof value === 'object' && value !== null)) {
    return Object.getPrototypeOf(value)?.constructor?.name ?? 'object';
  }
  return String(value);
}

/**
 * A shape as an error message shows it, "?" where a size varies: `[?, 3, 224, 224]`.
 * @param {readonly (number | null)[]} shape
 * @returns {string}
 */
export const showShape = (shape) => `[${shape.map((size) => size ?? '?').join(', ')}]`;

/**
 * @param {string} what
 * @param {string} expected
 * @param {unknown} value
 * @returns {LamellaError}
 */
export function badArgument(what, expected, value) {
  return new LamellaError('argument', `${what}: expected ${expected}, got ${show(value)}`);
}

/**
 * @param {string} what
 * @param {unknown} value
 * @param {number} [least]
 * @param {number} [most]
 * @returns {number}
 */
export function integer(what, value, least = -0x80000000, most = 0x7fffffff) {
  if (typeof value === 'number' && Number.isInteger(value) && value >= least && value <= most) return value;
  const range = least === -0x80000000 ? '' : most === 0x7fffffff ? ` of at least ${least}` : ` from ${least} to ${most}`;
  throw badArgument(what, `an integer${range}`, value);
}

/**
 * @param {string} what
 * @param {unknown} value
 * @param {number} [least]
 * @returns {number}
 */
export function finite(what, value, least = -Infinity) {
  if (typeof value === 'number' && Number.isFinite(value) && value >= least) return value;
  throw badArgument(what, least === -Infinity ? 'a number' : `a number of at least ${least}`, value);
}

/**
 * @param {string} what
 * @param {unknown} value
 * @returns {boolean}
 */
export function boolean(what, value) {
  if (typeof value === 'boolean') return value;
  throw badArgument(what, 'true or false', value);
}

/**
 * @param {string} what
 * @param {unknown} value
 * @returns {number}
 */
export function probability(what, value) {
  if (typeof value === 'number' && value >= 0 && value <= 1) return value;
  throw badArgument(what, 'a probability from 0 to 1', value);
}

/**
 * @param {string} what
 * @param {any} value
 * @returns {AbortSignal | null} null for none.
 */
export function abortSignal(what, value) {
  if (value === undefined || value === null) return null;
  if (typeof value.throwIfAborted === 'function' && typeof value.addEventListener === 'function') return value;
  throw badArgument(what, 'an AbortSignal', value);
}

/**
 * One of several names, as its index.
 * @param {string} what
 * @param {readonly string[]} names
 * @param {unknown} value
 * @returns {number}
 */
export function indexOf(what, names, value) {
  const index = names.indexOf(/** @type {string} */ (value));
  if (index < 0) throw badArgument(what, names.map((name) => `'${name}'`).join(' or '), value);
  return index;
}

/**
 * One integer for both axes, or [height, width].
 * @param {string} what
 * @param {unknown} value
 * @param {number} [least]
 * @returns {[number, number]}
 */
export function pair(what, value, least = 0) {
  if (Array.isArray(value) && value.length === 2) return [integer(`${what}[0]`, value[0], least), integer(`${what}[1]`, value[1], least)];
  if (Array.isArray(value)) throw badArgument(what, 'an integer or [height, width]', value);
  const size = integer(what, value, least);
  return [size, size];
}

/**
 * A list of sizes, each an integer of at least `least`.
 * @param {string} what
 * @param {unknown} value
 * @param {number} [least]
 * @returns {number[]}
 */
export function sizes(what, value, least = 0) {
  if (!Array.isArray(value)) throw badArgument(what, 'an array of integers', value);
  return value.map((size, i) => integer(`${what}[${i}]`, size, least));
}

/**
 * The arguments after the required ones: PyTorch's positional order, or one object of options, or both.
 * @template {Record<string, unknown>} T
 * @param {string} what The layer's name.
 * @param {unknown[]} rest What was passed.
 * @param {T} defaults Every option with its default, in PyTorch's positional order.
 * @returns {T}
 */
export function options(what, rest, defaults) {
  const names = Object.keys(defaults);
  /** @type {Record<string, unknown>} */
  const result = { ...defaults };
  rest.forEach((value, i) => {
    if (value === undefined) return;
    if (typeof value === 'object' && value !== null && Object.getPrototypeOf(value) === Object.prototype) {
      for (const [name, given] of Object.entries(value)) {
        if (!names.includes(name)) {
          throw new LamellaError('argument', `${what}: there is no option "${name}"; known: ${names.join(', ')}`);
        }
        if (given !== undefined) result[name] = given;
      }
    } else if (i < names.length) {
      result[names[i]] = value;
    } else {
      throw new LamellaError('argument', `${what}: too many arguments, the last being ${show(value)}`);
    }
  });
  return /** @type {T} */ (result);
}

/**
 * `whole` must be a multiple of `part`.
 * @param {string} what
 * @param {string} wholeName
 * @param {number} whole
 * @param {string} partName
 * @param {number} part
 */
export function divides(what, wholeName, whole, partName, part) {
  if (whole % part === 0) return;
  throw new LamellaError('argument', `${what}: ${wholeName} ${whole} is not a multiple of ${partName} ${part}`);
}
