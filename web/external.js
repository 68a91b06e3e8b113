// The entry `lamella/external`: all of `lamella`, with the engine as .wasm files of their own that are compiled while they arrive,
// for pages that would rather not carry it in their JavaScript. Bundlers find the files by these expressions, so each is literal.
import { useFiles } from './wasm.js';

/** @type {Record<import('./wasm.js').BuildName, () => URL>} */
const files = {
  simd: () => new URL('../dist/wasm/simd.wasm', import.meta.url),
  relaxed: () => new URL('../dist/wasm/relaxed.wasm', import.meta.url),
  'simd-threads': () => new URL('../dist/wasm/simd-threads.wasm', import.meta.url),
  'relaxed-threads': () => new URL('../dist/wasm/relaxed-threads.wasm', import.meta.url),
};
useFiles(build => files[build]());

export * from '../js/index.js';
