/**
 * Language models one token at a time: node tests/bench/decode.mjs [llama|mla] [--precision q4] [--threads N] [--build NAME] [--cache f16]
 * llama: 12 layers, 768 wide, 12 heads, vocabulary 32000, tied (110 M weights). mla: DeepSeek-V2's latent attention and experts, 8 layers, 1024 wide, latents of
 * 512, 16 experts of which each token has 4. Random weights. Prints tokens/s of a prefill of 512 (the second one), then of steps after 100 and after 540 tokens, and
 * the bytes of packed weights. Needs a Node with relaxed SIMD for the relaxed build. Beside llama.cpp and the machine's limits: generation.mjs.
 */
import { parseArgs } from 'node:util';
import { NETS, openDecoder } from './decoders.mjs';
import { median } from './statistics.mjs';

const { values: { precision, threads, build, cache }, positionals: [shape = 'llama'] } = parseArgs({
  allowPositionals: true,
  options: { precision: { type: 'string', default: 'q4' }, threads: { type: 'string', default: '1' }, build: { type: 'string' }, cache: { type: 'string', default: 'f16' } },
});
if (!NETS[shape]) throw new Error(`expected one of ${Object.keys(NETS).join(', ')}, got ${shape}`);
const [PREFILL, FEW, MANY, STEPS] = [512, 60, 500, 80];

const decoder = await openDecoder(shape, { precision, threads: Number(threads), build, cache });
const rate = (times) => 1000 / median(times.slice(STEPS / 4));
await decoder.prefill(PREFILL);
const prefill = 1000 * PREFILL / await decoder.prefill(PREFILL);
const few = rate(await decoder.steps(FEW, STEPS));
const many = rate(await decoder.steps(MANY, STEPS));
const { model } = decoder;
console.log(`${shape}, ${precision}, ${model.engine.build}, threads ${model.engine.threads}, cache ${cache}, weights ${(model.memory.weights / 1e6).toFixed(0)} MB: prefill of ${PREFILL} ${prefill.toFixed(0)} tokens/s, `
  + `steps after ${FEW + STEPS / 2} tokens ${few.toFixed(0)}, after ${MANY + STEPS / 2} ${many.toFixed(0)} tokens/s`);
model.dispose();
