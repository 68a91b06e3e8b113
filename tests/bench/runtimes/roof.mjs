/** The roofs of the core, from roof.c. */
import { ROOF_STEPS } from '../work.mjs';

/** @param {{ wasm: string }} options wasm: roof.c compiled, as base64 */
export async function start({ wasm }) {
  const bytes = Uint8Array.from(atob(wasm), char => char.charCodeAt(0));
  const { instance: { exports } } = await WebAssembly.instantiate(bytes, {});
  exports.roof_fill(1);
  const job = run => async () => ({ run });
  return {
    version: '',
    jobs: {
      fma: job(() => exports.roof_fma(ROOF_STEPS, 1e-9, 1)),
      'mul+add': job(() => exports.roof_mul_add(ROOF_STEPS, 0.999, 1e-3)),
      dot: job(() => exports.roof_dot(ROOF_STEPS, 3, 5)),
      'dot, pairs': job(() => exports.roof_dot_pairs(ROOF_STEPS, 3, 5, 1)),
      read: job(() => exports.roof_read()),
      copy: job(() => exports.roof_copy()),
      'copy, bulk': job(() => exports.roof_copy_bulk()),
    },
  };
}
