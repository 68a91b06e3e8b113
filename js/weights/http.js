/** Bytes from a server: any part by range requests where it knows them, one stream from front to back otherwise. */
import { abortable } from '../abortable.js';
import { show } from '../arguments.js';
import { LamellaError } from '../errors.js';
import { reason, truncated } from './bytes.js';

/** @typedef {import('./bytes.js').Source} Source */
/** @typedef {{ signal?: AbortSignal | null, request?: RequestInit }} HttpOptions */
/** @typedef {{ etag: string | null, modified: string | null, sha256: string | undefined, redirected: boolean }} Version What a server says about a file; sha256 where it is Hugging Face's. */
/** @typedef {(RangeSource | StreamSource) & { version: Version }} HttpSource */

/** The first request asks for this much: the header of most checkpoints, and the whole of a small one. */
const PROBE = 256 << 10;
/** On a line of 100 Mbit/s with 40 ms of latency a request costs as much as half a megabyte. */
const GAP = 512 << 10;
/** How often the rest is asked for again after a connection is lost without much having come. */
const RETRIES = 2;
const RETRY_DELAY = 300;

/**
 * @param {string} url
 * @param {HttpOptions} options
 * @returns {Promise<HttpSource>}
 * @throws {LamellaError} 'http' when it cannot be fetched, 'html' when a page comes instead.
 */
export async function openHttp(url, { signal, request }) {
  const response = await get(url, { signal, request, range: `bytes=0-${PROBE - 1}` });
  if (response.status !== 206) return fromFront(url, response, request);
  const range = contentRange(response);
  if (isEncoded(response) || (range && range.begin !== 0)) {
    drop(response);
    return fromFront(url, await get(url, { signal, request }), request);
  }
  // Where the connection breaks this early the header is asked for again, with what is read first.
  const head = new Uint8Array(await response.arrayBuffer().catch(() => new ArrayBuffer(0)));
  signal?.throwIfAborted();
  // Other sites' Content-Range is hidden unless they expose it; a short answer still tells the size.
  const size = range?.size ?? (head.length && head.length < PROBE ? head.length : undefined);
  return new RangeSource(url, { head, size, version: versionOf(response), request });
}

/**
 * A Response that the caller has made.
 * @param {Response} response
 * @returns {Source}
 */
export function openResponse(response) {
  const name = response.url || 'Response';
  check(name, response);
  if (!response.body || response.bodyUsed) throw new LamellaError('http', `${name}: the body of the Response has been read already`, { path: name });
  return new StreamSource(name, response.body, { size: bodySize(response) });
}

/**
 * @param {string} url
 * @param {Response} response
 * @param {RequestInit} [request]
 * @returns {HttpSource}
 */
function fromFront(url, response, request) {
  const reopen = async (/** @type {AbortSignal | null | undefined} */ signal) => bodyOf(await get(url, { signal, request }));
  const source = new StreamSource(url, bodyOf(response), { size: bodySize(response), reopen });
  return Object.assign(source, { from: /** @type {'network'} */ ('network'), version: versionOf(response), neighbour: (/** @type {string} */ name) => beside(url, name) });
}

/** @param {Response} response @returns {Version} */
export function versionOf({ headers, redirected }) {
  return {
    etag: headers.get('etag'), modified: headers.get('last-modified'), redirected,
    sha256: /^"?([0-9a-f]{64})"?$/.exec(headers.get('x-linked-etag') ?? '')?.[1],
  };
}

/**
 * @param {string} url
 * @param {string} name Parts separated by '/'.
 */
export const beside = (url, name) => new URL(name.split('/').map(encodeURIComponent).join('/'), url).href;

/** @param {Response} response */
const bodyOf = (response) => response.body ?? new ReadableStream({ start: (controller) => controller.close() });

/**
 * @param {string} url
 * @param {HttpOptions & { range?: string }} options
 * @returns {Promise<Response>} With status 200 or 206 and no page in it.
 */
async function get(url, { signal, request, range }) {
  const headers = new Headers(request?.headers);
  if (range) headers.set('range', range);
  let response;
  try {
    response = await fetch(url, { ...request, headers, signal });
  } catch (cause) {
    signal?.throwIfAborted();
    const hint = typeof document === 'undefined' ? '' : ' (no connection, or that server does not let pages of other sites read it: CORS)';
    throw new LamellaError('http', `${url}: cannot be fetched: ${reason(/** @type {Error} */ (cause))}${hint}`, { path: url, cause });
  }
  check(url, response, range);
  return response;
}

