import { badArgument, options as known } from './arguments.js';
import { createEngine } from '../web/engine.js';
import { features } from '../web/features.js';

/** @typedef {import('../web/engine.js').Engine} Engine */
/**
 * Which engine to use.
 * @typedef {object} EngineOptions
 * @property {import('../web/wasm.js').WasmSource} [wasm] The engine's file, where the package's own copy is not wanted.
 * @property {import('../web/wasm.js').BuildName} [build] Defaults to the best that runs here.
 * @property {number} [threads] Threads that share the work, the caller's included; more than one needs a page that is cross-origin isolated. Defaults to the
 *   cores, at most 4, where threads are possible.
 */

/** Engines by their options; an engine is made once and serves every model. @type {Map<string, Promise<Engine>>} */
const engines = new Map();
/** A number for each `wasm` that was passed. @type {Map<unknown, number>} */
const sources = new Map();
/** @type {EngineOptions} */
let defaults = {};

/**
 * Chooses and starts the engine that `compile` uses from now on. Not needed with the defaults; call it to set them, or so that the
 * engine is ready before the first model.
 * @param {EngineOptions} [options]
 * @returns {Promise<{ build: string, threads: number }>} What is in use.
 * @throws {import('./errors.js').LamellaError} 'no-simd' where there is no WebAssembly SIMD; 'unsupported' for a build that does not run here; see web/engine.js.
 */
export async function init(options = {}) {
  if (typeof options !== 'object' || options === null) throw badArgument('init: options', 'an object, { threads: 2 }', options);
  const given = known('init', [{ ...options }], { wasm: undefined, build: undefined, threads: undefined });
  const { build, threads } = await sharedEngine(given);
  defaults = given;
  return { build, threads };
}

/**
 * The engine for these options.
 * @param {EngineOptions} options What is left out is as in `init`.
 * @returns {Promise<Engine>}
 */
export function sharedEngine(options) {
  const { wasm, build, threads } = withDefaults(options);
  if (wasm !== undefined && !sources.has(wasm)) sources.set(wasm, sources.size);
  const key = JSON.stringify([sources.get(wasm) ?? null, build ?? null, threads ?? null]);
  let engine = engines.get(key);
  if (!engine) {
    const made = engine = createEngine({ wasm, build, threads });
    const forget = () => { if (engines.get(key) === made) engines.delete(key); };
    engines.set(key, engine);
    engine.then((started) => { started.onTrap = forget; }, forget);
  }
  return engine;
}

/**
 * An engine of the build that a worker will use for these options, without threads: it only records, and lends the worker its module.
 * @param {EngineOptions} options What is left out is as in `init`.
 * @returns {Promise<{ engine: Engine, threads: number | undefined }>} `threads` as the worker is to be told.
 */
export async function recordingEngine(options) {
  const { wasm, build, threads } = withDefaults(options);
  const host = features();
  const flavour = host.relaxed ? 'relaxed' : 'simd';
  const best = host.threads && (threads ?? host.cores) > 1 ? /** @type {const} */ (`${flavour}-threads`) : flavour;
  return { engine: await sharedEngine({ wasm, build: build ?? best, threads: 1 }), threads };
}

/**
 * @param {EngineOptions} options
 * @returns {EngineOptions}
 */
function withDefaults({ wasm = defaults.wasm, build = defaults.build, threads = defaults.threads }) {
  return { wasm, build, threads };
}
