/**
 * Bytes from anywhere: a URL, a path, a File, a Blob, a buffer, a Response. Every source has one primitive, `stream(begin, end)`; those
 * that are `random` take any range, the others (a server without range requests, a stream) only go forward.
 */
import { LamellaError } from '../errors.js';

/**
 * @typedef {string | URL | Blob | ArrayBuffer | SharedArrayBuffer | ArrayBufferView | Response | ReadableStream<Uint8Array>} ByteSource
 */
/**
 * @typedef {object} Source
 * @property {string} name For messages.
 * @property {number | undefined} size Bytes in all; undefined when nobody said.
 * @property {boolean} random Whether ranges may be asked for in any order.
 * @property {(begin: number, end: number) => AsyncGenerator<Uint8Array>} stream Bytes [begin, end), in pieces; fewer when the source ends.
 * @property {() => Promise<void>} close Lets go of files and connections.
 */
/** @typedef {{ signal?: AbortSignal | null, request?: RequestInit }} SourceOptions `request`: further options of fetch, such as headers. */

/** Pieces are at most this long where we choose. */
const PIECE = 1 << 20;
/** What the first request to a server asks for: enough for the header of most checkpoints. */
const FIRST_REQUEST = 1 << 16;
/** Attempts to go on after a connection was cut. */
const RETRIES = 2;

/** @param {unknown} value @returns {value is Blob} */
const isBlob = (value) => typeof Blob !== 'undefined' && value instanceof Blob;
const inNode = () => typeof process !== 'undefined' && Boolean(process.versions?.node);

/**
 * @param {ByteSource} from
 * @param {SourceOptions} [options]
 * @returns {Promise<Source>}
 * @throws {LamellaError} 'source' for something that holds no bytes; 'http', 'html', 'file' when they cannot be had.
 */
export async function openSource(from, { signal = null, request = {} } = {}) {
  signal?.throwIfAborted();
  if (from instanceof ArrayBuffer || (typeof SharedArrayBuffer !== 'undefined' && from instanceof SharedArrayBuffer)) return bufferSource(new Uint8Array(from));
  if (ArrayBuffer.isView(from)) return bufferSource(new Uint8Array(from.buffer, from.byteOffset, from.byteLength));
  if (isBlob(from)) return blobSource(from, signal);
  if (typeof Response !== 'undefined' && from instanceof Response) return responseSource(from, from.url || 'response', signal);
  if (typeof ReadableStream !== 'undefined' && from instanceof ReadableStream) return streamSource(from, 'stream', undefined, signal);
  if (typeof from === 'string' || from instanceof URL) {
    const path = pathOf(from);
    return path === null ? httpSource(String(from), signal, request) : fileSource(path, signal);
  }
  throw new LamellaError('source', `expected a URL, a path, a File, a Blob, bytes or a Response, got ${from === null ? 'null' : typeof from}`);
}

/**
 * The file that a string or URL names in Node, null when it is to be fetched.
 * @param {string | URL} from
 * @returns {string | URL | null}
 */
function pathOf(from) {
  if (!inNode()) return null;
  const text = String(from);
  if (text.startsWith('file:')) return new URL(text);
  return /^[a-z][a-z0-9+.-]+:/i.test(text) ? null : text;   // a single letter is a drive
}

// ---- memory ---------------------------------------------------------------------------------------------------------

/** @param {Uint8Array} bytes @returns {Source} */
function bufferSource(bytes) {
  return {
    name: 'buffer', size: bytes.byteLength, random: true,
    async* stream(begin, end) {
      if (begin < Math.min(end, bytes.byteLength)) yield bytes.subarray(begin, end);
    },
    async close() {},
  };
}

/** @param {Blob} blob @param {AbortSignal | null} signal @returns {Source} */
function blobSource(blob, signal) {
  return {
    name: /** @type {File} */ (blob).name || 'blob', size: blob.size, random: true,
    async* stream(begin, end) {
      for (let at = begin; at < Math.min(end, blob.size); at += PIECE) {
        const piece = await blob.slice(at, Math.min(at + PIECE, end)).arrayBuffer();
        signal?.throwIfAborted();
        yield new Uint8Array(piece);
      }
    },
    async close() {},
  };
}

