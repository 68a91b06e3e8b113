/**
 * Single layers. Arguments are PyTorch's, in its order; what follows the required ones may be given as one object in camelCase.
 * A wrong argument throws a LamellaError with the code 'argument'.
 */
import { badArgument, boolean, divides, integer, options, pair, probability, show, sizes } from '../arguments.js';
import * as F from '../functional.js';
import { Module, Parameter } from '../module.js';

/** @import { Pair } from '../functional/layers.js' */
/** @import { Operand } from '../tensor.js' */
/**
 * @typedef {object} Conv2dOptions
 * @property {Pair} [stride] 1
 * @property {Pair | 'same' | 'valid'} [padding] 0; zeros on both sides
 * @property {Pair} [dilation] 1
 * @property {number} [groups] 1; divides both channel counts
 * @property {boolean} [bias] true
 * @property {'zeros'} [paddingMode] the only mode there is
 */

/**
 * Convolution of images [n, inChannels, h, w] -> [n, outChannels, oh, ow], oh = floor((h + 2 padding - dilation (kernel - 1) - 1) / stride) + 1.
 * Weights: `weight` [outChannels, inChannels / groups, kh, kw], `bias` [outChannels].
 */
export class Conv2d extends Module {
  /**
   * @param {number} inChannels
   * @param {number} outChannels
   * @param {Pair} kernelSize
   * @param {Conv2dOptions | Pair} [stride] Options, or PyTorch's order: stride, padding, dilation, groups, bias, paddingMode.
   * @param {...any} rest
   */
  constructor(inChannels, outChannels, kernelSize, stride, ...rest) {
    super();
    const o = options('Conv2d', [stride, ...rest], { stride: /** @type {any} */ (1), padding: /** @type {any} */ (0), dilation: /** @type {any} */ (1), groups: 1, bias: true, paddingMode: 'zeros' });
    if (o.paddingMode !== 'zeros') throw badArgument('Conv2d: paddingMode', "'zeros'", o.paddingMode);
    this.inChannels = integer('Conv2d: inChannels', inChannels, 1);
    this.outChannels = integer('Conv2d: outChannels', outChannels, 1);
    this.kernelSize = pair('Conv2d: kernelSize', kernelSize, 1);
    this.stride = pair('Conv2d: stride', o.stride, 1);
    this.padding = typeof o.padding === 'string' ? o.padding : pair('Conv2d: padding', o.padding);
    if (typeof this.padding === 'string' && this.padding !== 'same' && this.padding !== 'valid') {
      throw badArgument('Conv2d: padding', "an integer, [height, width], 'same' or 'valid'", this.padding);
    }
    if (this.padding === 'same' && this.stride.some((step) => step !== 1)) throw badArgument('Conv2d: padding', "stride 1 with 'same'", this.stride);
    this.dilation = pair('Conv2d: dilation', o.dilation, 1);
    this.groups = integer('Conv2d: groups', o.groups, 1);
    divides('Conv2d', 'inChannels', inChannels, 'groups', this.groups);
    divides('Conv2d', 'outChannels', outChannels, 'groups', this.groups);
    this.weight = new Parameter([outChannels, inChannels / this.groups, ...this.kernelSize]);
    this.bias = boolean('Conv2d: bias', o.bias) ? new Parameter([outChannels]) : null;
  }

  /** @param {Operand} x [n, inChannels, h, w] */
  forward(x) {
    const { stride, padding, dilation, groups } = this;
    return F.conv2d(x, this.weight, this.bias, { stride, padding, dilation, groups });
  }

  extraRepr() {
    const more = [
      `kernelSize=${show(this.kernelSize)}`, `stride=${show(this.stride)}`,
      String(this.padding) === '0,0' ? '' : `padding=${show(this.padding)}`,
      String(this.dilation) === '1,1' ? '' : `dilation=${show(this.dilation)}`,
      this.groups === 1 ? '' : `groups=${this.groups}`, this.bias ? '' : 'bias=false',
    ];
    return [this.inChannels, this.outChannels, ...more.filter(Boolean)].join(', ');
  }
}

