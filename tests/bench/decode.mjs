/**
 * Language models one token at a time: node tests/bench/decode.mjs [llama|mla] [--precision q4] [--threads N] [--build NAME] [--cache f16]
 * llama: 12 layers, 768 wide, 12 heads, vocabulary 32000, tied (110 M weights). mla: DeepSeek-V2's latent attention and experts, 8 layers, 1024 wide, latents of
 * 512, 16 experts of which each token has 4. Random weights. Prints tokens/s of a prefill of 512 (the second one), then of steps after 100 and after 545 tokens, and
 * the bytes of packed weights. Needs a Node with relaxed SIMD for the relaxed build.
 */
import { parseArgs } from 'node:util';
import { compile, models, Tensor } from '../../js/index.js';
import { median } from './statistics.mjs';

const { values: { precision, threads, build, cache }, positionals: [shape = 'llama'] } = parseArgs({
  allowPositionals: true,
  options: { precision: { type: 'string', default: 'q4' }, threads: { type: 'string', default: '1' }, build: { type: 'string' }, cache: { type: 'string', default: 'f16' } },
});
const VOCABULARY = 32000;
const [PREFILL, FEW, MANY, STEPS] = [512, 60, 500, 80];

const NETS = {
  llama: () => new models.LlamaForCausalLM({
    vocab_size: VOCABULARY, max_position_embeddings: 2048, rms_norm_eps: 1e-5, rope_theta: 10000, hidden_act: 'silu', hidden_size: 768, intermediate_size: 2048,
    num_hidden_layers: 12, num_attention_heads: 12, num_key_value_heads: 12, tie_word_embeddings: true,
  }),
  mla: () => new models.DeepseekV2ForCausalLM({
    vocab_size: VOCABULARY, max_position_embeddings: 2048, rms_norm_eps: 1e-5, rope_theta: 10000, hidden_act: 'silu', hidden_size: 1024, intermediate_size: 2048,
    moe_intermediate_size: 512, num_hidden_layers: 8, num_attention_heads: 16, num_key_value_heads: 16, n_routed_experts: 16, num_experts_per_tok: 4,
    n_shared_experts: 1, kv_lora_rank: 512, q_lora_rank: 512, qk_nope_head_dim: 128, qk_rope_head_dim: 64, v_head_dim: 128, first_k_dense_replace: 1,
    moe_layer_freq: 1, topk_method: 'greedy', scoring_func: 'softmax', norm_topk_prob: false, routed_scaling_factor: 1, n_group: 1, topk_group: 1,
  }),
};
if (!NETS[shape]) throw new Error(`expected one of ${Object.keys(NETS).join(', ')}, got ${shape}`);

let state = 1;
/** Norms around 1, matrices that keep the size of what they multiply. */
function random(dims) {
  const spread = dims.length === 1 ? 0.1 : 1 / Math.sqrt(dims.at(-1));
  return new Tensor(Float32Array.from({ length: dims.reduce((a, b) => a * b, 1) }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (dims.length === 1 ? 1 : 0) + (state / 2 ** 31 - 1) * spread;
  }), dims);
}

const net = NETS[shape]();
const weights = Object.fromEntries([...net.stateDict()].map(([name, parameter]) => [name, random([...parameter.shape])]));
const model = await compile(net, { weights, precision, threads: Number(threads), strict: false, ...(build && { build }) });
const session = await model.session({ context: 640, cache });
const prompt = Array.from({ length: PREFILL }, (_, i) => (i * 7919) % VOCABULARY);

/** Milliseconds of bringing the session to these tokens, of which it keeps the common prefix. */
async function timed(tokens) {
  const start = performance.now();
  await session.sync(tokens);
  return performance.now() - start;
}

async function steps(from) {
  const times = [];
  for (let i = 1; i <= STEPS; i++) times.push(await timed([...prompt.slice(0, from), ...Array.from({ length: i }, (_, j) => j)]));
  return 1000 / median(times.slice(STEPS / 4));
}

await timed(prompt);
session.seek(0);
const prefill = 1000 * PREFILL / await timed(prompt);
const few = await steps(FEW);
const many = await steps(MANY);
console.log(`${shape}, ${precision}, ${model.engine.build}, threads ${model.engine.threads}, cache ${cache}, weights ${(model.memory.weights / 1e6).toFixed(0)} MB: prefill of ${PREFILL} ${prefill.toFixed(0)} tokens/s, `
  + `steps after ${FEW + STEPS / 2} tokens ${few.toFixed(0)}, after ${MANY + STEPS / 2} ${many.toFixed(0)} tokens/s`);
model.dispose();
