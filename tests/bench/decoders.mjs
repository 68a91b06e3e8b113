/** The decoders that decode.mjs and generation.mjs time, with random weights: for lamella, and as GGUF files for llama.cpp. */
import { compile, models, Tensor } from '../../js/index.js';
import { F32, gguf, q4Blocks } from './gguf.mjs';

export const VOCABULARY = 32000;
const LLAMA = { width: 768, inner: 2048, layers: 12, heads: 12 };
const MLA = { width: 1024, inner: 2048, layers: 8, heads: 16, latent: 512, nope: 128, rope: 64, v: 128, experts: 16, chosen: 4, expert: 512 };
const common = { vocab_size: VOCABULARY, max_position_embeddings: 2048, rms_norm_eps: 1e-5, rope_theta: 10000, hidden_act: 'silu' };

/** llama: 110 M weights. mla: DeepSeek-V2's latent attention and experts. */
export const NETS = {
  llama: () => new models.LlamaForCausalLM({
    ...common, hidden_size: LLAMA.width, intermediate_size: LLAMA.inner, num_hidden_layers: LLAMA.layers, num_attention_heads: LLAMA.heads, num_key_value_heads: LLAMA.heads,
    tie_word_embeddings: true,
  }),
  mla: () => new models.DeepseekV2ForCausalLM({
    ...common, hidden_size: MLA.width, intermediate_size: MLA.inner, moe_intermediate_size: MLA.expert, num_hidden_layers: MLA.layers, num_attention_heads: MLA.heads,
    num_key_value_heads: MLA.heads, n_routed_experts: MLA.experts, num_experts_per_tok: MLA.chosen, n_shared_experts: 1, kv_lora_rank: MLA.latent, q_lora_rank: MLA.latent,
    qk_nope_head_dim: MLA.nope, qk_rope_head_dim: MLA.rope, v_head_dim: MLA.v, first_k_dense_replace: 1,
    moe_layer_freq: 1, topk_method: 'greedy', scoring_func: 'softmax', norm_topk_prob: false, routed_scaling_factor: 1, n_group: 1, topk_group: 1,
  }),
};

let state = 1;
const next = () => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) / 2 ** 31 - 1;
/** Norms around 1, matrices that keep the size of what they multiply. */
function random(dims) {
  const [middle, spread] = dims.length === 1 ? [1, 0.1] : [0, 1 / Math.sqrt(dims.at(-1))];
  const data = new Float32Array(dims.reduce((a, b) => a * b, 1));
  for (let i = 0; i < data.length; i++) data[i] = middle + next() * spread;
  return new Tensor(data, dims);
}

/** @param {keyof typeof NETS} shape */
export const randomWeights = (shape) => Object.fromEntries([...NETS[shape]().stateDict()].map(([name, parameter]) => [name, random([...parameter.shape])]));

/**
 * @param {keyof typeof NETS} shape
 * @param {{ weights?: Record<string, Tensor>, precision?: string, threads?: number, build?: string, cache?: string, context?: number }} options
 */
export async function openDecoder(shape, { weights = randomWeights(shape), precision = 'q4', threads = 1, build, cache = 'f16', context = 640 } = {}) {
  const model = await compile(NETS[shape](), { weights, precision, threads, strict: false, ...(build && { build }) });
  const session = await model.session({ context, cache });
  const prompt = Array.from({ length: context }, (_, i) => (i * 7919) % VOCABULARY);
  const timed = async (tokens) => {
    const start = performance.now();
    await session.sync(tokens);
    return performance.now() - start;
  };
  return {
    model, session, prompt,
    /** Milliseconds of a prompt of so many tokens, none of which is there yet. */
    async prefill(tokens) {
      await session.seek(0);
      return timed(prompt.slice(0, tokens));
    },
    /** Milliseconds of each of `count` steps after so many tokens. */
    async steps(from, count) {
      await session.sync(prompt.slice(0, from));
      const times = [];
      for (let i = 1; i <= count; i++) times.push(await timed([...prompt.slice(0, from), ...Array.from({ length: i }, (_, j) => j)]));
      return times;
    },
  };
}

/** Bytes of weights that a step reads, given all that are packed: not the table of embeddings (halves), not the experts that are not chosen, and not W_UK in the form that only prefill takes. */
export function touchedWeights(shape, packed, precision = 'q4') {
  const bits = { q4: 4.5, q8: 8, f16: 16, f32: 32 }[precision];
  if (shape === 'llama') return packed - VOCABULARY * LLAMA.width * (precision === 'f32' ? 4 : 2);
  const { width, layers, heads, latent, nope, experts, chosen, expert } = MLA;
  return packed - VOCABULARY * width * (precision === 'f32' ? 4 : 2) - (layers - 1) * (experts - chosen) * 3 * width * expert * bits / 8 - layers * heads * nope * latent * 4;
}

