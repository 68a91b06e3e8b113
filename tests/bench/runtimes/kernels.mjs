/** Kernels by themselves, from kernels.c: no graph, no layer. */
import { GEMVS } from '../work.mjs';

const MEMORY_FLOATS = 48 << 20;
/** quantized_way 0: the faster one, which the kernel finds out. */
const FASTER = 0;

/** @param {Uint8Array} bytes kernels.c compiled @returns {Promise<any>} its functions */
export async function openKernels(bytes) {
  const module = await WebAssembly.compile(bytes);
  const imports = {};
  for (const { module: from, name } of WebAssembly.Module.imports(module)) {
    (imports[from] ??= {})[name] = () => { throw new Error(`${name} was called`); };
  }
  const { exports } = await WebAssembly.instantiate(module, imports);
  exports._initialize?.();
  exports.bench_start(MEMORY_FLOATS);
  return exports;
}

/** @param {{ wasm: string }} options wasm: kernels.c compiled, as base64 */
export async function start({ wasm }) {
  const exports = await openKernels(Uint8Array.from(atob(wasm), char => char.charCodeAt(0)));
  const quantized = (bits, m, n, k) => async () => ({ run: () => exports.bench_quantized(1, bits, FASTER, m, n, k) });
  return {
    version: '',
    jobs: { 'gemm 1024 q8, kernel': quantized(8, 1024, 1024, 1024), ...Object.fromEntries(GEMVS.map(([n, k]) => [`gemv ${[n, k]}, kernel`, quantized(4, 1, n, k)])) },
  };
}
