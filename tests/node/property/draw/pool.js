/** Pooling. */
import { several } from '../check.js';

/** @import { Draw } from '../check.js' */
/** @import { Random } from '../random.js' */

const at = (/** @type {any} */ pair, /** @type {number} */ i) => (Array.isArray(pair) ? pair[i] : pair);

/** Kernel, stride and padding with images into which the kernel fits. @param {Random} r @param {boolean} dilated */
function pooling(r, dilated) {
  const kernel = r.pair(() => r.int(1, 5));
  const stride = r.chance(0.3) ? null : r.pair(() => r.int(1, 4));
  const padding = r.pair(() => r.int(0, Math.floor(Math.min(at(kernel, 0), at(kernel, 1)) / 2)));
  const dilation = dilated ? r.pair(() => r.pick([1, 1, 2, 3])) : 1;
  const c = r.size(21);
  const size = (/** @type {number} */ i) => {
    const least = Math.max(1, at(dilation, i) * (at(kernel, i) - 1) + 1 - 2 * at(padding, i));
    return r.int(least, least + r.pick([0, 3, 9]));
  };
  const runs = several(r, () => [[r.chance(0.03) ? 0 : r.int(1, 3), c, size(0), size(1)]]);
  return { kernel, stride, padding, dilation, runs };
}

/** @type {Draw} */
export function maxPool2d(r) {
  const { kernel, stride, padding, dilation, runs } = pooling(r, true);
  const options = { stride, padding, dilation, ceilMode: r.chance() };
  return { args: { kernel, ...options }, runs, program: (f, [x]) => f.maxPool2d(x, kernel, options) };
}

/** @type {Draw} */
export function avgPool2d(r) {
  const { kernel, stride, padding, runs } = pooling(r, false);
  const options = { stride, padding, ceilMode: r.chance(), countIncludePad: r.chance(), divisorOverride: r.chance(0.2) ? r.int(1, 20) : null };
  return { args: { kernel, ...options }, runs, program: (f, [x]) => f.avgPool2d(x, kernel, options) };
}

/** @type {Draw} */
export function adaptiveAvgPool2d(r) {
  const one = () => (r.chance(0.3) ? 1 : r.int(1, 7));
  const size = r.chance(0.3) ? one() : [r.chance(0.2) ? null : one(), r.chance(0.2) ? null : one()];
  const c = r.size(r.chance(0.1) ? 100 : 21);
  return {
    args: { size },
    runs: several(r, () => [[r.chance(0.03) ? 0 : r.int(1, 3), c, r.size(13), r.size(13)]]),
    program: (f, [x]) => f.adaptiveAvgPool2d(x, size),
  };
}
