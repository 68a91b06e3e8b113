import { abortSignal, badArgument, boolean, finite, integer, show } from './arguments.js';
import { LamellaError } from './errors.js';
import { recordingEngine, sharedEngine } from './init.js';
import { inputSpecs } from './inputs.js';
import { keepStored, loadWeights, matchKeys, openWeights } from './load.js';
import { Model } from './model.js';
import { className, Module } from './module.js';
import { precisionOf } from './precision.js';
import { SymbolicTensor } from './tensor.js';
import { ANY, lift, Trace } from './trace.js';
import { warm } from './warm.js';
import { I32, Runner } from '../web/runner.js';

/** @typedef {import('./inputs.js').DeclaredInput} DeclaredInput */
/** @typedef {import('./inputs.js').InputSpec} InputSpec */
/** @typedef {import('./model.js').Method} Method */
/** @typedef {import('./model.js').Structure} Structure */
/** @typedef {import('./load.js').WeightsSource} WeightsSource */
/** @typedef {import('./load.js').Progress} Progress */
/**
 * Experts outside: all of them lie packed in a file of this model's own, which goes with it; some are in the engine's memory, those that were wanted last.
 * The numbers are the same. `model.experts` says how often what was wanted was there.
 * @typedef {object} ExpertsOption
 * @property {number} memory Bytes for experts that are in the engine's memory, of all layers together; at least one of each layer is.
 * @property {'file' | 'memory'} [store] 'file' (default): in Node in `folder`, in browsers in the origin's private files. 'memory': in memory outside of the engine's.
 * @property {string} [folder] In Node: where the file is. Default: the system's folder for temporary files.
 * @property {(error: LamellaError) => void} [warn] Told where a browser has no files, and memory is taken instead. Default: `console.warn` of its message.
 */
/**
 * @typedef {object} CompileOwnOptions
 * @property {WeightsSource} [weights] A checkpoint: what `safetensors.open` takes (URL, path in Node, File, Blob, bytes, a list of shards), what
 *   it returns, a GGUF file (see models.fromGGUF), or an object or Map of name -> Tensor or { data, shape }. Needed if the module has weights.
 * @property {string} [prefix] What the checkpoint's names have in front, 'visual.'; names without it are then ignored.
 * @property {readonly DeclaredInput[]} [inputs] Shapes of forward's arguments, null where a size varies: `[[null, 3, 224, 224]]`; a mask of
 *   attention as `{ shape, dtype: 'bool' }`. Defaults to `module.inputs`.
 * @property {import('./precision.js').PrecisionOption} [precision] How weights are kept. Default: 'f32', and what a checkpoint of `quantize` or a GGUF
 *   file keeps in fewer bits, as it is there. 'f32', 'f16' (halves: weights are rounded to them, to at most
 *   65504, arithmetic stays f32; half the memory), 'q8' (8 bits, a quarter of the memory), 'q4' (4.5 bits), or `(name, shape) => precision`. Linear layers and experts
 *   can be any of them; convolutions 8 bits at least; products by a matrix [in, out] f16 or f32; embeddings are f16 for all but f32. What is depthwise
 *   stays f32, and what is small instead of q8 or q4.
 * @property {readonly string[]} [methods] Which methods the model is to have, of `module.methods` and 'forward' (default: all). Weights that only the others use are
 *   then neither needed nor loaded.
 * @property {import('./text/tokenizer.js').TokenizerSource} [tokenizer] For models that take text, what makes token ids of it: a `tokenizer.json` or a Tokenizer.
 *   Defaults to the `tokenizer.json` beside the checkpoint, where weights is a URL or a path; loaded when text first comes.
 * @property {boolean} [worker] Run in a worker of the model's own, so that nothing blocks (default false).
 * @property {boolean | import('./cache.js').CacheOptions} [cache] Keep the checkpoint, where that is a URL, and with it the tokenizer and the chat template when they are fetched: in Node in a folder, in browsers in the origin's private
 *   files. Each file is then downloaded once and whole; what was interrupted, also by closing the page, goes on where it stopped. Default false.
 * @property {number} [memoryLimit] Bytes that the engine's memory may come to hold. Default: as many as it can, 4 GiB mostly. A model that needs more is refused before its
 *   numbers are fetched; the error says what would fit.
 * @property {number} [context] Tokens that a session is to have room for: counted when it is looked whether the model fits, no more (default 0).
 * @property {ExpertsOption} [experts] Keep the experts of mixtures outside of the engine's memory, and bring in those that a run wants.
 * @property {boolean} [strict] false: tolerate weights in the checkpoint that the module does not have (default true).
 * @property {(progress: Progress) => void} [onProgress] Called as weights arrive.
 * @property {AbortSignal} [signal] Stops loading, frees everything and rejects with the signal's reason.
 */
