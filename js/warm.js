/**
 * Runs a model before its first user does. A JavaScript engine compiles WebAssembly quickly at first and well only once a function has run for about a
 * millisecond; a network of one millisecond would take six times as long the first time.
 */
import { Tensor } from './tensor.js';

/** @typedef {import('./model.js').Method} Method */

/** Milliseconds that are spent at most, and forwards. */
const BUDGET = 45;
const MOST = 24;
/** Numbers of an input that is left alone. */
const HUGE = 1 << 22;
/** Milliseconds of a forward that need not look at the time. */
const SHORT = 2;
/** Bytes of weights from which on a forward is so long that its kernels are ready early in the first, and the part of the load's time that is spent then. */
const LARGE = 64e6;
const SHARE = 0.05;

/**
 * Runs each method whose inputs have known sizes on zeros, a batch of one, again and again. Nothing of it remains but the plan of the sessions' memory.
 * @param {import('./model.js').Model} model
 * @param {Map<string, Method>} methods
 * @param {{ since: number, signal: AbortSignal | null }} options `since`: performance.now() before the model was loaded.
 */
export async function warm(model, methods, { since, signal }) {
  const from = performance.now();
  const jobs = [...methods].flatMap(([name, { specs }]) => {
    const inputs = zeros(specs);
    return inputs ? [(/** @type {object[]} */ ...options) => model.call(name, ...inputs, ...options)] : [];
  });
  if (!jobs.length || (model.memory.weights > LARGE && (from - since) * SHARE < BUDGET)) return;
  const stop = new AbortController();
  const abort = () => stop.abort();
  const timer = setTimeout(abort, BUDGET);
  signal?.addEventListener('abort', abort);
  try {
    for (let i = 0, took = BUDGET, now = from; i < MOST && now < from + BUDGET; i++) {
      for (const job of jobs) await (took < SHORT ? job() : job({ signal: stop.signal }));
      took = performance.now() - now;
      now += took;
    }
  } catch {
    // The time is over, or the model takes no zeros: whoever calls it next is told.
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', abort);
  }
}

/**
 * @param {Method['specs']} specs
 * @returns {Tensor[] | null} null where a size is not known, or huge.
 */
function zeros(specs) {
  const inputs = specs.filter(({ rows }) => !rows);
  const count = (/** @type {(number | null)[]} */ shape) => shape.reduce((/** @type {number} */ product, size) => product * (size ?? 1), 1);
  if (inputs.some(({ shape }) => shape.includes(null, 1) || count(shape) > HUGE)) return null;
  return inputs.map(({ shape, dtype }) => {
    const sizes = shape.map((size) => size ?? 1);
    return new Tensor(dtype === 'i32' ? new Int32Array(count(shape)) : new Float32Array(count(shape)), sizes);
  });
}
