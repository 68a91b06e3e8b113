/**
 * A model in a worker, the page's side: `RemoteRunner` has a Runner's asynchronous methods. The other side is host-entry.js, a Runner
 * that answers requests. The worker's engine asks for threads with { job }; { thread, started } says what became of one.
 */
import { LamellaError } from '../js/errors.js';
import { Requests, startWorker } from './requests.js';
import { startThread } from './threads.js';

/** @typedef {import('./runner.js').Answer} Answer */
/** @typedef {import('./runner.js').Compiled} Compiled */
/** @typedef {import('./runner.js').MemoryUse} MemoryUse */
/** @typedef {import('./runner.js').Numbers} Numbers */
/** @typedef {import('../js/trace.js').CallArgument} CallArgument */
/** @typedef {import('./requests.js').Request | { thread: number, started: boolean }} Request */

/** A Runner that lives in a worker of its own. */
export class RemoteRunner extends Requests {
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

  /** The worker's engine. */
  engine = { build: '', threads: 0 };
  /** As of the last answer. @type {MemoryUse | undefined} */
  bytes = undefined;
  /** What ends the workers that share the worker's work. @type {(() => void)[]} */
  threads = [];

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

  /** @param {any} message */
  receive(message) {
    if ('job' in message) this.startThread(message.job);
    else this.settle(message);
  }

  /** @param {unknown} error */
  fail(error) {
    for (const end of this.threads.splice(0)) end();
    super.fail(error);
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
    this.end(new LamellaError('disposed', 'the model was disposed'));
  }
}