/**
 * @param {string} name
 * @param {Response} response
 * @param {string} [range]
 */
function check(name, response, range) {
  const type = response.headers.get('content-type') ?? '';
  if (!response.ok || response.status === 204) {
    drop(response);
    const total = response.headers.get('content-range')?.split('/')[1];
    const detail = response.status === 416 ? ` for ${range}${total ? `: the file has ${total} bytes` : ''}` : '';
    throw new LamellaError('http', `${name}: the server answered ${`${response.status} ${response.statusText}`.trim()}${detail}`, { path: name });
  }
  if (/^text\/html\b/i.test(type)) {
    drop(response);
    throw new LamellaError('html', `${name}: expected weights, got an HTML page (content type ${type})`, { path: name });
  }
}

/** @param {Response} response */
function drop(response) {
  response.body?.cancel().catch(() => {});
}

/** @param {Response} response */
const isEncoded = (response) => !['', 'identity'].includes(response.headers.get('content-encoding')?.trim() ?? '');

/**
 * @param {Response} response
 * @returns {number | undefined} Bytes of the body, where the header tells them for sure: it counts them as sent, that is compressed,
 *   and another site's Content-Encoding may be hidden.
 */
function bodySize(response) {
  const length = response.headers.get('content-length');
  return length === null || isEncoded(response) || response.type === 'cors' ? undefined : Number(length);
}

/**
 * @param {Response} response
 * @returns {{ begin: number, size: number | undefined } | null}
 */
function contentRange(response) {
  const found = /^bytes (\d+)-\d+\/(\d+|\*)$/.exec(response.headers.get('content-range') ?? '');
  return found && { begin: Number(found[1]), size: found[2] === '*' ? undefined : Number(found[2]) };
}

/** A file on a server that answers range requests. @implements {Source} */
class RangeSource {
  random = true;
  /** @type {'network'} */
  from = 'network';
  gap = GAP;

  /**
   * @param {string} url
   * @param {{ head: Uint8Array, size: number | undefined, version: Version, request?: RequestInit }} known
   */
  constructor(url, { head, size, version, request }) {
    this.name = url;
    this.head = head;
    this.size = size;
    this.version = version;
    this.request = request;
  }

  /**
   * @param {number} begin
   * @param {number} [end]
   * @param {{ signal?: AbortSignal | null }} [options]
   * @returns {AsyncGenerator<Uint8Array, void, void>}
   */
  async* stream(begin, end = Infinity, { signal } = {}) {
    signal?.throwIfAborted();
    let at = begin;
    if (at < Math.min(end, this.head.length)) {
      yield this.head.subarray(at, end);
      at = Math.min(end, this.head.length);
    }
    end = Math.min(end, this.size ?? Infinity);
    let failures = 0;
    for (let from = at; at < end; from = at) {
      /** @type {unknown} */
      let cause;
      try {
        for await (const piece of this.part(at, end, signal)) {
          at += piece.length;
          yield piece;
        }
        if (end === Infinity) return;
      } catch (error) {
        signal?.throwIfAborted();
        if (error instanceof LamellaError && !(error.cause instanceof TypeError)) throw error;
        cause = error;
      }
      if (at >= end) return;
      failures = at - from > PROBE ? 1 : failures + 1;
      if (failures > RETRIES) throw truncated(this.name, begin, end, at, cause);
      await abortable(new Promise((resolve) => { setTimeout(resolve, RETRY_DELAY * failures); }), signal);
    }
  }

  /**
   * One request. Ends early or throws where the connection does.
   * @param {number} begin
   * @param {number} end
   * @param {AbortSignal | null} [signal]
   */
  async* part(begin, end, signal) {
    const response = await get(this.name, { signal, request: this.request, range: `bytes=${begin}-${end === Infinity ? '' : end - 1}` });
    const range = contentRange(response);
    const { etag, modified } = versionOf(response);
    const { version } = this;
    const different = version.etag && etag ? version.etag !== etag : version.modified && modified && version.modified !== modified;
    const changed = Boolean(different || (range?.size !== undefined && this.size !== undefined && range.size !== this.size));
    if (changed || (range && range.begin !== begin)) {
      drop(response);
      const what = changed ? 'the file has changed on the server while it was read' : `asked for bytes from ${begin} on, the server sent those from ${range?.begin}`;
      throw Object.assign(new LamellaError('http', `${this.name}: ${what}`, { path: this.name }), { changed });
    }
    // A cache on the way may answer with the whole file after all.
    const cursor = new Cursor(bodyOf(response), response.status === 206 ? begin : 0);
    try {
      yield* cursor.pieces(this.name, begin, end, signal);
    } finally {
      cursor.cancel();
    }
  }

