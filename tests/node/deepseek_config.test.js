/** DeepseekV2Config: its defaults, what it reads, and what it refuses. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { LamellaError, models } from '../../js/index.js';

const { DeepseekV2Config } = models;
const MOE = { n_routed_experts: 12, num_experts_per_tok: 3 };
const SIZES = { vocab_size: 1000, hidden_size: 2048, num_hidden_layers: 2, num_attention_heads: 16 };
const YARN = { type: 'yarn', factor: 40, original_max_position_embeddings: 4096, beta_fast: 32, beta_slow: 1, mscale: 0.707, mscale_all_dim: 0.707 };
// deepseek-ai/DeepSeek-V2-Lite.
const LITE = {
  architectures: ['DeepseekV2ForCausalLM'], attention_bias: false, attention_dropout: 0, aux_loss_alpha: 0.001, bos_token_id: 100000, eos_token_id: 100001, first_k_dense_replace: 1,
  hidden_act: 'silu', hidden_size: 2048, initializer_range: 0.02, intermediate_size: 10944, kv_lora_rank: 512, max_position_embeddings: 163840, model_type: 'deepseek_v2',
  moe_intermediate_size: 1408, moe_layer_freq: 1, n_group: 1, n_routed_experts: 64, n_shared_experts: 2, norm_topk_prob: false, num_attention_heads: 16, num_experts_per_tok: 6,
  num_hidden_layers: 27, num_key_value_heads: 16, pretraining_tp: 1, q_lora_rank: null, qk_nope_head_dim: 128, qk_rope_head_dim: 64, rms_norm_eps: 1e-6, rope_scaling: YARN, rope_theta: 10000,
  routed_scaling_factor: 1, scoring_func: 'softmax', seq_aux: true, tie_word_embeddings: false, topk_group: 1, topk_method: 'greedy', torch_dtype: 'bfloat16', use_cache: true,
  v_head_dim: 128, vocab_size: 102400,
};

test('the defaults are those of the seed', () => {
  // In the order of the seed's __init__.
  assert.deepEqual({ ...new DeepseekV2Config() }, {
    vocab_size: 102400, hidden_size: 4096, intermediate_size: 11008, moe_intermediate_size: 1407, num_hidden_layers: 30, num_attention_heads: 32, num_key_value_heads: 32,
    n_shared_experts: null, n_routed_experts: null, ep_size: 1, routed_scaling_factor: 1, kv_lora_rank: 512, q_lora_rank: 1536, qk_rope_head_dim: 64, v_head_dim: 128,
    qk_nope_head_dim: 128, topk_method: 'gready', n_group: null, topk_group: null, num_experts_per_tok: null, moe_layer_freq: 1, first_k_dense_replace: 0, norm_topk_prob: false,
    scoring_func: 'softmax', aux_loss_alpha: 0.001, seq_aux: true, hidden_act: 'gelu', attention_dropout: 0, use_attention_bias: false, max_position_embeddings: 2048,
    initializer_range: 0.02, rms_norm_eps: 1e-6, use_cache: true, pad_token_id: null, bos_token_id: 100000, eos_token_id: 100001, pretraining_tp: 1, tie_word_embeddings: false,
    rope_theta: 10000, rope_scaling: null, attention_bias: false, use_mla: true, ffn_dropout: 0,
    mlp_bias: false, rope_interleave: true,   // not the seed's: transformers'
  });
});

test('fields are taken as they are, unknown ones kept', () => {
  const config = new DeepseekV2Config(LITE);
  assert.deepEqual(Object.entries(LITE).filter(([name, value]) => /** @type {any} */ (config)[name] !== value), []);
  assert.equal(/** @type {any} */ (config).torch_dtype, 'bfloat16');
  assert.equal(config.use_mla, true);
  assert.equal(new DeepseekV2Config({ hidden_size: undefined }).hidden_size, 4096);
  assert.equal(new DeepseekV2Config({ topk_method: 'gready', ...MOE }).topk_method, 'gready');
  assert.equal(new DeepseekV2Config({ attention_dropout: 0.1, ffn_dropout: 0.2 }).ffn_dropout, 0.2);
  assert.deepEqual(new DeepseekV2Config(JSON.parse(JSON.stringify(config))), config);
});