// ---- files ----------------------------------------------------------------------------------------------------------

/** @param {string | URL} path @param {AbortSignal | null} signal @returns {Promise<Source>} */
async function fileSource(path, signal) {
  const fs = await import(/* webpackIgnore: true */ /* @vite-ignore */ `node:fs/${'promises'}`);
  const name = String(path);
  /** @type {import('node:fs/promises').FileHandle} */
  const file = await fs.open(path).catch((/** @type {Error} */ cause) => {
    throw new LamellaError('file', `${name}: ${cause.message}`, { path: name, cause });
  });
  try {
    const { size } = await file.stat();
    return {
      name, size, random: true,
      async* stream(begin, end) {
        for (let at = begin; at < Math.min(end, size);) {
          const piece = new Uint8Array(Math.min(PIECE, end - at));
          const { bytesRead } = await file.read(piece, 0, piece.byteLength, at);
          signal?.throwIfAborted();
          if (!bytesRead) return;
          yield piece.subarray(0, bytesRead);
          at += bytesRead;
        }
      },
      close: () => file.close(),
    };
  } catch (error) {
    await file.close();
    throw error;
  }
}

// ---- streams --------------------------------------------------------------------------------------------------------

/**
 * What goes forward only.
 * @param {ReadableStream<Uint8Array> | null} body
 * @param {string} name
 * @param {number | undefined} size
 * @param {AbortSignal | null} signal
 * @returns {Source}
 */
function streamSource(body, name, size, signal) {
  const reader = body?.getReader();
  let at = 0;
  /** Read from the stream, not yet asked for. @type {Uint8Array} */
  let rest = new Uint8Array(0);
  let ended = false;
  const abort = () => { reader?.cancel(signal?.reason).catch(() => {}); };
  signal?.addEventListener('abort', abort, { once: true });
  return {
    name, size, random: false,
    async* stream(begin, end) {
      if (begin < at) throw new LamellaError('source', `${name}: cannot go back from byte ${at} to ${begin}`, { path: name });
      while (at < end) {
        if (!rest.byteLength) {
          const { done, value } = ended || !reader ? { done: true, value: undefined } : await reader.read().catch((cause) => {
            signal?.throwIfAborted();
            throw new LamellaError('truncated', `${name}: the connection was cut after ${at}${size === undefined ? '' : ` of ${size}`} bytes`, { path: name, cause });
          });
          signal?.throwIfAborted();
          ended = done;
          if (done) return;
          rest = value ?? rest;
          continue;
        }
        const skip = Math.min(rest.byteLength, Math.max(0, begin - at));
        const take = Math.min(rest.byteLength, end - at);
        const piece = rest.subarray(skip, take);
        rest = rest.subarray(take);
        at += take;
        if (piece.byteLength) yield piece;
      }
    },
    async close() {
      signal?.removeEventListener('abort', abort);
      if (!ended) await reader?.cancel().catch(() => {});
    },
  };
}

/** @param {Response} response @param {string} name @param {AbortSignal | null} signal @returns {Source} */
function responseSource(response, name, signal) {
  if (!response.ok) throw httpError(name, response);
  refuseHtml(name, response);
  return streamSource(response.body, name, lengthOf(response), signal);
}

// ---- HTTP -----------------------------------------------------------------------------------------------------------

/** @param {string} name @param {Response} response */
function httpError(name, { status, statusText }) {
  return new LamellaError('http', `${name}: the server answered ${status}${statusText ? ` ${statusText}` : ''}`, { path: name });
}

/** @param {string} name @param {Response} response */
function refuseHtml(name, response) {
  if (/^text\/html\b/i.test(response.headers.get('content-type') ?? '')) {
    throw new LamellaError('html', `${name}: expected a checkpoint, the server sent an HTML page; is the address right?`, { path: name });
  }
}

/** Bytes of the body as it will arrive; what a compressed answer says of its length is not that. @param {Response} response */
function lengthOf(response) {
  const length = response.headers.get('content-length');
  return length === null || response.headers.get('content-encoding') ? undefined : Number(length);
}

/**
 * The first answer says whether the server does ranges. If not, its body is the file, and is used as it comes.
 * @param {string} url
 * @param {AbortSignal | null} signal
 * @param {RequestInit} request
 * @returns {Promise<Source>}
 */
