import { integer } from './arguments.js';
import { LamellaError } from './errors.js';

/** @typedef {import('./inputs.js').ModelInput} ModelInput */
/**
 * What a session needs of its model.
 * @typedef {object} Backend
 * @property {(inputs: any[]) => Promise<{ result: any, position: number }>} forward
 * @property {(position: number) => Promise<void>} seek
 * @property {() => void} close
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
  #position = 0;

  /**
   * @param {number} context
   * @param {Backend} backend
   */
  constructor(context, backend) {
    this.#backend = backend;
    /** Tokens that there is room for. */
    this.context = context;
  }

  /** Tokens seen so far: the next ones come after so many. */
  get position() {
    return this.#position;
  }

  /**
   * The model's outputs for the tokens that come next. Takes and returns what the model's forward does, for a batch of 1.
   * @param {...(ModelInput | { signal?: AbortSignal })} inputs
   * @returns {Promise<any>}
   * @throws {LamellaError} 'shape': the context is full (the message has the numbers), or an input is not what the network takes; 'disposed'.
   */
  async forward(...inputs) {
    const { result, position } = await this.#alive().forward(inputs);
    this.#position = position;
    return result;
  }

  /**
   * Goes back: what came after `position` tokens is forgotten.
   * @param {number} position From 0 to the tokens seen so far.
   */
  async seek(position) {
    integer('seek: position', position, 0);
    await this.#alive().seek(position);
    this.#position = position;
  }

  /** Frees what the session remembers. May be called again. */
  dispose() {
    this.#backend?.close();
    this.#backend = null;
  }

  #alive() {
    if (this.#backend) return this.#backend;
    throw new LamellaError('disposed', 'the session was disposed');
  }
}

// Older engines have no Symbol.dispose.
if (Symbol.dispose) Object.defineProperty(Session.prototype, Symbol.dispose, { value: Session.prototype.dispose, configurable: true, writable: true });