/**
 * The Model class of a module: its own (`get Model()`), or Model.
 * @template M
 * @typedef {M extends { Model: new (...args: any[]) => infer Own } ? Own : Model} ModelOf
 */
/** @typedef {CompileOwnOptions & import('./init.js').EngineOptions} CompileOptions */

/**
 * Makes a network out of a module and a checkpoint: records `forward`, checks every name and shape, streams the weights into the engine. Where all sizes but the
 * batch are known, it then runs on zeros for up to 45 ms, so that the first forward is not slower than others (more than 64 MB of weights only if they took long).
 *
 *     const model = await compile(new models.ModifiedResNet({ layers: [3, 4, 6, 3], outputDim: 1024, heads: 32 }),
 *       { weights: 'open_clip_model.safetensors', prefix: 'visual.', onProgress: (p) => { bar.value = p.loaded / p.total; } });
 *     const embedding = await model.forward(picture);
 *
 * A module that can be asked several things has `methods`: `{ encodeText: { inputs: [{ shape: [null, 77], dtype: 'i32' }] } }` makes
 * `model.call('encodeText', ids)` run the module's method of that name, on the same weights.
 *
 * @template {Module} M
 * @param {M} module
 * @param {CompileOptions} [options]
 * @returns {Promise<ModelOf<M>>}
 * @throws {LamellaError} 'shape' at the line of forward that does not fit; 'keys' with every missing, unexpected and misshapen weight
 *   (`error.missing`, `error.unexpected`, `error.misshapen`); 'memory' (with `error.needed`, `error.available` and, where a precision would do, `error.precision`); what opening the weights throws.
 */
