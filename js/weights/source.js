/** Everything that bytes can be read from, behind one interface. */
import { abortable } from '../abortable.js';
import { abortSignal, badArgument } from '../arguments.js';
import { LamellaError } from '../errors.js';
import { isNode, nodeModule } from '../platform.js';
import { PIECE, reason } from './bytes.js';
import { openHttp, openResponse, StreamSource } from './http.js';

/** @typedef {import('./bytes.js').Source} Source */
/**
 * A URL (in Node also of a file), a path (in Node), a File or Blob, bytes, a Response, a stream of bytes, a file chosen with
 * `showOpenFilePicker`.
 * @typedef {string | URL | Blob | ArrayBufferLike | ArrayBufferView | Response | ReadableStream<Uint8Array> | AsyncIterable<Uint8Array> | FileSystemFileHandle} SourceLike
 */
/**
 * @typedef {object} SourceOptions
 * @property {AbortSignal | null} [signal]
 * @property {boolean | import('../cache.js').CacheOptions} [cache] Keep what is downloaded, and take it from there the next time.
 * @property {RequestInit} [request] What `fetch` is told: `{ headers: { authorization: ... }, credentials: 'include' }`.
 */

/**
 * @param {SourceLike} like
 * @param {SourceOptions} [options]
 * @param {string} [what] What is to be read, as an error about `like` begins.
 * @returns {Promise<Source>}
 * @throws {LamellaError} 'http', 'html', 'file', 'argument'; or the signal's reason.
 */
export async function openSource(like, { signal = null, request = {}, cache = false } = {}, what = 'weights') {
  abortSignal(`${what}: signal`, signal)?.throwIfAborted();
  const given = /** @type {any} */ (like);
  if (typeof given === 'string' || given instanceof URL) return openAddress(given, { signal, request, cache });
  if (ArrayBuffer.isView(given)) return new BytesSource(new Uint8Array(given.buffer, given.byteOffset, given.byteLength));
  switch (Object.prototype.toString.call(given)) {
    case '[object ArrayBuffer]': case '[object SharedArrayBuffer]': return new BytesSource(new Uint8Array(given));
    case '[object Blob]': case '[object File]': return new BlobSource(given);
    case '[object FileSystemFileHandle]': return new BlobSource(await abortable(given.getFile(), signal));
    case '[object Response]': return openResponse(given);
    case '[object ReadableStream]': return new StreamSource('stream', given);
    default:
  }
  if (given && typeof given[Symbol.asyncIterator] === 'function') return new StreamSource('stream', given);
  throw badArgument(what, `a URL${isNode ? ', a path' : ''}, a File or Blob, bytes, a Response or a stream`, like);
}

/**
 * @param {string | URL} address
 * @param {{ signal: AbortSignal | null, request: RequestInit, cache: boolean | import('../cache.js').CacheOptions }} options
 * @returns {Promise<Source>}
 */
async function openAddress(address, { cache, ...options }) {
  const text = String(address);
  if (isNode && !isRemote(text)) return FileSource.open(text.startsWith('file:') ? nodeModule('node:url').fileURLToPath(text) : text, options);
  const { href } = new URL(text, globalThis.location?.href);
  return cache && href.startsWith('http') ? (await import('../cache/downloads.js')).openCached(href, { ...options, cache }) : openHttp(href, options);
}

/** @param {string} text */
const isRemote = (text) => /^(https?|data|blob):/i.test(text);

/** Bytes in memory; pieces are views of them. @implements {Source} */
class BytesSource {
  name = 'bytes';
  random = true;
  gap = 0;

  /** @param {Uint8Array} bytes */
  constructor(bytes) {
    this.bytes = bytes;
    this.size = bytes.length;
  }

  /**
   * @param {number} begin
   * @param {number} [end]
   */
  async* stream(begin, end = this.size) {
    if (begin < Math.min(end, this.size)) yield this.bytes.subarray(begin, end);
  }

  close() {}
}

/** A File or Blob of the browser or of Node. @implements {Source} */
class BlobSource {
  random = true;
  gap = 0;

  /** @param {Blob} blob */
  constructor(blob) {
    this.blob = blob;
    this.name = /** @type {File} */ (blob).name || 'Blob';
    this.size = blob.size;
  }

  /**
   * @param {number} begin
   * @param {number} [end]
   * @param {{ signal?: AbortSignal | null }} [options]
   * @returns {AsyncGenerator<Uint8Array, void, void>}
   */
  async* stream(begin, end = this.size, { signal } = {}) {
    for (let at = begin; at < Math.min(end, this.size); at += PIECE) {
      signal?.throwIfAborted();
      const part = this.blob.slice(at, Math.min(at + PIECE, end)).arrayBuffer().catch((/** @type {Error} */ cause) => {
        throw new LamellaError('file', `${this.name}: cannot be read: ${reason(cause)}`, { path: this.name, cause });
      });
      yield new Uint8Array(await abortable(part, signal));
    }
  }

  close() {}
}

/**
 * A file in Node. It is open only while somebody reads it, so nobody has to close it.
 * @implements {Source}
 */
class FileSource {
  random = true;
  gap = 64 << 10;

  /**
   * @param {string} path
   * @param {{ signal: AbortSignal | null }} options
   */
  static async open(path, { signal }) {
    const source = new FileSource(path);
    const stat = await abortable(source.try(nodeModule('node:fs/promises').stat(path)), signal);
    if (stat.isDirectory()) throw new LamellaError('file', `${path}: expected a file, got a directory`, { path });
    source.size = stat.size;
    source.modified = stat.mtimeMs;
    return source;
  }

  /** @param {string} path */
  constructor(path) {
    this.name = path;
    this.size = 0;
    this.modified = 0;
  }

  /**
   * @template T
   * @param {Promise<T>} promise
   * @returns {Promise<T>}
   */
  try(promise) {
    return promise.catch((cause) => {
      const why = cause.code === 'ENOENT' ? 'there is no such file' : `cannot be read: ${cause.message}`;
      throw new LamellaError('file', `${this.name}: ${why}`, { path: this.name, cause });
    });
  }

  /**
   * @param {number} begin
   * @param {number} [end]
   * @param {{ signal?: AbortSignal | null }} [options]
   * @returns {AsyncGenerator<Uint8Array, void, void>}
   */
  async* stream(begin, end = this.size, { signal } = {}) {
    if (begin >= end) return;
    const handle = await this.try(nodeModule('node:fs/promises').open(this.name));
    try {
      const stat = await handle.stat();
      if (stat.size !== this.size || stat.mtimeMs !== this.modified) throw new LamellaError('file', `${this.name}: the file has changed since it was opened`, { path: this.name });
      const buffer = new Uint8Array(Math.min(PIECE, end - begin));
      for (let at = begin; at < end;) {
        signal?.throwIfAborted();
        const { bytesRead } = await this.try(handle.read(buffer, 0, Math.min(buffer.length, end - at), at));
        if (!bytesRead) return;
        at += bytesRead;
        yield buffer.subarray(0, bytesRead);
      }
    } finally {
      await handle.close();
    }
  }

  /** @param {string} name */
  neighbour(name) {
    const path = nodeModule('node:path');
    return path.join(path.dirname(this.name), name);
  }

  close() {}
}
