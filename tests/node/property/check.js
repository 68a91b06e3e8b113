/**
 * Properties of the engine's functions: what is drawn at random is computed by the engine and by plain loops, and both must agree.
 *
 * A property draws a case: a program, written once and run twice, with the engine's `F` and with the references of the same names, and
 * the shapes of its inputs and weights. Everything follows from LAMELLA_SEED, the property's name and the number of the case, so a
 * failure says how to repeat that case alone:
 *
 *     LAMELLA_SEED=1 LAMELLA_CASE=conv2d/17 node --test tests/node/property/property.test.js
 */
import assert from 'node:assert/strict';
import * as layers from '../../../js/functional/layers.js';
import { compile, F, Module, Tensor } from '../../../js/index.js';
import { Buffer } from '../../../js/module.js';
import { Runner } from '../../../web/runner.js';
import { hash, Random } from './random.js';
import * as R from './reference/index.js';
import { count, tensor } from './reference/tensor.js';

/** @import { Reference } from './reference/tensor.js' */
/**
 * What an input or a weight looks like. `values`: a kind of numbers (default 'normal'), how one is drawn, or
 * the numbers themselves. `known`: its sizes may not be declared as varying.
 * @typedef {{ shape: number[], values?: string | ((r: Random) => number) | ArrayLike<number>, dtype?: 'f32' | 'bool' | 'i32', known?: boolean }} Spec
 */
/**
 * @typedef {object} Case
 * @property {any} args What was drawn, for the message.
 * @property {(number[] | Spec)[][]} runs The inputs of each run: one model runs them all, and sizes that differ are declared as varying.
 * @property {Record<string, number[] | Spec>} [weights]
 * @property {(f: any, inputs: any[], weights: any) => any} program A tensor or several, from the functions f.
 */
/** @typedef {(r: Random) => Case} Draw */

export const SEED = Number(process.env.LAMELLA_SEED ?? 3);
/** max|y - reference| relative to the reference's slack. */
const TOLERANCE = 1e-5;
const [ONLY, ONLY_CASE] = (process.env.LAMELLA_CASE ?? '/').split('/');

/** How numbers are drawn. @type {Record<string, (r: Random) => number>} */
const VALUES = {
  normal: (r) => r.normal(),
  positive: (r) => 0.1 + 2 * r.unit(),
  /** Far from 0, with few digits left for what differs. */
  offset: (r) => 30 + r.normal(),
  wide: (r) => r.normal() * 10 ** r.int(-3, 1),
  /** No divisor near 0. */
  divisor: (r) => (r.chance() ? 1 : -1) * (0.5 + r.unit()),
  small: (r) => r.normal() / 4,
  /** For scores whose exponentials are beyond f32. */
  loud: (r) => r.normal() * 12,
  bool: (r) => Number(r.chance(0.7)),
};

/** @param {number[] | Spec} given @returns {Spec} */
const spec = (given) => (Array.isArray(given) ? { shape: given } : given);

/** @param {Random} r @param {Spec} described */
export function numbers(r, { shape, values = 'normal', dtype = 'f32' }) {
  const draw = dtype === 'bool' ? VALUES.bool : typeof values === 'string' ? VALUES[values] : values;
  const data = new Float32Array(count(shape));
  if (typeof draw === 'function') for (let i = 0; i < data.length; i++) data[i] = draw(r);
  else data.set(draw);
  const reference = tensor(shape, new Float64Array(data));
  if (dtype === 'bool') reference.bool = true;
  const given = { f32: data, bool: () => Uint8Array.from(data), i32: () => Int32Array.from(data) }[dtype];
  return { given: new Tensor(typeof given === 'function' ? given() : given, shape, { dtype }), reference };
}

/** Sizes that a case's runs do not share vary, and now and then others too. @param {Random} r @param {Spec[][]} runs */
function declared(r, runs) {
  return runs[0].map((first, i) => ({
    dtype: first.dtype ?? 'f32',
    shape: first.shape.map((size, axis) => (runs.some((inputs) => inputs[i].shape[axis] !== size) || (!first.known && r.chance(0.2)) ? null : size)),
  }));
}