/**
 * @typedef {object} Conv1dOptions
 * @property {number} [stride] 1
 * @property {number | 'same' | 'valid'} [padding] 0; zeros on both sides
 * @property {number} [dilation] 1
 * @property {number} [groups] 1; divides both channel counts
 * @property {boolean} [bias] true
 * @property {'zeros'} [paddingMode] the only mode there is
 */

/**
 * Convolution of sequences [n, inChannels, l] -> [n, outChannels, ol], ol = floor((l + 2 padding - dilation (kernelSize - 1) - 1) / stride) + 1.
 * Weights: `weight` [outChannels, inChannels / groups, kernelSize], `bias` [outChannels].
 */
export class Conv1d extends Module {
  /**
   * @param {number} inChannels
   * @param {number} outChannels
   * @param {number} kernelSize
   * @param {Conv1dOptions | number} [stride] Options, or PyTorch's order: stride, padding, dilation, groups, bias, paddingMode.
   * @param {...any} rest
   */
  constructor(inChannels, outChannels, kernelSize, stride, ...rest) {
    super();
    const o = options('Conv1d', [stride, ...rest], { stride: 1, padding: /** @type {number | 'same' | 'valid'} */ (0), dilation: 1, groups: 1, bias: true, paddingMode: 'zeros' });
    if (o.paddingMode !== 'zeros') throw badArgument('Conv1d: paddingMode', "'zeros'", o.paddingMode);
    this.inChannels = integer('Conv1d: inChannels', inChannels, 1);
    this.outChannels = integer('Conv1d: outChannels', outChannels, 1);
    this.kernelSize = integer('Conv1d: kernelSize', kernelSize, 1);
    this.stride = integer('Conv1d: stride', o.stride, 1);
    this.dilation = integer('Conv1d: dilation', o.dilation, 1);
    this.padding = o.padding;
    if (typeof o.padding !== 'string') integer('Conv1d: padding', o.padding, 0);
    else if (o.padding !== 'same' && o.padding !== 'valid') throw badArgument('Conv1d: padding', "an integer, 'same' or 'valid'", o.padding);
    else if (o.padding === 'same' && this.stride !== 1) throw badArgument('Conv1d: padding', "stride 1 with 'same'", this.stride);
    this.groups = integer('Conv1d: groups', o.groups, 1);
    divides('Conv1d', 'inChannels', inChannels, 'groups', this.groups);
    divides('Conv1d', 'outChannels', outChannels, 'groups', this.groups);
    this.weight = new Parameter([outChannels, inChannels / this.groups, kernelSize]);
    this.bias = boolean('Conv1d: bias', o.bias) ? new Parameter([outChannels]) : null;
  }

  /** @param {Operand} x [n, inChannels, l] */
  forward(x) {
    const { stride, padding, dilation, groups } = this;
    return F.conv1d(x, this.weight, this.bias, { stride, padding, dilation, groups });
  }

  extraRepr() {
    const more = [
      `kernelSize=${this.kernelSize}`, `stride=${this.stride}`, this.padding === 0 ? '' : `padding=${this.padding}`,
      this.dilation === 1 ? '' : `dilation=${this.dilation}`, this.groups === 1 ? '' : `groups=${this.groups}`, this.bias ? '' : 'bias=false',
    ];
    return [this.inChannels, this.outChannels, ...more.filter(Boolean)].join(', ');
  }
}

/** y = x weight^T + bias over the last axis. Weights: `weight` [outFeatures, inFeatures], `bias` [outFeatures]. */
export class Linear extends Module {
  /**
   * @param {number} inFeatures
   * @param {number} outFeatures
   * @param {{ bias?: boolean } | boolean} [bias] true
   */
  constructor(inFeatures, outFeatures, bias) {
    super();
    const o = options('Linear', [bias], { bias: true });
    this.inFeatures = integer('Linear: inFeatures', inFeatures, 1);
    this.outFeatures = integer('Linear: outFeatures', outFeatures, 1);
    this.weight = new Parameter([outFeatures, inFeatures]);
    this.bias = boolean('Linear: bias', o.bias) ? new Parameter([outFeatures]) : null;
  }

  /** @param {Operand} x [..., inFeatures] */
  forward(x) {
    return F.linear(x, this.weight, this.bias);
  }

