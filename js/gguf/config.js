/** The configuration of a model out of a GGUF file's metadata, under the names of config.json. */
import { badArgument, show } from '../arguments.js';
import { LamellaError } from '../errors.js';

/** @typedef {Record<string, any>} Metadata */
/** @typedef {{ name: string, metadata: Metadata, shape: (tensor: string) => readonly number[] | undefined, frequencies: Float32Array | null }} Described */

export const ARCHITECTURES = ['llama', 'deepseek2'];

/** Whole numbers of 64 bits come as bigint. @param {unknown} value */
const plain = (value) => (typeof value === 'bigint' ? Number(value) : value);

/**
 * @param {Described} file
 * @returns {Record<string, any>}
 * @throws {LamellaError} 'gguf' where something is missing or of a kind that is not supported.
 */
export function configOf(file) {
  const { metadata, name, shape } = file;
  const architecture = metadata['general.architecture'];
  /** @param {string} key @param {any} [fallback] */
  const read = (key, fallback) => {
    const value = plain(metadata[`${architecture}.${key}`]) ?? fallback;
    if (value === undefined) throw new LamellaError('gguf', `${name}: ${architecture}.${key} is missing`, { path: name });
    return one(`${architecture}.${key}`, value, name);
  };
  const table = shape('token_embd.weight');
  if (!table) throw new LamellaError('gguf', `${name}: token_embd.weight is missing`, { path: name });
  const heads = read('attention.head_count');
  const common = {
    vocab_size: table[0], hidden_size: read('embedding_length'), intermediate_size: read('feed_forward_length'), num_hidden_layers: read('block_count'),
    num_attention_heads: heads, max_position_embeddings: read('context_length'), rms_norm_eps: read('attention.layer_norm_rms_epsilon'), rope_theta: read('rope.freq_base', 10000),
    hidden_act: 'silu', tie_word_embeddings: !shape('output.weight'), rope_scaling: scaling(file, read),
    bos_token_id: plain(metadata['tokenizer.ggml.bos_token_id']) ?? null, eos_token_id: plain(metadata['tokenizer.ggml.eos_token_id']) ?? null,
  };
  if (architecture === 'deepseek2') return { ...common, ...latentAttention(read), ...experts(file, read) };
  if (read('expert_count', 0)) throw new LamellaError('gguf', `${name}: llama.expert_count ${read('expert_count')}: a llama with experts is not supported`, { path: name });
  const width = read('attention.key_length', common.hidden_size / heads);
  const turned = read('rope.dimension_count', width);
  if (turned !== width) throw new LamellaError('gguf', `${name}: llama.rope.dimension_count: expected all ${width} columns of a head, got ${turned}`, { path: name });
  return {
    ...common, model_type: 'llama', num_key_value_heads: read('attention.head_count_kv', heads), head_dim: width, attention_bias: Boolean(shape('blk.0.attn_q.bias')),
    mlp_bias: Boolean(shape('blk.0.ffn_up.bias')), sliding_window: read('attention.sliding_window', 0) || null,
  };
}

/** Instead of a number there may be a list that has one for each layer. @param {string} key @param {any} values @param {string} name */
export function one(key, values, name) {
  if (!Array.isArray(values)) return values;
  if (values.some((value) => value !== values[0])) throw new LamellaError('gguf', `${name}: ${key} ${show(values)}: layers that differ are not supported`, { path: name });
  return plain(values[0]);
}

/** @param {(key: string, fallback?: any) => any} read */
function latentAttention(read) {
  const rope = read('rope.dimension_count');
  return {
    use_mla: true, q_lora_rank: read('attention.q_lora_rank', null), kv_lora_rank: read('attention.kv_lora_rank'), qk_rope_head_dim: rope,
    // Newer files say under key_length what a token's cache holds.
    qk_nope_head_dim: read('attention.key_length_mla', read('attention.key_length')) - rope, v_head_dim: read('attention.value_length_mla', read('attention.value_length')),
    num_key_value_heads: read('attention.head_count'), rope_interleave: true,
  };
}

/** @param {Described} file @param {(key: string, fallback?: any) => any} read */
function experts({ name, shape }, read) {
  const count = read('expert_count', 0);
  if (!count) return { n_routed_experts: null };
  const gating = read('expert_gating_func', 1);
  const scoring = ['', 'softmax', 'sigmoid'][gating];
  if (!scoring) throw new LamellaError('gguf', `${name}: deepseek2.expert_gating_func: expected 1 (softmax) or 2 (sigmoid), got ${gating}`, { path: name });
  const dense = read('leading_dense_block_count', 0);
  const groups = read('expert_group_count', 1);
  const corrected = shape(`blk.${dense}.exp_probs_b.bias`);
  return {
    n_routed_experts: count, num_experts_per_tok: read('expert_used_count'), moe_intermediate_size: read('expert_feed_forward_length'),
    n_shared_experts: read('expert_shared_count', 0), first_k_dense_replace: dense, moe_layer_freq: 1, scoring_func: scoring,
    topk_method: corrected ? 'noaux_tc' : groups > 1 ? 'group_limited_greedy' : 'greedy', n_group: groups, topk_group: read('expert_group_used_count', groups),
    norm_topk_prob: read('expert_weights_norm', false), routed_scaling_factor: read('expert_weights_scale', 1) || 1,
  };
}

/** @param {Described} file @param {(key: string, fallback?: any) => any} read @returns {Record<string, any> | null} */
function scaling(file, read) {
  const type = read('rope.scaling.type', 'none');
  if (file.frequencies) return llama3(file, file.frequencies, read);
  if (type === 'none') return null;
  const factor = read('rope.scaling.factor');
  if (type === 'linear') return { type, factor };
  if (type !== 'yarn') throw badArgument(`${file.name}: rope.scaling.type`, '"none", "linear" or "yarn"', type);
  const original = read('rope.scaling.original_context_length');
  // Of DeepSeek's it is a tenth of mscale_all_dim, which mscale equals in all that were published.
  const scale = read('rope.scaling.yarn_log_multiplier', 0) * 10;
  const rounded = Math.round(scale * 1e4) / 1e4;   // as it was before it became f32
  return { type, factor, original_max_position_embeddings: original, beta_fast: read('rope.scaling.yarn_beta_fast', 32), beta_slow: read('rope.scaling.yarn_beta_slow', 1), ...(scale ? { mscale: rounded, mscale_all_dim: rounded } : {}) };
}

/**
 * Llama 3's files have the factors of the frequencies rather than what these are made of: which published numbers give them?
 * @param {Described} file
 * @param {Float32Array} factors
 * @param {(key: string, fallback?: any) => any} read
 */
function llama3({ name }, factors, read) {
  const [factor, low, high, original, base] = [Math.max(...factors), 1, 4, 8192, read('rope.freq_base', 10000)];
  const expected = Array.from(factors, (_, i) => {
    const length = 2 * Math.PI * base ** (i / factors.length);
    const smooth = Math.min(1, Math.max(0, (original / length - low) / (high - low)));
    return 1 / ((1 - smooth) / factor + smooth);
  });
  const worst = expected.findIndex((value, i) => Math.abs(value - factors[i]) > 1e-4 * value);
  if (worst >= 0) throw new LamellaError('gguf', `${name}: rope_freqs.weight: number ${worst} is ${factors[worst]}, as Llama 3 has ${expected[worst]}; other factors are not supported`, { path: name });
  return { rope_type: 'llama3', factor, low_freq_factor: low, high_freq_factor: high, original_max_position_embeddings: original };
}
