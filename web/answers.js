/** A worker that answers requests, its own side; requests.js is the page's. */
import { nodeModule } from '../js/platform.js';

/**
 * What a Worker and a worker's own scope have in common, in browsers and in Node.
 * @type {{ postMessage: (message: any, transfer?: any[]) => void, on?: (event: string, listener: (message: any) => void) => void, onmessage?: unknown }}
 */
export const port = nodeModule('node:worker_threads')?.parentPort ?? self;

/** @param {(message: any) => void} answer */
export function listen(answer) {
  if (port.on) port.on('message', answer);
  else port.onmessage = (/** @type {MessageEvent} */ event) => answer(event.data);
}

/**
 * @param {number} id The request's.
 * @param {() => Promise<any>} work
 * @param {(result: any) => Transferable[]} transfer What of the result goes to the page and is no longer here.
 */
export async function reply(id, work, transfer) {
  try {
    const result = await work();
    port.postMessage({ id, result }, transfer(result));
  } catch (error) {
    const { name, message, code, path } = /** @type {any} */ (error);
    port.postMessage({ id, error: { name, message, code, path } });
  }
}
