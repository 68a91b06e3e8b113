/**
 * Chains of layers with residual sums between them: what fuses, shares memory, changes its layout or writes over its input in the engine
 * is here in all combinations. A chain is drawn while the references compute it, so that each step fits the shapes before it, and a step
 * that would magnify the errors of those before it so much that the comparison says little is drawn anew.
 */
import * as R from '../reference/index.js';
import { count, largest, tensor } from '../reference/tensor.js';

/** @import { Draw } from '../check.js' */
/** @import { Random } from '../random.js' */
/** @import { Reference } from '../reference/tensor.js' */
/** @typedef {{ told: string, apply: (f: any, values: any[], w: any) => any }} Step */
/** What steps are drawn from. `at`: the value to go on from. @typedef {{ r: Random, runs: Reference[][], at: number, weight: (shape: number[], values?: 'positive') => string }} State */

const LARGEST = 3000;
/** Of the slack, relative to the largest number of a value. */
const MAGNIFIED = 40;
const ACTIVATIONS = ['relu', 'sigmoid', 'silu', 'tanh', 'quickGelu', 'mish', 'softplus', 'gelu'];

/** Sizes of a value, null where the runs differ. @param {State} state @param {number} [at] @returns {(number | null)[]} */
const shapeOf = ({ runs, at: current }, at = current) => runs[0][at].shape.map((size, axis) => (runs.every((values) => values[at].shape[axis] === size) ? size : null));

/** @param {Random} r @param {number} n */
const numbers = (r, n, scale = 1) => Float32Array.from({ length: n }, () => scale * r.normal());

