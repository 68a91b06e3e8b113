// The engine as files of their own, for pages that would rather fetch a .wasm than carry it in their JavaScript:
//     import { init } from 'lamella';
//     import { wasm } from 'lamella/external';
//     await init({ wasm });
// Bundlers find the files by these expressions, so each is literal.

/** @type {Record<import('./wasm.js').BuildName, () => URL>} */
const files = {
  simd: () => new URL('../dist/wasm/simd.wasm', import.meta.url),
  relaxed: () => new URL('../dist/wasm/relaxed.wasm', import.meta.url),
  'simd-threads': () => new URL('../dist/wasm/simd-threads.wasm', import.meta.url),
  'relaxed-threads': () => new URL('../dist/wasm/relaxed-threads.wasm', import.meta.url),
};

/**
 * The address of a build's file.
 * @param {import('./wasm.js').BuildName} build
 * @returns {URL}
 */
export function wasm(build) {
  return files[build]();
}
