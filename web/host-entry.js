/** The worker's program: bundled into one text by web/build.mjs, started by RemoteRunner. */
import { serve } from './worker.js';

/** @param {import('./worker.js').Port} port */
function listen(port) {
  const answer = serve(port);
  return answer;
}

if (typeof self !== 'undefined' && typeof self.postMessage === 'function') {
  const answer = listen(/** @type {any} */ (self));
  self.onmessage = (event) => answer(event.data);
} else {
  import('node:worker_threads').then(({ parentPort }) => {
    const port = /** @type {import('node:worker_threads').MessagePort} */ (parentPort);
    port.on('message', listen(/** @type {any} */ (port)));
  });
}
