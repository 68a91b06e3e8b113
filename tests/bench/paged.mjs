/**
 * A model of DeepSeek-V2-Lite's exact structure (15.7 billion weights; random ones) whose experts stay in a file: node tests/bench/paged.mjs [options]
 *   --layers 27  --experts 64  --memory 3e9 (bytes for everything in the engine)  --precision q4  --store file|memory  --folder DIR  --prompt 16  --tokens 32
 *   --build relaxed  --threads 1
 * The checkpoint's bytes are made as they are read. Prints the memory, the hit rate and the speed.
 */
import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { compile, generate, models } from '../../js/index.js';
import { describeFile, shardTensors } from './synthetic.mjs';

const { values } = parseArgs({ options: Object.fromEntries(Object.entries({
  layers: '27', experts: '64', memory: '3e9', precision: 'q4', store: 'file', folder: '', prompt: '16', tokens: '32', build: 'relaxed', threads: '1',
}).map(([name, value]) => [name, { type: 'string', default: value }])) });
const number = (name) => Number(values[name]);
const status = (name) => Number(new RegExp(`${name}:\\s*(\\d+) kB`).exec(readFileSync('/proc/self/status', 'utf8'))[1]) * 1024;
const gb = (bytes) => `${(bytes / 1e9).toFixed(2)} GB`;

const config = {
  vocab_size: 102400, hidden_size: 2048, intermediate_size: 10944, moe_intermediate_size: 1408, num_hidden_layers: number('layers'), num_attention_heads: 16, num_key_value_heads: 16,
  n_shared_experts: 2, n_routed_experts: number('experts'), num_experts_per_tok: Math.min(6, number('experts')), first_k_dense_replace: 1, kv_lora_rank: 512, q_lora_rank: null,
  qk_rope_head_dim: 64, qk_nope_head_dim: 128, v_head_dim: 128, topk_method: 'greedy', n_group: 1, topk_group: 1, scoring_func: 'softmax', norm_topk_prob: false,
  routed_scaling_factor: 1, hidden_act: 'silu', rms_norm_eps: 1e-6, max_position_embeddings: 163840, rope_theta: 10000, attention_bias: false, tie_word_embeddings: false,
  rope_scaling: { type: 'yarn', factor: 40, original_max_position_embeddings: 4096, beta_fast: 32, beta_slow: 1, mscale: 0.707, mscale_all_dim: 0.707 },
};
const module = new models.DeepseekV2ForCausalLM(/** @type {any} */ (config));
const tensors = [...module.namedParameters()].map(([name, { shape }]) => /** @type {[string, number[]]} */ ([name, [...shape]]));
const count = tensors.reduce((sum, [, shape]) => sum + shape.reduce((a, b) => a * b, 1), 0);
const shards = shardTensors(tensors, 4e9).map((own) => describeFile(own));
console.log(`${(count / 1e9).toFixed(2)} billion weights in ${tensors.length} tensors, ${gb(shards.reduce((sum, { size }) => sum + size, 0))} as bf16 in ${shards.length} shards`);

async function* stream({ bytes, size }) { yield* bytes(0, size); }
const options = { precision: /** @type {any} */ (values.precision), build: /** @type {any} */ (values.build), threads: number('threads'), memoryLimit: number('memory'), context: 512 };
const refused = await compile(module, { ...options, weights: shards.map(stream) }).then((model) => model.dispose(), (error) => error);
console.log(refused ? `without a place outside: ${refused.message}` : 'it fits without a place outside');

/** What the others need, as the refusal without room for experts would say. */
const rest = await compile(module, { ...options, memoryLimit: 0, weights: shards.map(stream), experts: { memory: 0, store: 'memory' } }).then(() => 0, (error) => error.needed);
// 100 MB for activations and for what loading needs.
const memory = Math.max(0, number('memory') - rest - 100e6);
let start = performance.now();
let next = start;
const before = status('VmRSS');
const model = await compile(module, {
  ...options, weights: shards.map(stream), experts: { memory, store: /** @type {any} */ (values.store), ...(values.folder && { folder: values.folder }) },
  onProgress({ loaded, total }) {
    if (performance.now() < next) return;
    next = performance.now() + 30_000;
    console.log(`  ${(loaded / total * 100).toFixed(0)} % after ${((performance.now() - start) / 1000).toFixed(0)} s`);
  },
});
console.log(`loaded and packed in ${((performance.now() - start) / 1000).toFixed(0)} s; in the engine ${gb(model.memory.weights)}, of which ${gb(model.experts.memory)} for ${model.experts.slots} of ${model.experts.count} experts; outside ${gb(model.experts.stored)}`);
console.log(`the process holds ${gb(status('VmRSS'))}, at most ${gb(status('VmHWM'))} (${gb(before)} before)`);

const session = await model.session({ context: 512 });
const prompt = Array.from({ length: number('prompt') }, (_, i) => (i * 7919 + 13) % config.vocab_size);
const tell = (what, from, seconds, tokens) => {
  const [hits, misses, bytes] = [model.experts.hits - from.hits, model.experts.misses - from.misses, model.experts.bytesRead - from.bytesRead];
  console.log(`${what}: ${tokens} tokens in ${seconds.toFixed(2)} s, ${(tokens / seconds).toFixed(2)} tokens/s; hit rate ${(hits / (hits + misses) * 100).toFixed(1)} % of ${hits + misses}, ${gb(bytes)} read, ${(bytes / seconds / 1e9).toFixed(2)} GB/s`);
};
start = performance.now();
let from = model.experts;
await session.sync(prompt);
tell('prompt', from, (performance.now() - start) / 1000, prompt.length);
start = performance.now();
from = model.experts;
const ids = [];
for await (const token of generate(session, prompt, { maxTokens: number('tokens'), temperature: 1, topK: 50, seed: 1 })) ids.push(token);
tell('generated', from, (performance.now() - start) / 1000, ids.length);
console.log(`tokens ${ids.slice(0, 12).join(' ')} ...; ${new Set(ids).size} different of ${ids.length}`);
console.log(`the engine holds ${gb(model.memory.total)}; the process ${gb(status('VmRSS'))}, at most ${gb(status('VmHWM'))}`);
model.dispose();
