// From whatever a user has to a compiled WebAssembly.Module.
import { LamellaError } from '../js/errors.js';
import { nodeModule } from '../js/platform.js';

/** @typedef {'simd' | 'relaxed' | 'simd-threads' | 'relaxed-threads'} BuildName */
/** @typedef {string | URL | Response | BufferSource | WebAssembly.Module} WasmFile */
/** @typedef {WasmFile | Promise<WasmFile>} WasmPromise */
/**
 * Where the engine's file comes from: an address, a Response, the bytes, a compiled module, a promise of one of these, or a
 * function that gets the name of the build that suits this host and returns one of them.
 * @typedef {WasmPromise | ((build: BuildName) => WasmPromise)} WasmSource
 */

/** The package's own files, as text; one import each, so that a bundler makes a chunk of each and a page fetches one. */
const EMBEDDED = {
  simd: () => import('../dist/wasm/simd.js'),
  relaxed: () => import('../dist/wasm/relaxed.js'),
  'simd-threads': () => import('../dist/wasm/simd-threads.js'),
  'relaxed-threads': () => import('../dist/wasm/relaxed-threads.js'),
};

/** @type {readonly BuildName[]} */
export const BUILDS = /** @type {any} */ (Object.keys(EMBEDDED));

/** @type {WasmSource | undefined} */
let files;

/**
 * Makes files the default in place of the embedded texts: what `lamella/external` does.
 * @param {WasmSource} source
 */
export function useFiles(source) {
  files = source;
}

/**
 * @param {BuildName} build
 * @param {WasmSource} [source] Defaults to the package's own.
 * @returns {Promise<WebAssembly.Module>}
 * @throws {LamellaError} 'bad-wasm' when what came is not WebAssembly; 'fetch' when nothing came.
 */
export async function compileWasm(build, source = files) {
  if (source === undefined) return WebAssembly.compile(await unpack((await EMBEDDED[build]()).default));
  let file = await (typeof source === 'function' ? source(build) : source);
  if (typeof file === 'string' || file instanceof URL) file = await read(file);
  if (file instanceof WebAssembly.Module) return file;
  if (file instanceof ArrayBuffer || ArrayBuffer.isView(file)) return compileBytes(/** @type {BufferSource} */ (file), 'the bytes given as wasm');
  if (typeof Response === 'function' && file instanceof Response) return compileResponse(file);
  throw new LamellaError('bad-wasm', `wasm: expected a URL, Response, ArrayBuffer, typed array or WebAssembly.Module, got ${file === null ? 'null' : typeof file}`);
}

/**
 * An embedded text to the build it holds. Its three words are a decoder (web/unpack.c), the build's length and the packed build.
 * @param {string} text
 * @returns {Promise<Uint8Array<ArrayBuffer>>} In the decoder's memory.
 */
export async function unpack(text) {
  const [decoder, length, packed] = text.split(' ');
  const { instance } = await WebAssembly.instantiate(fromBase64(decoder));
  const { memory, unpack: decode } = /** @type {any} */ (instance.exports);
  const from = fromBase64(packed);
  const start = memory.buffer.byteLength;
  memory.grow(Math.ceil((from.length + +length) / 65536));
  new Uint8Array(memory.buffer).set(from, start);
  decode(start, start + from.length, +length);
  return new Uint8Array(memory.buffer, start + from.length, +length);
}

/** @param {string} text */
function fromBase64(text) {
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = binary.charCodeAt(i);
  return bytes;
}

/**
 * @param {string | URL} address An address, or in Node a path.
 * @returns {Promise<Response | BufferSource>}
 */
async function read(address) {
  const fs = nodeModule('node:fs/promises');
  const path = String(address);
  try {
    if (fs && path.startsWith('file:')) return await fs.readFile(new URL(path));
    if (fs && !/^[a-z][a-z+.-]+:/i.test(path)) return await fs.readFile(path);
    return await fetch(address);
  } catch (cause) {
    throw new LamellaError('fetch', `cannot read the engine from ${path}: ${/** @type {Error} */ (cause).message}`, { path, cause });
  }
}

/**
 * @param {Response} response
 * @returns {Promise<WebAssembly.Module>}
 */
async function compileResponse(response) {
  const path = response.url;
  if (!response.ok) throw new LamellaError('fetch', `cannot read the engine from ${path}: HTTP ${response.status} ${response.statusText}`.trim(), { path });
  const mime = response.headers.get('content-type')?.split(';')[0].trim();
  if (mime === 'application/wasm' && WebAssembly.compileStreaming) {
    return WebAssembly.compileStreaming(response).catch((cause) => {
      throw new LamellaError('bad-wasm', `wasm: ${path || 'the response'} is not a WebAssembly module: ${cause.message}`, { path, cause });
    });
  }
  const what = `${path || 'the response'}${mime ? ` (sent as ${mime})` : ''}`;
  return compileBytes(await response.arrayBuffer(), what, path);
}

/**
 * @param {BufferSource} bytes
 * @param {string} what
 * @param {string} [path]
 * @returns {Promise<WebAssembly.Module>}
 */
async function compileBytes(bytes, what, path) {
  const view = ArrayBuffer.isView(bytes) ? new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength) : new Uint8Array(bytes);
  const start = String.fromCharCode(...view.subarray(0, 64));
  if (!start.startsWith('\0asm')) {
    const found = /^\s*<(!doctype|html|\?xml|head|body)/i.test(start) ? 'the server sent HTML' : `it starts with ${JSON.stringify(start.slice(0, 16))}`;
    throw new LamellaError('bad-wasm', `expected a .wasm file in ${what}; ${view.length ? found : 'it is empty'}`, { path });
  }
  try {
    return await WebAssembly.compile(bytes);
  } catch (cause) {
    throw new LamellaError('bad-wasm', `${what} does not compile here: ${/** @type {Error} */ (cause).message}`, { path, cause });
  }
}
