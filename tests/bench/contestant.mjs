import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';

/**
 * One runtime in a place of its own.
 * @abstract
 */
export class Contestant {
  /**
   * @param {string} label as printed
   * @param {string} name file in runtimes/
   * @param {{ threads?: number, [option: string]: any }} options of its start()
   */
  constructor(label, name, options) {
    this.label = label;
    this.name = name;
    this.options = options;
    this.threads = options.threads ?? 1;
    this.version = '';
  }

  async start() {
    this.version = await this.call('start', { name: this.name, options: this.options });
  }

  /** Makes a job; rejects where the runtime cannot. */
  prepare(job) {
    return this.call('prepare', { job });
  }

  /** Numbers that the runtime measures by itself. */
  figures() {
    return this.call('figures', { name: this.name, options: this.options });
  }

  /** @returns {Promise<any[]>} what model.profile says */
  layers(job) {
    return this.call('layers', { job });
  }

  /** @returns {Promise<Float32Array>} */
  output(job) {
    return this.call('output', { job });
  }

  /** @returns {Promise<number[]>} milliseconds of each timed run */
  time(job, warm, runs) {
    return this.call('time', { job, warm, runs });
  }
}

/** In a process of Node. Between calls the process is stopped, so that no thread of it can spin. */
export class ProcessContestant extends Contestant {
  #child;
  #pending;
  /** @type {Error | undefined} */
  #ended;

  /** @param {string} node path of the Node to run it */
  constructor(label, name, options, node) {
    super(label, name, options);
    const path = fileURLToPath(new URL('child.mjs', import.meta.url));
    // Some of them chat; what matters comes as a message.
    this.#child = fork(path, { execPath: node, execArgv: [], serialization: 'advanced', stdio: ['ignore', 'ignore', 'ignore', 'ipc'] });
    this.#child.on('message', ({ result, error, short }) => {
      if (error) this.#pending.reject(Object.assign(new Error(`${label}: ${error}`), { short }));
      else this.#pending.resolve(result);
    });
    this.#child.on('exit', (code, signal) => {
      this.#ended = new Error(`${label} ended: ${signal ?? `code ${code}`}`);
      this.#pending?.reject(this.#ended);
    });
    this.#child.on('error', error => this.#pending?.reject(error));
  }

  async call(call, values) {
    if (this.#ended) throw this.#ended;
    this.#child.kill('SIGCONT');
    try {
      return await new Promise((resolve, reject) => {
        this.#pending = { resolve, reject };
        this.#child.send({ call, ...values });
      });
    } finally {
      this.#child.kill('SIGSTOP');
    }
  }

  stop() {
    this.#pending = undefined;
    this.#child.kill('SIGKILL');
  }
}
