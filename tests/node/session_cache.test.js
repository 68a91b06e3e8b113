/** Sessions whose caches are kept in fewer bits: how far logits are off, what they take, and that nothing grows. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { compile, F, generate, Module, models, nn, safetensors, Tensor } from '../../js/index.js';
import { sharedEngine } from '../../js/init.js';
import { error } from './fixtures.js';

const build = /** @type {any} */ (process.env.LAMELLA_BUILD);
const path = (/** @type {string} */ name) => fileURLToPath(new URL(`../reference/fixtures/${name}.safetensors`, import.meta.url));
/** Errors that were measured, times two: the worst fixture's and the median. */
const BOUNDS = { f32: { worst: 1e-5, typical: 2e-6 }, f16: { worst: 5e-3, typical: 2e-3 }, q8: { worst: 8e-2, typical: 4e-2 } };
const FORMATS = /** @type {const} */ (['f32', 'f16', 'q8']);

/** Each model of a file of fixtures, and the tokens it is asked for. @param {string} file @param {any} Model @param {(model: any, tokens: Int32Array, vocabulary: number) => Promise<void>} body */
async function eachModel(file, Model, body) {
  const weights = await safetensors.open(path(file));
  for (const [i, { args }] of JSON.parse(String(weights.metadata.cases)).entries()) {
    const model = await compile(new Model(args[0]), { weights, prefix: `${i}.weights.`, build });
    const stored = (await weights.tensor(`${i}.input.0@2`)).toFloat32();
    await body(model, Int32Array.from(stored.subarray(0, Math.min(17, args[0].max_position_embeddings))), args[0].vocab_size);
    model.dispose();
  }
  await weights.close();
}

test('logits token by token are those of the whole sequence: exactly with f32, nearly with f16 and q8', async (t) => {
  /** @type {Record<string, number[]>} */
  const errors = { f32: [], f16: [], q8: [] };
  const files = /** @type {const} */ ([['llama', models.LlamaForCausalLM], ['deepseek_v2_mla', models.DeepseekV2ForCausalLM], ['deepseek_v2_mha', models.DeepseekV2ForCausalLM]]);
  for (const [file, Model] of files) {
    await eachModel(file, Model, async (model, tokens, vocabulary) => {
      const whole = await model.forward(new Tensor(tokens, [1, tokens.length]));
      for (const cache of FORMATS) {
        const session = await model.session({ context: tokens.length, cache });
        const rows = [...(await session.forward(tokens.subarray(0, 4))).data];
        for (let at = 4; at < tokens.length; at++) rows.push(...(await session.forward([tokens[at]])).data);
        errors[cache].push(error({ data: Float32Array.from(rows), shape: [1, tokens.length, vocabulary] }, whole));
        session.dispose();
      }
    });
  }
  for (const cache of FORMATS) {
    const sorted = errors[cache].sort((a, b) => a - b);
    t.diagnostic(`${cache}: ${sorted.length} models, median ${sorted[sorted.length >> 1].toExponential(1)}, worst ${sorted.at(-1)?.toExponential(1)}`);
    assert.ok(/** @type {number} */ (sorted.at(-1)) < BOUNDS[cache].worst && sorted[sorted.length >> 1] < BOUNDS[cache].typical, `${cache}: ${sorted}`);
  }
  for (const i of errors.f16.keys()) assert.ok(errors.f32[i] < errors.f16[i] && errors.f16[i] < errors.q8[i], `model ${i} of the sorted`);
});

const TINY = {
  vocab_size: 50, hidden_size: 32, intermediate_size: 48, num_hidden_layers: 2, num_attention_heads: 4, kv_lora_rank: 16, q_lora_rank: null, qk_rope_head_dim: 4, qk_nope_head_dim: 8,
  v_head_dim: 8, max_position_embeddings: 512, n_routed_experts: 4, num_experts_per_tok: 2, moe_intermediate_size: 16, n_shared_experts: 1, first_k_dense_replace: 1,
};

/** A small DeepSeek-V2 with some weights. @param {Record<string, any>} [fields] */
function tiny(fields = {}) {
  const module = new models.DeepseekV2ForCausalLM({ ...TINY, ...fields });
  const weights = Object.fromEntries([...module.stateDict()].map(([name, { shape }], n) => [name, new Tensor(Float32Array.from(
    { length: shape.reduce((product, size) => product * size, 1) }, (_, i) => (shape.length > 1 ? Math.sin(n + i * 1.37) * 0.5 : 1 + Math.sin(i) * 0.1)), shape)]));
  return compile(module, { weights, build });
}

test('what a session keeps is what it says, in each format, and nothing after dispose', async () => {
  const context = 8, layers = TINY.num_hidden_layers;
  // A scale for a row of halves, for 32 numbers of bytes; rows are whole words.
  const row = { f32: (/** @type {number} */ width) => 4 * width, f16: (/** @type {number} */ width) => 4 + 2 * width, q8: (/** @type {number} */ width) => 4 * Math.ceil(width / 32) + width };
  for (const [fields, rows] of /** @type {const} */ ([[{}, [16 + 4]], [{ use_mla: false, num_key_value_heads: 4 }, [32, 32]], [{ use_mla: false, num_key_value_heads: 2 }, [16, 16]]])) {
    const model = await tiny(fields);
    const sessions = await Promise.all(FORMATS.map((cache) => model.session({ context, cache })));
    assert.deepEqual(sessions.map(({ cache }) => cache), FORMATS);
    assert.deepEqual(model.memory.cacheFormats, { f32: 0, f16: 0, q8: 0 });
    for (const session of sessions) await session.forward([1, 2, 3]);
    const expected = Object.fromEntries(FORMATS.map((cache) => [cache, layers * context * rows.reduce((sum, width) => sum + row[cache](width), 0)]));
    assert.deepEqual(model.memory.cacheFormats, expected);
    assert.equal(model.memory.caches, expected.f32 + expected.f16 + expected.q8);
    assert.equal(model.memory.total, model.memory.weights + model.memory.activations + model.memory.caches);
    sessions[1].dispose();
    await sessions[0].forward([4]);
    assert.deepEqual(model.memory.cacheFormats, { ...expected, f16: 0 });
    model.dispose();
    assert.deepEqual([model.memory.caches, model.memory.cacheFormats], [0, { f32: 0, f16: 0, q8: 0 }]);
  }
});