  extraRepr() {
    return `inFeatures=${this.inFeatures}, outFeatures=${this.outFeatures}, bias=${this.bias !== null}`;
  }
}

/** Rows of a table by number, ids [...] -> [..., embeddingDim]. Weights: `weight` [numEmbeddings, embeddingDim]. */
export class Embedding extends Module {
  /**
   * @param {number} numEmbeddings
   * @param {number} embeddingDim
   * @param {{ paddingIdx?: number | null } | number | null} [paddingIdx] Accepted; it matters to training only.
   */
  constructor(numEmbeddings, embeddingDim, paddingIdx) {
    super();
    const o = options('Embedding', [paddingIdx], { paddingIdx: /** @type {number | null} */ (null) });
    this.numEmbeddings = integer('Embedding: numEmbeddings', numEmbeddings, 1);
    this.embeddingDim = integer('Embedding: embeddingDim', embeddingDim, 1);
    this.paddingIdx = o.paddingIdx === null ? null : integer('Embedding: paddingIdx', o.paddingIdx, -numEmbeddings, numEmbeddings - 1);
    this.weight = new Parameter([numEmbeddings, embeddingDim]);
  }

  /** @param {Operand} ids Whole numbers [...]: an input declared as `{ shape, dtype: 'i32' }`. */
  forward(ids) {
    return F.embedding(ids, this.weight);
  }

  extraRepr() {
    return `${this.numEmbeddings}, ${this.embeddingDim}${this.paddingIdx === null ? '' : `, paddingIdx=${this.paddingIdx}`}`;
  }
}

/** max(x, 0). */
export class ReLU extends Module {
  /** @param {{ inplace?: boolean } | boolean} [inplace] Accepted; the engine decides about memory by itself. */
  constructor(inplace) {
    super();
    boolean('ReLU: inplace', options('ReLU', [inplace], { inplace: false }).inplace);
  }

  /** @param {Operand} x */
  forward(x) {
    return F.relu(x);
  }
}

/** 1 / (1 + e^-x). */
export class Sigmoid extends Module {
  /** @param {Operand} x */
  forward(x) {
    return F.sigmoid(x);
  }
}

/** exp(x - max) / sum along one axis. */
export class Softmax extends Module {
  /** @param {number | { dim: number }} dim Negative counts from the end. */
  constructor(dim) {
    super();
    this.dim = integer('Softmax: dim', options('Softmax', [dim], { dim: /** @type {unknown} */ (undefined) }).dim);
  }

  /** @param {Operand} x */
  forward(x) {
    return F.softmax(x, this.dim);
  }

  extraRepr() {
    return `dim=${this.dim}`;
  }
}

/** Mean of each window of [n, c, h, w]. */
export class AvgPool2d extends Module {
  /**
   * @param {Pair} kernelSize
   * @param {{ stride?: Pair | null, padding?: Pair, ceilMode?: boolean, countIncludePad?: boolean, divisorOverride?: number | null } | Pair | null} [stride]
   *   Options, or PyTorch's order: stride (the kernel), padding (0), ceilMode (false), countIncludePad (true), divisorOverride (the window's size).
   * @param {...any} rest
   */
  constructor(kernelSize, stride, ...rest) {
    super();
    this.kernelSize = pair('AvgPool2d: kernelSize', kernelSize, 1);
    this.options = options('AvgPool2d', [stride, ...rest], { stride: /** @type {any} */ (null), padding: /** @type {any} */ (0), ceilMode: false, countIncludePad: true, divisorOverride: /** @type {number | null} */ (null) });
    this.options.stride = pair('AvgPool2d: stride', this.options.stride ?? this.kernelSize, 1);
    pair('AvgPool2d: padding', this.options.padding);
    boolean('AvgPool2d: ceilMode', this.options.ceilMode);
    boolean('AvgPool2d: countIncludePad', this.options.countIncludePad);
    if (this.options.divisorOverride !== null) integer('AvgPool2d: divisorOverride', this.options.divisorOverride, 1);
  }

  /** @param {Operand} x */
  forward(x) {
    return F.avgPool2d(x, this.kernelSize, this.options);
  }

