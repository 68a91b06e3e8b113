/**
 * Loads a build of src/ and makes it callable. This is the whole loader: Emscripten's own JavaScript is not used.
 */
import { integer, show } from '../js/arguments.js';
import { LamellaError } from '../js/errors.js';
import expectedId from '../dist/wasm/id.js';
import { features } from './features.js';
import { startThreads } from './threads.js';
import { BUILDS, compileWasm } from './wasm.js';

/** @typedef {import('./wasm.js').BuildName} BuildName */

const MOST_DEFAULT_THREADS = 4;
const PAGE = 65536;
/** Pages that a shared memory starts with; at least what the linker asks for (-sINITIAL_MEMORY). */
const INITIAL_PAGES = 16;
/** A shared memory reserves its maximum at once, which phones refuse when it is large. */
const MAXIMUM_PAGES = [65536, 32768, 16384, 8192];

/**
 * @param {object} [options]
 * @param {import('./wasm.js').WasmSource} [options.wasm] The engine's file, where the package's own copy is not wanted.
 * @param {BuildName} [options.build] Defaults to the best that runs here.
 * @param {number} [options.threads] Threads that share the work, the caller's included. Defaults to the number of cores, at most 4,
 *   where threads are possible, else 1. Where they are not possible a greater number is quietly 1.
 * @param {import('./threads.js').StartThread} [options.startThread] How a worker is started, where this is one itself.
 * @returns {Promise<Engine>}
 * @throws {LamellaError} 'no-simd' on a host without WebAssembly SIMD; 'unsupported' when it cannot run the build asked for;
 *   'argument'; 'bad-wasm', 'fetch'; 'version' when the file is another version's; 'memory'.
 */
export async function createEngine({ wasm, build, threads, startThread } = {}) {
  const host = features();
  if (!host.simd) throw new LamellaError('no-simd', 'this browser has no WebAssembly SIMD, which the engine needs (Chrome 91, Firefox 89, Safari 16.4, Node 16.4 or newer)');
  if (threads !== undefined) integer('threads', threads, 1);
  const wanted = threads ?? Math.min(MOST_DEFAULT_THREADS, host.cores);
  const module = await compileWasm(build ? checkedBuild(build, host) : bestBuild(host, wanted), wasm);
  const shared = WebAssembly.Module.imports(module).some(({ kind }) => kind === 'memory');
  if (shared && !host.threads) throw new LamellaError('unsupported', 'wasm: this file is a build with threads, which needs a cross-origin isolated page');
  const { memory, most } = shared ? createSharedMemory() : {};
  const engine = new Engine(module, memory, most);
  engine.checkId();
  if (shared && wanted > 1) await engine.startThreads(wanted, startThread);
  return engine;
}

/**
 * @param {ReturnType<typeof features>} host
 * @param {number} threads
 * @returns {BuildName}
 */
function bestBuild(host, threads) {
  return `${host.relaxed ? 'relaxed' : 'simd'}${host.threads && threads > 1 ? '-threads' : ''}`;
}

/**
 * @param {BuildName} build
 * @param {ReturnType<typeof features>} host
 */
function checkedBuild(build, host) {
  if (!BUILDS.includes(build)) throw new LamellaError('argument', `build: expected one of ${BUILDS.join(', ')}, got ${show(build)}`);
  if (build.startsWith('relaxed') && !host.relaxed) throw new LamellaError('unsupported', `build ${build}: this host has no relaxed SIMD`);
  if (build.endsWith('threads') && !host.threads) throw new LamellaError('unsupported', `build ${build}: threads need a cross-origin isolated page`);
  return build;
}

/** @returns {{ memory: WebAssembly.Memory, most: number }} */
function createSharedMemory() {
  let cause;
  for (const maximum of MAXIMUM_PAGES) {
    try {
      return { memory: new WebAssembly.Memory({ initial: INITIAL_PAGES, maximum, shared: true }), most: maximum * PAGE };
    } catch (error) {
      cause = error;
    }
  }
  throw new LamellaError('memory', 'out of memory: no room for the engine', { cause });
}

/** A running instance of the C library. Made by createEngine. */
export class Engine {
  /** @type {Record<string, any>} */
  exports;
  /** @type {WebAssembly.Memory} */
  memory;
  /** The lam_pool to pass to sessions; 0 when there is only the caller's thread. */
  pool = 0;
  /** Called when a call into the engine has trapped. What else runs here may go on, on one thread; nothing new should be begun here. @type {() => void} */
  onTrap = () => {};
  /** @type {import('./threads.js').Crew | null} */
  #crew = null;
  /** @type {Record<string, any>} */
  #raw;
  /** Where the stack begins: a trap leaves it where it was. */
  #stack = 0;
  #u8 = new Uint8Array(0);
  #f32 = new Float32Array(0);
  #i32 = new Int32Array(0);

