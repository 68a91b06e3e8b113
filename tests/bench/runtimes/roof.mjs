/** The roofs of the core, from roof.c. */
const STEPS = 1e6;
/** Floating-point operations, or bytes, of one call. */
export const ROOF_WORK = { fma: STEPS * 96, mulAdd: STEPS * 96, read: 128 << 20 };

/** @param {{ wasm: string }} options wasm: roof.c compiled, as base64 */
export async function start({ wasm }) {
  const bytes = Uint8Array.from(atob(wasm), char => char.charCodeAt(0));
  const { instance } = await WebAssembly.instantiate(bytes, {});
  const { roof_fma, roof_mul_add, roof_read, roof_fill } = instance.exports;
  roof_fill(1);
  return {
    version: '',
    fma: () => roof_fma(STEPS, 1e-9, 1),
    mulAdd: () => roof_mul_add(STEPS, 0.999, 1e-3),
    read: () => roof_read(),
  };
}
