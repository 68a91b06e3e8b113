/** What `forward` accepts, and how it becomes numbers of the declared shape. */
import { badArgument, integer, showShape } from './arguments.js';
import { LamellaError } from './errors.js';
import { toTensor } from './image.js';
import { Tensor, toFloat32 } from './tensor.js';

/** @typedef {import('./tensor.js').TensorData} TensorData */
/** @typedef {import('../web/runner.js').Numbers} Numbers */
/**
 * An argument of forward: its shape, null where a size varies; or shape and dtype, 'bool' for a mask of attention, 'i32' for whole
 * numbers such as token ids. `limit`: an axis that varies is no longer than this, which the module calls by that name. `rows`, of the last one: which rows of
 * the output are to be made, numbers into the first input [b, t] as one list; left out in a call, all of them. A session's `next` asks for the last.
 * @typedef {readonly (number | null)[] | { shape: readonly (number | null)[], dtype?: InputDtype, limit?: Limit | null, rows?: boolean }} DeclaredInput
 */
/** @typedef {{ axis: number, size: number, name: string }} Limit */
/** @typedef {'f32' | 'bool' | 'i32'} InputDtype */
/** @typedef {{ shape: (number | null)[], dtype: InputDtype, limit: Limit | null, rows: boolean }} InputSpec */
/** @typedef {Tensor | TensorData | number | boolean | readonly unknown[] | object} ModelInput A Tensor, numbers, or a picture. */

/**
 * Declared inputs as a list of shapes and dtypes.
 * @param {string} where 'compile: inputs', as errors begin.
 * @param {unknown} declared
 * @returns {InputSpec[]}
 */
export function inputSpecs(where, declared) {
  if (!Array.isArray(declared)) {
    const hint = declared === undefined ? ' (the module has no `inputs` of its own)' : '';
    throw badArgument(where, `an array with the shape of each argument of forward, [[null, 3, 224, 224]]${hint}`, declared);
  }
  return declared.map((input, i) => {
    const what = `${where}[${i}]`;
    const { shape, dtype = 'f32', limit = null, rows = false } = Array.isArray(input) ? { shape: input } : input ?? {};
    if (!Array.isArray(shape)) throw badArgument(what, 'a shape, [null, 3, 224, 224], or { shape, dtype }', input);
    if (dtype !== 'f32' && dtype !== 'bool' && dtype !== 'i32') throw badArgument(`${what}: dtype`, "'f32', 'i32' or 'bool'", dtype);
    return { shape: shape.map((size, axis) => (size === null ? null : integer(`${what}[${axis}]`, size, 0))), dtype, limit, rows };
  });
}

/**
 * One input of forward as numbers.
 * @param {string} what 'forward: input 0', as its errors begin.
 * @param {InputSpec} spec
 * @param {any} input
 * @param {object | undefined} preprocess What image.toTensor is told about pictures.
 * @param {{ signal?: AbortSignal | null, worker?: boolean }} [how] `signal`: stops the reading of a picture; `worker`: it is read in one.
 * @returns {Numbers | Promise<Numbers>}
 */
export function readInput(what, spec, input, preprocess, how = {}) {
  if (input instanceof Tensor) return checked(what, spec, input);
  if (typeof input === 'number' || typeof input === 'boolean') return checked(what, spec, new Tensor(Float32Array.of(Number(input)), []));
  const isPicture = wantsPicture(spec) && mayBePicture(Array.isArray(input) ? input[0] : input);
  if (Array.isArray(input) && !isPicture) {
    const tensor = named(what, () => new Tensor(input));
    // A plain list of numbers is as good as a typed array.
    return checked(what, spec, tensor.shape.length === 1 && spec.shape.length > 1 ? new Tensor(tensor.data, inferShape(what, spec, tensor.size)) : tensor);
  }
  if (ArrayBuffer.isView(input) && !(isPicture && isNodeBuffer(input))) {
    const shape = inferShape(what, spec, /** @type {any} */ (input).length ?? 0);
    return checked(what, spec, named(what, () => new Tensor(/** @type {any} */ (input), shape)));
  }
  if (isPicture) return readPicture(what, spec, input, { ...preprocess, ...how });
  throw badArgument(what, `a Tensor of shape ${showShape(spec.shape)} or numbers`, input);
}

