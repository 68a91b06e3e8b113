import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';

/** One runtime in a process of its own. Between calls the process is stopped, so that no thread of it can spin. */
export class Contestant {
  #child;
  #pending;

  /**
   * @param {string} label as printed
   * @param {string} name file in runtimes/
   * @param {{ threads?: number }} options of its start()
   */
  constructor(label, name, options) {
    this.label = label;
    this.name = name;
    this.options = options;
    this.threads = options.threads ?? 1;
    this.version = '';
  }

  /** @param {string} node path of the Node to run it */
  async start(node) {
    const path = fileURLToPath(new URL('child.mjs', import.meta.url));
    this.#child = fork(path, { execPath: node, execArgv: [], serialization: 'advanced' });
    this.#child.on('message', ({ result, error }) => error ? this.#pending.reject(new Error(`${this.label}: ${error}`)) : this.#pending.resolve(result));
    this.#child.on('exit', code => this.#pending?.reject(new Error(`${this.label} ended with code ${code}`)));
    this.#child.on('error', error => this.#pending?.reject(error));
    const { version, node: nodeVersion } = await this.#call('start', { name: this.name, options: this.options });
    this.version = version;
    this.node = nodeVersion;
  }

  /** @returns {Promise<Float32Array>} */
  output(job) {
    return this.#call('output', { job });
  }

  /** @returns {Promise<number[]>} milliseconds of each timed run */
  time(job, warm, runs) {
    return this.#call('time', { job, warm, runs });
  }

  stop() {
    this.#pending = undefined;
    this.#child?.kill('SIGKILL');
  }

  async #call(call, values) {
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
}
