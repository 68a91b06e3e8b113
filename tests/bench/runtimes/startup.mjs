/** One network on one engine, for startup.mjs: `forward` is the first thing that is asked of it. */
import { compile } from '../../../js/index.js';
import { net } from '../nets.mjs';

/** @param {{ build: string, threads: number, name: string }} options */
export async function start({ build, threads, name }) {
  const { module, checkpoint, shape, input } = net(name);
  const model = await compile(module, { weights: checkpoint, inputs: [shape], build, threads });
  return { version: '', jobs: { forward: async () => ({ run: async () => (await model.forward(input)).data }) } };
}