test('a missing number of key-value heads is that of the heads', () => {
  assert.equal(new DeepseekV2Config({ num_attention_heads: 10, num_key_value_heads: null }).num_key_value_heads, 10);
  assert.equal(new DeepseekV2Config({ num_attention_heads: 10 }).num_key_value_heads, 32);
});

test('attention_bias has two names', () => {
  for (const fields of [{ attention_bias: true }, { use_attention_bias: true }, { attention_bias: true, use_attention_bias: true }]) {
    const { attention_bias: bias, use_attention_bias: other } = new DeepseekV2Config(fields);
    assert.deepEqual([bias, other], [true, true]);
  }
});

test('rope_parameters, as transformers writes them, are rope_theta and rope_scaling', () => {
  const config = new DeepseekV2Config({ rope_parameters: { rope_theta: 500, rope_type: 'linear', factor: 2 } });
  assert.equal(config.rope_theta, 500);
  assert.deepEqual(config.rope_scaling, { rope_type: 'linear', factor: 2 });
  const plain = new DeepseekV2Config({ rope_parameters: { rope_theta: 500, rope_type: 'default' } });
  assert.deepEqual([plain.rope_theta, plain.rope_scaling], [500, null]);
});

test('what a published file omits is as in the class that wrote it', async () => {
  const config = await DeepseekV2Config.fromPretrained({ model_type: 'deepseek_v2', ...SIZES, q_lora_rank: null, ...MOE });
  assert.deepEqual([config.hidden_act, config.scoring_func, config.topk_method, config.max_position_embeddings, config.q_lora_rank], ['silu', 'softmax', 'gready', 2048, null]);
  assert.equal((await DeepseekV2Config.fromPretrained({ ...SIZES, hidden_act: 'gelu' })).hidden_act, 'gelu');
  const v3 = { ...SIZES, hidden_size: 64 };
  for (const fields of [{ ...v3, model_type: 'deepseek_v3' }, { ...v3, architectures: ['DeepseekV3ForCausalLM'] }]) {
    const { scoring_func: scoring, topk_method: method, norm_topk_prob: norm, n_routed_experts: experts, hidden_size: size, bos_token_id: bos } = await DeepseekV2Config.fromPretrained(fields);
    assert.deepEqual([scoring, method, norm, experts, size, bos], ['sigmoid', 'noaux_tc', true, 256, 64, 0]);
  }
});

test('of a model that has a language model its configuration is read', async () => {
  // deepseek-ai/deepseek-vl2-tiny, its language model.
  const tiny = {
    architectures: ['DeepseekV2ForCausalLM'], bos_token_id: 0, eos_token_id: 1, first_k_dense_replace: 1, hidden_size: 1280, intermediate_size: 6848, kv_lora_rank: null, max_position_embeddings: 4096,
    model_type: 'deepseek_v2', moe_intermediate_size: 896, n_group: 1, n_routed_experts: 64, n_shared_experts: 2, num_attention_heads: 10, num_experts_per_tok: 6, num_hidden_layers: 12,
    num_key_value_heads: 10, q_lora_rank: null, qk_nope_head_dim: 0, qk_rope_head_dim: 0, topk_group: 1, topk_method: 'greedy', use_mla: false, v_head_dim: 0, vocab_size: 129280,
  };
  const config = await DeepseekV2Config.fromPretrained({ model_type: 'deepseek_vl_v2', vision_config: {}, language_config: tiny });
  assert.deepEqual([config.use_mla, config.hidden_act, config.hidden_size, config.rope_theta], [false, 'silu', 1280, 10000]);
  assert.throws(() => new DeepseekV2Config({ language_config: tiny }), /language_config.*fromPretrained/);
});

