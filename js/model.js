import { abortSignal, integer, options, show, showShape } from './arguments.js';
import { LamellaError } from './errors.js';
import { readInput } from './inputs.js';
import { cachePrecision } from './precision.js';
import { Session } from './session.js';
import { planned, Summary } from './summary.js';
import { Tensor } from './tensor.js';
import { NOTHING } from '../web/runner.js';

/** @typedef {import('./inputs.js').InputSpec} InputSpec */
/** @typedef {import('./inputs.js').ModelInput} ModelInput */
/** @typedef {import('../web/runner.js').LayerProfile} LayerProfile */
/** @typedef {import('../web/runner.js').Runner | import('../web/worker.js').RemoteRunner | import('./experts/paging.js').PagedRunner} AnyRunner */
/**
 * Experts that are kept outside of the engine's memory.
 * @typedef {object} ExpertsUse
 * @property {number} count How many there are, in all layers.
 * @property {number} slots For how many there is room in the engine's memory, and bytes of it.
 * @property {number} memory
 * @property {number} resident How many are there.
 * @property {number} stored Bytes outside, of all.
 * @property {number} hits How often a layer wanted an expert that was there,
 * @property {number} misses how often one that was not,
 * @property {number} rate and hits by both.
 * @property {number} bytesRead
 */
/** @typedef {import('./module.js').Module} Module */
/** @typedef {import('../web/runner.js').Range} Range */
/** What forward returned, with the numbers of outputs where its tensors were: a number, null, or an array or object of these. @typedef {any} Structure */

/**
 * What a model can be asked: `forward`, or one of `module.methods`.
 * @typedef {object} Method
 * @property {InputSpec[]} specs Its arguments.
 * @property {Structure} structure What it returns.
 * @property {Range} inputs Of the graph's.
 * @property {Range} outputs Of the graph's.
 */

/** A compiled network with its weights. Made by `compile`. */
export class Model {
  /** @type {AnyRunner | null} */
  #runner;
  /** Calls follow each other: the end of the last one. @type {Promise<unknown>} */
  #last = Promise.resolve();
  /** @type {Map<string, Method & { session?: Promise<number> }>} */
  #methods;
  #engine;
  #worker;
  #beside;
  /** Why it can no longer be used. @type {LamellaError | null} */
  #trap = null;

  /**
   * @param {AnyRunner} runner
   * @param {{ methods: Map<string, Method>, module: Module } & { worker?: boolean } & import('./session.js').Beside} description
   */
  constructor(runner, { methods, module, worker, tokenizer, neighbour, cache }) {
    this.#runner = runner;
    this.#methods = methods;
    this.#worker = worker;
    /** What was compiled. */
    this.module = module;
    const { build, threads } = runner.engine;
    this.#engine = { build, threads };
    const { vocab_size: vocabSize, eos_token_id: end } = /** @type {any} */ (module).config ?? {};
    this.#beside = { tokenizer, neighbour, cache, vocabSize, ends: [end ?? []].flat() };
  }