/** Steps for a value of any shape; null where one does not fit. @type {Record<string, (state: State, shape: (number | null)[]) => Step | null>} */
const STEPS = {
  activation({ r, at }) {
    const name = r.pick(ACTIVATIONS);
    return { told: name, apply: (f, v) => f[name](v[at]) };
  },
  /** An earlier value of the same shape, or one that broadcasts to it. */
  residual({ r, runs, at }) {
    const fitting = runs[0].map((_, i) => i).filter((i) => runs.every((values) => {
      const [a, b] = [values[at].shape, values[i].shape];
      return a.length === b.length ? a.every((size, axis) => b[axis] === size || b[axis] === 1) : i !== at && a.join() === b.join();
    }));
    const other = r.pick(fitting);
    const name = r.pick(['add', 'add', 'add', 'sub', 'mul']);
    return { told: `${name} ${other}`, apply: r.chance() ? (f, v) => f[name](v[at], v[other]) : (f, v) => f[name](v[other], v[at]) };
  },
  weight({ r, at, weight }, shape) {
    const axis = r.int(0, shape.length - 1);
    if (!shape[axis]) return null;
    const name = weight([shape[axis], ...shape.slice(axis + 1).map(() => 1)]);
    const op = r.pick(['add', 'mul', 'sub']);
    return { told: `${op} ${name}`, apply: (f, v, w) => f[op](v[at], w[name]) };
  },
  number({ r, at }) {
    const [op, number] = [r.pick(['add', 'mul', 'sub', 'div']), 0.5 + r.unit()];
    return { told: `${op} ${number}`, apply: (f, v) => f[op](v[at], number) };
  },
  linear({ r, at, weight }, shape) {
    const width = shape.at(-1);
    if (!width) return null;
    const out = r.chance() ? width : r.size(20);
    const [w, b] = [weight([out, width]), r.chance() ? weight([out]) : ''];
    return { told: `linear ${out}`, apply: (f, v, p) => f.linear(v[at], p[w], p[b] ?? null) };
  },
  layerNorm({ r, at, weight }, shape) {
    const width = shape.at(-1);
    if (!width) return null;
    const [w, b] = [r.chance() ? weight([width]) : '', r.chance() ? weight([width]) : ''];
    return { told: 'layerNorm', apply: (f, v, p) => f.layerNorm(v[at], width, p[w] ?? null, p[b] ?? null, 0.01) };
  },
  rmsNorm({ r, at, weight }, shape) {
    const width = shape.at(-1);
    if (!width) return null;
    const w = r.chance() ? weight([width]) : '';
    return { told: 'rmsNorm', apply: (f, v, p) => f.rmsNorm(v[at], width, p[w] ?? null, 0.01) };
  },
  batchNorm({ r, at, weight }, shape) {
    const c = shape[1];
    if (!c || shape.length > 4) return null;
    const [mean, variance, w, b] = [weight([c]), weight([c], 'positive'), r.chance() ? weight([c]) : '', r.chance() ? weight([c]) : ''];
    return { told: 'batchNorm', apply: (f, v, p) => f.batchNorm(v[at], p[mean], p[variance], p[w] ?? null, p[b] ?? null) };
  },
  rotary({ r, at, weight }, shape) {
    const half = Math.floor((shape.at(-1) ?? 0) / 2);
    if (shape.length < 2 || !half) return null;
    const [w, interleaved] = [weight([r.int(1, half)]), r.chance()];
    return { told: `rotary ${interleaved}`, apply: (f, v, p) => f.rotary(v[at], f.rotaryTable(v[at], p[w]), { interleaved }) };
  },
  softmax({ r, at }, shape) {
    const dim = r.axis(shape.length);
    return { told: `softmax ${dim}`, apply: (f, v) => f.softmax(v[at], dim) };
  },
  mean({ r, at }, shape) {
    const [dim, keepdim] = [r.axis(shape.length), r.chance()];
    return shape.length < 2 ? null : { told: `mean ${dim} ${keepdim}`, apply: (f, v) => f.mean(v[at], dim, keepdim) };
  },
  permute({ r, at }, shape) {
    const dims = r.shuffled([...shape.keys()]);
    return { told: `permute [${dims}]`, apply: (f, v) => f.permute(v[at], dims) };
  },
  flatten({ r, at }, shape) {
    const first = r.int(0, shape.length - 1);
    const last = r.int(first, shape.length - 1);
    return { told: `flatten ${first} ${last}`, apply: (f, v) => f.flatten(v[at], first, last) };
  },
  unflatten({ r, at }, shape) {
    const dim = r.int(0, shape.length - 1);
    const size = shape[dim];
    const parts = [2, 3, 4].filter((part) => size && size % part === 0);
    if (!parts.length || shape.length > 4) return null;
    const sizes = r.chance() ? [-1, r.pick(parts)] : [r.pick(parts), -1];
    return { told: `unflatten ${dim} [${sizes}]`, apply: (f, v) => f.unflatten(v[at], dim, sizes) };
  },
  narrow({ r, at, runs }, shape) {
    const dim = r.int(0, shape.length - 1);
    const least = Math.min(...runs.map((values) => values[at].shape[dim]));
    const start = r.int(0, least - 1);
    const length = r.chance(0.3) ? -1 : r.int(1, least - start);
    return { told: `narrow ${dim} ${start} ${length}`, apply: (f, v) => f.narrow(v[at], dim, start, length) };
  },
  /** With an earlier value that differs along one axis at most. */
  cat({ r, runs, at }, shape) {
    const dim = r.int(0, shape.length - 1);
    const fitting = runs[0].map((_, i) => i).filter((i) => runs.every((values) => values[i].shape.length === shape.length && values[i].shape.every((size, axis) => axis === dim || size === values[at].shape[axis])));
    const others = Array.from({ length: r.int(1, 2) }, () => r.pick(fitting));
    return { told: `cat [${others}] ${dim}`, apply: (f, v) => f.cat([v[at], ...others.map((i) => v[i])], dim) };
  },
  matmul({ at }, shape) {
    return shape.length < 2 ? null : { told: 'matmul', apply: (f, v) => f.matmul(f.mul(v[at], 0.25), v[at], { transposeB: true }) };
  },
  attention({ r, at }, shape) {
    const options = { isCausal: r.chance() };
    return shape.length < 2 || shape.length > 4 || !shape.at(-1) ? null : { told: 'attention', apply: (f, v) => f.scaledDotProductAttention(v[at], v[at], v[at], options) };
  },
  conv2d({ r, at, weight }, shape) {
    const c = shape[1];
    if (!c || shape.length !== 4) return null;
    const groups = r.chance(0.3) ? r.pick([1, 2, 3, c].filter((g) => c % g === 0)) : 1;
    const [k, out] = [r.pick([1, 3, 3]), r.chance() ? c : groups * r.int(1, 12)];
    const stride = r.chance(0.2) ? 2 : 1;
    const [w, b] = [weight([out, c / groups, k, k]), r.chance() ? weight([out]) : ''];
    return { told: `conv2d ${out} ${k} ${stride} ${groups}`, apply: (f, v, p) => f.conv2d(v[at], p[w], p[b] ?? null, { stride, padding: (k - 1) / 2, groups }) };
  },
  pool({ r, at, runs }, shape) {
    if (shape.length !== 4 || runs.some((values) => Math.min(...values[at].shape.slice(2)) < 2)) return null;
    const kind = r.int(0, 2);
    return [
      { told: 'maxPool2d', apply: (/** @type {any} */ f, /** @type {any[]} */ v) => f.maxPool2d(v[at], 2) },
      { told: 'avgPool2d', apply: (/** @type {any} */ f, /** @type {any[]} */ v) => f.avgPool2d(v[at], 3, { stride: 1, padding: 1, countIncludePad: false }) },
      { told: 'adaptiveAvgPool2d', apply: (/** @type {any} */ f, /** @type {any[]} */ v) => f.adaptiveAvgPool2d(v[at], [2, 3]) },
    ][kind];
  },
};
/** Those that are drawn more often. */
const NAMES = [...Object.keys(STEPS), ...Array(3).fill('residual'), ...Array(3).fill('activation'), ...Array(3).fill('conv2d'), 'batchNorm', 'batchNorm', 'linear', 'linear', 'pool', 'layerNorm'];

