/** Pictures prepared by a worker, one for all of the page. */
import { abortable } from '../abortable.js';
import { isNode } from '../platform.js';
import { Requests, startWorker } from '../../web/requests.js';
import { decode } from './prepare.js';

/** @typedef {import('./resample.js').Pixels} Pixels */
/** @typedef {import('./prepare.js').Found} Found */
/** @typedef {import('./pictures.js').Settings} Settings */

/** Fewer pixels than this are resized sooner than a worker is told of them. */
const LEAST = 1 << 16;
/** Milliseconds without a picture after which the worker ends. */
const IDLE = 10_000;

/** @type {Promise<Requests> | null} */
let worker = null;
/** Whether one failed: then the page may not have any. */
let failed = false;
let busy = 0;
/** @type {any} */
let idle;

/**
 * @param {Found} found
 * @param {Settings} settings
 * @returns {Promise<Pixels | null>} null where a worker could not do it or should not, or the signal came; what was `own` may be gone.
 */
export async function prepareApart(found, { signal, ...settings }) {
  if (failed || (!isNode && typeof document === 'undefined')) return null;   // Firefox hangs now and then where workers of a worker come and go
  if (!('pixels' in found) && typeof OffscreenCanvas !== 'function') found = { pixels: await decode(found, settings), own: true };
  if ('pixels' in found && found.pixels.width * found.pixels.height < LEAST) return null;
  clearTimeout(idle);
  busy++;
  try {
    return await abortable(request(found, settings), signal);
  } catch {
    return null;   // the page says what is wrong
  } finally {
    if (!--busy) idle = later(rest, IDLE);
  }
}

/** @param {Found} found @param {Omit<Settings, 'signal'>} settings */
async function request(found, settings) {
  const mine = worker ??= import('../../dist/picture-host.js').then(({ default: source }) => new Requests(startWorker(source)));
  const requests = await mine;
  try {
    return await requests.request('prepare', [found, settings], { transfer: movable(found) });
  } finally {
    failed ||= requests.gone !== null && worker === mine;
  }
}

/** @param {Found} found @returns {Transferable[]} */
function movable(found) {
  if ('bitmap' in found) return [found.bitmap];
  return 'pixels' in found && found.own ? [/** @type {ArrayBuffer} */ (found.pixels.data.buffer)] : [];
}

/** @param {() => void} task @param {number} milliseconds */
function later(task, milliseconds) {
  const timer = /** @type {any} */ (setTimeout(task, milliseconds));
  timer.unref?.();   // Node may exit before
  return timer;
}

async function rest() {
  const ended = worker;
  worker = null;
  (await ended?.catch(() => null))?.end(new Error('it had nothing to do'));
}