export async function compile(module, options = {}) {
  if (!(module instanceof Module)) throw badArgument('compile: module', 'a Module, new nn.Linear(2, 3)', module);
  const { weights: source, prefix = '', strict = true, worker = false, onProgress, signal: given, inputs, methods, tokenizer, precision, cache = false, memoryLimit, context = 0, experts, ...engineOptions } = options;
  checkOptions({ prefix, strict, worker, onProgress, engineOptions });
  integer('compile: context', context, 0);
  if (memoryLimit !== undefined) finite('compile: memoryLimit', memoryLimit, 0);
  const signal = abortSignal('compile: signal', given);
  const declared = declaredMethods(module, inputs, methods);
  const precisions = precisionOf(precision);
  const since = performance.now();
  signal?.throwIfAborted();
  const { engine, threads } = worker ? await recordingEngine(engineOptions) : { engine: await sharedEngine(engineOptions), threads: undefined };
  signal?.throwIfAborted();

  const local = new Runner(engine);
  /** @type {import('./model.js').AnyRunner} */
  let runner = local;
  let opened = null;
  try {
    const { trace, recorded } = record(module, declared, local, precisions);
    opened = await openWeights(source, { needed: trace.used.size > 0, signal, cache });
    const wanted = matchKeys(module, trace, opened.weights, { prefix, strict, partial: methods !== undefined });
    opened.weights.asNumbers?.(precisions !== undefined);
    const isStored = !precisions && keepStored(trace, opened.weights, wanted);
    const paging = experts === undefined ? null : await (await import('./experts/paging.js')).planPaging(local, experts);
    const [used, room] = [worker ? 0 : engine.exports.lam_memory_used() >>> 0, Math.min(memoryLimit ?? Infinity, engine.most)];
    const [bytes, needed] = [local.measure(0), local.measure(context)];
    if (needed > room - used) {
      const measure = (/** @type {import('./precision.js').Precision} */ bits, /** @type {number} */ tokens) => measured(module, declared, engine, bits, tokens);
      throw (await import('./fit.js')).refusal({ weights: bytes, needed, context, room, used, precision, isStored, measure, paged: paging !== null });
    }
    if (worker) {
      runner = await startRemote(engine, threads);
      await runner.replay(local.calls);
      local.dispose();
      if (paging) await runner.setSlots(paging.slots);
    }
    if (paging) runner = await paging.wrap(runner);
    await loadWeights(runner, trace, opened.weights, wanted, { needed: bytes, onProgress, signal });
    await runner.loaded();
    signal?.throwIfAborted();
    const Class = /** @type {any} */ (module).Model ?? Model;
    const { weights } = opened;
    const model = new Class(runner, { methods: recorded, module, worker, tokenizer, neighbour: (/** @type {string} */ name) => weights.neighbour?.(name), cache: cacheBeside(cache || weights.cache) });
    await warm(model, recorded, { since, signal });
    signal?.throwIfAborted();
    return model;
  } catch (error) {
    runner.dispose();
    local.dispose();
    throw error;
  } finally {
    await opened?.close();
  }
}

/**
 * How files beside a checkpoint are kept: as it is, but a sum without a name is the checkpoint's.
 * @param {CompileOwnOptions['cache']} cache
 */
const cacheBeside = (cache) => (typeof cache === 'object' && typeof cache.sha256 === 'string' ? { ...cache, sha256: undefined } : cache);

/**
 * What the module would take in another precision.
 * @param {Module} module
 * @param {Map<string, InputSpec[]>} declared
 * @param {import('../web/engine.js').Engine} engine
 * @param {import('./precision.js').Precision} precision
 * @param {number} context
 */
function measured(module, declared, engine, precision, context) {
  const runner = new Runner(engine);
  try {
    record(module, declared, runner, precisionOf(precision));
    return { bytes: runner.measure(context), layers: runner.expertLayers() };
  } finally {
    runner.dispose();
  }
}

/** @param {{ prefix: unknown, strict: unknown, worker: unknown, onProgress: unknown, engineOptions: object }} options */
function checkOptions({ prefix, strict, worker, onProgress, engineOptions }) {
  if (typeof prefix !== 'string') throw badArgument('compile: prefix', "a string, 'visual.'", prefix);
  boolean('compile: strict', strict);
  boolean('compile: worker', worker);
  if (onProgress !== undefined && typeof onProgress !== 'function') throw badArgument('compile: onProgress', 'a function', onProgress);
  const known = ['wasm', 'build', 'threads'];
  const unknown = Object.keys(engineOptions).find((name) => !known.includes(name));
  if (unknown) {
    throw new LamellaError('argument', `compile: there is no option "${unknown}"; known: weights, prefix, inputs, methods, precision, cache, memoryLimit, context, experts, ${known.join(', ')}, tokenizer, worker, strict, onProgress, signal`);
  }
}

/**
 * The arguments of everything the model is to be asked.
 * @param {Module} module
 * @param {unknown} inputs Of forward.
 * @param {unknown} wanted Names, undefined for all.
 * @returns {Map<string, InputSpec[]>}
 */