/** Is what a step made of use: sizes within bounds, numbers that say something? @param {Reference} y */
const useful = (y) => y.data.length > 0 && y.data.length <= LARGEST && y.shape.length <= 6 && y.data.every(Number.isFinite) && largest(y.data) < 1e4 && y.slack <= MAGNIFIED * largest(y.data);

/** Inputs of one to three runs, whose batches differ, and images' sizes. @param {Random} r */
function drawInputs(r) {
  const image = r.chance(0.6);
  const rest = image ? [r.pick([1, 3, 4, 6, 8, 12]), r.int(2, 9), r.int(2, 9)] : Array.from({ length: r.int(0, 2) }, () => r.pick([1, 2, 4, 5, 8, 12]));
  const [inputs, resized] = [r.chance(0.3) ? 2 : 1, image && r.chance(0.4)];
  return Array.from({ length: r.int(1, 3) }, () => {
    const n = r.int(1, 3);
    const shape = [n, ...resized ? [rest[0], r.int(2, 9), r.int(2, 9)] : rest];
    return Array.from({ length: inputs }, () => tensor(shape, Float64Array.from(numbers(r, count(shape)))));
  });
}

/** @type {Draw} */
export function composition(r) {
  const runs = drawInputs(r);
  const inputs = runs.map((values) => values.map(({ shape, data }) => ({ shape, values: data })));
  /** @type {Record<string, { shape: number[], values: Float32Array }>} */
  const weights = {};
  /** @type {Record<string, Reference>} */
  const known = {};
  /** @type {Step[]} */
  const steps = [];
  const wanted = r.int(3, 8);
  for (let tries = 0; steps.length < wanted && tries < 60; tries++) {
    /** @type {typeof weights} */
    const fresh = {};
    const state = { r, runs, at: r.chance(0.9) ? runs[0].length - 1 : r.int(0, runs[0].length - 1), weight: (/** @type {number[]} */ shape, /** @type {string} */ values = '') => {
      const name = `w${Object.keys(weights).length + Object.keys(fresh).length}`;
      const data = numbers(r, count(shape), Math.sqrt(1 / count(shape.slice(1))));
      fresh[name] = { shape, values: values === 'positive' ? data.map((v) => 0.2 + Math.abs(v)) : data };
      return name;
    } };
    const shape = shapeOf(state);
    const step = shape.length ? STEPS[r.pick(NAMES)](state, shape) : null;
    if (!step) continue;
    const all = { ...known, ...Object.fromEntries(Object.entries(fresh).map(([name, w]) => [name, tensor(w.shape, Float64Array.from(w.values))])) };
    const results = runs.map((values) => step.apply(R, values, all));
    if (!results.every(useful)) continue;
    results.forEach((y, i) => runs[i].push(y));
    steps.push({ ...step, told: `${runs[0].length - 1} = ${step.told} of ${state.at}` });
    Object.assign(weights, fresh);
    Object.assign(known, all);
  }
  const outputs = [runs[0].length - 1, ...r.chance(0.4) ? [r.int(inputs[0].length, runs[0].length - 1)] : []];
  return {
    args: { steps: steps.map(({ told }) => told), outputs },
    runs: inputs,
    weights,
    program: (f, given, w) => {
      const values = [...given];
      for (const step of steps) values.push(step.apply(f, values, w));
      return outputs.map((i) => values[i]);
    },
  };
}
