import { badArgument, integer } from './arguments.js';
import { LamellaError } from './errors.js';
import { Tensor } from './tensor.js';

/** @typedef {import('./inputs.js').ModelInput} ModelInput */
/** @typedef {{ signal?: AbortSignal | null }} RunOptions */
/**
 * What a session needs of its model. `last`: of the output only the last row is asked for, where the model can be told. `tokens`: what the first input was read as.
 * @typedef {object} Backend
 * @property {(inputs: any[], last: boolean) => Promise<{ result: any, position: number, tokens: Float32Array | Int32Array }>} forward
 * @property {(position: number) => Promise<void>} seek
 * @property {() => void} close
 */
/**
 * compile's tokenizer, where a file beside the checkpoint lies, how such files are kept, how many tokens the model has, and those that end a text.
 * @typedef {{ tokenizer?: import('./text/tokenizer.js').TokenizerSource, neighbour?: (name: string) => string | undefined, cache?: boolean | import('./cache.js').CacheOptions, vocabSize?: number, ends?: number[] }} Beside
 */

/**
 * A model that remembers: each `forward` continues where the last one ended. Made by `model.session({ context })`.
 *
 *     const session = await model.session({ context: 512 });
 *     await session.forward(prompt);                     // all of its tokens at once
 *     const logits = await session.forward([next]);      // then one at a time
 *
 * Calls made meanwhile wait their turn; one that fails or is aborted leaves the position where it was.
 */
export class Session {
  /** @type {Backend | null} */
  #backend;
  /** What has been seen. @type {number[]} */
  #tokens = [];
  #position = 0;
  /** Calls follow each other: the end of the last one. @type {Promise<unknown>} */
  #last = Promise.resolve();

  /**
   * @param {number} context
   * @param {Backend} backend
   * @param {Beside} [beside]
   * @param {string} [cache]
   */
  constructor(context, backend, beside = {}, cache = 'f32') {
    this.#backend = backend;
    /** Tokens that there is room for. */
    this.context = context;
    /** How keys and values are kept: 'f32', 'f16' or 'q8'. */
    this.cache = cache;
    /** What text needs, shared by the sessions of a model. */
    this.beside = beside;
  }

  /** Tokens seen so far: the next ones come after so many. */
  get position() {
    return this.#position;
  }

  /**
   * The model's outputs for the tokens that come next. Takes and returns what the model's forward does, for a batch of 1.
   * @param {...(ModelInput | RunOptions)} inputs
   * @returns {Promise<any>}
   * @throws {LamellaError} 'shape': the context is full (the message has the numbers), or an input is not what the network takes; 'disposed'.
   */
  forward(...inputs) {
    return this.#enqueue(() => this.#run(inputs, false));
  }

  /**
   * Of a language model: makes the session one that has seen exactly these tokens. What it has seen of their beginning is kept (all but the last one, whose
   * logits are wanted), the rest is forgotten, and only what is new is computed.
   *
   *     const logits = await session.sync(conversation);
   *
   * @param {ArrayLike<number>} tokens At least one, at most the context.
   * @param {RunOptions} [options]
   * @returns {Promise<Float32Array>} [vocab_size] the logits of the token after the last; the caller's own.
   * @throws {LamellaError} 'shape': more tokens than the context, or a model that gives no logits; what forward throws. When it fails or is aborted, the session
   *   has seen what was kept.
   */
  async sync(tokens, { signal = null } = {}) {
    const ids = Array.from(tokens ?? [], (id, i) => integer(`sync: tokens[${i}]`, Number(id)));
    if (!ids.length) throw badArgument('sync: tokens', 'at least one', tokens);
    return this.#enqueue(async () => {
      if (ids.length > this.context) throw new LamellaError('shape', `sync: ${ids.length} tokens are more than the context of ${this.context}`);
      const kept = this.kept(ids);
      if (kept < this.#position) await this.#seek(kept);
      const result = await this.#run([ids.slice(kept), ...(signal ? [{ signal }] : [])], true);
      if (result instanceof Tensor && result.shape.length === 3 && result.data instanceof Float32Array) return result.data.slice(-result.shape[2]);
      throw new LamellaError('shape', 'sync: expected a model that makes logits [1, t, vocab_size] of tokens');
    });
  }

  /**
   * How many of these tokens `sync` would not compute again.
   * @param {ArrayLike<number>} tokens
   */
  kept(tokens) {
    let kept = 0;
    while (kept < Math.min(this.#tokens.length, tokens.length - 1) && tokens[kept] === this.#tokens[kept]) kept++;
    return kept;
  }

  /**
   * Goes back: what came after `position` tokens is forgotten.
   * @param {number} position From 0 to the tokens seen so far.
   */
  async seek(position) {
    integer('seek: position', position, 0);
    await this.#enqueue(() => this.#seek(position));
  }

  /** Frees what the session remembers. May be called again. */
  dispose() {
    this.#backend?.close();
    this.#backend = null;
  }

  /** @param {(ModelInput | RunOptions)[]} inputs @param {boolean} last */
  async #run(inputs, last) {
    const { result, position, tokens } = await this.#alive().forward(inputs, last);
    // Inputs that are more than ids are not remembered.
    if (tokens.length === position - this.#position) for (const token of tokens) this.#tokens.push(token);
    this.#position = position;
    return result;
  }

  /** @param {number} position */
  async #seek(position) {
    await this.#alive().seek(position);
    this.#position = position;
    this.#tokens.length = Math.min(this.#tokens.length, position);
  }

  #alive() {
    if (this.#backend) return this.#backend;
    throw new LamellaError('disposed', 'the session was disposed');
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

// Older engines have no Symbol.dispose.
if (Symbol.dispose) Object.defineProperty(Session.prototype, Symbol.dispose, { value: Session.prototype.dispose, configurable: true, writable: true });
