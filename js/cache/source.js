/** A file from a server that is kept: each byte is downloaded once, from front to back, and read from there the next time. */
import { abortable } from '../abortable.js';
import { LamellaError } from '../errors.js';
import { PIECE, reason } from '../weights/bytes.js';
import { beside } from '../weights/http.js';
import { sha256 } from './sha256.js';

/** @typedef {import('../weights/bytes.js').Source} Source */
/** @typedef {import('../weights/http.js').HttpSource} HttpSource */
/** @typedef {import('./half.js').Drawer} Drawer */
/** @typedef {import('./half.js').Half} Half */
/** @typedef {import('./half.js').Note} Note */
/** @typedef {(error: LamellaError) => void} Warn */

/** @implements {Source} */
export class CachedSource {
  random = true;
  /** Where the last bytes came from. @type {'cache' | 'network'} */
  from = 'cache';
  /** Readers take turns at downloading. @type {Promise<unknown>} */
  #turn = Promise.resolve();
  #readers = 0;
  /** What is under way. @type {{ pieces: AsyncGenerator<Uint8Array, void, void>, abort: AbortController } | null} */
  #download = null;
  /** Of the bytes up to #at. @type {import('./sha256.js').Hash | null} */
  #hash = null;
  /** Where the download is, and where it was at first. */
  #at;
  #before;
  #whole;

  /**
   * @param {Note} note
   * @param {{ drawer: Drawer | null, half: Half | null, network: HttpSource | null, release: () => void, sha256?: string, warn: Warn }} parts `network`: null where all bytes are there;
   *   `drawer` and `half` where nothing is to be kept, just compared with its sum.
   */
  constructor(note, { drawer, half, network, release, sha256: wanted, warn }) {
    this.name = note.url;
    this.size = note.size ?? network?.size;
    this.note = note;
    this.drawer = drawer;
    /** null once the rest is not kept. @type {Half | null} */
    this.half = half;
    this.network = network;
    this.release = release;
    this.wanted = wanted;
    this.warn = warn;
    this.#at = this.#before = half?.stored ?? 0;
    this.#whole = note.complete;
  }

  /** While it is downloaded all of it is, so nothing is skipped. */
  get gap() {
    return this.#whole ? PIECE : Infinity;
  }

  /** @param {string} name */
  neighbour(name) {
    return beside(this.name, name);
  }