test('a file is read from a path, a folder, an address and bytes', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'deepseek-config-'));
  const path = join(folder, 'config.json');
  const text = JSON.stringify(LITE);
  writeFileSync(path, text);
  writeFileSync(join(folder, 'bad.json'), '{"hidden_size": ');
  const server = createServer((request, response) => (request.url === '/lite/config.json?x=1' ? response.end(text) : response.writeHead(404).end())).listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  const origin = `http://127.0.0.1:${/** @type {import('node:net').AddressInfo} */ (server.address()).port}`;
  try {
    for (const source of [path, folder, `${folder}/`, pathToFileURL(path), new TextEncoder().encode(text), new Blob([text]), `${origin}/lite/config.json?x=1`, `${origin}/lite?x=1`, `${origin}/lite/?x=1`]) {
      assert.equal((await DeepseekV2Config.fromPretrained(source)).hidden_size, 2048, String(source));
    }
    await assert.rejects(DeepseekV2Config.fromPretrained(join(folder, 'bad.json')), (/** @type {any} */ error) => error instanceof LamellaError && error.code === 'argument' && /bad\.json: expected a config\.json/.test(error.message));
    await assert.rejects(DeepseekV2Config.fromPretrained(`${origin}/none`), { code: 'http' });
    await assert.rejects(DeepseekV2Config.fromPretrained(join(folder, 'none')), { code: 'file' });
    await assert.rejects(DeepseekV2Config.fromPretrained(new TextEncoder().encode('[1]').buffer), { code: 'argument' });
  } finally {
    server.close();
    rmSync(folder, { recursive: true });
  }
});

test('a file without a size that nothing else tells is refused, with its name', async () => {
  for (const [Class, type] of /** @type {const} */ ([[DeepseekV2Config, 'deepseek_v2'], [DeepseekV2Config, 'deepseek_v3'], [models.LlamaConfig, 'llama']])) {
    assert.equal((await Class.fromPretrained({ ...SIZES, model_type: type })).hidden_size, 2048);
    for (const name of Object.keys(SIZES)) {
      const file = new TextEncoder().encode(JSON.stringify({ ...SIZES, model_type: type, [name]: undefined }));
      await assert.rejects(Class.fromPretrained(file), (/** @type {any} */ e) => e instanceof LamellaError && e.code === 'argument' && e.message.startsWith(`${Class.kind}: ${name} is missing`), name);
    }
  }
});

test('another model, and what is none, is refused', async () => {
  await assert.rejects(DeepseekV2Config.fromPretrained(/** @type {any} */ (7)), { code: 'argument', message: /^DeepseekV2Config: expected a URL.* got 7/ });
  await assert.rejects(DeepseekV2Config.fromPretrained({ model_type: 'llama' }), /model_type: expected "deepseek_v2" or "deepseek_v3", got "llama"/);
});

