/** The worker's side of worker.js, a Runner that answers messages: bundled into one text by web/build.mjs, started by RemoteRunner. */
import { nodeModule } from '../js/platform.js';
import { createEngine } from './engine.js';
import { Runner } from './runner.js';

/** @typedef {import('./runner.js').Numbers} Numbers */
/** @typedef {import('./worker.js').Request} Request */
/**
 * What a Worker and a worker's own scope have in common, in browsers and in Node.
 * @typedef {object} Port
 * @property {(message: any, transfer?: any[]) => void} postMessage
 */

/**
 * @param {Port} port
 * @returns {(request: Request) => Promise<void>} What to call with each message.
 */
function serve(port) {
  /** @type {Runner | null} */
  let runner = null;
  /** Requests that can be stopped. @type {Map<number, AbortController>} */
  const running = new Map();

  /** @type {Record<string, (...args: any[]) => Promise<any>>} */
  const methods = {
    async start(engineOptions) {
      const engine = await createEngine(engineOptions);
      runner = new Runner(engine);
      return { build: engine.build, threads: engine.threads };
    },
    async forward(session, inputs, { abortable, profile }, id) {
      const controller = abortable ? new AbortController() : null;
      if (controller) running.set(id, controller);
      try {
        return await /** @type {Runner} */ (runner).forward(session, inputs, { signal: controller?.signal, profile });
      } finally {
        running.delete(id);
      }
    },
  };
  return async (request) => {
    const { id } = request;
    if ('abort' in request) {
      running.get(id)?.abort();
      return;
    }
    try {
      const method = methods[request.method] ?? (/** @type {any} */ (runner))[request.method].bind(runner);
      const result = await method(...request.args, id);
      port.postMessage({ id, result }, result?.outputs?.map((/** @type {Numbers} */ output) => output.data.buffer) ?? []);
    } catch (error) {
      const { name, message, code, path } = /** @type {any} */ (error);
      port.postMessage({ id, error: { name, message, code, path } });
    }
  };
}

const port = nodeModule('node:worker_threads')?.parentPort ?? self;
const answer = serve(port);
if (port.on) port.on('message', answer);
else port.onmessage = (/** @type {MessageEvent} */ event) => answer(event.data);