  /**
   * @param {number} begin
   * @param {number} [end]
   * @param {{ signal?: AbortSignal | null }} [options]
   * @returns {AsyncGenerator<Uint8Array, void, void>}
   */
  async* stream(begin, end = Infinity, { signal } = {}) {
    this.#readers++;
    try {
      for (let at = begin; at < Math.min(end, this.size ?? Infinity);) {
        signal?.throwIfAborted();
        // Without a place for it any part can be read by itself, but for the sum all of it has to come by, once.
        if (!this.half && this.network && (at < this.#at || (this.network.random && (!this.wanted || this.#whole)))) {
          yield* this.network.stream(at, end, { signal });
          return;
        }
        const piece = at < this.#at ? await this.#kept(at, Math.min(end, at + PIECE, this.#at)) : await this.#advance(at, end, signal);
        if (piece === null) return;
        at += piece.length;
        if (piece.length) yield piece;
      }
    } finally {
      if (!--this.#readers) await this.#rest();
    }
  }

  /** @param {number} begin @param {number} end */
  async #kept(begin, end) {
    const bytes = await this.half?.read(begin, end).catch((cause) => this.#unreadable(cause));
    if (!bytes?.length) return this.#unreadable(new Error('bytes are missing'));
    this.from = begin < this.#before ? 'cache' : 'network';
    return bytes;
  }

  /** @param {Error} cause @returns {Promise<never>} */
  async #unreadable(cause) {
    await this.discard();
    throw new LamellaError('cache', `${this.name}: what was kept of it cannot be read and is forgotten: ${reason(cause)}`, { path: this.name, cause });
  }

  /**
   * Downloads the next piece, if nobody else has meanwhile.
   * @param {number} at
   * @param {number} end
   * @param {AbortSignal | null} [signal]
   * @returns {Promise<Uint8Array | null>} Bytes from `at` on, perhaps none; null at the file's end.
   */
  #advance(at, end, signal) {
    const turn = this.#turn.then(async () => {
      if (this.#at > at) return new Uint8Array(0);
      const begin = this.#at;
      const piece = await this.#next(signal);
      if (!piece) return null;
      this.from = 'network';
      return piece.subarray(Math.min(piece.length, at - begin), Math.max(0, end - begin));
    });
    this.#turn = turn.catch(() => {});
    return turn;
  }

  /** @param {AbortSignal | null} [signal] */
  async #next(signal) {
    if (this.#whole) return null;
    await this.#prepareHash();
    if (!this.#download) {
      const abort = new AbortController();
      this.#download = { abort, pieces: /** @type {HttpSource} */ (this.network).stream(this.#at, undefined, { signal: abort.signal }) };
    }
    let step;
    try {
      step = await abortable(this.#download.pieces.next(), signal);
    } catch (error) {
      this.#stop();
      if (/** @type {any} */ (error)?.changed) await this.discard();
      throw error;
    }
    if (!step.done) await this.#keep(step.value);
    if (step.done && this.size !== undefined && this.#at < this.size) return this.#stop();   // short: the reader says so
    if (step.done || this.#at === this.size) await this.#complete();
    return step.value ?? null;
  }

  /** What was kept of an earlier download is a part of the sum. */
  async #prepareHash() {
    if (this.#hash || !this.wanted) return;
    const hash = sha256();
    for (let at = 0; at < this.#at;) {
      const bytes = await this.#kept(at, Math.min(this.#at, at + PIECE));
      hash.update(bytes);
      at += bytes.length;
    }
    this.#hash = hash;
  }

  /** @param {Uint8Array} piece */
  async #keep(piece) {
    this.#hash?.update(piece);
    await this.half?.append(piece).catch((cause) => this.#giveUp(cause));
    this.#at += piece.length;   // not before it can be read
  }

  /** All bytes are there: they are what they should be, or are thrown away. */
  async #complete() {
    this.#stop();
    this.#whole = true;
    this.size ??= this.#at;
    const got = this.#hash?.hex();
    if (got !== this.wanted) {
      await this.discard();
      throw new LamellaError('checksum', `${this.name}: expected sha256 ${this.wanted}, got ${got}`, { path: this.name });
    }
    try {
      await this.half?.flush();
      if (!this.half) return;
      await this.drawer?.finish();
      await this.drawer?.setNote({ ...this.note, size: this.size, sha256: got, complete: true, time: Date.now() });
    } catch (cause) {
      await this.#giveUp(/** @type {Error} */ (cause));
    }
    this.release();
  }

  /** The disk is full, or the browser allows no more: the rest is not kept, and what was makes room. @param {Error} cause */
  async #giveUp(cause) {
    if (!this.half) return;
    this.half = null;
    this.warn(new LamellaError('cache', `${this.name}: it is not kept (${reason(cause)}); loading goes on without`, { path: this.name, cause }));
    await this.drawer?.remove().catch(() => {});
    this.release();
  }

  /** @returns {null} */
  #stop() {
    this.#download?.abort.abort();
    this.#download?.pieces.return().catch(() => {});
    this.#download = null;
    return null;
  }

  /** Nobody reads: what came is written, and a connection that can be opened again is closed. */
  async #rest() {
    if (this.network?.random) this.#stop();
    await this.half?.flush().catch((cause) => this.#giveUp(cause));
    if (!this.#readers) await this.drawer?.idle();
  }

  /**
   * Downloads what is left, so that the file can be kept and its sum compared.
   * @param {AbortSignal | null} signal
   */
  async finish(signal) {
    if (this.#whole || !(this.half || this.wanted)) return;
    const rest = this.stream(this.#at, undefined, { signal });
    while (!(await rest.next()).done);
    if (this.#whole || this.#at !== this.size) return;
    await this.#prepareHash();   // the last time ended between the last byte and the note of it
    await this.#complete();
  }

  /** Forgets what is kept: it is not what was wanted. */
  async discard() {
    this.half = null;
    await this.drawer?.remove().catch(() => {});
  }

  async close() {
    this.#stop();
    this.network?.close();
    await this.#rest();
    this.release();
  }
}