  /**
   * @param {WebAssembly.Module} module
   * @param {WebAssembly.Memory} [memory] For a build with threads.
   * @param {number} [most] Bytes that the memory may grow to.
   */
  constructor(module, memory, most = MAXIMUM_PAGES[0] * PAGE) {
    this.module = module;
    this.most = most;
    // All that the C library asks of its host. It calls the second after its memory has grown; u8() and f32() look for themselves.
    const env = { clock_milliseconds: () => performance.now(), emscripten_notify_memory_growth() {}, ...(memory && { memory }) };
    try {
      this.#raw = new WebAssembly.Instance(module, { env }).exports;
    } catch (cause) {
      throw new LamellaError('bad-wasm', `wasm: this is not lamella's engine: ${/** @type {Error} */ (cause).message}`, { cause });
    }
    this.exports = Object.fromEntries(Object.entries(this.#raw).map(([name, value]) => [name, typeof value === 'function' ? this.#guarded(value) : value]));
    this.memory = memory ?? this.exports.memory;
    this.#stack = this.#raw.__stack_pointer?.value;
    this.exports._initialize?.();   // the C library's heap
    const [id, flavour] = this.exports.lam_build_id ? this.string(this.exports.lam_build_id()).split(' ') : ['unknown', 'simd'];
    this.id = id;
    /** @type {BuildName} */
    this.build = /** @type {any} */ (`${flavour}${memory ? '-threads' : ''}`);
  }

  /**
   * A function of the engine whose traps, which only a fault of ours or a stack that is too deep can cause, are errors like others.
   * @param {(...args: any[]) => any} call
   * @returns {(...args: any[]) => any}
   */
  #guarded(call) {
    return (...args) => {
      try {
        return call(...args);
      } catch (cause) {
        throw this.#trapped(/** @type {Error} */ (cause));
      }
    };
  }

  /** @param {Error} cause @returns {LamellaError} */
  #trapped(cause) {
    const { __stack_pointer: top, lam_pool_stop: stop } = this.#raw;
    stop?.(this.pool);   // its threads still read what the call had on the stack
    if (top) top.value = this.#stack;
    this.dispose();
    this.onTrap();
    return new LamellaError('trap', `the engine failed (${cause.message}): what was running cannot be used any more`, { cause });
  }

  /** Throws when the file was built from other sources than this JavaScript. */
  checkId() {
    if (this.id === expectedId) return;
    throw new LamellaError('version', `wasm: the file is build ${this.id} of the engine, but this JavaScript belongs to build ${expectedId}; serve the files of one version of lamella`);
  }

  /** @param {number} count @param {import('./threads.js').StartThread} [start] */
  async startThreads(count, start) {
    this.pool = this.exports.lam_pool_new(count) >>> 0;
    if (!this.pool) return;
    this.#crew = await startThreads(this.module, this.memory, this.exports, this.pool, start);
    if (this.#crew.failed < count - 1) return;
    this.exports.lam_pool_free(this.pool);   // nobody will come: do not share the work out
    this.pool = 0;
  }

  /** Threads at work, the caller's included: fewer than asked for where workers were refused or are late. */
  get threads() {
    return 1 + (this.#crew?.ready ?? 0);
  }

  /** All of the engine's memory; valid until the next call into it. */
  u8() {
    if (this.#u8.buffer !== this.memory.buffer) this.#u8 = new Uint8Array(this.memory.buffer);
    return this.#u8;
  }

  /** The same as floats: element i is at address 4 i. */
  f32() {
    if (this.#f32.buffer !== this.memory.buffer) this.#f32 = new Float32Array(this.memory.buffer);
    return this.#f32;
  }

  /** The same as whole numbers. */
  i32() {
    if (this.#i32.buffer !== this.memory.buffer) this.#i32 = new Int32Array(this.memory.buffer);
    return this.#i32;
  }

  /**
   * A copy of the text at an address.
   * @param {number} pointer
   * @returns {string}
   */
  string(pointer) {
    const bytes = this.u8();
    const start = pointer >>> 0;
    return new TextDecoder().decode(bytes.slice(start, bytes.indexOf(0, start)));   // a copy: decoders refuse shared memory
  }

  /** Ends the workers. Everything else is the garbage collector's, once nobody holds the engine. */
  dispose() {
    this.#crew?.end();
    this.#crew = null;
  }
}
