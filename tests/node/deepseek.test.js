/** DeepseekV2ForCausalLM beyond the fixtures' numbers: decoding one token at a time, its weights' names, bad input. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { compile, LamellaError, models, safetensors, Tensor } from '../../js/index.js';
import { error } from './fixtures.js';

const build = /** @type {any} */ (process.env.LAMELLA_BUILD);
const path = (/** @type {string} */ name) => fileURLToPath(new URL(`../reference/fixtures/deepseek_v2_${name}.safetensors`, import.meta.url));
const TINY = {
  vocab_size: 11, hidden_size: 12, intermediate_size: 7, num_hidden_layers: 2, num_attention_heads: 2, num_key_value_heads: null, kv_lora_rank: 4, q_lora_rank: null, qk_rope_head_dim: 2,
  qk_nope_head_dim: 3, v_head_dim: 5, max_position_embeddings: 9,
};
const MOE = { n_routed_experts: 4, num_experts_per_tok: 2, moe_intermediate_size: 3, n_shared_experts: 1 };
const ids = (/** @type {number[]} */ ...list) => new Tensor(Int32Array.from(list), [1, list.length]);

/** Weights of the right shapes. @param {import('../../js/index.js').Module} module */
const anyWeights = (module) => Object.fromEntries([...module.stateDict()].map(([name, { shape }], n) => {
  const size = shape.reduce((product, length) => product * length, 1);
  return [name, new Tensor(Float32Array.from({ length: size }, (_, i) => Math.sin(n + i * 1.3) * 0.5), shape)];
}));

/** @param {Record<string, any>} fields @param {object} [options] */
function make(fields, options) {
  const module = new models.DeepseekV2ForCausalLM({ ...TINY, ...fields });
  return compile(module, { weights: anyWeights(module), build, ...options });
}

for (const file of ['mla', 'mla_greedy', 'mla_group_limited_greedy', 'mla_noaux_tc', 'mha', 'mha_greedy']) {
  describe(`one token at a time: ${file}`, () => {
    /** @type {any} */
    let weights;
    before(async () => { weights = await safetensors.open(path(file)); });
    after(() => weights.close());

    test('equals the whole sequence', async () => {
      for (const [i, { name, args }] of JSON.parse(weights.metadata.cases).entries()) {
        const model = await compile(new models.DeepseekV2ForCausalLM(args[0]), { weights, prefix: `${i}.weights.`, build });
        const stored = (await weights.tensor(`${i}.input.0@2`)).toFloat32();
        // Beyond its maximum a dynamic embedding turns earlier tokens by other angles than it did when they came.
        const t = Math.min(17, args[0].max_position_embeddings);
        const tokens = Int32Array.from(stored.subarray(0, t));
        const whole = await model.forward(new Tensor(tokens, [1, t]));
        const session = await model.session({ context: t, cache: 'f32' });
        const rows = [await session.forward(tokens.subarray(0, 4))];
        for (let at = 4; at < t; at++) rows.push(await session.forward([tokens[at]]));
        const together = Float32Array.from(rows.flatMap(({ data }) => [...data]));
        assert.ok(error({ data: together, shape: whole.shape }, whole) < 1e-5, `${name}: ${error({ data: together, shape: whole.shape }, whole)}`);
        // Again from the middle, several at a time.
        await session.seek(3);
        const rest = await session.forward(tokens.subarray(3));
        const expected = { data: whole.data.subarray(3 * args[0].vocab_size), shape: [1, t - 3, args[0].vocab_size] };
        assert.ok(error(rest, expected) < 1e-5, `${name}: ${error(rest, expected)}`);
        model.dispose();
      }
    });
  });
}

test('a folder that transformers wrote is read as it is', async () => {
  const folder = fileURLToPath(new URL('../reference/fixtures/deepseek_v3_saved', import.meta.url));
  const config = await models.DeepseekV2Config.fromPretrained(folder);
  const model = await compile(new models.DeepseekV2ForCausalLM(config), { weights: `${folder}/model.safetensors`, build });
  const io = await safetensors.open(`${folder}/io.safetensors`);
  const [ids, logits] = await Promise.all(['ids', 'logits'].map((name) => io.tensor(name)));
  const y = await model.forward(new Tensor(Int32Array.from(ids.toFloat32()), ids.shape));
  assert.ok(error(y, { data: logits.toFloat32(), shape: [...logits.shape] }) < 1e-4);
  await io.close();
  model.dispose();
});