  /** Names of what the model can be asked: 'forward' and those of `module.methods`. @returns {string[]} */
  get methods() {
    return [...this.#methods.keys()];
  }

  /** Shapes of forward's arguments (of the first method's, where there is no forward), null where a size varies. @returns {(number | null)[][]} */
  get inputs() {
    const method = this.#methods.get('forward') ?? /** @type {Method} */ ([...this.#methods.values()][0]);
    return method.specs.filter((spec) => !spec.rows).map((spec) => [...spec.shape]);
  }

  /** The engine in use: its build, and how many threads work for it, the caller's (or the worker's own) included. */
  get engine() {
    return { ...this.#engine };
  }

  /**
   * Runs the network.
   *
   * Each input is a Tensor; a typed array, where the shape follows from its length; nested arrays of numbers; or, for an input
   * [n, 3, h, w], a picture or a list of them: whatever image.toTensor takes (a Uint8Array holds numbers, though, and not a file; an
   * ArrayBuffer, a Blob and Node's Buffer are files), prepared as `module.preprocess` says, in a worker if the model runs in one. An options object `{ signal }` may come last.
   * Inputs must not change before the promise settles. Calls made meanwhile wait their turn.
   * @param {...(ModelInput | { signal?: AbortSignal })} inputs
   * @returns {Promise<any>} A Tensor, or an array or object of Tensors, as the module's forward returns. They belong to the caller.
   * @throws {LamellaError} 'shape' or 'argument': an input is not what the network takes; 'disposed'; 'memory'; 'trap': a fault of the engine, after which this
   *   model cannot be used but others can. The signal's reason when aborted: the model can be used again.
   */
  forward(...inputs) {
    return this.call('forward', ...inputs);
  }

  /**
   * As forward, for another method of the module: `await model.call('encodeText', ids)`.
   * @param {string} name One of `model.methods`.
   * @param {...(ModelInput | { signal?: AbortSignal })} inputs
   * @returns {Promise<any>}
   */
  async call(name, ...inputs) {
    const method = this.#method(name);
    const { outputs } = await this.#run(method, this.#ownSession(method), name, inputs);
    return build(method.structure, outputs);
  }

  /**
   * A state in which the model remembers what it has seen: for models that have caches (`F.cache`), such as decoders of text.
   * Several may be open; each holds memory for its context until it is disposed of.
   *
   * `cache` is how keys and values are kept: 'f16' (default), in halves; 'f32', exact, twice the memory; 'q8', 8 bits and a scale for 32 numbers, 9/16 of f16's.
   * Logits of halves are off by some 1e-3 of the largest, those of q8 by some 2e-2; with 'f32' they are those of `forward`. Only what attention and latent attention
   * read is kept in fewer bits; caches that other layers read are f32.
   * @param {{ context: number, method?: string, cache?: import('./precision.js').CacheFormat }} wanted `context`: how many tokens there is room for;
   *   `method`, default 'forward'.
   * @returns {Promise<Session>}
   * @throws {LamellaError} 'shape': the model has no caches, or the context is longer than it takes; 'memory'; 'disposed'.
   */
  async session(wanted) {
    const { context, method: name, cache } = options('session', [wanted], { context: 0, method: 'forward', cache: /** @type {string} */ ('f16') });
    integer('session: context', context, 1);
    const precision = cachePrecision(cache);
    const method = this.#method(name);
    const limit = method.specs.find((spec) => spec.limit)?.limit;
    if (limit && context > limit.size) throw new LamellaError('shape', `session: a context of ${context} tokens is more than ${limit.name} ${limit.size}`);
    const id = await this.#enqueue(() => this.#alive().open({ inputs: method.inputs, outputs: method.outputs, context, cache: precision }));
    // One sequence: the batch is 1.
    const single = { ...method, specs: method.specs.map((spec) => ({ ...spec, shape: spec.shape.map((size, axis) => (axis === 0 && size === null ? 1 : size)) })) };
    return new Session(context, {
      forward: async (inputs, last) => {
        const { outputs, position, numbers: [first] } = await this.#run(single, Promise.resolve(id), name, inputs, { last });
        return { result: build(method.structure, outputs), position, tokens: first.data };
      },
      seek: (position) => this.#enqueue(() => this.#alive().seek(id, position)),
      close: () => { if (this.#runner) this.#enqueue(async () => this.#runner?.close(id)).catch(() => {}); },
    }, this.#beside, cache);
  }

  /**
   * Runs the network as `forward` does and says what each layer took. Layers that were fused are one: 'conv2d+batch_norm+relu'.
   * @param {...(ModelInput | { signal?: AbortSignal, method?: string })} inputs `{ method }` may come last, one of `model.methods`.
   * @returns {Promise<LayerProfile[]>} For each layer its path, its shape, milliseconds, floating point operations (of the textbook formula),
   *   bytes touched once and GFLOP/s.
   */
  async profile(...inputs) {
    const last = /** @type {any} */ (inputs.at(-1));
    const named = Object.prototype.toString.call(last) === '[object Object]' && 'method' in last;
    const { method: name = 'forward', ...rest } = named ? last : {};
    const method = this.#method(name);
    const { layers } = await this.#run(method, this.#ownSession(method), name, named ? [...inputs.slice(0, -1), rest] : inputs, { profile: true });
    return /** @type {LayerProfile[]} */ (layers);
  }

  /**
   * The layers as they are run, with their output shapes, parameters, floating point operations and bytes, for inputs of these sizes; nothing is
   * run. `console.log(await model.summary([8, 3, 224, 224]))` prints a table (in browsers `String(...)` of it), `rows` and `totals` are the numbers.
   * @param {...(readonly number[] | { method?: string })} shapes The sizes of each input; left out, those that `inputs` declares, with 1 for each null.
   *   `{ method }` may come last, one of `model.methods`; default 'forward'.
   * @returns {Promise<Summary>}
   * @throws {LamellaError} 'argument' or 'shape': the sizes are not what the network takes; 'memory' (as much is needed as for a forward); 'disposed'.
   */
  async summary(...shapes) {
    const { name, sizes } = planned(shapes, (wanted) => this.#method(wanted).specs);
    const { inputs, outputs } = this.#method(name);
    const layers = await this.#enqueue(() => this.#alive().plan({ inputs, outputs }, sizes));
    return new Summary(this.module, name, sizes, layers);
  }

  /**
   * Bytes held: packed weights, activations (settled by the largest input so far), caches of sessions, in `cacheFormats` by how they are kept, and the sum of the
   * three; zeros after dispose.
   */
  get memory() {
    const { weights, activations, caches, cacheFormats } = this.#runner?.bytes ?? NOTHING;
    return { weights, activations, caches, cacheFormats: { ...cacheFormats }, total: weights + activations + caches };
  }

  /** How the experts outside are used, since the model was loaded; null where all weights are in the engine's memory. @returns {ExpertsUse | null} */
  get experts() {
    return this.#runner && 'experts' in this.#runner ? this.#runner.experts : null;
  }

  /** Frees everything. What is still waiting is rejected with a LamellaError 'disposed'. May be called again. */
  dispose() {
    this.#runner?.dispose();
    this.#runner = null;
  }

  /** @param {string} name @returns {Method & { session?: Promise<number> }} */
  #method(name) {
    this.#alive();
    const method = this.#methods.get(name);
    if (method) return method;
    throw new LamellaError('argument', `the model has no method ${show(name)}; it has ${this.methods.join(', ')}`);
  }

  /** The session of `forward` and `call`, which keeps nothing but the plan of its memory. @param {Method & { session?: Promise<number> }} method */
  #ownSession(method) {
    method.session ??= this.#alive().open({ inputs: method.inputs, outputs: method.outputs });
    method.session.catch(() => { method.session = undefined; });
    return method.session;
  }

  /**
   * @param {Method} method
   * @param {Promise<number>} session
   * @param {string} name
   * @param {(ModelInput | { signal?: AbortSignal })[]} given
   * @param {{ profile?: boolean, last?: boolean }} [options] `last`: of the output only the last row, where the method can be told.
   * @returns {Promise<import('../web/runner.js').Answer & { numbers: import('../web/runner.js').Numbers[] }>} And what the inputs were read as.
   */
  async #run(method, session, name, given, { profile = false, last = false } = {}) {
    this.#alive();
    const { inputs, signal } = takeOptions(name, given, method.specs);
    signal?.throwIfAborted();
    const preprocess = /** @type {any} */ (this.module).preprocess;
    const reading = Promise.all(inputs.map((input, i) => readInput(`${name}: input ${i}`, method.specs[i], input, preprocess, { signal, worker: this.#worker })));
    reading.catch(() => {});   // an error waits for its turn in the queue
    return this.#enqueue(async () => {
      const numbers = await reading;
      if (numbers.length < method.specs.length) numbers.push(rowsOf(numbers[0].shape, last));
      const id = await session;
      const runner = this.#alive();
      signal?.throwIfAborted();
      const answer = await runner.forward(id, numbers, { signal, profile });
      this.#alive();
      return { ...answer, numbers };
    });
  }

  /** @returns {AnyRunner} */
  #alive() {
    if (this.#runner) return this.#runner;
    if (this.#trap) throw new LamellaError('trap', `the model cannot be used any more since the engine failed; compile it again (${this.#trap.message})`, { cause: this.#trap });
    throw new LamellaError('disposed', 'the model was disposed');
  }

  /**
   * @template T
   * @param {() => Promise<T>} task
   * @returns {Promise<T>}
   */
  #enqueue(task) {
    const turn = this.#last.then(task);
    this.#last = turn.catch((error) => {
      if (error?.code !== 'trap' || !this.#runner) return;
      this.#trap = error;
      this.dispose();
    });
    return turn;
  }
}

// Older engines have no Symbol.dispose; `using model = await compile(...)` needs it.
if (Symbol.dispose) Object.defineProperty(Model.prototype, Symbol.dispose, { value: Model.prototype.dispose, configurable: true, writable: true });

/**
 * @param {string} name The method's.
 * @param {unknown[]} given
 * @param {InputSpec[]} specs
 * @returns {{ inputs: any[], signal: AbortSignal | null }}
 */
function takeOptions(name, given, specs) {
  const last = /** @type {any} */ (given.at(-1));
  const least = specs.length - Number(specs.at(-1)?.rows ?? false);
  const hasOptions = given.length > least && last && Object.getPrototypeOf(last) === Object.prototype;
  const inputs = hasOptions ? given.slice(0, -1) : given;
  if (inputs.length < least || inputs.length > specs.length) {
    throw new LamellaError('argument', `${name}: expected ${least} input${least === 1 ? '' : 's'} ${specs.slice(0, least).map((spec) => showShape(spec.shape)).join(', ')}, got ${inputs.length}`);
  }
  const { signal } = options(name, hasOptions ? [last] : [], { signal: /** @type {unknown} */ (null) });
  return { inputs, signal: abortSignal(`${name}: signal`, signal) };
}

/**
 * The numbers of all rows of [b, t], or of the last.
 * @param {number[]} shape
 * @param {boolean} last
 * @returns {import('../web/runner.js').Numbers}
 */
function rowsOf([b, t], last) {
  const count = last ? Math.min(t, 1) : t;
  return { data: Int32Array.from({ length: b * count }, (_, i) => (last ? (i + 1) * t - 1 : i)), shape: [b, count] };
}

/**
 * What forward returned, with Tensors in it.
 * @param {Structure} structure
 * @param {import('../web/runner.js').Numbers[]} outputs
 * @returns {any}
 */
function build(structure, outputs) {
  if (structure === null) return null;
  if (typeof structure === 'number') return new Tensor(outputs[structure].data, outputs[structure].shape);
  if (Array.isArray(structure)) return structure.map((part) => build(part, outputs));
  return Object.fromEntries(Object.entries(structure).map(([key, part]) => [key, build(part, outputs)]));
}