export const list = (/** @type {any} */ outputs) => (Array.isArray(outputs) ? outputs : [outputs]);

export class Program extends Module {
  /** @param {Case['program']} program @param {Record<string, Spec>} weights */
  constructor(program, weights) {
    super();
    for (const [name, { shape }] of Object.entries(weights)) /** @type {any} */ (this)[name] = new Buffer(shape);
    this.program = program;
    /** Shapes of the outputs as they were when the program was recorded, null where a size was not known. @type {(number | null)[][]} */
    this.recorded = [];
  }

  /** @param {...any} inputs */
  forward(...inputs) {
    const outputs = this.program(functions, inputs, this);
    this.recorded = list(outputs).map(({ shape }) => [...shape]);
    return outputs;
  }
}

/**
 * @param {any} y
 * @param {Reference} reference
 * @param {readonly (number | null)[]} [recorded] y's shape as far as it was known before.
 * @returns {string | null} What is wrong.
 */
export function difference(y, reference, recorded = y.shape) {
  if (y.shape.join() !== reference.shape.join()) return `has the shape [${y.shape}], expected [${reference.shape}]`;
  if (recorded.length !== y.shape.length || recorded.some((size, axis) => size !== null && size !== y.shape[axis])) {
    return `has the shape [${y.shape}] and was recorded as [${recorded.map((size) => size ?? '?')}]`;
  }
  const allowed = TOLERANCE * reference.slack;
  let [worst, at, wrong] = [0, -1, 0];
  for (let i = 0; i < reference.data.length; i++) {
    const [a, b] = [y.data[i], reference.data[i]];
    if (a === b || (Number.isNaN(a) && Number.isNaN(b))) continue;
    const error = Math.abs(a - b);
    if (error <= allowed) continue;
    wrong++;
    if (at < 0 || error > worst) [worst, at] = [error, i];
  }
  if (at < 0) return null;
  const index = [];
  for (let axis = y.shape.length - 1, rest = at; axis >= 0; rest = Math.floor(rest / y.shape[axis--])) index.unshift(rest % y.shape[axis]);
  return `[${y.shape}] is wrong in ${wrong} of ${reference.data.length} numbers, most at [${index}]: ${y.data[at]}, expected ${reference.data[at]} (error ${worst.toExponential(2)}, allowed ${allowed.toExponential(2)})`;
}

/** F, and what only modules use. */
export const functions = { ...F, linearRows: layers.linearRows };

/**
 * Runs one case.
 * @param {Draw} draw
 * @param {string} name
 * @param {number} number
 * @param {object} [engine] Options of compile: build, threads.
 * @returns {Promise<{ runs: number, size: number, failure: string | null }>}
 */
