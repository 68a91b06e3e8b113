/** jax-js, its backend that writes wasm. Outside of `jit` it would compile anew for each call. */
import { transpose } from '../tower.mjs';
import { gemmInput, GEMMS, gemmWeight } from '../work.mjs';

/** @param {{ version: string }} options the package does not know its version */
export async function start({ version }) {
  // It has a thread for each core wherever there are workers: without them there is one.
  globalThis.Worker = undefined;
  const { defaultDevice, init, jit, numpy: np } = await import('@jax-js/jax');
  await init('wasm');
  defaultDevice('wasm');
  const multiply = jit((a, b) => np.matmul(a, b));
  const job = async n => {
    const b = np.array(transpose(gemmWeight(n), n, n)).reshape([n, n]);
    const a = gemmInput(n);
    return { run: () => multiply(np.array(a).reshape([n, n]), b.ref).data() };
  };
  return { version, jobs: Object.fromEntries(GEMMS.map(n => [`gemm ${n}`, () => job(n)])) };
}