test('a session keeps the latent and the rotated key of each token, or keys and values of each head', async () => {
  for (const [fields, width] of /** @type {const} */ ([[{}, 4 + 2], [{ use_mla: false, num_attention_heads: 3, num_key_value_heads: 1 }, 2 * 4]])) {
    const model = await make(fields);
    await (await model.session({ context: 8, cache: 'f32' })).forward([1]);
    assert.equal(model.memory.caches, 2 * 8 * width * 4);
    model.dispose();
  }
});

test('weights are named as in the checkpoints', () => {
  const module = new models.DeepseekV2ForCausalLM({ ...TINY, ...MOE, q_lora_rank: 6, attention_bias: true, topk_method: 'noaux_tc', n_group: 2, topk_group: 1, first_k_dense_replace: 1 });
  const attention = (/** @type {number} */ n) => Object.entries({
    'q_a_proj.weight': [6, 12], 'q_a_proj.bias': [6], 'q_a_layernorm.weight': [6], 'q_b_proj.weight': [10, 6], 'kv_a_proj_with_mqa.weight': [6, 12], 'kv_a_proj_with_mqa.bias': [6],
    'kv_a_layernorm.weight': [4], 'kv_b_proj.weight': [16, 4], 'o_proj.weight': [12, 10], 'o_proj.bias': [12],
  }).map(([name, shape]) => [`model.layers.${n}.self_attn.${name}`, shape]);
  const mlp = (/** @type {string} */ name, /** @type {number} */ width) => [[`${name}.gate_proj.weight`, [width, 12]], [`${name}.up_proj.weight`, [width, 12]], [`${name}.down_proj.weight`, [12, width]]];
  const expected = Object.fromEntries([
    ['model.embed_tokens.weight', [11, 12]], ['model.norm.weight', [12]], ['lm_head.weight', [11, 12]],
    ...[0, 1].flatMap((n) => [[`model.layers.${n}.input_layernorm.weight`, [12]], [`model.layers.${n}.post_attention_layernorm.weight`, [12]], ...attention(n)]),
    ...mlp('model.layers.0.mlp', 7), ['model.layers.1.mlp.gate.weight', [4, 12]], ['model.layers.1.mlp.gate.e_score_correction_bias', [4]],
    ...[0, 1, 2, 3].flatMap((e) => mlp(`model.layers.1.mlp.experts.${e}`, 3)), ...mlp('model.layers.1.mlp.shared_experts', 3),
  ]);
  assert.deepEqual(Object.fromEntries([...module.stateDict()].map(([name, { shape }]) => [name, [...shape]])), expected);
  const mha = new models.LlamaAttention({ ...TINY, use_mla: false, num_key_value_heads: 1, hidden_size: 12 });
  assert.deepEqual([...mha.stateDict()].map(([name, { shape }]) => [name, ...shape]), [['q_proj.weight', 12, 12], ['k_proj.weight', 6, 12], ['v_proj.weight', 6, 12], ['o_proj.weight', 12, 12]]);
});

test('layers behind the last one and saved frequencies are passed over; what is unknown is not', async () => {
  const module = new models.DeepseekV2ForCausalLM(TINY);
  const weights = anyWeights(module);
  const extra = { 'model.layers.2.eh_proj.weight': new Tensor([1, 2]), 'model.layers.10.mlp.gate.weight': new Tensor([1]), 'model.layers.0.self_attn.rotary_emb.inv_freq': new Tensor([1]) };
  const model = await compile(module, { weights: { ...weights, ...extra }, build });
  model.dispose();
  for (const name of ['model.layers.1.self_attn.q_a_proj.weight', 'layers.2.eh_proj.weight', 'model.inv_freq', 'model.layers.1.mlp.gate.weight']) {
    await assert.rejects(compile(module, { weights: { ...weights, [name]: new Tensor([1]) }, build }), (/** @type {any} */ e) => e.code === 'keys' && e.unexpected.length === 1 && e.unexpected[0] === name);
  }
  const prefixed = Object.fromEntries(Object.entries({ ...weights, ...extra }).map(([name, tensor]) => [`language.${name}`, tensor]));
  (await compile(module, { weights: prefixed, prefix: 'language.', build })).dispose();
});

test('a tied head needs no weight of its own, and may have it', async () => {
  const module = new models.DeepseekV2ForCausalLM({ ...TINY, tie_word_embeddings: true });
  const { 'lm_head.weight': head, ...weights } = anyWeights(module);
  const [tied, both, own] = await Promise.all([
    compile(module, { weights, build }), compile(module, { weights: { ...weights, 'lm_head.weight': weights['model.embed_tokens.weight'] }, build }),
    compile(new models.DeepseekV2ForCausalLM(TINY), { weights: { ...weights, 'lm_head.weight': head }, build }),
  ]);
  const [a, b, c] = await Promise.all([tied, both, own].map((model) => model.forward(ids(3, 1, 10))));
  assert.deepEqual(a.data, b.data);
  assert.notDeepEqual(a.data, c.data);
  for (const model of [tied, both, own]) model.dispose();
});