export async function runCase(draw, name, number, engine = {}) {
  const r = new Random(hash(`${SEED} ${name} ${number}`));
  const drawn = draw(r);
  const runs = drawn.runs.map((inputs) => inputs.map(spec));
  const weights = Object.fromEntries(Object.entries(drawn.weights ?? {}).map(([key, given]) => [key, spec(given)]));
  const inputs = declared(r, runs);
  const stored = Object.fromEntries(Object.entries(weights).map(([key, described]) => [key, numbers(r, described)]));
  const known = Object.fromEntries(Object.entries(stored).map(([key, { reference }]) => [key, reference]));
  let failure = null;
  let model = null;
  try {
    const module = new Program(drawn.program, weights);
    model = await compile(module, { inputs, ...engine,
      weights: Object.fromEntries(Object.entries(stored).map(([key, { given }]) => [key, given])) });
    for (const [run, specs] of runs.entries()) {
      const data = specs.map((described) => numbers(r, described));
      const expected = list(drawn.program(R, data.map(({ reference }) => reference), known));
      const got = list(await model.forward(...data.map(({ given }) => given)));
      assert.equal(got.length, expected.length);
      const wrong = got.map((y, i) => difference(y, expected[i], module.recorded[i]));
      const output = wrong.findIndex((message) => message !== null);
      if (output >= 0 && failure === null) failure = `run ${run}: output ${output} ${wrong[output]}`;
    }
  } catch (error) {
    failure = `throws ${/** @type {Error} */ (error).stack}`;
  } finally {
    model?.dispose();
  }
  if (failure === null) return { runs: runs.length, size: 0, failure };
  const shapes = (/** @type {Spec[]} */ specs) => specs.map(({ shape, dtype, values }) => `[${shape}]${dtype && dtype !== 'f32' ? ` ${dtype}` : ''}${typeof values === 'string' ? ` ${values}` : ''}`).join(', ') || 'none';
  return { runs: runs.length, size: Math.min(...runs.map((specs) => specs.reduce((sum, { shape }) => sum + count(shape), 0))), failure: report(failure, name, number, model, {
    arguments: JSON.stringify(drawn.args),
    weights: Object.entries(weights).map(([key, { shape }]) => `${key} [${shape}]`).join(', ') || 'none',
    inputs: runs.map(shapes).join(' | then '),
    declared: inputs.map(({ shape }) => `[${shape.map((size) => size ?? '?')}]`).join(', '),
  }) };
}

/**
 * What is wrong, what was drawn, and how to repeat it.
 * @param {string} failure
 * @param {string} name
 * @param {number} number
 * @param {any} model
 * @param {Record<string, string>} drawn
 */
export function report(failure, name, number, model, drawn) {
  const engine = model ? `${model.engine.build}, ${model.engine.threads} threads` : 'not started';
  const again = `LAMELLA_SEED=${SEED} LAMELLA_CASE=${name}/${number} node --test tests/node/property/property.test.js`;
  return [failure, ...Object.entries({ ...drawn, engine, again }).map(([label, text]) => `  ${label.padEnd(11)}${text}`)].join('\n');
}

/** Does the case keep its inputs, as callers of the C library may? Sessions of JavaScript give theirs to the engine, to write over. */
let keeps = false;
const { open } = Runner.prototype;
Runner.prototype.open = async function (session) {
  const id = await open.call(this, session);
  if (keeps) this.engine.exports.lam_session_donate(this.opened(id).pointer, 0);
  return id;
};

/** Does LAMELLA_CASE leave this property out? @param {string} name */
export const leftOut = (name) => ONLY !== '' && ONLY !== name;

/**
 * Draws many cases and runs them; of those that fail the smallest is shown.
 * @param {string} name
 * @param {Draw} draw
 * @param {number} cases
 * @param {object} engine Options of compile: build, threads.
 * @param {typeof runCase} [run] How a case is run.
 * @returns {Promise<{ cases: number, runs: number }>}
 */
export async function check(name, draw, cases, engine, run = runCase) {
  const [first, end] = ONLY ? [Number(ONLY_CASE), Number(ONLY_CASE) + 1] : [0, cases];
  let [runs, failed, smallest] = [0, 0, Infinity];
  let shown = '';
  for (let number = first; number < end; number++) {
    keeps = number % 2 === 1;
    const result = await run(draw, name, number, engine);
    runs += result.runs;
    if (result.failure === null) continue;
    failed++;
    if (result.size < smallest) [smallest, shown] = [result.size, `case ${number}, ${result.failure}`];
    if (failed === 20) break;   // enough to find a small one
  }
  assert.ok(!failed, `${name}: ${failed} of ${end - first} cases fail${failed === 20 ? ' (then stopped)' : ''}; the smallest is ${shown}`);
  return { cases: end - first, runs };
}

/**
 * The inputs of one to three runs: the same shapes with other numbers, or shapes drawn anew.
 * @param {Random} r
 * @param {() => (number[] | Spec)[]} inputs
 */
export function several(r, inputs) {
  const first = inputs();
  if (r.chance(0.3)) return [first];
  return r.chance(0.3) ? [first, first] : [first, inputs(), inputs()];
}