/** @param {InputSpec} spec */
const wantsPicture = ({ shape }) => shape.length === 4 && shape[1] === 3;

/** @param {unknown} input */
const mayBePicture = (input) => typeof input === 'string' || (typeof input === 'object' && input !== null && !Array.isArray(input));

/**
 * Node's Buffer, what readFile gives: the bytes of a file, not numbers.
 * @param {unknown} input
 */
const isNodeBuffer = (input) => typeof Buffer === 'function' && Buffer.isBuffer(input);

/**
 * @param {string} what
 * @param {InputSpec} spec
 * @param {any} source
 * @param {import('./image.js').ImageOptions} options
 * @returns {Promise<Numbers>}
 */
async function readPicture(what, spec, source, options) {
  const [, , h, w] = spec.shape;
  const size = h !== null && w !== null ? { size: /** @type {[number, number]} */ ([h, w]) } : {};
  return checked(what, spec, await toTensor(source, { ...size, ...options }));
}

/**
 * @param {string} what
 * @param {InputSpec} spec
 * @param {Tensor} tensor
 * @returns {Numbers}
 */
function checked(what, spec, tensor) {
  const { shape } = tensor;
  if (shape.length !== spec.shape.length || spec.shape.some((size, i) => size !== null && size !== shape[i])) {
    throw new LamellaError('shape', `${what}: expected shape ${showShape(spec.shape)}, got ${showShape(shape)}`);
  }
  const { limit } = spec;
  if (limit && shape[limit.axis] > limit.size) throw new LamellaError('shape', `${what}: ${showShape(shape)} has ${shape[limit.axis]} tokens, more than ${limit.name} ${limit.size}`);
  return { data: spec.dtype === 'i32' ? toInt32(what, tensor) : toFloat32(what, tensor), shape: [...shape] };
}

/**
 * Whole numbers as i32.
 * @param {string} what
 * @param {Tensor} tensor
 * @returns {Int32Array}
 */
function toInt32(what, tensor) {
  if (tensor.data instanceof Int32Array) return tensor.data;
  const data = new Int32Array(tensor.size);
  for (let i = 0; i < data.length; i++) {
    const number = Number(tensor.data[i]);
    data[i] = number;
    if (data[i] !== number) throw new LamellaError('argument', `${what}: expected whole numbers of 32 bits, got ${number} at ${i}`);
  }
  return data;
}

/**
 * The shape that numbers of this length have, where there is only one.
 * @param {string} what
 * @param {InputSpec} spec
 * @param {number} length
 * @returns {number[]}
 */
function inferShape(what, { shape }, length) {
  const known = shape.reduce((/** @type {number} */ product, size) => product * (size ?? 1), 1);
  const varying = shape.filter((size) => size === null).length;
  if (varying > 1) {
    throw new LamellaError('shape', `${what}: the shape ${showShape(shape)} does not follow from ${length} numbers; pass new Tensor(data, shape)`);
  }
  const rest = varying ? length / known : 1;
  if (!Number.isInteger(rest) || (!varying && known !== length)) {
    throw new LamellaError('shape', `${what}: expected shape ${showShape(shape)}, got ${length} numbers`);
  }
  return shape.map((size) => size ?? rest);
}

/**
 * Runs `make` and puts the input's name before its error.
 * @template T
 * @param {string} what
 * @param {() => T} make
 * @returns {T}
 */
function named(what, make) {
  try {
    return make();
  } catch (error) {
    if (error instanceof LamellaError) throw new LamellaError(error.code, `${what}: ${error.message}`, { cause: error });
    throw error;
  }
}
