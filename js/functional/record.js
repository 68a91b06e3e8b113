/** What every function is made of: from arguments to a call to the engine's graph, and back to a tensor. */
import { integer, showShape } from '../arguments.js';
import { SymbolicTensor, Tensor } from '../tensor.js';
import { currentTrace } from '../trace.js';

/** @import { Operand } from '../tensor.js' */
/** @import { LamellaError } from '../errors.js' */

/**
 * Records a layer.
 * @param {string} name
 * @param {(number | readonly number[])[]} args
 * @param {'f32' | 'bool' | 'i32'} [dtype]
 * @returns {SymbolicTensor}
 */
export function record(name, args, dtype = 'f32') {
  const trace = currentTrace(name);
  const value = trace.define(name, ...args);
  return new SymbolicTensor(trace, value, trace.graph.shape(value), dtype);
}

/** The value of a tensor in the graph. @param {Operand} x @param {string} what */
export const value = (x, what) => currentTrace(what).lift(x, what);
/** As value, for an argument that may be left out. @param {Operand | null | undefined} x @param {string} what */
export const optional = (x, what) => currentTrace(what).liftOptional(x, what);

/**
 * The tensor in the graph with its shape, whatever it was.
 * @param {Operand} x
 * @param {string} what
 * @returns {SymbolicTensor}
 */
export function symbolic(x, what) {
  const trace = currentTrace(what);
  const id = trace.lift(x, what);
  if (x instanceof SymbolicTensor) return x;
  return new SymbolicTensor(trace, id, trace.graph.shape(id), x instanceof Tensor && x.dtype === 'bool' ? 'bool' : 'f32');
}

/** @param {string} message @returns {LamellaError} */
export const shapeError = (message) => currentTrace(message).error('shape', message);

/**
 * The tensor in the graph, if its shape is one of the forms that a layer takes. (Sizes that vary between calls are not known here; the
 * engine looks at them in each call.)
 * @param {string} what The layer's name.
 * @param {Operand} x
 * @param {...(number | string)[]} forms A size for each axis, or a letter where any will do: `['n', 3, 'h', 'w']`.
 * @returns {SymbolicTensor}
 */
export function shaped(what, x, ...forms) {
  const input = symbolic(x, `${what}: input`);
  const fits = forms.some((form) => form.length === input.ndim && form.every((size, i) => typeof size === 'string' || input.shape[i] === null || size === input.shape[i]));
  if (fits) return input;
  throw shapeError(`${what}: expected ${forms.map((form) => `[${form.join(', ')}]`).join(' or ')}, got ${showShape(input.shape)}`);
}

/**
 * An axis counted from the front.
 * @param {string} what
 * @param {SymbolicTensor} x
 * @param {unknown} dim Negative counts from the end.
 * @returns {number}
 */
export function axis(what, x, dim) {
  const rank = x.shape.length;
  const index = integer(what, dim);
  if (index >= -rank && index < rank) return index < 0 ? index + rank : index;
  throw shapeError(`${what}: ${index} is outside the ${rank} axes of ${showShape(x.shape)}`);
}
