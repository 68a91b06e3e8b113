/** Tokens of a small DeepSeek-V2, against whole sequences computed anew for each token. */
import assert from 'node:assert/strict';
import { after, before, describe, it, mock } from 'node:test';
import { fileURLToPath } from 'node:url';
import { compile, generate, LamellaError, models, safetensors, Tensor } from '../../js/index.js';
import { sharedEngine } from '../../js/init.js';
import { Runner } from '../../web/runner.js';

const build = /** @type {any} */ (process.env.LAMELLA_BUILD);
const path = fileURLToPath(new URL('../reference/fixtures/deepseek_v2_mla.safetensors', import.meta.url));
const PROMPT = [3, 1, 4, 1, 5];
/** @type {any} */
let weights;
/** @type {any} */
let fields;
/** @type {import('../../js/index.js').Model} */
let model;
before(async () => {
  weights = await safetensors.open(path);
  fields = JSON.parse(weights.metadata.cases)[0].args[0];
  model = await compile(new models.DeepseekV2ForCausalLM(fields), { weights, prefix: '0.weights.', build });
});
after(async () => {
  model.dispose();
  await weights.close();
});

/** @param {AsyncIterable<number>} tokens */
async function all(tokens) {
  const list = [];
  for await (const token of tokens) list.push(token);
  return list;
}

/** The likeliest tokens, each from the whole sequence before it. @param {number} count @param {number[]} [prompt] @param {number} [penalty] */
async function greedy(count, prompt = PROMPT, penalty = 1) {
  const ids = [...prompt];
  for (let i = 0; i < count; i++) {
    const { data, shape } = await model.forward(new Tensor(Int32Array.from(ids), [1, ids.length]));
    const row = data.slice(-shape[2]).map((x, token) => (!ids.includes(token) ? x : x > 0 ? x / penalty : x * penalty));
    ids.push(row.indexOf(Math.max(...row)));
  }
  return ids.slice(prompt.length);
}

const session = (context = 16) => model.session({ context });