test('token ids outside the vocabulary are refused', async () => {
  const model = await make(MOE);
  for (const bad of [11, -1]) {
    await assert.rejects(model.forward(ids(0, bad)), (/** @type {any} */ e) => e instanceof LamellaError && e.code === 'argument' && e.message.includes(String(bad)) && e.message.includes('11'));
  }
  await assert.rejects(model.forward(new Tensor([[0.5, 1]])), { code: 'argument' });
  assert.deepEqual((await model.forward(ids(10))).shape, [1, 1, 11]);
  model.dispose();
});

test('a sequence longer than max_position_embeddings is refused, and a session for one', async () => {
  const model = await make({});
  await assert.rejects(model.forward(new Tensor(new Int32Array(20), [2, 10])), { code: 'shape', message: /\[2, 10\] has 10 tokens, more than max_position_embeddings 9/ });
  await assert.rejects(model.session({ context: 10 }), { code: 'shape', message: /a context of 10 tokens is more than max_position_embeddings 9/ });
  assert.deepEqual((await model.forward(new Tensor(new Int32Array(18), [2, 9]))).shape, [2, 9, 11]);
  const session = await model.session({ context: 9 });
  await session.forward(new Int32Array(9));
  await assert.rejects(session.forward([1]), { code: 'shape' });
  model.dispose();
  for (const type of ['linear', 'dynamic']) {
    const longer = await make({ rope_scaling: { type, factor: 2 }, qk_rope_head_dim: 4 });
    assert.deepEqual((await longer.forward(new Tensor(new Int32Array(18), [1, 18]))).shape, [1, 18, 11]);
    await assert.rejects(longer.forward(new Tensor(new Int32Array(19), [1, 19])), { code: 'shape', message: /more than max_position_embeddings 18/ });
    longer.dispose();
  }
});

test('inputs of another shape or kind are refused', async () => {
  const model = await make({});
  await assert.rejects(model.forward(new Tensor(new Int32Array(4), [4])), { code: 'shape' });
  await assert.rejects(model.forward(new Tensor(new Int32Array(4), [1, 2, 2])), { code: 'shape' });
  await assert.rejects(model.forward('hello'), { code: 'argument' });
  model.dispose();
});

test('a checkpoint of another configuration is refused with every name that differs', async () => {
  const weights = anyWeights(new models.DeepseekV2ForCausalLM(TINY));
  const module = new models.DeepseekV2ForCausalLM({ ...TINY, ...MOE, topk_method: 'noaux_tc', n_group: 2, topk_group: 2, q_lora_rank: 3, qk_rope_head_dim: 4 });
  await assert.rejects(compile(module, { weights, build }), (/** @type {any} */ e) => e.code === 'keys'
    && e.missing.includes('model.layers.0.mlp.gate.e_score_correction_bias') && e.missing.includes('model.layers.1.mlp.experts.3.up_proj.weight') && e.missing.includes('model.layers.1.self_attn.q_a_proj.weight')
    && e.unexpected.includes('model.layers.0.mlp.gate_proj.weight') && e.unexpected.includes('model.layers.1.self_attn.q_proj.weight')
    && e.misshapen.some((/** @type {any} */ { name, expected }) => name === 'model.layers.0.self_attn.kv_a_proj_with_mqa.weight' && expected.join() === '8,12'));
});

test('modules refuse what is no configuration for them', () => {
  for (const Class of [models.DeepseekV2ForCausalLM, models.DeepseekV2Model, models.DeepseekV2MLP, models.DeepseekV2Attention, models.LlamaAttention]) {
    assert.throws(() => new Class({ ...TINY, hidden_size: -1 }), { code: 'argument', message: /hidden_size/ });
  }
  assert.throws(() => new models.MoEGate(TINY), { code: 'argument', message: /n_routed_experts: .*got null/ });
  assert.throws(() => new models.DeepseekV2MoE(TINY), { code: 'argument', message: /n_routed_experts/ });
  assert.throws(() => new models.DeepseekV2DecoderLayer(TINY, -1), { code: 'argument', message: /layer/ });
});

test('the tree prints', () => {
  const text = String(new models.DeepseekV2ForCausalLM({ ...TINY, ...MOE }));
  for (const part of ['DeepseekV2ForCausalLM(', '(self_attn): DeepseekV2Attention(', '4 x DeepseekV2MLP(', '(gate): MoEGate(4 experts, 2 of a token)']) assert.ok(text.includes(part), text);
});
