/**
 * A model in a worker, the page's side: `RemoteRunner` has a Runner's asynchronous methods. The other side is host-entry.js, a Runner
 * that answers messages. A request is { id, method, args }, an answer { id, result } or { id, error }; { id, abort } stops a request.
 * The worker's engine asks for threads with { job }; { thread, started } says what became of one.
 */
import { LamellaError } from '../js/errors.js';
import { nodeModule } from '../js/platform.js';
import { startThread } from './threads.js';

/** @typedef {import('./runner.js').Answer} Answer */
/** @typedef {import('./runner.js').Compiled} Compiled */
/** @typedef {import('./runner.js').MemoryUse} MemoryUse */
/** @typedef {import('./runner.js').Numbers} Numbers */
/** @typedef {import('../js/trace.js').CallArgument} CallArgument */
/** @typedef {{ id: number, method: string, args: any[] } | { id: number, abort: true } | { thread: number, started: boolean }} Request */
/** @typedef {{ id: number, result?: any, error?: SentError }} Reply */
/** @typedef {{ name: string, message: string, code?: string, path?: string }} SentError */

/** A Runner that lives in a worker of its own. */
export class RemoteRunner {
  /**
   * @param {string} source The worker's program.
   * @param {object} engineOptions For createEngine in the worker.
   * @returns {Promise<RemoteRunner>}
   */
  static async start(source, engineOptions) {
    const remote = new RemoteRunner(startWorker(source));
    try {
      remote.engine = await remote.request('start', [engineOptions]);
    } catch (error) {
      remote.dispose();
      throw error;
    }
    return remote;
  }

  /** @param {StartedWorker} worker */
  constructor(worker) {
    this.worker = worker;
    /** The worker's engine. @type {{ build: string, threads: number }} */
    this.engine = { build: '', threads: 0 };
    this.next = 0;
    /** @type {Map<number, { resolve: (result: any) => void, reject: (error: unknown) => void }>} */
    this.waiting = new Map();
    /** Why there is no worker any more. @type {unknown} */
    this.gone = null;
    /** As of the last answer. @type {MemoryUse | undefined} */
    this.bytes = undefined;
    /** What ends the workers that share the worker's work. @type {(() => void)[]} */
    this.threads = [];
    worker.listen((message) => ('job' in message ? this.startThread(message.job) : this.settle(message)), (error) => this.fail(error));
  }

  /** @param {import('./threads.js').Job} job */
  startThread(job) {
    if (this.gone) return;
    const tell = (/** @type {boolean} */ started) => this.worker.post({ thread: job.thread, started });
    try {
      this.threads.push(startThread(job, () => tell(true), () => tell(false)));
    } catch {
      tell(false);
    }
  }

