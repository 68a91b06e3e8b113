/** Layers with weights: sizes around the tiles of the kernels, and every option. */
import { several } from '../check.js';

/** @import { Draw } from '../check.js' */
/** @import { Random } from '../random.js' */

/** @param {Random} r Values of a layer's input. */
const values = (r) => r.pick(['normal', 'normal', 'normal', 'offset', 'wide']);

/**
 * What reaches over `reach` must fit into the padded size.
 * @param {Random} r @param {number} kernel @param {number} dilation @param {number} padding @param {number} [most]
 */
const sizeFor = (r, kernel, dilation, padding, most = 11) => {
  const least = Math.max(0, dilation * (kernel - 1) + 1 - 2 * padding);
  return Math.max(r.size(most, Math.max(1, least)), least || 1);
};

/**
 * What a layer takes in while the graph is compiled: a second layer's result is added, a batch norm and an activation follow. `made` is the
 * layer, with the names of its weights behind `prefix`.
 * @param {Random} r
 * @param {number} c Of the batch norm, if the channels are axis 1.
 * @param {boolean} [added] There is a second layer in any case.
 */
function followed(r, c, added = false) {
  const [norm, sum, activation] = [c && r.chance(0.15), added || r.chance(0.15), r.chance(0.2) ? r.pick(['relu', 'silu', 'gelu', 'sigmoid']) : null];
  const statistics = { mean: [c], variance: { shape: [c], values: 'positive' }, gamma: [c], beta: [c] };
  return {
    told: [norm ? 'batchNorm' : '', sum ? 'add' : '', activation ?? ''].filter(Boolean),
    weights: norm ? statistics : {},
    /** @type {(f: any, w: any, made: (second: boolean) => any) => any} */
    apply: (f, w, made) => {
      const first = sum ? made(true) : null;   // before the other: what is added must be there
      const y = norm ? f.batchNorm(made(false), w.mean, w.variance, w.gamma, w.beta) : made(false);
      const z = sum ? f.add(y, first) : y;
      return activation ? f[activation](z) : z;
    },
  };
}

/** A convolution's groups and channels: [groups, in each, out of each]. @param {Random} r @param {boolean} large */
function channels(r, large) {
  const kind = r.int(0, 3);
  if (kind === 0) return [r.size(large ? 24 : 12, 2), 1, 1];                  // depthwise
  if (kind === 1) return [r.int(2, 4), r.size(5), r.size(9)];
  return [1, r.size(large ? 40 : 9), r.size(large ? 40 : 18)];
}

/** @type {Draw} */
export function conv2d(r) {
  const winograd = r.chance(0.12);   // 3 x 3 with stride 1 and enough channels
  const large = winograd || r.chance(0.1);
  const [groups, inGroup, outGroup] = winograd ? [r.pick([1, 1, 2]), r.int(16, 34), r.int(16, 34)] : channels(r, large);
  const kernel = winograd ? [3, 3] : r.pick([[1, 1], [3, 3], [r.size(5), r.size(5)], [r.size(7), 1], [1, r.size(7)]]);
  const stride = winograd ? 1 : r.pair(() => r.pick([1, 1, 2, 3]));
  const dilation = winograd ? 1 : r.pair(() => r.pick([1, 1, 1, 2, 3]));
  const same = stride === 1 && r.chance(0.25);
  const padding = same ? 'same' : r.chance(0.1) ? 'valid' : r.pair(() => r.pick([0, 0, 1, 2, 3]));
  const at = (/** @type {any} */ pair, /** @type {number} */ i) => (Array.isArray(pair) ? pair[i] : pair);
  const size = (/** @type {number} */ i) => {
    const dil = at(dilation, i);
    const pad = same ? Math.floor(dil * (kernel[i] - 1) / 2) : padding === 'valid' ? 0 : at(padding, i);
    return sizeFor(r, kernel[i], dil, pad, large ? 16 : 11);
  };
  const kind = values(r);
  const options = { stride, padding, dilation, groups };
  const [bias, shape] = [r.chance(0.7), [groups * outGroup, inGroup, kernel[0], kernel[1]]];
  const after = followed(r, groups * outGroup);
  return {
    args: { ...options, after: after.told },
    runs: several(r, () => [{ shape: [r.chance(0.03) ? 0 : r.int(1, large ? 2 : 3), groups * inGroup, size(0), size(1)], values: kind }]),
    weights: { weight: shape, ...bias && { bias: [groups * outGroup] }, ...after.told.includes('add') && { second: shape }, ...after.weights },
    program: (f, [x], w) => after.apply(f, w, (second) => f.conv2d(x, second ? w.second : w.weight, second ? null : w.bias ?? null, options)),
  };
}

/** @type {Draw} */
export function conv1d(r) {
  const [groups, inGroup, outGroup] = channels(r, false);
  const kernel = r.size(7);
  const [stride, dilation] = [r.pick([1, 1, 2, 3]), r.pick([1, 1, 2, 3])];
  const same = stride === 1 && r.chance(0.25);
  const padding = same ? 'same' : r.chance(0.1) ? 'valid' : r.int(0, 3);
  const pad = same ? Math.floor(dilation * (kernel - 1) / 2) : padding === 'valid' ? 0 : Number(padding);
  const options = { stride, padding, dilation, groups };
  return {
    args: options,
    runs: several(r, () => [[r.sizeOrZero(4), groups * inGroup, sizeFor(r, kernel, dilation, pad, 20)]]),
    weights: { weight: [groups * outGroup, inGroup, kernel], ...r.chance(0.7) && { bias: [groups * outGroup] } },
    program: (f, [x], w) => f.conv1d(x, w.weight, w.bias ?? null, options),
  };
}

