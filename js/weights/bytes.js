/** Reading bytes in pieces: what the sources and the chunks of a checkpoint share. */
import { LamellaError } from '../errors.js';

/**
 * Somewhere that bytes come from.
 * @typedef {object} Source
 * @property {string} name How errors call it: an address, a path, a file's name.
 * @property {number | undefined} size Bytes in all, undefined where nobody says.
 * @property {boolean} random Whether any part can be read at any time; false: once, from front to back.
 * @property {number} gap Bytes that are cheaper read and dropped than skipped by another request.
 * @property {(begin: number, end?: number, options?: { signal?: AbortSignal | null }) => AsyncGenerator<Uint8Array, void, void>} stream
 *   Pieces of [begin, end), or less if the source ends, each good until the next is asked for. Without `end`: to the end of the
 *   source. Leaving the loop frees what is open.
 * @property {() => void | Promise<void>} close Frees what is open.
 * @property {'network' | 'cache'} [from] Where the last bytes came from; missing where they are on this machine anyway.
 * @property {(signal: AbortSignal | null) => Promise<void>} [finish] Reads what is left, where the whole is to be kept and compared with its sum.
 * @property {() => Promise<void>} [discard] Forgets what is kept, as it is of no use.
 * @property {(name: string) => string} [neighbour] Where a file beside this one lies; missing where nobody knows.
 */

/** What a piece read from a disk or a Blob measures. */
export const PIECE = 1 << 20;

/**
 * @param {string} name
 * @param {number} begin
 * @param {number} end
 * @param {number} at Where the bytes stopped.
 * @param {unknown} [cause]
 * @returns {LamellaError}
 */
export function truncated(name, begin, end, at, cause) {
  const why = cause instanceof Error ? ` (${reason(cause)})` : '';
  return new LamellaError('truncated', `${name}: expected ${end - begin} bytes from byte ${begin} on, got ${Math.max(0, at - begin)}${why}`, { path: name, cause });
}

/**
 * An error's message with that of its cause: Node's fetch says "fetch failed" and no more.
 * @param {Error} error
 * @returns {string}
 */
export function reason(error) {
  return error.cause instanceof Error ? `${error.message}: ${error.cause.message || /** @type {any} */ (error.cause).code}` : error.message;
}

/**
 * Bytes [begin, end) in one array, the caller's own unless the source is in memory.
 * @param {Source} source
 * @param {number} begin
 * @param {number} end
 * @param {{ signal?: AbortSignal | null, short?: boolean }} [options] `short`: fewer bytes are no error.
 * @returns {Promise<Uint8Array>}
 */
export async function readBytes(source, begin, end, { signal, short = false } = {}) {
  const reader = new PieceReader(source, begin, end, signal);
  try {
    const bytes = await reader.upTo(end - begin);
    if (!short && bytes.length < end - begin) throw truncated(source.name, begin, end, begin + bytes.length);
    return bytes;
  } finally {
    await reader.close();
  }
}

/**
 * A small file whole.
 * @param {Source} source
 * @param {{ signal?: AbortSignal | null }} [options]
 * @returns {Promise<Uint8Array>} The caller's own.
 */
export async function readAll(source, { signal } = {}) {
  const pieces = [];
  for await (const piece of source.stream(0, undefined, { signal })) pieces.push(piece.slice());
  const bytes = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
  let at = 0;
  for (const piece of pieces) {
    bytes.set(piece, at);
    at += piece.length;
  }
  return bytes;
}

/** Takes exact numbers of bytes out of a source's pieces. */
export class PieceReader {
  /** @type {Promise<IteratorResult<Uint8Array, void>> | null} */
  #pending = null;
  /** @type {Uint8Array} */
  #piece = new Uint8Array(0);
  #abort = new AbortController();
  #unlink = () => {};

  /**
   * @param {Source} source
   * @param {number} begin
   * @param {number} [end]
   * @param {AbortSignal | null} [signal]
   */
  constructor(source, begin, end, signal) {
    this.source = source;
    this.begin = begin;
    this.signal = signal;
    /** Where in the source the next byte comes from. */
    this.at = begin;
    if (signal) {
      const abort = () => this.#abort.abort(signal.reason);
      if (signal.aborted) abort();
      else signal.addEventListener('abort', abort, { once: true });
      this.#unlink = () => signal.removeEventListener('abort', abort);
    }
    this.iterator = source.stream(begin, end, { signal: this.#abort.signal });
  }

  /** Asks for the first piece before anybody needs it. */
  start() {
    this.#pending ??= this.iterator.next();
    this.#pending.catch(() => {});
  }

  /**
   * The bytes up to the next piece's end, at least one unless the source has ended.
   * @returns {Promise<Uint8Array>}
   */
  async #fill() {
    while (!this.#piece.length) {
      const asked = this.#pending ?? this.iterator.next();
      this.#pending = null;
      const { value, done } = await asked;
      if (done) break;
      this.#piece = /** @type {Uint8Array} */ (value);
    }
    return this.#piece;
  }

  /** @param {number} count At most the bytes of the piece. */
  #take(count) {
    const taken = this.#piece.subarray(0, count);
    this.#piece = this.#piece.subarray(count);
    this.at += taken.length;
    return taken;
  }

  /**
   * Drops bytes up to a position.
   * @param {number} position
   */
  async skipTo(position) {
    while (this.at < position) {
      if (!(await this.#fill()).length) throw truncated(this.source.name, this.begin, position, this.at);
      this.#take(position - this.at);
    }
  }

  /**
   * The next `count` bytes, fewer only if the source ends. They are a part of a piece where they lie in one, and a copy otherwise.
   * @param {number} count
   * @param {{ bytes: Uint8Array }} [scratch] Holds the copy; grows as needed.
   * @returns {Promise<Uint8Array>}
   */
  async upTo(count, scratch = { bytes: new Uint8Array(0) }) {
    if (count === 0) return this.#take(0);
    if ((await this.#fill()).length >= count) return this.#take(count);
    if (scratch.bytes.length < count) scratch.bytes = new Uint8Array(count);
    const whole = scratch.bytes;
    let filled = 0;
    while (filled < count && (await this.#fill()).length) {
      const taken = this.#take(count - filled);
      whole.set(taken, filled);
      filled += taken.length;
    }
    return whole.subarray(0, filled);
  }

  /** Leaves the source; a request under way is dropped. */
  async close() {
    this.#unlink();
    if (this.#pending) this.#abort.abort();
    await this.iterator.return();
  }
}