/** What is wrong, and what its error has to say. @type {[Record<string, any>, RegExp][]} */
const REFUSED = [
  [{ hidden_size: 0 }, /hidden_size: expected an integer of at least 1, got 0/],
  [{ num_hidden_layers: '27' }, /num_hidden_layers: .*got "27"/],
  [{ vocab_size: 1.5 }, /vocab_size/],
  [{ hiddenSize: 2048 }, /"hiddenSize" is spelled hidden_size/],
  [{ hidden_act: 'silly' }, /hidden_act: expected silu, .*gelu.* got "silly"/],
  [{ hidden_act: 'constructor' }, /hidden_act/],
  [{ rms_norm_eps: '1e-6' }, /rms_norm_eps: expected a number, got "1e-6"/],
  [{ tie_word_embeddings: 1 }, /tie_word_embeddings: expected true or false, got 1/],
  [{ attention_bias: true, use_attention_bias: false }, /attention_bias true and use_attention_bias false contradict/],
  [{ qk_rope_head_dim: 7 }, /qk_rope_head_dim: expected an even number, got 7/],
  [{ qk_rope_head_dim: 0 }, /qk_rope_head_dim/],
  [{ kv_lora_rank: null }, /kv_lora_rank/],
  [{ q_lora_rank: 0 }, /q_lora_rank/],
  [{ use_mla: false, num_attention_heads: 30, num_key_value_heads: 30 }, /hidden_size 4096 is not a multiple of num_attention_heads 30/],
  [{ use_mla: false, num_attention_heads: 16, num_key_value_heads: 6 }, /num_attention_heads 16 is not a multiple of num_key_value_heads 6/],
  [{ use_mla: false, hidden_size: 96, num_attention_heads: 32 }, /hidden_size 96 \/ num_attention_heads 32 is 3/],
  [{ use_mla: false, rope_scaling: YARN }, /use_mla false and rope_scaling\.type "yarn" contradict/],
  [{ rope_scaling: { type: 'linear' } }, /^DeepseekV2Config: rope_scaling: "linear": factor is missing$/],
  [{ rope_scaling: { type: 'yarn', factor: 4 } }, /rope_scaling: "yarn": original_max_position_embeddings is missing/],
  [{ rope_scaling: { type: 'longrope', factor: 4 } }, /^DeepseekV2Config: rope_scaling: type: expected .*"linear".*got "longrope"/],
  [{ rope_scaling: { type: 'linear', factor: 'four' } }, /^DeepseekV2Config: rope_scaling: factor: expected a number, got "four"$/],
  [{ rope_scaling: { type: 'linear', factor: 4, beta: 1 } }, /rope_scaling: "linear": there is no option "beta"/],
  [{ rope_scaling: { type: 'linear', rope_type: 'dynamic', factor: 4 } }, /"linear" and rope_type "dynamic" contradict/],
  [{ rope_scaling: 'linear' }, /rope_scaling: expected null or an object, got "linear"/],
  [{ rope_theta: 0 }, /^DeepseekV2Config: rope_theta: expected a number above 1, got 0$/],
  [{ rope_theta: 100, rope_parameters: { rope_theta: 1000 } }, /rope_theta 100 and rope_parameters\.rope_theta 1000 contradict/],
  [{ rope_scaling: YARN, rope_parameters: { rope_type: 'linear', factor: 2 } }, /rope_scaling\.type "yarn" and rope_parameters\.rope_type "linear" contradict/],
  [{ n_routed_experts: 8 }, /n_routed_experts 8 and num_experts_per_tok null contradict/],
  [{ n_routed_experts: 8, num_experts_per_tok: 9 }, /num_experts_per_tok 9 and n_routed_experts 8 contradict/],
  [{ ...MOE, n_shared_experts: -1 }, /n_shared_experts/],
  [{ ...MOE, moe_intermediate_size: 0 }, /moe_intermediate_size/],
  [{ ...MOE, moe_layer_freq: 0 }, /moe_layer_freq/],
  [{ scoring_func: 'sigmiod' }, /^DeepseekV2Config: scoring_func: expected softmax, sigmoid, got "sigmiod"$/],   // no experts, and yet
  [{ topk_method: 'greedily' }, /^DeepseekV2Config: topk_method: expected greedy, .*got "greedily"$/],
  [{ ...MOE, scoring_func: 'relu' }, /scoring_func: expected softmax, sigmoid, got "relu"/],
  [{ ...MOE, topk_method: 'best' }, /topk_method: expected greedy, .*got "best"/],
  [{ ...MOE, topk_method: 'group_limited_greedy' }, /topk_method "group_limited_greedy" and n_group null contradict/],
  [{ ...MOE, topk_method: 'noaux_tc', n_group: 4 }, /topk_method "noaux_tc" and topk_group null contradict/],
  [{ ...MOE, topk_method: 'noaux_tc', n_group: 5, topk_group: 2 }, /n_routed_experts 12 is not a multiple of n_group 5/],
  [{ ...MOE, topk_method: 'group_limited_greedy', n_group: 3, topk_group: 4 }, /topk_group 4 and n_group 3 contradict/],
  [{ ...MOE, topk_method: 'noaux_tc', n_group: 12, topk_group: 4 }, /noaux_tc.*n_group 12 of n_routed_experts 12/],
  [{ ...MOE, topk_method: 'group_limited_greedy', n_group: 6, topk_group: 1 }, /num_experts_per_tok 3 and topk_group 1, which leaves 2 experts/],
];

for (const [fields, message] of REFUSED) {
  test(`refused: ${JSON.stringify(fields)}`, () => {
    assert.throws(() => new DeepseekV2Config(fields), (/** @type {any} */ error) => error instanceof LamellaError && error.code === 'argument' && message.test(error.message)
      || assert.fail(`${error.name}: ${error.message}`));
  });
}

test('what is no object of fields is refused', () => {
  for (const fields of [null, 'config.json', [1]]) assert.throws(() => new DeepseekV2Config(/** @type {any} */ (fields)), { code: 'argument' });
});

test('fields that a branch does not read are not looked at', () => {
  new DeepseekV2Config({ use_mla: false, qk_rope_head_dim: 0, qk_nope_head_dim: 0, v_head_dim: 0, kv_lora_rank: null });
  new DeepseekV2Config({ hidden_size: 100, num_attention_heads: 3 });   // heads of MLA have widths of their own
  new DeepseekV2Config({ n_group: 5, topk_group: 9, topk_method: 'noaux_tc' });   // no experts
  new DeepseekV2Config({ ...MOE, n_group: 5, topk_group: 9 });   // greedy
});
