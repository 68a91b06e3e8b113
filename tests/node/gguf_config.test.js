/** What a GGUF file's metadata say, without a file: the configuration, and the tokenizer. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { configOf } from '../../js/gguf/config.js';
import { tokenizerOf } from '../../js/gguf/tokenizer.js';
import { LamellaError, text } from '../../js/index.js';

const fails = (/** @type {() => unknown} */ task, /** @type {string} */ code, /** @type {RegExp} */ message) => assert.throws(task, (/** @type {any} */ e) => {
  assert.ok(e instanceof LamellaError && e.code === code, String(e?.stack));
  assert.match(e.message, message);
  return true;
});

describe('configuration', () => {
  const SIZES = { 'embedding_length': 64, 'feed_forward_length': 96, 'block_count': 2n, 'attention.head_count': 4, 'context_length': 128, 'attention.layer_norm_rms_epsilon': 1e-5 };
  const LATENT = { 'rope.dimension_count': 16, 'attention.kv_lora_rank': 32, 'attention.key_length': 48, 'attention.value_length': 32 };
  const EXPERTS = { 'expert_count': 8, 'expert_used_count': 2, 'expert_feed_forward_length': 24 };
  /** @param {string} architecture @param {Record<string, any>} keys @param {Record<string, number[]>} [tensors] */
  const config = (architecture, keys, tensors = {}) => configOf({
    name: 'x.gguf', frequencies: null, shape: (name) => ({ 'token_embd.weight': [500, 64], ...tensors })[name],
    metadata: { 'general.architecture': architecture, ...Object.fromEntries(Object.entries({ ...SIZES, ...keys }).map(([key, value]) => [`${architecture}.${key}`, value])) },
  });
  const llama = (/** @type {Record<string, any>} */ keys, tensors = {}) => config('llama', keys, tensors);
  const deepseek = (/** @type {Record<string, any>} */ keys, tensors = {}) => config('deepseek2', { ...LATENT, ...keys }, tensors);

  it('of a llama: what is left out, and what is not', () => {
    const { num_hidden_layers: layers, num_key_value_heads: keys, head_dim: width, rope_theta: theta, sliding_window: window, tie_word_embeddings: tied, attention_bias: bias, mlp_bias: mlp, rope_scaling: scaling } = llama({});
    assert.deepEqual([layers, keys, width, theta, window, tied, bias, mlp, scaling], [2, 4, 16, 10000, null, true, false, false, null]);
    const given = llama({ 'attention.head_count_kv': 2, 'attention.key_length': 32, 'rope.dimension_count': 32, 'rope.freq_base': 5e5, 'attention.sliding_window': 40 },
      { 'output.weight': [500, 64], 'blk.0.attn_q.bias': [64], 'blk.0.ffn_up.bias': [96] });
    assert.deepEqual([given.num_key_value_heads, given.head_dim, given.rope_theta, given.sliding_window, given.tie_word_embeddings, given.attention_bias, given.mlp_bias], [2, 32, 5e5, 40, false, true, true]);
    assert.equal(llama({ 'attention.sliding_window': 0 }).sliding_window, null);
  });

  it('of a llama that is not supported is refused', () => {
    fails(() => llama({ expert_count: 8 }), 'gguf', /llama\.expert_count 8: a llama with experts is not supported$/);
    fails(() => llama({ 'rope.dimension_count': 8 }), 'gguf', /expected all 16 columns of a head, got 8$/);
    fails(() => llama({ 'block_count': undefined }), 'gguf', /llama\.block_count is missing$/);
  });

  it('layers that are the same are one number, layers that differ an error', () => {
    assert.equal(llama({ 'attention.head_count_kv': [2, 2] }).num_key_value_heads, 2);
    for (const list of [[4, 2], [2, 4]]) fails(() => llama({ 'attention.head_count_kv': list }), 'gguf', /llama\.attention\.head_count_kv .*: layers that differ are not supported$/);
  });

  it('positions that are scaled', () => {
    const scaled = (/** @type {Record<string, any>} */ keys) => llama(Object.fromEntries(Object.entries(keys).map(([key, value]) => [`rope.scaling.${key}`, value]))).rope_scaling;
    assert.equal(scaled({ type: 'none', factor: 4 }), null);
    assert.deepEqual(scaled({ type: 'linear', factor: 4 }), { type: 'linear', factor: 4 });
    const yarn = { type: 'yarn', factor: 40, original_context_length: 4096 };
    assert.deepEqual(scaled(yarn), { type: 'yarn', factor: 40, original_max_position_embeddings: 4096, beta_fast: 32, beta_slow: 1 });
    assert.deepEqual(scaled({ ...yarn, yarn_beta_fast: 16, yarn_beta_slow: 2, yarn_log_multiplier: Math.fround(0.0707) }),
      { type: 'yarn', factor: 40, original_max_position_embeddings: 4096, beta_fast: 16, beta_slow: 2, mscale: 0.707, mscale_all_dim: 0.707 });
    fails(() => scaled({ type: 'longrope', factor: 4 }), 'argument', /rope\.scaling\.type: expected "none", "linear" or "yarn", got "longrope"/);
  });

  it('latent attention, in older files and newer', () => {
    const { qk_nope_head_dim: nope, qk_rope_head_dim: rope, v_head_dim: v, q_lora_rank: rank, n_routed_experts: experts } = deepseek({});
    assert.deepEqual([nope, rope, v, rank, experts], [32, 16, 32, null, null]);
    const newer = deepseek({ 'attention.key_length': 48, 'attention.key_length_mla': 40, 'attention.value_length': 32, 'attention.value_length_mla': 20, 'attention.q_lora_rank': 24 });
    assert.deepEqual([newer.qk_nope_head_dim, newer.v_head_dim, newer.q_lora_rank], [24, 20, 24]);
  });

  it('how experts are chosen', () => {
    const chosen = (/** @type {Record<string, any>} */ keys, tensors = {}) => {
      const { scoring_func: score, topk_method: method, n_group: groups, topk_group: used, norm_topk_prob: norm, routed_scaling_factor: factor, first_k_dense_replace: dense, n_shared_experts: shared } = deepseek({ ...EXPERTS, ...keys }, tensors);
      return [score, method, groups, used, norm, factor, dense, shared];
    };
    assert.deepEqual(chosen({}), ['softmax', 'greedy', 1, 1, false, 1, 0, 0]);
    assert.deepEqual(chosen({ 'expert_weights_scale': 0 }), ['softmax', 'greedy', 1, 1, false, 1, 0, 0]);
    assert.deepEqual(chosen({ 'expert_group_count': 4, 'expert_group_used_count': 2, 'expert_shared_count': 1, 'leading_dense_block_count': 1 }), ['softmax', 'group_limited_greedy', 4, 2, false, 1, 1, 1]);
    const bias = { 'blk.1.exp_probs_b.bias': [8] };
    assert.deepEqual(chosen({ 'expert_gating_func': 2, 'expert_weights_norm': true, 'expert_weights_scale': 2.5, 'expert_group_count': 4, 'leading_dense_block_count': 1 }, bias),
      ['sigmoid', 'noaux_tc', 4, 4, true, 2.5, 1, 0]);
    assert.deepEqual(chosen({}, bias)[1], 'greedy', 'of the first layer that has experts');
    for (const gating of [0, 3]) fails(() => chosen({ 'expert_gating_func': gating }), 'gguf', /expert_gating_func: expected 1 \(softmax\) or 2 \(sigmoid\), got \d$/);
  });
});