async function httpSource(url, signal, request) {
  const ask = (/** @type {number} */ begin, /** @type {number} */ end) => fetchRange(url, begin, end, signal, request);
  let first = await ask(0, FIRST_REQUEST);
  if (first.status === 416) first = await fetchRange(url, 0, Infinity, signal, request);   // an empty file, or a server that cannot count
  if (!first.ok) throw await discard(first, httpError(url, first));
  try {
    refuseHtml(url, first);
  } catch (error) {
    throw await discard(first, error);
  }
  const size = Number(/\/(\d+)$/.exec(first.headers.get('content-range') ?? '')?.[1] ?? NaN);
  if (first.status !== 206 || Number.isNaN(size) || first.headers.get('content-encoding')) {
    if (first.status === 206) {
      await discard(first, null);
      first = await fetchRange(url, 0, Infinity, signal, request);
    }
    return responseSource(first, url, signal);
  }
  const head = await first.arrayBuffer().then((buffer) => new Uint8Array(buffer), (cause) => {
    signal?.throwIfAborted();
    throw new LamellaError('truncated', `${url}: the connection was cut in the first bytes of ${size}`, { path: url, cause });
  });
  return rangeSource(url, size, head, ask, signal);
}

/**
 * @param {string} url
 * @param {number} begin
 * @param {number} end Infinity: no range at all.
 * @param {AbortSignal | null} signal
 * @param {RequestInit} request
 */
async function fetchRange(url, begin, end, signal, request) {
  const headers = new Headers(request.headers);
  if (end !== Infinity) headers.set('range', `bytes=${begin}-${end - 1}`);
  return fetch(url, { ...request, headers, signal: signal ?? undefined }).catch((cause) => {
    signal?.throwIfAborted();
    throw new LamellaError('http', `${url}: no answer from the server: ${cause?.cause?.message ?? cause.message}`, { path: url, cause });
  });
}

/** Lets the connection go, then gives the error back to be thrown. @param {Response} response @param {unknown} error */
async function discard(response, error) {
  await response.body?.cancel().catch(() => {});
  return error;
}

/**
 * @param {string} url
 * @param {number} size
 * @param {Uint8Array} head The file's first bytes.
 * @param {(begin: number, end: number) => Promise<Response>} ask
 * @param {AbortSignal | null} signal
 * @returns {Source}
 */
function rangeSource(url, size, head, ask, signal) {
  /** One request; a connection that is cut leaves what came. @param {number} begin @param {number} end */
  async function* body(begin, end) {
    const response = await ask(begin, end);
    if (response.status !== 206) throw await discard(response, httpError(url, response));
    const came = response.headers.get('content-range') ?? '';
    if (!came.startsWith(`bytes ${begin}-`)) throw await discard(response, new LamellaError('http', `${url}: asked for bytes ${begin}-${end - 1}, the server sent ${came || 'something else'}`, { path: url }));
    const reader = /** @type {ReadableStream<Uint8Array>} */ (response.body).getReader();
    try {
      for (let part = await reader.read(); !part.done; part = await reader.read()) yield part.value;
    } finally {
      await reader.cancel().catch(() => {});
    }
  }
  return {
    name: url, size, random: true,
    async* stream(begin, end) {
      const stop = Math.min(end, size);
      let at = begin;
      if (at < Math.min(stop, head.byteLength)) {
        yield head.subarray(at, stop);
        at = Math.min(stop, head.byteLength);
      }
      for (let failures = 0; at < stop;) {
        const before = at;
        /** @type {unknown} */
        let cut = null;
        try {
          for await (const piece of body(at, stop)) {
            const wanted = piece.subarray(0, stop - at);
            at += wanted.byteLength;
            yield wanted;
          }
        } catch (error) {
          signal?.throwIfAborted();
          if (error instanceof LamellaError && failures >= RETRIES) throw error;
          cut = error;
        }
        failures = at > before ? 0 : failures + 1;
        if (at < stop && (failures > RETRIES || (cut === null && at === before))) {
          throw new LamellaError('truncated', `${url}: the connection was cut after ${at} of ${size} bytes`, { path: url, cause: cut ?? undefined });
        }
      }
    },
    async close() {},
  };
}
