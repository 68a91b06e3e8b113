import { showShape } from './arguments.js';
import { LamellaError } from './errors.js';
import { readInput } from './inputs.js';
import { Tensor } from './tensor.js';

/** @typedef {import('./inputs.js').InputSpec} InputSpec */
/** @typedef {import('./inputs.js').ModelInput} ModelInput */
/** @typedef {import('../web/runner.js').LayerProfile} LayerProfile */
/** @typedef {import('../web/runner.js').Runner | import('../web/worker.js').RemoteRunner} AnyRunner */
/** What forward returned, with the numbers of outputs where its tensors were: a number, null, or an array or object of these. @typedef {any} Structure */

/** A compiled network with its weights. Made by `compile`. */
export class Model {
  /** @type {AnyRunner | null} */
  #runner;
  /** Calls follow each other: the end of the last one. @type {Promise<unknown>} */
  #last = Promise.resolve();
  #specs;
  #structure;
  #preprocess;
  #engine;

  /**
   * @param {AnyRunner} runner
   * @param {{ specs: InputSpec[], structure: Structure, preprocess?: object }} description
   */
  constructor(runner, { specs, structure, preprocess }) {
    this.#runner = runner;
    this.#specs = specs;
    this.#structure = structure;
    this.#preprocess = preprocess;
    const { build, threads } = runner.engine;
    this.#engine = { build, threads };
  }

  /** Shapes of forward's arguments, null where a size varies. @returns {(number | null)[][]} */
  get inputs() {
    return this.#specs.map((spec) => [...spec.shape]);
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
   * ArrayBuffer, a Blob and Node's Buffer are files), prepared as `module.preprocess` says. An options object `{ signal }` may come last.
   * Inputs must not change before the promise settles. Calls made meanwhile wait their turn.
   * @param {...(ModelInput | { signal?: AbortSignal })} inputs
   * @returns {Promise<any>} A Tensor, or an array or object of Tensors, as the module's forward returns. They belong to the caller.
   * @throws {LamellaError} 'shape' or 'argument': an input is not what the network takes; 'disposed'; 'memory'. The signal's reason when aborted:
   *   the model can be used again.
   */
  async forward(...inputs) {
    const { outputs } = await this.#run(inputs, false);
    return build(this.#structure, outputs);
  }

  /**
   * Runs the network as `forward` does and says what each layer took. Layers that were fused are one: 'conv2d+batch_norm+relu'.
   * @param {...(ModelInput | { signal?: AbortSignal })} inputs
   * @returns {Promise<LayerProfile[]>} For each layer its path, its shape, milliseconds, floating point operations (of the textbook formula),
   *   bytes touched once and GFLOP/s.
   */
  async profile(...inputs) {
    const { layers } = await this.#run(inputs, true);
    return /** @type {LayerProfile[]} */ (layers);
  }

  /** Bytes held: packed weights, activations (settled by the largest input so far) and their sum; zeros after dispose. */
  get memory() {
    const { weights, activations } = this.#runner ? this.#runner.bytes : { weights: 0, activations: 0 };
    return { weights, activations, total: weights + activations };
  }

  /** Frees everything. What is still waiting is rejected with a LamellaError 'disposed'. May be called again. */
  dispose() {
    this.#runner?.dispose();
    this.#runner = null;
  }

  /**
   * @param {(ModelInput | { signal?: AbortSignal })[]} given
   * @param {boolean} profile
   * @returns {Promise<import('../web/runner.js').Answer>}
   */
  async #run(given, profile) {
    this.#alive();
    const { inputs, signal } = takeOptions(given, this.#specs);
    signal?.throwIfAborted();
    const numbers = Promise.all(inputs.map((input, i) => readInput(i, this.#specs[i], input, this.#preprocess, signal)));
    numbers.catch(() => {});   // an error waits for its turn in the queue
    return this.#enqueue(async () => {
      const ready = await numbers;
      const runner = this.#alive();
      signal?.throwIfAborted();
      const answer = await runner.forward(ready, { signal, profile });
      this.#alive();
      return answer;
    });
  }

  /** @returns {AnyRunner} */
  #alive() {
    if (this.#runner) return this.#runner;
    throw new LamellaError('disposed', 'the model was disposed');
  }

  /**
   * @template T
   * @param {() => Promise<T>} task
   * @returns {Promise<T>}
   */
  #enqueue(task) {
    const turn = this.#last.then(task);
    this.#last = turn.catch(() => {});
    return turn;
  }
}

// Older engines have no Symbol.dispose; `using model = await compile(...)` needs it.
if (Symbol.dispose) Object.defineProperty(Model.prototype, Symbol.dispose, { value: Model.prototype.dispose, configurable: true, writable: true });

/**
 * @param {unknown[]} given
 * @param {InputSpec[]} specs
 * @returns {{ inputs: any[], signal: AbortSignal | null }}
 */
function takeOptions(given, specs) {
  const last = /** @type {any} */ (given.at(-1));
  const options = given.length === specs.length + 1 && last && Object.getPrototypeOf(last) === Object.prototype ? last : null;
  const inputs = options ? given.slice(0, -1) : given;
  if (inputs.length !== specs.length) {
    throw new LamellaError('argument', `forward: expected ${specs.length} input${specs.length === 1 ? '' : 's'} ${specs.map((spec) => showShape(spec.shape)).join(', ')}, got ${inputs.length}`);
  }
  return { inputs, signal: options?.signal ?? null };
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
