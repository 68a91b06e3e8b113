/** The worker's side of worker.js, a Runner that answers messages: bundled into one text by web/build.mjs, started by RemoteRunner. */
import { listen, port, reply } from './answers.js';
import { createEngine } from './engine.js';
import { Runner } from './runner.js';

/** @typedef {import('./runner.js').Numbers} Numbers */
/** @typedef {import('./worker.js').Request} Request */
/** @returns {(request: Request) => Promise<void>} What to call with each message. */
function serve() {
  /** @type {Runner | null} */
  let runner = null;
  /** Requests that can be stopped. @type {Map<number, AbortController>} */
  const running = new Map();
  /** Threads that the page was asked for: what to call when one has started, and when it never will. @type {Map<number, (() => void)[]>} */
  const threads = new Map();
  /** Firefox hangs now and then where workers of a worker come and go, so the page starts them. @type {import('./threads.js').StartThread} */
  const startThread = (job, ready, failed) => {
    threads.set(job.thread, [failed, ready]);
    port.postMessage({ job });
    return () => {};
  };

  /**
   * @param {'forward' | 'resume'} name
   * @param {number} session
   * @param {any} given
   * @param {{ abortable: boolean, profile: boolean }} options
   * @param {number} id The request's.
   */
  async function run(name, session, given, { abortable, profile }, id) {
    const controller = abortable ? new AbortController() : null;
    if (controller) running.set(id, controller);
    try {
      return await /** @type {Runner} */ (runner)[name](session, given, { signal: controller?.signal, profile });
    } finally {
      running.delete(id);
    }
  }

  /** @type {Record<string, (...args: any[]) => Promise<any>>} */
  const methods = {
    async start(engineOptions) {
      const engine = await createEngine({ ...engineOptions, startThread });
      runner = new Runner(engine);
      return { build: engine.build, threads: engine.threads };
    },
    forward: (session, inputs, options, id) => run('forward', session, inputs, options, id),
    resume: (session, fills, options, id) => run('resume', session, fills, options, id),
  };
  return async (request) => {
    if ('thread' in request) {
      threads.get(request.thread)?.[Number(request.started)]();
      return;
    }
    const { id } = request;
    if ('abort' in request) {
      running.get(id)?.abort();
      return;
    }
    const { method, args } = request;
    await reply(id, () => (methods[method] ? methods[method](...args, id) : (/** @type {any} */ (runner))[method](...args, id)), (result) => result?.outputs?.map((/** @type {Numbers} */ output) => output.data.buffer) ?? []);
  };
}

listen(serve());
