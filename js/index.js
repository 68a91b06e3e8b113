/** Neural-network layers for the browser and Node: PyTorch's modules and checkpoints on WebAssembly SIMD. */
export * as cache from './cache.js';
export { compile } from './compile.js';
export { LamellaError } from './errors.js';
export * as F from './functional.js';
export { chat, complete, generate } from './generation.js';
export * as image from './image.js';
export { init } from './init.js';
export { Model } from './model.js';
export * as models from './models/index.js';
export { Module, Parameter } from './module.js';
export * as nn from './nn/index.js';
export { quantize } from './quantize.js';
export { SymbolicTensor, Tensor } from './tensor.js';
export { Session } from './session.js';
export * as text from './text/index.js';
export * as safetensors from './weights/safetensors.js';