function declaredMethods(module, inputs, wanted) {
  const own = /** @type {any} */ (module);
  const declared = new Map();
  const others = Object.entries(own.methods ?? {});
  const forward = inputs ?? own.inputs;
  if (forward !== undefined || !others.length) declared.set('forward', () => inputSpecs('compile: inputs', forward));
  for (const [name, method] of others) declared.set(name, () => inputSpecs(`${className(module)}: methods.${name}.inputs`, /** @type {any} */ (method)?.inputs));
  if (wanted !== undefined && (!Array.isArray(wanted) || !wanted.length)) throw badArgument('compile: methods', 'an array of names', wanted);
  const names = /** @type {string[]} */ (wanted ?? [...declared.keys()]);
  return new Map(names.map((name) => {
    const specs = declared.get(name);
    if (!specs) throw badArgument('compile: methods', `names among ${[...declared.keys()].join(', ')}`, name);
    return [name, specs()];
  }));
}

/**
 * Runs each method once and notes what it returns.
 * @param {Module} module
 * @param {Map<string, InputSpec[]>} declared
 * @param {Runner} graph
 * @param {import('./precision.js').PrecisionOf} [precisions]
 * @returns {{ trace: Trace, recorded: Map<string, Method> }}
 */
function record(module, declared, graph, precisions) {
  const trace = new Trace(module, graph, precisions);
  /** @type {Map<string, Method>} */
  const recorded = new Map();
  let inputs = 0;
  let outputs = 0;
  trace.run(() => {
    for (const [name, specs] of declared) {
      const { structure, count } = recordMethod(module, name, specs, trace);
      recorded.set(name, { specs, structure, inputs: [inputs, specs.length], outputs: [outputs, count] });
      inputs += specs.length;
      outputs += count;
    }
  });
  return { trace, recorded };
}

/**
 * @param {Module} module
 * @param {string} name
 * @param {InputSpec[]} specs
 * @param {Trace} trace
 * @returns {{ structure: Structure, count: number }} Tensors in the structure are numbers from 0 on, `count` in all.
 */
function recordMethod(module, name, specs, trace) {
  const where = `${className(module)}: ${name}`;
  const inputs = specs.map(({ shape, dtype }) => {
    const value = trace.define('input', dtype === 'i32' ? I32 : 0, shape.length, shape.map((size) => size ?? ANY));
    return new SymbolicTensor(trace, value, [...shape], dtype);
  });
  const own = /** @type {any} */ (module);
  if (typeof own[name] !== 'function') throw trace.error('argument', `${where}: the module has no method of this name`);
  const result = name === 'forward' ? own(...inputs) : own[name](...inputs);
  if (typeof result?.then === 'function') throw trace.error('argument', `${where} must not be async: it runs once, on tensors without numbers`);
  let count = 0;
  /**
   * @param {unknown} part
   * @returns {Structure}
   */
  const note = (part) => {
    if (part === null) return null;
    if (Array.isArray(part)) return part.map(note);
    if (typeof (/** @type {any} */ (part)?.[lift]) === 'function') {
      trace.define('output', trace.lift(part, 'output'));
      return count++;
    }
    if (typeof part === 'object' && Object.getPrototypeOf(part) === Object.prototype) {
      return Object.fromEntries(Object.entries(/** @type {object} */ (part)).map(([key, value]) => [key, note(value)]));
    }
    throw trace.error('argument', `${where} must return a tensor, or an array or object of tensors, got ${show(part)}`);
  };
  const structure = note(result);
  if (!count) throw trace.error('argument', `${where} returned no tensor`);
  return { structure, count };
}

/**
 * @param {import('../web/engine.js').Engine} engine
 * @param {number | undefined} threads
 * @returns {Promise<import('../web/worker.js').RemoteRunner>}
 */
async function startRemote(engine, threads) {
  const [{ RemoteRunner }, { default: source }] = await Promise.all([import('../web/worker.js'), import('../dist/host.js')]);
  return RemoteRunner.start(source, { wasm: engine.module, build: engine.build, threads });
}
