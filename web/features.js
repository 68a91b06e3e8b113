// What the host of the engine can do. Nothing here runs at import.
import { isNode, nodeModule } from '../js/platform.js';

const SPLAT = [0x41, 0, 0xfd, 0x0f]; // i32.const 0, i8x16.splat
const MADD = [0xfd, 0x85, 0x02]; // f32x4.relaxed_madd

/**
 * Whether the host accepts a function () -> v128 with these instructions.
 * @param {number[]} code
 */
function accepts(code) {
  return WebAssembly.validate(Uint8Array.of(
    0, 0x61, 0x73, 0x6d, 1, 0, 0, 0, // the magic number and version 1
    1, 5, 1, 0x60, 0, 1, 0x7b, // type 0
    3, 2, 1, 0, // function 0 is of type 0
    10, code.length + 4, 1, code.length + 2, 0, ...code, 0x0b, // its body, without locals
  ));
}

/**
 * - `simd`: 128-bit SIMD, without which there is no engine.
 * - `relaxed`: relaxed SIMD, so the fused multiply-add.
 * - `threads`: shared memory and workers: in Node, and in pages and workers that are cross-origin isolated.
 * - `cores`: threads that the machine says it can run at once.
 */
export function features() {
  const simd = accepts(SPLAT);
  return {
    simd,
    relaxed: simd && accepts([...SPLAT, ...SPLAT, ...SPLAT, ...MADD]),
    threads: typeof SharedArrayBuffer === 'function' && (globalThis.crossOriginIsolated ?? isNode),
    cores: globalThis.navigator?.hardwareConcurrency ?? nodeModule('node:os')?.availableParallelism() ?? 1,
  };
}