  /** @param {string} name */
  neighbour(name) {
    return beside(this.name, name);
  }

  close() {}
}

/** Bytes that come once, in order. @implements {Source} */
export class StreamSource {
  random = false;
  gap = Infinity;

  /**
   * @param {string} name
   * @param {ReadableStream<Uint8Array> | AsyncIterable<Uint8Array>} body
   * @param {{ size?: number, reopen?: (signal?: AbortSignal | null) => Promise<ReadableStream<Uint8Array>> }} [options] `reopen` begins
   *   anew, where that is possible: needed only when bytes are wanted that have gone by.
   */
  constructor(name, body, { size, reopen } = {}) {
    this.name = name;
    this.size = size;
    this.reopen = reopen;
    /** @type {Cursor | null} */
    this.cursor = new Cursor(body, 0);
  }

  /**
   * @param {number} begin
   * @param {number} [end]
   * @param {{ signal?: AbortSignal | null }} [options]
   * @returns {AsyncGenerator<Uint8Array, void, void>}
   */
  async* stream(begin, end, { signal } = {}) {
    signal?.throwIfAborted();
    const cursor = await this.take(begin, signal);
    let usable = true;
    try {
      yield* cursor.pieces(this.name, begin, end ?? Infinity, signal);
    } catch (error) {
      usable = false;
      signal?.throwIfAborted();
      if (error instanceof LamellaError) throw error;
      throw truncated(this.name, begin, end ?? this.size ?? cursor.at, cursor.at, error);
    } finally {
      if (usable && !this.cursor) this.cursor = cursor;
      else cursor.cancel();
    }
  }

  /**
   * @param {number} begin
   * @param {AbortSignal | null} [signal]
   * @returns {Promise<Cursor>} Nobody else has it.
   */
  async take(begin, signal) {
    const { cursor } = this;
    if (cursor && cursor.at <= begin) {
      this.cursor = null;
      return cursor;
    }
    if (this.reopen) return new Cursor(await this.reopen(signal), 0);
    throw new LamellaError('file', `${this.name}: byte ${begin} has gone by; a stream can be read once, in order`, { path: this.name });
  }

  close() {
    this.cursor?.cancel();
    this.cursor = null;
    this.reopen = undefined;
  }
}

/** A place in a body. */
class Cursor {
  /** What of the last piece nobody has taken. @type {Uint8Array} */
  #rest = new Uint8Array(0);

  /**
   * @param {ReadableStream<Uint8Array> | AsyncIterable<Uint8Array>} body
   * @param {number} at The position of its first byte in the file.
   */
  constructor(body, at) {
    this.at = at;
    if (typeof (/** @type {any} */ (body).getReader) === 'function') {
      // Safari's streams are not iterable.
      const reader = /** @type {ReadableStream<Uint8Array>} */ (body).getReader();
      this.next = () => reader.read();
      this.end = () => reader.cancel();
    } else {
      const iterator = /** @type {AsyncIterable<Uint8Array>} */ (body)[Symbol.asyncIterator]();
      this.next = () => iterator.next();
      this.end = () => iterator.return?.();
    }
  }

  /**
   * @param {string} name For errors.
   * @param {number} begin
   * @param {number} end
   * @param {AbortSignal | null} [signal]
   * @returns {AsyncGenerator<Uint8Array, void, void>}
   */
  async* pieces(name, begin, end, signal) {
    while (this.at < end) {
      if (!this.#rest.length) {
        const { value, done } = await abortable(this.next(), signal);
        if (done) return;
        if (!ArrayBuffer.isView(value)) throw new LamellaError('argument', `${name}: expected a stream of bytes, got one of ${show(value)}`, { path: name });
        // Node's Buffers would make views of what should be copies.
        this.#rest = new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
      }
      const piece = this.#rest.subarray(0, end - this.at);
      this.#rest = this.#rest.subarray(piece.length);
      const skipped = Math.min(piece.length, Math.max(0, begin - this.at));
      this.at += piece.length;
      if (skipped < piece.length) yield piece.subarray(skipped);
    }
  }

  cancel() {
    Promise.resolve(this.end()).catch(() => {});
  }
}
