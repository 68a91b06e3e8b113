import { badArgument, show, showShape, sizes } from './arguments.js';
import { LamellaError } from './errors.js';
import * as F from './functional.js';
import { lift } from './trace.js';

/** @typedef {TensorMethods | Tensor | number} Operand What arithmetic takes: a tensor, a Parameter, numbers. */
/** @typedef {Float32Array | Float64Array | Int8Array | Uint8Array | Uint8ClampedArray | Int16Array | Uint16Array | Int32Array | Uint32Array | BigInt64Array} TensorData */

/** What can be done with a tensor inside `forward`, as methods. Each is the function of the same name in `F`. */
export class TensorMethods {
  /** @param {Operand} other */
  add(other) { return F.add(this, other); }
  /** @param {Operand} other */
  sub(other) { return F.sub(this, other); }
  /** @param {Operand} other */
  mul(other) { return F.mul(this, other); }
  /** @param {Operand} other */
  div(other) { return F.div(this, other); }
  /** @param {Operand} other */
  expandAs(other) { return F.expandAs(this, other); }
  /** @param {TensorMethods} other */
  matmul(other) { return F.matmul(this, other); }
  relu() { return F.relu(this); }
  sigmoid() { return F.sigmoid(this); }
  tanh() { return F.tanh(this); }
  /** @param {number} dim */
  softmax(dim) { return F.softmax(this, dim); }
  /** @param {...(number | null | (number | null)[])} shape Sizes, or one array of sizes. */
  reshape(...shape) { return F.reshape(this, shape.flat()); }
  /** @param {...(number | null | (number | null)[])} shape Sizes, or one array of sizes. */
  view(...shape) { return F.reshape(this, shape.flat()); }
  /** @param {number} [startDim] @param {number} [endDim] */
  flatten(startDim = 0, endDim = -1) { return F.flatten(this, startDim, endDim); }
  /** @param {number} dim @param {number[]} shape */
  unflatten(dim, shape) { return F.unflatten(this, dim, shape); }
  /** @param {number} dim */
  unsqueeze(dim) { return F.unsqueeze(this, dim); }
  /** @param {number} dim */
  squeeze(dim) { return F.squeeze(this, dim); }
  /** @param {...(number | number[])} dims The new order of axes, or one array of it. */
  permute(...dims) { return F.permute(this, dims.flat()); }
  /** @param {number} dim0 @param {number} dim1 */
  transpose(dim0, dim1) { return F.transpose(this, dim0, dim1); }
  /** @param {number} dim @param {number} start @param {number} length */
  narrow(dim, start, length) { return F.narrow(this, dim, start, length); }
  /** @param {number | number[]} sizeOrSizes @param {number} [dim] */
  split(sizeOrSizes, dim = 0) { return F.split(this, sizeOrSizes, dim); }
  /** @param {number} chunks @param {number} [dim] */
  chunk(chunks, dim = 0) { return F.chunk(this, chunks, dim); }
  /** @param {number | number[] | null} [dim] @param {boolean | { keepdim?: boolean }} [keepdim] */
  mean(dim = null, keepdim = false) { return F.mean(this, dim, keepdim); }
}

/** A tensor inside `forward`: a shape and a place in the graph, no numbers. */
export class SymbolicTensor extends TensorMethods {
  /**
   * @param {import('./trace.js').Trace} trace
   * @param {number} value Its number in the graph.
   * @param {(number | null)[]} shape
   * @param {'f32' | 'bool' | 'i32'} [dtype]
   */
  constructor(trace, value, shape, dtype = 'f32') {
    super();
    this.trace = trace;
    this.value = value;
    /**
     * Sizes in PyTorch's order, null where a size varies between calls. (null * 7 is 0 in JavaScript: in `reshape` write -1 or
     * null for such a size rather than computing with it.)
     * @type {readonly (number | null)[]}
     */
    this.shape = Object.freeze(shape);
    /** 'bool' and 'i32' for inputs declared so and what is cut from them; a bool tensor masks attention as it does in PyTorch. */
    this.dtype = dtype;
    Object.freeze(this);
  }

  /** How many axes. */
  get ndim() {
    return this.shape.length;
  }

  toString() {
    return `SymbolicTensor(shape=${showShape(this.shape)}, dtype=${this.dtype})`;
  }

  /**
   * @param {import('./trace.js').Trace} trace
   * @returns {number}
   */
  [lift](trace) {
    if (this.trace === trace) return this.value;
    throw trace.error('argument', `a tensor of shape ${showShape(this.shape)} comes from another compile; tensors cannot be kept between calls of forward`);
  }
}

/** @type {[Function, string][]} */
const DTYPES = [
  [Float32Array, 'f32'], [Float64Array, 'f64'], [Int8Array, 'i8'], [Uint8Array, 'u8'], [Uint8ClampedArray, 'u8'],
  [Int16Array, 'i16'], [Uint16Array, 'u16'], [Int32Array, 'i32'], [Uint32Array, 'u32'], [BigInt64Array, 'i64'],
];

