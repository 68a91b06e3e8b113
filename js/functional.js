/**
 * The layers as functions, `F.conv2d(x, weight, bias, { stride: 2 })`: what `forward` is made of. They run inside `compile` only,
 * on tensors that have a shape but no numbers yet (`SymbolicTensor`); weights are Parameters of a module. Wherever a tensor is
 * expected a Parameter will do, and so will a number or a `Tensor`, which become constants of the model.
 *
 * Shapes are PyTorch's: images [n, c, h, w]. Arguments after the tensors come in PyTorch's order or as one object.
 * Every function throws a LamellaError with the code 'shape' or 'argument' that says what was expected and what came, and
 * whose `path` is the module being recorded.
 */
export * from './functional/arithmetic.js';
export { attentionPool2d, mla, scaledDotProductAttention } from './functional/attention.js';
export { experts, route } from './functional/experts.js';
export { conv1d, conv2d, linear } from './functional/layers.js';
export * from './functional/lookup.js';
export { batchNorm, groupNorm, layerNorm, normalize, rmsNorm } from './functional/norm.js';
export * from './functional/pool.js';
export { rotary, rotaryTable } from './functional/rotary.js';
export * from './functional/shape.js';
export { sparseAttention, windows } from './functional/sparse_attention.js';
