// Starts the pool's workers. Each has an instance of the same module on the same memory and stays in lam_pool_worker until it
// is terminated. A pool waits for nobody, so workers may come late or, where a page forbids them, not at all.
import { isNode, nodeModule } from '../js/platform.js';

const STACK_BYTES = 128 * 1024;
/** Milliseconds after which the engine is used without the workers that have not started yet. */
const PATIENCE = 2000;

// The worker's program, for browsers and for Node. Imports as in engine.js.
const PROGRAM = `
const port = typeof self === 'object' && typeof self.postMessage === 'function' ? self : require('node:worker_threads').parentPort;
const start = ({ module, memory, pool, thread, stack }) => {
  const env = { memory, clock_milliseconds: () => performance.now(), emscripten_notify_memory_growth() {} };
  const { exports } = new WebAssembly.Instance(module, { env });
  exports.__stack_pointer.value = stack;
  port.postMessage('ready');
  try {
    exports.lam_pool_worker(pool, thread);
  } catch {
    exports.lam_pool_lost(pool);
  }
};
if (port.on) port.once('message', start);
else port.onmessage = (event) => start(event.data);
`;

/** @typedef {{ module: WebAssembly.Module, memory: WebAssembly.Memory, pool: number, thread: number, stack: number }} Job What PROGRAM is told. */
/** @typedef {(job: Job, ready: () => void, failed: () => void) => () => void} StartThread Returns what ends the worker. */
/**
 * @typedef {object} Crew
 * @property {number} ready Workers that are running, so far.
 * @property {number} failed Workers that will never run.
 * @property {() => void} end Ends them all.
 */

/**
 * @param {WebAssembly.Module} module
 * @param {WebAssembly.Memory} memory Shared.
 * @param {Record<string, any>} exports The first instance's.
 * @param {number} pool
 * @param {StartThread} [start] How a worker is started.
 * @returns {Promise<Crew>} When all have started, or failed, or patience is over.
 */
export async function startThreads(module, memory, exports, pool, start = startThread) {
  /** @type {(() => void)[]} */
  const workers = [];
  const crew = { ready: 0, failed: 0, end: () => workers.forEach(end => end()) };
  const starts = [];
  for (let thread = 1; thread < exports.lam_pool_threads(pool); thread++) {
    const stack = exports.lam_alloc(STACK_BYTES) >>> 0;
    if (!stack) break;
    starts.push(new Promise(settle => {
      const ready = () => {
        crew.ready++;
        settle(null);
      };
      const failed = () => {   // a policy that forbids workers: fewer threads
        crew.failed++;
        settle(null);
      };
      try {
        workers.push(start({ module, memory, pool, thread, stack: stack + STACK_BYTES }, ready, failed));
      } catch {
        failed();
      }
    }));
  }
  /** @type {any} */
  let timer;
  await Promise.race([Promise.all(starts), new Promise(resolve => { timer = setTimeout(resolve, PATIENCE); })]);
  clearTimeout(timer);
  return crew;
}

/** @type {StartThread} */
export const startThread = (job, ready, failed) => (isNode ? startInNode : startInBrowser)(job, ready, failed);

/** @type {StartThread} */
function startInBrowser(job, ready, failed) {
  const url = URL.createObjectURL(new Blob([PROGRAM], { type: 'text/javascript' }));
  const worker = new Worker(url, { name: 'lamella' });
  worker.onmessage = () => {
    URL.revokeObjectURL(url);
    ready();
  };
  worker.onerror = failed;
  worker.postMessage(job);
  return () => worker.terminate();
}

/** @type {StartThread} */
function startInNode(job, ready, failed) {
  const { Worker } = nodeModule('node:worker_threads');
  const worker = new Worker(PROGRAM, { eval: true, execArgv: [] });   // without --input-type=module and the like
  worker.unref();   // a process that has nothing else to do exits
  worker.once('message', ready);
  worker.once('error', failed);
  worker.postMessage(job);
  return () => { worker.terminate(); };
}
