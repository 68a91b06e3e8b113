/** The worker's program: bundled into one text by web/build.mjs, started by RemoteRunner. */
import { nodeModule } from '../js/platform.js';
import { serve } from './worker.js';

const port = nodeModule('node:worker_threads')?.parentPort ?? self;
const answer = serve(port);
if (port.on) port.on('message', answer);
else port.onmessage = (/** @type {MessageEvent} */ event) => answer(event.data);