// ---- the same shapes for llama.cpp --------------------------------------------------------------------------------------

const STD = 4.6;   // of codes 0 .. 15 minus 8
function blocks(shape) {
  const count = shape.reduce((a, b) => a * b, 1);
  const scale = 2 ** Math.round(Math.log2(1 / Math.sqrt(shape[0]) / STD));
  return q4Blocks({ codes: new Uint8Array(count).map(() => (next() + 1) * 8), scales: new Float32Array(count / 32).fill(scale) });
}
const matrix = (name, ...shape) => [name, shape, blocks(shape)];
const ones = (name, size) => [name, [size], new Uint8Array(new Float32Array(size).fill(1).buffer)];
const floats = (name, ...shape) => [name, shape, new Uint8Array(Float32Array.from({ length: shape[0] * shape[1] }, () => next() / Math.sqrt(shape[0])).buffer), F32];
const numbers = (object) => Object.entries(object).map(([name, value]) => [name, 'u32', value]);

/** Special and byte tokens get rows of zeros, or a reply would not be text. */
function words(name, width) {
  const [, shape, data] = matrix(name, width, VOCABULARY);
  for (let block = 0; block < 259 * width / 32; block++) data.fill(0, block * 18, block * 18 + 2);
  return [name, shape, data];
}

/** @returns {Record<'llama' | 'mla', () => Uint8Array[]>} */
export const GGUFS = {
  llama() {
    const { width, inner, layers, heads } = LLAMA;
    const own = [...numbers({ context_length: 1024, embedding_length: width, block_count: layers, feed_forward_length: inner, 'rope.dimension_count': width / heads,
      'attention.head_count': heads, 'attention.head_count_kv': heads }), ['attention.layer_norm_rms_epsilon', 'f32', 1e-5], ['rope.freq_base', 'f32', 1e4]];
    return gguf('llama', VOCABULARY, own, [words('token_embd', width), ones('output_norm', width), ...Array.from({ length: layers }, (_, i) => {
      const in_ = (name, ...shape) => matrix(`blk.${i}.${name}`, ...shape);
      return [ones(`blk.${i}.attn_norm`, width), ones(`blk.${i}.ffn_norm`, width), ...['q', 'k', 'v', 'output'].map(name => in_(`attn_${name}`, width, width)),
        in_('ffn_gate', width, inner), in_('ffn_up', width, inner), in_('ffn_down', inner, width)];
    }).flat()]);
  },
  mla() {
    const { width, inner, layers, heads, latent, nope, rope, v, experts, chosen, expert } = MLA;
    const own = [...numbers({ context_length: 1024, embedding_length: width, block_count: layers, feed_forward_length: inner, 'rope.dimension_count': rope,
      'attention.head_count': heads, 'attention.head_count_kv': 1, 'attention.q_lora_rank': latent, 'attention.kv_lora_rank': latent, 'attention.key_length': latent + rope,
      'attention.value_length': latent, 'attention.key_length_mla': nope + rope, 'attention.value_length_mla': v, leading_dense_block_count: 1, expert_count: experts,
      expert_used_count: chosen, expert_feed_forward_length: expert, expert_shared_count: 1, expert_gating_func: 1 }),
    ['attention.layer_norm_rms_epsilon', 'f32', 1e-6], ['rope.freq_base', 'f32', 1e4], ['rope.scaling.yarn_log_multiplier', 'f32', 0],   // llama.cpp of 2025 asks for it
    ['expert_weights_scale', 'f32', 1], ['expert_weights_norm', 'bool', true]];
    return gguf('deepseek2', VOCABULARY, own, [words('token_embd', width), ones('output_norm', width), words('output', width), ...Array.from({ length: layers }, (_, i) => {
      const in_ = (name, ...shape) => matrix(`blk.${i}.${name}`, ...shape);
      const each = (suffix, size, ...more) => [in_(`ffn_gate${suffix}`, width, size, ...more), in_(`ffn_up${suffix}`, width, size, ...more), in_(`ffn_down${suffix}`, size, width, ...more)];
      return [ones(`blk.${i}.attn_norm`, width), ones(`blk.${i}.attn_q_a_norm`, latent), ones(`blk.${i}.attn_kv_a_norm`, latent), ones(`blk.${i}.ffn_norm`, width),
        in_('attn_q_a', width, latent), in_('attn_q_b', latent, heads * (nope + rope)), in_('attn_kv_a_mqa', width, latent + rope), in_('attn_k_b', nope, latent, heads),
        in_('attn_v_b', latent, v, heads), in_('attn_output', heads * v, width),
        ...(i ? [floats(`blk.${i}.ffn_gate_inp`, width, experts), ...each('_exps', expert, experts), ...each('_shexp', expert)] : each('', inner))];
    }).flat()]);
  },
};
