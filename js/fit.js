/** Why a model does not fit, and what would. */
import { LamellaError } from './errors.js';

/** @typedef {import('./precision.js').Precision} Precision */
/** @typedef {{ bytes: number, layers: { count: number, bytes: number }[] }} Need Bytes needed, and the layers of experts that are counted in. */

/** @param {number} bytes */
const size = (bytes) => (bytes < 1e6 ? `${Math.round(bytes / 1e3)} kB` : bytes < 1e9 ? `${(bytes / 1e6).toFixed(1)} MB` : `${(bytes / 1e9).toFixed(2)} GB`);

/**
 * @param {object} found
 * @param {number} found.weights Bytes of the weights as asked for.
 * @param {number} found.needed And of a session.
 * @param {number} found.context
 * @param {number} found.room The limit.
 * @param {number} found.used Of it by other models.
 * @param {unknown} found.precision As the user gave it.
 * @param {boolean} found.isStored None was given, and the checkpoint has fewer bits.
 * @param {boolean} found.paged Experts are outside already.
 * @param {(precision: Precision, context: number) => Need} found.measure What another precision needs.
 * @returns {LamellaError & { needed: number, available: number, precision?: Precision }}
 */
export function refusal({ weights, needed, context, room, used, precision, isStored, paged, measure }) {
  const available = Math.max(0, room - used);
  const kind = typeof precision === 'function' ? '' : isStored ? ' in the bits of the checkpoint' : ` as ${precision ?? 'f32'}`;
  const session = context ? ` and a session of ${context} tokens ${size(needed - weights)}` : '';
  const free = used > 1e6 ? `${size(available)} of ${size(room)} are free` : `there are ${size(room)}`;
  const others = (/** @type {Precision[]} */ (['f16', 'q8', 'q4'])).map((other) => ({ other, ...measure(other, context) })).filter(({ bytes }) => bytes < needed);
  const fits = paged ? undefined : others.find(({ bytes }) => bytes <= available);
  const least = others.at(-1) ?? (paged ? undefined : { other: null, ...measure('q4', context) });
  const advice = [];
  if (fits) advice.push(`with precision: '${fits.other}' it is ${size(fits.bytes)}, which fits`);
  else if (paged) advice.push('fewer bits or less memory for the experts might do');
  else advice.push(least?.other ? `with precision: '${least.other}' it is still ${size(least.bytes)}` : 'fewer bits would not make it smaller');
  if (least?.layers.length && !fits) {
    const all = least.layers.reduce((sum, { count, bytes }) => sum + count * bytes, 0);
    const [rest, one] = [least.bytes - all, least.layers.reduce((sum, { bytes }) => sum + bytes, 0)];
    if (rest + one <= available) advice.push(`with experts: { memory: bytes } as well ${size(rest)}, and up to ${size(available - rest)} for experts, of which the others (${size(all)} in all) stay in a file`);
  }
  const error = new LamellaError('memory', `out of memory: the model does not fit: its weights take ${size(weights)}${kind}${session}, ${free}; ${advice.join('; ')}`);
  return Object.assign(error, { needed, available, ...(fits && { precision: fits.other }) });
}
