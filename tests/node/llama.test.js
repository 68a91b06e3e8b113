/** LlamaForCausalLM beyond the fixtures' numbers: decoding, folders, precision, bad input. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { compile, models, safetensors, Tensor } from '../../js/index.js';
import { error } from './fixtures.js';

const build = /** @type {any} */ (process.env.LAMELLA_BUILD);
const path = (/** @type {string} */ name) => fileURLToPath(new URL(`../reference/fixtures/${name}`, import.meta.url));

test('one token at a time equals the whole sequence', async () => {
  const weights = await safetensors.open(path('llama.safetensors'));
  for (const [i, { name, args }] of JSON.parse(String(weights.metadata.cases)).entries()) {
    const t = Math.min(17, args[0].max_position_embeddings), vocabulary = args[0].vocab_size;
    const model = await compile(new models.LlamaForCausalLM(args[0]), { weights, prefix: `${i}.weights.`, build });
    const tokens = Int32Array.from((await weights.tensor(`${i}.input.0@2`)).toFloat32().subarray(0, t));
    const whole = await model.forward(new Tensor(tokens, [1, t]));
    const session = await model.session({ context: t, cache: 'f32' });
    const rows = [await session.forward(tokens.subarray(0, 4))];
    for (let at = 4; at < t; at++) rows.push(await session.forward([tokens[at]]));
    const off = error({ data: Float32Array.from(rows.flatMap(({ data }) => [...data])), shape: [1, t, vocabulary] }, whole);
    assert.ok(off < 1e-5, `${name}: ${off}`);
    model.dispose();
  }
  await weights.close();
});

test('a folder that transformers wrote is read as it is', async () => {
  const config = await models.LlamaConfig.fromPretrained(path('llama_saved'));
  const io = await safetensors.open(path('llama_saved/io.safetensors'));
  const [ids, logits] = await Promise.all(['ids', 'logits'].map((name) => io.tensor(name)));
  const model = await compile(new models.LlamaForCausalLM(config), { weights: path('llama_saved/model.safetensors'), build });
  const y = await model.forward(new Tensor(Int32Array.from(ids.toFloat32()), ids.shape));
  assert.ok(error(y, { data: logits.toFloat32(), shape: [...logits.shape] }) < 1e-4);
  await io.close();
  model.dispose();
});

test('weights in 8 and 4 bits: near the f32 logits, 8 nearer than 4, token by token too', async () => {
  const config = await models.LlamaConfig.fromPretrained(path('llama_saved'));
  const tokens = Int32Array.from({ length: 13 }, (_, i) => (i * 7) % 43);
  /** @type {any[]} */
  const runs = [];
  for (const options of /** @type {any[]} */ ([{}, { precision: 'q8' }, { precision: 'q4' }])) {
    const model = await compile(new models.LlamaForCausalLM(config), { weights: path('llama_saved/model.safetensors'), build, ...options });
    const whole = await model.forward(new Tensor(tokens, [1, 13]));
    const session = await model.session({ context: 13, cache: 'f32' });
    let last;
    for (const token of tokens) last = await session.forward([token]);
    runs.push({ whole, last, off: error(whole, runs[0]?.whole ?? whole), end: error(/** @type {any} */ (last), { data: whole.data.subarray(12 * 43), shape: [1, 1, 43] }) });
    model.dispose();
  }
  const [f32, q8, q4] = runs;
  assert.ok(q8.off > 1e-5 && q8.off < 0.1 && q4.off > 2 * q8.off && q4.off < 0.6, `${q8.off}, ${q4.off}`);
  assert.ok(f32.end < 1e-5 && q8.end < 0.01 && q4.end < 0.01, `${f32.end}, ${q8.end}, ${q4.end}`);
});

test('what is not supported is refused with its name', () => {
  for (const [fields, message] of /** @type {[any, RegExp][]} */ ([
    [{ model_type: 'gemma' }, /model_type: expected "llama" or "mistral", got "gemma"/], [{ partial_rotary_factor: 0.5 }, /partial_rotary_factor 0.5 is not supported/],
    [{ layer_types: ['full_attention', 'sliding_attention'] }, /layer_types/], [{ n_routed_experts: 4 }, /n_routed_experts 4/], [{ head_dim: 7 }, /head_dim: expected an even number, got 7/],
    [{ sliding_window: 0 }, /sliding_window/], [{ rope_scaling: { rope_type: 'longrope' } }, /got "longrope"/], [{ num_key_value_heads: 5 }, /num_key_value_heads/], [[1], /LlamaConfig: expected an object/],
    [{ rope_scaling: { rope_type: 'llama3', factor: 8, low_freq_factor: 4, high_freq_factor: 4, original_max_position_embeddings: 8 } }, /^LlamaConfig: rope_scaling: high_freq_factor: expected more than low_freq_factor 4, got 4$/],
    // Fields that DeepSeek-V2 has too.
    [{ hidden_size: 0 }, /^LlamaConfig: hidden_size: expected an integer of at least 1, got 0$/], [{ hidden_act: 'silly' }, /^LlamaConfig: hidden_act: /], [{ tie_word_embeddings: 'no' }, /^LlamaConfig: tie_word_embeddings: /],
    [{ num_attention_heads: 30, num_key_value_heads: 30 }, /^LlamaConfig: .*hidden_size 4096 is not a multiple of num_attention_heads 30/], [{ hiddenSize: 64 }, /^LlamaConfig: "hiddenSize" is spelled hidden_size/],
    [{ rope_theta: 0 }, /^LlamaConfig: rope_theta: /], [{ rope_scaling: { rope_type: 'linear' } }, /^LlamaConfig: rope_scaling: "linear": factor is missing$/],
    [{ rope_theta: 1, rope_parameters: { rope_theta: 2 } }, /^LlamaConfig: rope_theta 1 and rope_parameters.rope_theta 2 contradict/], [{ scoring_func: 'relu' }, /^LlamaConfig: scoring_func: /],
  ])) assert.throws(() => new models.LlamaConfig(fields), { code: 'argument', message });
});