describe('tokenizer', () => {
  const made = (/** @type {Record<string, any>} */ keys) => tokenizerOf('x.gguf', Object.fromEntries(Object.entries(keys).map(([key, value]) => [`tokenizer.ggml.${key}`, value])));
  const BYTES = { model: 'gpt2', tokens: ['<s>', '</s>', 'a', 'b', 'ab', 'c', 'Ġ', '!!'], token_type: [3, 3, 1, 1, 1, 1, 1, 4], merges: ['a b'], bos_token_id: 0, eos_token_id: 1 };
  const PIECES = { model: 'llama', tokens: ['<unk>', '<s>', '</s>', '▁', 'a', 'b', 'c', 'ab', 'bc', '▁a'], token_type: [2, 3, 3, 1, 1, 1, 1, 1, 1, 1], scores: [0, 0, 0, -9, -9, -9, -9, -1, -1, -3], bos_token_id: 1, eos_token_id: 2 };

  it('puts around a text what the file says, or what its kind does', () => {
    const around = (/** @type {Record<string, any>} */ keys) => made(keys).post_processor?.single.map((/** @type {any} */ part) => part.SpecialToken?.id ?? '');
    assert.deepEqual(around(BYTES), undefined);
    assert.deepEqual(around({ ...BYTES, add_bos_token: true, add_eos_token: true }), ['<s>', '', '</s>']);
    assert.deepEqual(around(PIECES), ['<s>', '']);
    assert.deepEqual(around({ ...PIECES, add_bos_token: false }), undefined);
    assert.deepEqual(around({ ...PIECES, bos_token_id: 99 }), undefined);
  });

  it('knows special tokens from those that a user defined', async () => {
    assert.deepEqual(made(BYTES).added_tokens.map((/** @type {any} */ { id, special }) => [id, special]), [[0, true], [1, true], [7, false]]);
    const tokenizer = await text.loadTokenizer(made(BYTES));
    assert.deepEqual(tokenizer.encode('ab!!c'), [4, 7, 5]);
    assert.equal(tokenizer.decode([0, 4, 7, 5, 1]), 'ab!!c');
  });

  it('takes a whole word that is a token before any merge where Llama 3 does', () => {
    assert.equal(made({ ...BYTES, pre: 'llama-bpe' }).model.ignore_merges, true);
    assert.equal(made({ ...BYTES, pre: 'smollm' }).model.ignore_merges, false);
    fails(() => made({ ...BYTES, pre: 'toString' }), 'tokenizer', /tokenizer\.ggml\.pre: expected one of .*, got "toString"/);
    fails(() => made({ ...BYTES, merges: undefined }), 'tokenizer', /merges is missing/);
  });

  it('merges pieces by their scores, the first of equal ones, with a blank in front or without', async () => {
    const encode = async (/** @type {Record<string, any>} */ keys, /** @type {string} */ given) => (await text.loadTokenizer(made(keys))).encode(given, { addSpecialTokens: false });
    assert.deepEqual(await encode(PIECES, 'abc'), [3, 7, 6]);
    assert.deepEqual(await encode({ ...PIECES, scores: [0, 0, 0, -9, -9, -9, -9, -1, -0.5, -3] }, 'abc'), [9, 8]);
    assert.deepEqual(await encode({ ...PIECES, add_space_prefix: false }, 'abc a'), [7, 6, 9]);
    const { merges } = made(PIECES).model;
    assert.deepEqual(merges, [['a', 'b'], ['b', 'c'], ['▁', 'a']]);
    fails(() => made({ ...PIECES, scores: undefined }), 'tokenizer', /scores is missing/);
  });
});