  extraRepr() {
    return `kernelSize=${show(this.kernelSize)}, stride=${show(this.options.stride)}, padding=${show(this.options.padding)}`;
  }
}

/** Largest element of each window of [n, c, h, w]. */
export class MaxPool2d extends Module {
  /**
   * @param {Pair} kernelSize
   * @param {{ stride?: Pair | null, padding?: Pair, dilation?: Pair, returnIndices?: false, ceilMode?: boolean } | Pair | null} [stride]
   *   Options, or PyTorch's order: stride (the kernel), padding (0), dilation (1), returnIndices (must be false), ceilMode (false).
   * @param {...any} rest
   */
  constructor(kernelSize, stride, ...rest) {
    super();
    this.kernelSize = pair('MaxPool2d: kernelSize', kernelSize, 1);
    const { returnIndices, ...o } = options('MaxPool2d', [stride, ...rest], { stride: /** @type {any} */ (null), padding: /** @type {any} */ (0), dilation: /** @type {any} */ (1), returnIndices: false, ceilMode: false });
    if (returnIndices !== false) throw badArgument('MaxPool2d: returnIndices', 'false', returnIndices);
    this.options = { ...o, stride: pair('MaxPool2d: stride', o.stride ?? this.kernelSize, 1) };
    pair('MaxPool2d: padding', o.padding);
    pair('MaxPool2d: dilation', o.dilation, 1);
    boolean('MaxPool2d: ceilMode', o.ceilMode);
  }

  /** @param {Operand} x */
  forward(x) {
    return F.maxPool2d(x, this.kernelSize, this.options);
  }

  extraRepr() {
    return `kernelSize=${show(this.kernelSize)}, stride=${show(this.options.stride)}, padding=${show(this.options.padding)}`;
  }
}

/** Mean over a fixed number of windows that cover the image, whatever its size. */
export class AdaptiveAvgPool2d extends Module {
  /** @param {number | [number | null, number | null]} outputSize null keeps the input's size. */
  constructor(outputSize) {
    super();
    this.outputSize = outputSize;
    const both = Array.isArray(outputSize) ? outputSize : [outputSize];
    for (const size of both) if (size !== null) integer('AdaptiveAvgPool2d: outputSize', size, 1);
    if (Array.isArray(outputSize) && outputSize.length !== 2) throw badArgument('AdaptiveAvgPool2d: outputSize', 'an integer or [height, width]', outputSize);
  }

  /** @param {Operand} x */
  forward(x) {
    return F.adaptiveAvgPool2d(x, this.outputSize);
  }

  extraRepr() {
    return `outputSize=${show(this.outputSize)}`;
  }
}

/** Axes startDim (1) to endDim (-1) as one. */
export class Flatten extends Module {
  /** @param {number | { startDim?: number, endDim?: number }} [startDim] @param {number} [endDim] */
  constructor(startDim, endDim) {
    super();
    const o = options('Flatten', [startDim, endDim], { startDim: 1, endDim: -1 });
    this.startDim = integer('Flatten: startDim', o.startDim);
    this.endDim = integer('Flatten: endDim', o.endDim);
  }

  /** @param {Operand} x */
  forward(x) {
    return F.flatten(x, this.startDim, this.endDim);
  }

  extraRepr() {
    return `startDim=${this.startDim}, endDim=${this.endDim}`;
  }
}

/** Its input. Takes any arguments, as PyTorch's does. */
export class Identity extends Module {
  /** @param {...any} _arguments */
  constructor(..._arguments) {
    super();
  }

  /** @param {Operand} x */
  forward(x) {
    return x;
  }
}

/** Its input: there is no dropout outside training. */
export class Dropout extends Module {
  /** @param {number | { p?: number, inplace?: boolean }} [p] @param {boolean} [inplace] */
  constructor(p, inplace) {
    super();
    const o = options('Dropout', [p, inplace], { p: 0.5, inplace: false });
    this.p = probability('Dropout: p', o.p);
    boolean('Dropout: inplace', o.inplace);
  }

  /** @param {Operand} x */
  forward(x) {
    return x;
  }

  extraRepr() {
    return `p=${this.p}`;
  }
}