/** Numbers and their shape: what goes into a model and comes out of it. */
export class Tensor {
  /**
   * @param {TensorData | readonly unknown[]} data Numbers in row-major order, or nested arrays of numbers (or booleans).
   * @param {readonly number[]} [shape] Defaults to one axis, or to the shape of the nested arrays.
   * @param {{ dtype?: string }} [options] `dtype` where the array's type does not say it: 'f16' or 'bf16' of a Uint16Array,
   *   'bool' of a Uint8Array.
   */
  constructor(data, shape, { dtype } = {}) {
    const nested = Array.isArray(data) ? flattenNested(data) : null;
    const given = /** @type {TensorData} */ (nested ? nested.data : data);
    const inferred = DTYPES.find(([type]) => given instanceof type)?.[1];
    if (!inferred) throw badArgument('Tensor: data', 'a typed array of numbers or nested arrays', data);
    /** @type {TensorData} */
    this.data = given;
    /** @type {readonly number[]} */
    this.shape = Object.freeze(shape ? sizes('Tensor: shape', [...shape]) : nested ? nested.shape : [given.length]);
    /** 'f32', 'f16', 'bf16', 'f64', 'i64', 'i32', 'u32', 'i16', 'i8', 'u8' or 'bool'. @type {string} */
    this.dtype = dtype ?? nested?.dtype ?? inferred;
    if (this.size !== given.length) {
      throw new LamellaError('shape', `Tensor: shape ${showShape(this.shape)} has ${this.size} elements, the data has ${given.length}`);
    }
  }

  /** How many elements. */
  get size() {
    return this.shape.reduce((product, size) => product * size, 1);
  }

  /**
   * The only element.
   * @returns {number}
   */
  item() {
    if (this.data.length !== 1) throw new LamellaError('shape', `item: the tensor ${showShape(this.shape)} has ${this.data.length} elements, not 1`);
    return Number(this.data[0]);
  }

  /**
   * The numbers as nested arrays; a plain number when the shape is [].
   * @returns {any}
   */
  toArray() {
    /** @type {any[]} */
    let level = Array.from(/** @type {ArrayLike<number>} */ (this.data));
    for (const size of this.shape.slice(1).reverse()) {
      const rows = size ? level.length / size : this.shape[0];
      level = Array.from({ length: rows }, (_, i) => level.slice(i * size, (i + 1) * size));
    }
    return this.shape.length ? level : level[0];
  }

  toString() {
    return `Tensor(shape=${showShape(this.shape)}, dtype=${this.dtype})`;
  }

  /**
   * Inside forward the numbers become a constant of the model.
   * @param {import('./trace.js').Trace} trace
   * @returns {number}
   */
  [lift](trace) {
    return trace.constant(toFloat32('constant', this), [...this.shape]);
  }
}

/**
 * The numbers of a tensor as f32.
 * @param {string} what
 * @param {Tensor} tensor
 * @returns {Float32Array} The tensor's own data where it is f32 already.
 */
export function toFloat32(what, tensor) {
  if (tensor.data instanceof Float32Array) return tensor.data;
  if (tensor.data instanceof BigInt64Array) return Float32Array.from(tensor.data, Number);
  if (tensor.dtype === 'f16' || tensor.dtype === 'bf16') throw badArgument(what, 'numbers as f32, f64 or integers', `dtype ${tensor.dtype}`);
  return Float32Array.from(/** @type {ArrayLike<number>} */ (tensor.data));
}

/**
 * @param {readonly unknown[]} array
 * @returns {{ data: Float32Array, shape: number[], dtype: string }}
 */
function flattenNested(array) {
  /** @type {number[]} */
  const shape = [];
  for (let level = /** @type {unknown} */ (array); Array.isArray(level); level = level[0]) shape.push(level.length);
  const data = new Float32Array(shape.reduce((product, size) => product * size, 1));
  let at = 0;
  let dtype = 'bool';
  /** @param {unknown} value @param {number} depth */
  const fill = (value, depth) => {
    if (depth < shape.length) {
      if (!Array.isArray(value) || value.length !== shape[depth]) {
        throw new LamellaError('shape', `Tensor: the nested arrays are ragged: expected an array of ${shape[depth]} at depth ${depth}, got ${show(value)}`);
      }
      for (const element of value) fill(element, depth + 1);
    } else {
      if (typeof value !== 'number' && typeof value !== 'boolean') throw badArgument('Tensor: element', 'a number', value);
      if (typeof value === 'number') dtype = 'f32';
      data[at++] = Number(value);
    }
  };
  fill(array, 0);
  return { data, shape, dtype: data.length ? dtype : 'f32' };
}
