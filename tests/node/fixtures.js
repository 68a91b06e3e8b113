/** Reads tests/reference/fixtures and compares a build's numbers with PyTorch's; the same code runs in Node and in browsers. */
import * as lamella from '../../js/index.js';
import { features } from '../../web/features.js';

const { compile, Module, nn, safetensors, Tensor } = lamella;

/** @typedef {{ name: string, class: string, args: any[], tolerance: number, runs?: number, inputs?: any, options?: Record<string, number>, checkpoint?: string, prefix?: string }} Case */

/** @param {string} path 'nn.Conv2d' @returns {any} */
const find = (path) => path.split('.').reduce((from, name) => from[name], /** @type {any} */ (lamella));

/** A function of F as a module; among its arguments { input } is the number of an input, { weight, shape } a Parameter. */
class Call extends Module {
  /** @param {(...args: any[]) => any} call @param {any[]} args */
  constructor(call, args) {
    super();
    this.call = call;
    this.args = args;
    this.fill(args, []);   // makes the Parameters
  }

  /** @param {any} arg @param {any[]} inputs @returns {any} */
  fill(arg, inputs) {
    if (Array.isArray(arg)) return arg.map((part) => this.fill(part, inputs));
    if (typeof arg !== 'object' || arg === null) return arg;
    if ('input' in arg) return inputs[arg.input];
    if ('weight' in arg) return (/** @type {any} */ (this)[arg.weight] ??= new nn.Parameter(arg.shape));
    return Object.fromEntries(Object.entries(arg).map(([name, value]) => [name, this.fill(value, inputs)]));
  }

  /** @param {...any} inputs */
  forward(...inputs) {
    return this.call(...this.fill(this.args, inputs));
  }
}

/** Modules among the arguments of a module and in its options: { class, args }. @param {any} arg @returns {any} */
function argument(arg) {
  if (arg?.class) return make(arg);
  if (typeof arg !== 'object' || arg === null || Array.isArray(arg)) return arg;
  return Object.fromEntries(Object.entries(arg).map(([name, value]) => [name, argument(value)]));
}

/** @param {{ class: string, args: any[], options?: Record<string, number> }} described */
function make({ class: path, args, options }) {
  if (path.startsWith('F.')) return new Call(find(path), args);
  const Class = find(path);
  if (!options) return new Class(...args.map(argument));
  // Some inputs go into forward's last argument: masks.
  const WithOptions = class extends Class {
    /** @param {...any} inputs */
    forward(...inputs) {
      const named = Object.fromEntries(Object.entries(options).map(([name, i]) => [name, inputs[i]]));
      const first = Math.min(...Object.values(options));
      return super.forward(...inputs.slice(0, first), named);
    }
  };
  return new WithOptions(...args.map(argument));
}

/** @param {any} weights @param {string} key */
async function numbers(weights, key) {
  const stored = await weights.tensor(key);
  const dtype = stored.dtype === 'BOOL' ? 'bool' : stored.dtype === 'I32' || stored.dtype === 'I64' ? 'i32' : 'f32';
  const data = stored.toFloat32();
  return { tensor: new Tensor(dtype === 'i32' ? Int32Array.from(data) : data, stored.shape), dtype };
}

/**
 * max|y - expected| / max|expected|; Infinity for another shape or a NaN that should not be one.
 * @param {{ data: ArrayLike<number>, shape: number[] }} y
 * @param {{ data: ArrayLike<number>, shape: number[] }} expected
 */
export function error(y, expected) {
  if (y.shape.join() !== expected.shape.join()) return Infinity;
  let worst = 0;
  let largest = 0;
  for (let i = 0; i < expected.data.length; i++) {
    const difference = Math.abs(y.data[i] - expected.data[i]);
    if (!(difference <= worst)) worst = Number.isNaN(difference) ? Infinity : difference;
    largest = Math.max(largest, Math.abs(expected.data[i]));
  }
  return worst === 0 ? 0 : worst / largest;
}

/**
 * Runs one case.
 * @param {any} weights The fixture file.
 * @param {Case} test
 * @param {number} i
 * @param {(file: string) => any} locate Where another fixture file is, for safetensors.open.
 * @param {object} engine Options of compile: build, threads.
 * @returns {Promise<number>} The error relative to the tolerance.
 */
export async function runCase(weights, test, i, locate, engine) {
  const runs = test.runs ?? 1;
  const suffix = (/** @type {number} */ r) => (test.runs ? `@${r}` : '');
  const count = weights.names.filter((/** @type {string} */ name) => name.startsWith(`${i}.input.`)).length / runs;
  const load = (/** @type {number} */ r) => Promise.all(Array.from({ length: count }, (_, j) => numbers(weights, `${i}.input.${j}${suffix(r)}`)));
  const first = await load(0);
  const shapes = test.inputs ?? first.map(({ tensor, dtype }) => ({ shape: [...tensor.shape], dtype }));
  if (!test.inputs && test.runs) for (const { shape } of shapes) shape[0] = null;
  const source = test.checkpoint ? { weights: locate(test.checkpoint), prefix: test.prefix } : { weights, prefix: `${i}.weights.` };
  const model = await compile(make(test), { ...source, inputs: shapes, ...engine });
  let worst = 0;
  try {
    for (let r = 0; r < runs; r++) {
      const inputs = (await load(r)).map(({ tensor }) => tensor);
      const given = await model.forward(...inputs);
      const outputs = given instanceof Tensor ? [given] : Object.values(given).filter(Boolean);
      const expected = weights.names.filter((/** @type {string} */ name) => name.startsWith(`${i}.output.`) && name.endsWith(suffix(r))).length;
      if (outputs.length !== expected) return Infinity;
      for (let j = 0; j < expected; j++) worst = Math.max(worst, error(outputs[j], (await numbers(weights, `${i}.output.${j}${suffix(r)}`)).tensor));
    }
  } finally {
    model.dispose();
  }
  return worst / test.tolerance;
}

/**
 * Every case of a fixture file.
 * @param {any} source For safetensors.open.
 * @param {(file: string) => any} locate
 * @param {object} engine
 * @returns {AsyncGenerator<{ test: Case, ratio: number }>}
 */
export async function* runFile(source, locate, engine) {
  const weights = await safetensors.open(source);
  try {
    /** @type {Case[]} */
    const cases = JSON.parse(weights.metadata.cases);
    for (const [i, test] of cases.entries()) yield { test, ratio: await runCase(weights, test, i, locate, engine) };
  } finally {
    await weights.close();
  }
}

/** Builds that run here. @returns {string[]} */
export function buildsHere() {
  const { relaxed, threads } = features();
  return ['simd', 'relaxed'].filter((build) => build === 'simd' || relaxed).flatMap((build) => (threads ? [build, `${build}-threads`] : [build]));
}

/** Cosines between rows of two tensors, least first. @param {import('../../js/index.js').Tensor} y @param {import('../../js/index.js').Tensor} expected */
export function cosines(y, expected) {
  const size = /** @type {number} */ (expected.shape.at(-1));
  return Array.from({ length: expected.data.length / size }, (_, row) => {
    let [dot, a, b] = [0, 0, 0];
    for (let i = row * size; i < (row + 1) * size; i++) {
      dot += y.data[i] * expected.data[i];
      a += y.data[i] ** 2;
      b += expected.data[i] ** 2;
    }
    return dot / Math.sqrt(a * b);
  }).sort((a, b) => a - b);
}
