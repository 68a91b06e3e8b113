/** Pooling of images. */
import { badArgument, boolean, integer, options, pair, show } from '../arguments.js';
import { LamellaError } from '../errors.js';
import { KEEP } from '../trace.js';
import { record, value } from './record.js';

/** @import { Operand } from '../tensor.js' */
/** @import { Pair } from './layers.js' */

/**
 * Mean of each window of x [n, c, h, w]. Options: `stride` (the kernel), `padding` (0), `ceilMode` (false), `countIncludePad`
 * (true), `divisorOverride` (null: the window's size).
 * @param {Operand} x
 * @param {Pair} kernelSize
 * @param {...any} rest
 */
export function avgPool2d(x, kernelSize, ...rest) {
  const o = options('avgPool2d', rest, { stride: /** @type {Pair | null} */ (null), padding: /** @type {Pair} */ (0), ceilMode: false, countIncludePad: true, divisorOverride: /** @type {number | null} */ (null) });
  const kernel = pair('avgPool2d: kernelSize', kernelSize, 1);
  return record('avg_pool2d', [value(x, 'avgPool2d: input'), kernel, pair('avgPool2d: stride', o.stride ?? kernel, 1),
    poolPadding('avgPool2d', o.padding, kernel), Number(boolean('avgPool2d: ceilMode', o.ceilMode)),
    Number(boolean('avgPool2d: countIncludePad', o.countIncludePad)),
    o.divisorOverride === null ? 0 : integer('avgPool2d: divisorOverride', o.divisorOverride, 1)]);
}

/**
 * Largest element of each window of x [n, c, h, w]. Options: `stride` (the kernel), `padding` (0), `dilation` (1), `ceilMode` (false).
 * @param {Operand} x
 * @param {Pair} kernelSize
 * @param {...any} rest
 */
export function maxPool2d(x, kernelSize, ...rest) {
  const o = options('maxPool2d', rest, { stride: /** @type {Pair | null} */ (null), padding: /** @type {Pair} */ (0), dilation: /** @type {Pair} */ (1), ceilMode: false });
  const kernel = pair('maxPool2d: kernelSize', kernelSize, 1);
  return record('max_pool2d', [value(x, 'maxPool2d: input'), kernel, pair('maxPool2d: stride', o.stride ?? kernel, 1),
    poolPadding('maxPool2d', o.padding, kernel), pair('maxPool2d: dilation', o.dilation, 1),
    Number(boolean('maxPool2d: ceilMode', o.ceilMode))]);
}

/**
 * @param {string} what
 * @param {unknown} given
 * @param {[number, number]} kernel
 */
function poolPadding(what, given, kernel) {
  const padding = pair(`${what}: padding`, given);
  if (padding.some((size, i) => size * 2 > kernel[i])) {
    throw new LamellaError('argument', `${what}: padding ${show(padding)} is more than half the kernel ${show(kernel)}`);
  }
  return padding;
}

/**
 * Mean over oh x ow windows that cover x [n, c, h, w]: window i has the rows floor(i h / oh) to ceil((i + 1) h / oh).
 * @param {Operand} x
 * @param {number | [number | null, number | null]} outputSize null keeps the input's size.
 */
export function adaptiveAvgPool2d(x, outputSize) {
  const both = Array.isArray(outputSize) ? outputSize : [outputSize, outputSize];
  if (both.length !== 2) throw badArgument('adaptiveAvgPool2d: outputSize', 'an integer or [height, width]', outputSize);
  const size = both.map((n) => (n === null ? KEEP : integer('adaptiveAvgPool2d: outputSize', n, 1)));
  return record('adaptive_avg_pool2d', [value(x, 'adaptiveAvgPool2d: input'), size]);
}