test('halves are the default; another format is refused by its name', async () => {
  const model = await tiny();
  const session = await model.session({ context: 4 });
  assert.equal(session.cache, 'f16');
  await session.forward([1]);
  assert.ok(model.memory.cacheFormats.f16 > 0 && model.memory.caches === model.memory.cacheFormats.f16);
  for (const cache of /** @type {any[]} */ (['q4', 'F16', 16, null])) {
    await assert.rejects(model.session({ context: 4, cache }), { code: 'argument', message: /session: cache: expected one of 'f32', 'f16', 'q8', got / });
  }
  model.dispose();
});

test('a cache that more than attention reads is f32, whatever is asked for', async () => {
  class Averages extends Module {
    constructor() {
      super();
      this.fc = new nn.Linear(8, 8);
    }

    /** @param {any} x */
    forward(x) {
      const [all, read] = [F.cache(this.fc(x)), F.cache(x)];
      return F.add(F.scaledDotProductAttention(x, all, all, { isCausal: true, align: 'end' }), read.mean(1, { keepdim: true }));
    }
  }
  const numbers = Float32Array.from({ length: 48 }, (_, i) => Math.sin(i * i));
  const weights = { 'fc.weight': new Tensor(Float32Array.from({ length: 64 }, (_, i) => Math.cos(i)), [8, 8]), 'fc.bias': new Tensor(new Float32Array(8), [8]) };
  const model = await compile(new Averages(), { weights, inputs: [[1, null, 8]], build });
  const session = await model.session({ context: 6, cache: 'q8' });
  const whole = await model.forward(numbers);
  await session.forward(numbers.subarray(0, 32));
  const rest = await session.forward(numbers.subarray(32));
  assert.deepEqual(model.memory.cacheFormats, { f32: 6 * 8 * 4, f16: 0, q8: 6 * (8 + 4) });
  assert.ok(error(rest, { data: whole.data.subarray(32), shape: [1, 2, 8] }) < 2e-2);
  model.dispose();
});

test('seek and sync in each format give what a new session gives, several at once', async () => {
  for (const fields of [{}, { use_mla: false, num_key_value_heads: 2 }]) {
    const model = await tiny(fields);
    const first = Array.from({ length: 40 }, (_, i) => (i * 7) % 50);
    const second = [...first.slice(0, 25), 3, 1, 4, 1, 5];
    for (const cache of FORMATS) {
      const [session, other, fresh] = await Promise.all([48, 64, 40].map((context) => model.session({ context, cache })));
      const logits = await session.sync(first);
      await other.sync(second.slice(0, 7));
      assert.equal(session.kept(second), 25);
      const changed = await session.sync(second);
      assert.deepEqual([session.position, other.position], [30, 7]);
      // What is kept is the same bits; attention over them may add in another order.
      const near = (/** @type {any} */ a, /** @type {any} */ b) => assert.ok(error({ data: a, shape: [a.length] }, { data: b, shape: [b.length] }) < 1e-4 * (cache === 'f32' ? 0.1 : cache === 'f16' ? 10 : 100));
      near(changed, await other.sync(second));
      near(changed, await fresh.sync(second));
      await session.seek(12);
      assert.equal(session.kept(first), 12);
      near(await session.sync(first), logits);
      for (const s of [session, other, fresh]) s.dispose();
    }
    model.dispose();
  }
});

test('memory does not grow over 10,000 tokens, with seek and new sessions', async (t) => {
  const engine = await sharedEngine({ build });
  const model = await tiny({ num_hidden_layers: 1, first_k_dense_replace: 0 });
  let count = 0;
  const lap = async () => {
    for (const cache of FORMATS) {
      const session = await model.session({ context: 300, cache });
      for await (const _ of generate(session, [1, 2, 3, count % 50], { maxTokens: 200, temperature: 1, seed: count })) count++;
      await session.seek(50);
      for (let i = 0; i < 100; i++, count++) await session.forward([i % 50]);
      assert.equal(session.position, 150);
      session.dispose();
    }
    await model.forward(new Tensor(Int32Array.of(1, 2, 3), [1, 3]));
  };
  await lap();
  const [start, memory] = [engine.memory.buffer.byteLength, { ...model.memory }];
  global.gc?.();
  const heap = process.memoryUsage();
  while (count < 11000) await lap();
  assert.equal(engine.memory.buffer.byteLength, start);
  assert.deepEqual(model.memory, memory);
  assert.equal(memory.caches, 0);
  t.diagnostic(`${count} tokens: engine ${start} bytes before and after, heap ${((process.memoryUsage().heapUsed - heap.heapUsed) / 1e6).toFixed(1)} MB more`);
  model.dispose();
});