/** The leading axes of a linear layer's input. @param {Random} r @param {number} rank */
const lead = (r, rank) => Array.from({ length: rank }, () => r.sizeOrZero(rank > 2 ? 4 : 15));

/** @type {Draw} */
export function linear(r) {
  const wide = r.chance(0.005);     // more than a block of the product where one thread does it all
  const [width, out, rank] = [wide ? r.int(1200, 1500) : r.sizeOrZero(40), wide ? r.int(1, 6) : r.size(40), wide ? 1 : r.int(0, 4)];
  const computed = r.chance(0.2);   // a weight that is an input: a matrix product
  const bias = r.chance(0.7);
  const kind = values(r);
  const after = followed(r, rank === 1 ? out : 0, wide);
  return {
    args: { computed, bias, after: after.told },
    runs: several(r, () => [{ shape: [...wide ? [r.int(90, 150)] : lead(r, computed ? Math.max(rank, 1) : rank), width], values: kind }, ...computed ? [[out, width]] : []]),
    weights: { ...!computed && { weight: [out, width] }, ...bias && { bias: [out] }, ...after.told.includes('add') && { second: [out, width] }, ...after.weights },
    program: (f, [x, weight], w) => after.apply(f, w, (second) => f.linear(x, second ? w.second : computed ? weight : w.weight, second ? null : w.bias ?? null)),
  };
}

/** Two ranges of the rows of one weight, which may overlap. @type {Draw} */
export function linearRows(r) {
  const [width, out, rank] = [r.size(20), r.size(40, 2), r.int(0, 3)];
  const ranges = [0, 1].map(() => {
    const first = r.int(0, out - 1);
    return [first, r.int(1, out - first)];
  });
  return {
    args: { ranges },
    runs: several(r, () => [[...lead(r, rank), width]]),
    weights: { weight: [out, width], ...r.chance(0.7) && { bias: [out] } },
    program: (f, [x], w) => ranges.map(([first, rows]) => f.linearRows(x, w.weight, w.bias ?? null, first, rows)),
  };
}

/** @type {Draw} */
export function batchNorm(r) {
  const [c, rank] = [r.size(20), r.int(0, 2)];
  const eps = r.pick([1e-5, 1e-3, 0.1]);
  const kind = values(r);
  return {
    args: { eps },
    runs: several(r, () => [{ shape: [r.sizeOrZero(4), c, ...Array.from({ length: rank }, () => r.sizeOrZero(7))], values: kind }]),
    weights: { mean: [c], variance: { shape: [c], values: 'positive' }, ...r.chance(0.7) && { weight: [c] }, ...r.chance(0.7) && { bias: [c] } },
    program: (f, [x], w) => f.batchNorm(x, w.mean, w.variance, w.weight ?? null, w.bias ?? null, { eps }),
  };
}

/** @type {Draw} */
export function layerNorm(r) {
  const shape = Array.from({ length: r.pick([1, 1, 2, 3]) }, () => r.size(r.chance(0.2) ? 40 : 9));
  const eps = r.pick([1e-5, 1e-3, 0.1]);
  const rank = r.int(0, 3);
  const kind = values(r);
  return {
    args: { shape, eps },
    runs: several(r, () => [{ shape: [...lead(r, rank), ...shape], values: kind }]),
    weights: { ...r.chance(0.7) && { weight: shape }, ...r.chance(0.7) && { bias: shape } },
    program: (f, [x], w) => f.layerNorm(x, shape.length === 1 && eps === 0.1 ? shape[0] : shape, w.weight ?? null, w.bias ?? null, eps),
  };
}

/** @type {Draw} */
export function rmsNorm(r) {
  const shape = Array.from({ length: r.pick([1, 1, 2, 3]) }, () => r.size(r.chance(0.2) ? 40 : 9));
  const eps = r.pick([undefined, null, 1e-6, 0.1]);
  const rank = r.int(0, 3);
  const kind = values(r);
  return {
    args: { shape, eps },
    runs: several(r, () => [{ shape: [...lead(r, rank), ...shape], values: kind }]),
    weights: r.chance(0.7) ? { weight: shape } : {},
    program: (f, [x], w) => f.rmsNorm(x, shape.length === 1 && eps ? shape[0] : shape, w.weight ?? null, eps),
  };
}

/** @type {Draw} */
export function groupNorm(r) {
  const [groups, width, rank] = [r.size(9), r.size(r.chance(0.2) ? 40 : 5), r.int(0, 3)];
  const c = groups * width;
  const eps = r.pick([undefined, 1e-3, 0.1]);
  const kind = values(r);
  return {
    args: { groups, eps },
    runs: several(r, () => [{ shape: [r.sizeOrZero(4), c, ...Array.from({ length: rank }, () => r.sizeOrZero(7))], values: kind }]),
    weights: { ...r.chance(0.7) && { weight: [c] }, ...r.chance(0.7) && { bias: [c] } },
    program: (f, [x], w) => f.groupNorm(x, groups, w.weight ?? null, w.bias ?? null, eps),
  };
}

/** @type {Draw} */
export function normalize(r) {
  const rank = r.int(1, 4);
  const dim = rank > 1 && r.chance(0.3) ? undefined : r.axis(rank);
  const eps = r.pick([undefined, 1e-5, 2]);
  const kind = values(r);
  return {
    args: { dim, eps },
    runs: several(r, () => [{ shape: Array.from({ length: rank }, () => r.sizeOrZero(rank > 2 ? 6 : 40)), values: kind }]),
    program: (f, [x]) => f.normalize(x, { ...dim !== undefined && { dim }, ...eps && { eps } }),
  };
}
