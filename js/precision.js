/** In how many bits weights are kept. */
import { badArgument } from './arguments.js';

/** In the order of lam_precision. */
export const PRECISIONS = /** @type {const} */ (['f32', 'f16', 'q8', 'q4']);

/** @typedef {(typeof PRECISIONS)[number]} Precision */
/**
 * One precision for all weights, or what each is to have: 'f32' where the function returns nothing.
 * @typedef {Precision | ((name: string, shape: readonly number[]) => Precision | undefined | null)} PrecisionOption
 */
/** @typedef {(name: string, shape: readonly number[]) => number} PrecisionOf lam_precision of a weight. */
/** @typedef {'f32' | 'f16' | 'q8'} CacheFormat */

/**
 * @param {unknown} format
 * @returns {number} Its lam_precision.
 */
export function cachePrecision(format) {
  const formats = PRECISIONS.slice(0, 3);
  const index = formats.indexOf(/** @type {CacheFormat} */ (format));
  if (index < 0) throw badArgument('session: cache', `one of ${formats.map((name) => `'${name}'`).join(', ')}`, format);
  return index;
}

/**
 * @param {string} what
 * @param {unknown} value
 * @returns {number}
 */
function number(what, value) {
  const index = PRECISIONS.indexOf(/** @type {Precision} */ (value));
  if (index < 0) throw badArgument(what, `one of ${PRECISIONS.map((name) => `'${name}'`).join(', ')}, or a function (name, shape) that returns one`, value);
  return index;
}

/**
 * @param {unknown} option
 * @returns {PrecisionOf | undefined} undefined where everything stays f32.
 * @throws {LamellaError} 'argument' for anything but a precision or a function; so does the function for what it returns.
 */
export function precisionOf(option) {
  if (option === undefined) return undefined;
  if (typeof option === 'function') return (name, shape) => number(`compile: precision of ${name}`, option(name, [...shape]) ?? 'f32');
  const one = number('compile: precision', option);
  return () => one;
}
