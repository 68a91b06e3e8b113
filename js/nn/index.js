/** Layers and blocks under PyTorch's names. */
export { Buffer, Module, Parameter } from '../module.js';
export * from './activations.js';
export * from './attention.js';
export * from './batch_norm.js';
export * from './compress.js';
export { CompressTransformer } from './compress_transformer.js';
export * from './containers.js';
export * from './layers.js';
export * from './norm.js';
export * from './resnet.js';
export * from './rotary.js';
export { SparseAttention } from './sparse_attention.js';
export * from './transformer.js';
