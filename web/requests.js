/**
 * A worker that answers requests, the page's side; answers.js is the other. A request is { id, method, args }, an answer { id, result } or { id, error };
 * { id, abort } stops a request.
 */
import { LamellaError } from '../js/errors.js';
import { nodeModule } from '../js/platform.js';

/** @typedef {{ id: number, method: string, args: any[] } | { id: number, abort: true }} Request */
/** @typedef {{ id: number, result?: any, error?: SentError }} Reply */
/** @typedef {{ name: string, message: string, code?: string, path?: string }} SentError */

export class Requests {
  /** @param {StartedWorker} worker */
  constructor(worker) {
    this.worker = worker;
    this.next = 0;
    /** @type {Map<number, { resolve: (result: any) => void, reject: (error: unknown) => void }>} */
    this.waiting = new Map();
    /** Why there is no worker any more. @type {unknown} */
    this.gone = null;
    worker.listen((message) => this.receive(message), (error) => this.fail(error));
  }

  /** @param {any} message */
  receive(message) {
    this.settle(message);
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
    const waiting = [...this.waiting.values()];
    this.waiting.clear();
    for (const { reject } of waiting) reject(error);
  }

  /** Ends the worker, and with it everything it holds. @param {unknown} reason */
  end(reason) {
    this.worker.end();
    this.fail(reason);
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
export function startWorker(source) {
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