  /**
   * @param {string} method
   * @param {any[]} args
   * @param {{ transfer?: Transferable[], signal?: AbortSignal | null }} [options]
   * @returns {Promise<any>}
   */
  request(method, args, { transfer = [], signal = null } = {}) {
    if (this.gone) return Promise.reject(this.gone);
    const id = this.next++;
    const abort = () => this.worker.post({ id, abort: true });
    signal?.addEventListener('abort', abort, { once: true });
    const answer = new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, reject });
      this.worker.keepAlive(true);
      try {
        this.worker.post({ id, method, args }, transfer);
      } catch (error) {
        this.waiting.delete(id);
        this.worker.keepAlive(this.waiting.size > 0);
        reject(error);
      }
    });
    return answer.finally(() => signal?.removeEventListener('abort', abort));
  }

  /** @param {Reply} reply */
  settle({ id, result, error }) {
    const waiting = this.waiting.get(id);
    this.waiting.delete(id);
    this.worker.keepAlive(this.waiting.size > 0);
    if (error) waiting?.reject(received(error));
    else waiting?.resolve(result);
  }

  /** The worker is gone. @param {unknown} error */
  fail(error) {
    this.gone ??= error;
    for (const end of this.threads.splice(0)) end();
    const waiting = [...this.waiting.values()];
    this.waiting.clear();
    for (const { reject } of waiting) reject(error);
  }

  /** @param {[string, readonly CallArgument[]][]} calls */
  replay(calls) {
    return this.request('replay', [calls]);
  }

  /** @returns {Promise<Compiled>} */
  async compile() {
    const compiled = await this.request('compile', []);
    this.bytes = compiled.bytes;
    return compiled;
  }

  /** @param {number[]} slots @returns {Promise<void>} */
  setSlots(slots) {
    return this.request('setSlots', [slots]);
  }

  /**
   * @param {number} weight
   * @param {number} type
   * @param {Uint8Array} data
   * @param {number} first
   * @param {number} rows
   */
  load(weight, type, data, first, rows) {
    const copy = data.slice();   // the caller goes on using its buffer
    return this.request('load', [weight, type, copy, first, rows], { transfer: [copy.buffer] });
  }

  async loaded() {
    this.bytes = await this.request('loaded', []);
    return this.bytes;
  }

  /** @param {{ inputs: import('./runner.js').Range, outputs: import('./runner.js').Range, context?: number, cache?: number }} session @returns {Promise<number>} */
  open(session) {
    return this.request('open', [session]);
  }

  /** @param {number} id */
  async close(id) {
    this.bytes = await this.request('close', [id]);
  }

  /** @param {number} id @param {number} position */
  seek(id, position) {
    return this.request('seek', [id, position]);
  }

  /**
   * @param {number} session
   * @param {Numbers[]} inputs
   * @param {{ signal?: AbortSignal | null, profile?: boolean }} [options]
   * @returns {Promise<Answer>}
   */
  forward(session, inputs, options) {
    return this.run('forward', [session, inputs], [], options);
  }

  /**
   * @param {number} session
   * @param {import('./runner.js').Fills} fills
   * @param {{ signal?: AbortSignal | null, profile?: boolean }} [options]
   * @returns {Promise<Answer>}
   */
  resume(session, fills, options) {
    return this.run('resume', [session, fills], fills.map(([, , , bytes]) => /** @type {ArrayBuffer} */ (bytes.buffer)), options);
  }

  /**
   * @param {string} method
   * @param {any[]} args
   * @param {Transferable[]} transfer
   * @param {{ signal?: AbortSignal | null, profile?: boolean }} [options]
   * @returns {Promise<Answer>}
   */
  async run(method, args, transfer, { signal = null, profile = false } = {}) {
    try {
      const answer = await this.request(method, [...args, { abortable: signal !== null, profile }], { signal, transfer });
      this.bytes = answer.bytes;
      return answer;
    } catch (error) {
      if (signal?.aborted && !(error instanceof LamellaError)) throw signal.reason;
      throw error;
    }
  }

  /**
   * @param {{ inputs: import('./runner.js').Range, outputs: import('./runner.js').Range }} session
   * @param {number[][]} shapes
   * @returns {ReturnType<import('./runner.js').Runner['plan']>}
   */
  plan(session, shapes) {
    return this.request('plan', [session, shapes]);
  }

  /** Ends the worker, and with it everything it holds. */
  dispose() {
    this.worker.end();
    this.fail(new LamellaError('disposed', 'the model was disposed'));
  }
}

/**
 * @param {SentError} error
 * @returns {Error}
 */
function received({ name, message, code, path }) {
  if (name === 'LamellaError') return new LamellaError(/** @type {string} */ (code), message, { path });
  return Object.assign(new Error(message), { name });
}

/**
 * @typedef {object} StartedWorker
 * @property {(message: any, transfer?: any[]) => void} post
 * @property {(reply: (message: any) => void, fail: (error: unknown) => void) => void} listen
 * @property {(busy: boolean) => void} keepAlive Node exits when no worker is busy.
 * @property {() => void} end
 */

/**
 * A worker from its source text, so that no bundler and no server has to know of a file.
 * @param {string} source
 * @returns {StartedWorker}
 */
function startWorker(source) {
  const failed = (/** @type {unknown} */ cause) => new LamellaError('worker', `the worker failed: ${/** @type {any} */ (cause)?.message ?? 'it could not be started (a content security policy must allow worker-src blob:)'}`, { cause });
  const threads = nodeModule('node:worker_threads');
  if (threads) {
    const worker = new threads.Worker(source, { eval: true });
    return {
      post: (message, transfer) => worker.postMessage(message, transfer),
      listen(reply, fail) {
        worker.on('message', reply);
        worker.on('error', (/** @type {unknown} */ error) => fail(failed(error)));
        worker.on('exit', (/** @type {number} */ code) => fail(failed(new Error(`it ended with code ${code}`))));
      },
      keepAlive: (busy) => (busy ? worker.ref() : worker.unref()),
      end: () => { worker.terminate(); },
    };
  }
  const url = URL.createObjectURL(new Blob([source], { type: 'text/javascript' }));
  const worker = new Worker(url, { name: 'lamella' });
  return {
    post: (message, transfer = []) => worker.postMessage(message, transfer),
    listen(reply, fail) {
      worker.onmessage = (event) => {
        URL.revokeObjectURL(url);
        reply(event.data);
      };
      worker.onerror = (event) => fail(failed(event));
      worker.onmessageerror = (event) => fail(failed(event));
    },
    keepAlive() {},
    end: () => {
      URL.revokeObjectURL(url);
      worker.terminate();
    },
  };
}