describe('generate', () => {
  it('gives the likeliest tokens where no temperature is asked for, from the last row alone', async () => {
    const expected = await greedy(10);
    assert.ok(new Set(expected).size > 1, `${expected}`);
    const s = await session();
    const runs = mock.method(Runner.prototype, 'forward').mock;
    assert.deepEqual(await all(generate(s, PROMPT, { maxTokens: 10 })), expected);
    assert.deepEqual(runs.calls.map(({ arguments: [, [ids, rows]] }) => [ids.shape[1], rows.shape[1]]), [[5, 1], ...new Array(9).fill([1, 1])]);
    runs.restore();
    const layers = await model.profile(new Tensor(new Int32Array(14), [1, 14]), new Tensor(Int32Array.of(13), [1, 1]));
    const rows = layers.filter(({ shape }) => shape.at(-1) === fields.vocab_size);
    assert.deepEqual(rows.map(({ shape }) => shape), [[1, 1, fields.vocab_size]]);
    s.dispose();
  });

  it('computes nothing twice that the session has seen', async () => {
    const s = await session();
    const first = await all(generate(s, PROMPT, { maxTokens: 3 }));
    const runs = mock.method(Runner.prototype, 'forward').mock;
    const second = await all(generate(s, [...PROMPT, ...first, 2, 7], { maxTokens: 2 }));
    assert.deepEqual(runs.calls.map(({ arguments: [, [ids]] }) => ids.shape[1]), [3, 1]);   // the last of `first` was never forwarded
    runs.restore();
    assert.deepEqual(second, await greedy(2, [...PROMPT, ...first, 2, 7]));
    s.dispose();
  });

  it('draws the same tokens for the same seed, whatever other sessions do meanwhile', async () => {
    const options = { maxTokens: 9, temperature: 1.5, topK: 9, topP: 0.95, minP: 0.01, repetitionPenalty: 1.1 };
    const run = async (/** @type {number} */ seed) => {
      const s = await session();
      const tokens = await all(generate(s, PROMPT, { ...options, seed }));
      s.dispose();
      return tokens;
    };
    const alone = [await run(1), await run(2), await run(3)];
    assert.equal(new Set(alone.map(String)).size, 3);
    assert.deepEqual(await Promise.all([run(1), run(2), run(3)]), alone);
  });

  it('ends at stop tokens, at maxTokens and where the context does', async () => {
    const expected = await greedy(12);
    const s = await session();
    const stop = expected.find((token, i) => i > 2 && expected.indexOf(token) === i) ?? expected[0];
    assert.deepEqual(await all(generate(s, PROMPT, { stop })), expected.slice(0, expected.indexOf(stop)));
    assert.deepEqual(await all(generate(s, PROMPT, { stop: [fields.vocab_size, stop], maxTokens: 12 })), expected.slice(0, expected.indexOf(stop)));
    assert.deepEqual(await all(generate(s, PROMPT, { maxTokens: 0 })), []);
    assert.deepEqual(await all(generate(s, Int32Array.from(PROMPT))), expected);   // 16 - 5 and one that needs no room
    const got = [];
    await assert.rejects(async () => { for await (const token of generate(s, PROMPT, { maxTokens: 13 })) got.push(token); }, { code: 'shape', message: /the context of 16 tokens is full, with 17 of them; \{ slide: true \}/ });
    assert.deepEqual(got, expected);
    await assert.rejects(all(generate(s, new Array(17).fill(1))), { code: 'shape', message: /context of 16 tokens is full/ });
    s.dispose();
  });

  it('slides: keeps the first tokens and the newest half', async () => {
    const s = await session(8);
    const got = await all(generate(s, PROMPT, { maxTokens: 14, slide: true, keep: 2 }));
    let window = [...PROMPT];
    const expected = [];
    for (let i = 0; i < 14; i++) {
      if (window.length > 8) window = [...window.slice(0, 2), ...window.slice(-3)];
      const [token] = await greedy(1, window);
      expected.push(token);
      window.push(token);
    }
    assert.deepEqual(got, expected);
    s.dispose();
  });

  it('stops within one token when aborted, and the session goes on', async () => {
    const s = await session();
    const expected = await greedy(6);
    const controller = new AbortController();
    const got = [];
    await assert.rejects(async () => {
      for await (const token of generate(s, PROMPT, { signal: controller.signal })) if (got.push(token) === 3) setImmediate(() => controller.abort());
    }, { name: 'AbortError' });
    assert.ok(got.length <= 4, `${got.length}`);
    await assert.rejects(all(generate(s, PROMPT, { signal: AbortSignal.abort(new Error('enough')) })), { message: 'enough' });
    for await (const token of generate(s, PROMPT)) if (token) break;
    assert.deepEqual(await all(generate(s, PROMPT, { maxTokens: 6, signal: new AbortController().signal })), expected);
    s.dispose();
  });

  it('lets a hook change the logits, and says how fast it was', async () => {
    const s = await session();
    const [likeliest] = await greedy(1);
    /** @type {any[]} */
    const timings = [];
    /** @type {number[][]} */
    const seen = [];
    const got = await all(generate(s, PROMPT, {
      maxTokens: 4, onTiming: (timing) => timings.push(timing),
      logits: async (logits, tokens) => { assert.equal(logits.length, fields.vocab_size); logits[likeliest] = -Infinity; seen.push([...tokens]); },
    }));
    assert.ok(!got.includes(likeliest));
    assert.deepEqual(seen, got.map((_, i) => [...PROMPT, ...got.slice(0, i)]));
    assert.deepEqual(timings.map(({ prefill, decode }) => [prefill.tokens, decode.tokens]), [[5, 0], [5, 1], [5, 2], [5, 3]]);
    const { prefill, decode } = timings[3];
    for (const { tokens, milliseconds, tokensPerSecond } of [prefill, decode]) assert.ok(milliseconds > 0 && Math.abs(tokensPerSecond - (tokens / milliseconds) * 1000) < 1e-6);
    await assert.rejects(all(generate(s, PROMPT, { logits: (logits) => logits.fill(-Infinity) })), { code: 'state', message: /no token is possible/ });
    await assert.rejects(all(generate(s, PROMPT, { logits: () => { throw new Error('mine'); } })), { message: 'mine' });
    s.dispose();
  });

  it('makes what was there less likely', async () => {
    const s = await session();
    const expected = await greedy(8, PROMPT, 1.3);
    assert.notDeepEqual(expected, await greedy(8));
    assert.deepEqual(await all(generate(s, PROMPT, { maxTokens: 8, repetitionPenalty: 1.3 })), expected);
    s.dispose();
  });

  it('refuses nonsense', async () => {
    const s = await session();
    for (const [options, message] of /** @type {[any, RegExp][]} */ ([
      [{ temperature: -1 }, /temperature: expected a number of at least 0, got -1/], [{ temperature: NaN }, /temperature/], [{ topK: 1.5 }, /topK/], [{ topP: 0 }, /topP: expected a probability above 0/],
      [{ topP: 2 }, /topP/], [{ minP: -0.1 }, /minP/], [{ repetitionPenalty: 0 }, /repetitionPenalty/], [{ seed: 0.5 }, /seed/], [{ seed: 'a' }, /seed/], [{ stop: ['</s>'] }, /stop: expected tokens/],
      [{ stop: [-1] }, /stop/], [{ maxTokens: -1 }, /maxTokens/], [{ signal: 3 }, /signal: expected an AbortSignal/], [{ logits: 1 }, /logits: expected a function/], [{ onTiming: {} }, /onTiming/],
      [{ slide: 1 }, /slide/], [{ keep: 15 }, /keep: expected an integer from 0 to 14/], [{ temprature: 1 }, /there is no option "temprature"/],
    ])) await assert.rejects(all(generate(s, PROMPT, options)), (/** @type {any} */ e) => e instanceof LamellaError && e.code === 'argument' && message.test(e.message), JSON.stringify(options));
    await assert.rejects(all(generate(/** @type {any} */ (model), PROMPT)), { code: 'argument', message: /session: expected a session.*got Model/ });
    await assert.rejects(all(generate(s, [])), { code: 'argument', message: /tokens: expected at least one/ });
    await assert.rejects(all(generate(s, [1.5])), { code: 'argument' });
    await assert.rejects(all(generate(s, [fields.vocab_size])), { code: 'argument', message: /outside the table/ });
    s.dispose();
    await assert.rejects(all(generate(s, PROMPT)), { code: 'disposed' });
  });

  it('needs no more memory for many tokens, seeks and sessions', async () => {
    const { exports, memory } = await sharedEngine({ build });
    const round = async () => {
      const s = await session(16);
      assert.equal((await all(generate(s, PROMPT, { maxTokens: 40, slide: true, temperature: 1 }))).length, 40);
      await s.seek(3);
      await all(generate(s, PROMPT, { maxTokens: 10 }));
      const other = await session(12);
      await other.sync([1]);
      s.dispose();
      other.dispose();
      await model.forward(new Tensor(Int32Array.of(1), [1, 1]));   // what was disposed of is gone when it is done
      return [exports.lam_memory_used(), memory.buffer.byteLength];
    };
    const first = await round();
    for (let i = 0; i < 11; i++) assert.deepEqual(await round(), first);
  });
});
