/** Experts outside of the engine's memory: the same numbers with room for one of them or for all, in files and in memory, also after errors and aborts. */
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import fsPromises from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { compile, LamellaError, models, nn } from '../../js/index.js';
import { sharedEngine } from '../../js/init.js';
import { openFile } from '../../js/experts/store.js';

const config = {
  vocab_size: 96, hidden_size: 64, intermediate_size: 96, moe_intermediate_size: 32, num_hidden_layers: 4, first_k_dense_replace: 1, num_attention_heads: 4, num_key_value_heads: 4,
  q_lora_rank: null, kv_lora_rank: 32, qk_nope_head_dim: 16, qk_rope_head_dim: 16, v_head_dim: 16, n_routed_experts: 8, n_shared_experts: 1, num_experts_per_tok: 3,
  topk_method: 'greedy', scoring_func: 'softmax', norm_topk_prob: false, routed_scaling_factor: 1, hidden_act: 'silu', rms_norm_eps: 1e-6, max_position_embeddings: 256,
  rope_theta: 10000, attention_bias: false, tie_word_embeddings: false,
};
const LAYERS = 3;
const folder = mkdtempSync(join(tmpdir(), 'lamella-paging-'));
after(() => rmSync(folder, { recursive: true, force: true }));

const module = new models.DeepseekV2ForCausalLM(/** @type {any} */ (config));
let state = 7;
const random = () => (state = Math.imul(state ^ state >>> 15, 0x2c1b3c6d) + 0x9e3779b9 | 0) / 2 ** 31;
const weights = Object.fromEntries([...module.namedParameters()].map(([name, { shape }]) => {
  const scale = shape.length > 1 ? 2 / Math.sqrt(shape[1]) : 0;
  return [name, { data: Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => (scale ? random() * scale : 1)), shape: [...shape] }];
}));
const PROMPT = Int32Array.from({ length: 40 }, (_, i) => (i * 37 + 11) % 96);
const ids = (tokens) => Int32Array.from(tokens);

/** Prefill, then token by token, in two sessions by turns, and a forward without one. */
async function outputs(model) {
  const found = [];
  const sessions = [await model.session({ context: 64 }), await model.session({ context: 64 })];
  found.push(await sessions[0].forward(ids(PROMPT)), await sessions[1].forward(ids(PROMPT.slice(5, 9))));
  for (let i = 0; i < 4; i++) found.push(await sessions[i % 2].forward(ids([(i * 29) % 96])));
  found.push(await model.forward([[...PROMPT]]));
  sessions.forEach((session) => session.dispose());
  return found.map(({ data }) => [...data]);
}
const load = (experts, options = {}) => compile(module, { weights, ...options, ...(experts && { experts: { folder, ...experts } }) });
/** Bytes of an expert. */
async function bytesOf(precision) {
  const model = await load({ memory: 0 }, { precision });
  const { stored, count } = model.experts;
  model.dispose();
  return stored / count;
}

describe('experts outside', () => {
  for (const precision of /** @type {const} */ (['f32', 'f16', 'q8', 'q4'])) {
    it(`give the same numbers with room for 1 to all of them: ${precision}`, async () => {
      const resident = await load(null, { precision, threads: 1 });
      assert.equal(resident.experts, null);
      const expected = await outputs(resident);
      const all = resident.memory.weights;
      resident.dispose();
      const one = await bytesOf(precision);
      for (const slots of [1, 2, 3, 5, 8]) {
        const model = await load({ memory: slots * LAYERS * one }, { precision, threads: 1 });
        assert.deepEqual(await outputs(model), expected, `${slots} slots`);
        const { experts } = model;
        assert.deepEqual([experts.count, experts.slots, experts.memory, experts.stored], [8 * LAYERS, slots * LAYERS, slots * LAYERS * one, 8 * LAYERS * one]);
        assert.ok(experts.resident <= experts.slots && experts.resident > 0);
        assert.equal(experts.bytesRead, experts.misses * one);
        assert.equal(experts.rate, experts.hits / (experts.hits + experts.misses));
        if (slots === 8) assert.ok(experts.misses <= experts.count && experts.rate > 0.5, JSON.stringify(experts));
        else assert.ok(experts.misses > experts.slots);
        assert.ok(Math.abs(model.memory.weights - (all - (8 - slots) * LAYERS * one)) < 1000);
        model.dispose();
      }
      assert.deepEqual(readdirSync(folder), []);
    });
  }

  it('with threads, in a worker, in memory', async () => {
    const memory = 2 * LAYERS * await bytesOf('q4');
    const variants = [{ threads: 2 }, { worker: true, threads: 1 }, { worker: true, threads: 2 }];
    for (const options of variants) {
      const resident = await load(null, { precision: 'q4', ...options });
      const expected = await outputs(resident);
      resident.dispose();
      for (const store of /** @type {const} */ (['file', 'memory'])) {
        const model = await load({ memory, store }, { precision: 'q4', ...options });
        assert.deepEqual(await outputs(model), expected, JSON.stringify([options, store]));
        assert.ok(model.experts.hits > 0 && model.experts.misses > 0);
        model.dispose();
        model.dispose();
      }
    }
    assert.equal((await sharedEngine({ threads: 1 })).exports.lam_memory_used(), 0);
  });

  it('keep what was wanted last', async () => {
    const model = await load({ memory: 3 * LAYERS * await bytesOf('f32') }, { threads: 1 });
    const session = await model.session({ context: 200 });
    await session.forward(ids([5]));
    assert.equal(model.experts.misses, 3 * LAYERS);
    // The same token again wants the first layer's experts again: they are there.
    const before = model.experts;
    await session.seek(0);
    await session.forward(ids([5]));
    assert.equal(model.experts.misses, before.misses);
    assert.equal(model.experts.hits, before.hits + 3 * LAYERS);
    model.dispose();
  });

  it('an AbortSignal, while one is read and while the rest runs', async () => {
    const expected = await load(null, { threads: 1 });
    const numbers = await outputs(expected);
    expected.dispose();
    for (const worker of [false, true]) {
      const model = await load({ memory: LAYERS * await bytesOf('f32') }, { threads: 1, worker });
      const session = await model.session({ context: 64 });
      for (const delay of [0, 1, 2, 5]) {
        const controller = new AbortController();
        const running = session.forward(ids(PROMPT), { signal: controller.signal });
        setTimeout(() => controller.abort(new Error('enough')), delay);
        await running.catch((error) => assert.equal(error.message, 'enough'));
        await session.seek(0);
      }
      session.dispose();
      assert.deepEqual(await outputs(model), numbers);
      model.dispose();
    }
  });

  it('a file that cannot be read is an error, after which the model goes on', async (t) => {
    const resident = await load(null, { threads: 1 });
    const numbers = await outputs(resident);
    resident.dispose();
    let broken = '';
    const real = fsPromises.open;
    t.mock.method(fsPromises, 'open', async (...args) => {
      const handle = await real(...args);
      const read = handle.read.bind(handle);
      handle.read = async (...rest) => {
        if (broken === 'short') return { bytesRead: 0 };
        if (broken) throw Object.assign(new Error('EIO: i/o error, read'), { code: 'EIO' });
        return read(...rest);
      };
      return handle;
    });
    const model = await load({ memory: 2 * LAYERS * await bytesOf('f32') }, { threads: 1 });
    const session = await model.session({ context: 64 });
    await session.forward(ids([1, 2, 3]));
    for (const [kind, message] of [['error', /experts: what is kept of them outside cannot be written or read: EIO/], ['short', /expert \d of layer 0 is cut short: 0 of \d+ bytes/]]) {
      broken = kind;
      await assert.rejects(session.forward(ids(PROMPT)), (error) => error instanceof LamellaError && error.code === 'file' && message.test(error.message));
      await assert.rejects(model.forward([[...PROMPT]]), { code: 'file' });
      assert.equal(session.position, 3);
      broken = '';
      await session.forward(ids([4]));
      await session.seek(3);
    }
    session.dispose();
    assert.deepEqual(await outputs(model), numbers);
    model.dispose();
  });

  it('places that will not do', async (t) => {
    const rejected = (experts, message, code = 'file') => assert.rejects(load(experts), (/** @type {any} */ error) => {
      assert.ok(error instanceof LamellaError && error.code === code, error.stack);
      assert.match(error.message, message);
      return true;
    });
    writeFileSync(join(folder, 'taken'), '');
    await rejected({ memory: 1e6, folder: join(folder, 'taken', 'below') }, /experts: cannot be kept in a file: E/);
    rmSync(join(folder, 'taken'));
    await rejected({ memory: -1 }, /experts: memory: expected a number of at least 0/, 'argument');
    await rejected({ memory: 1e6, store: 'tape' }, /experts: store: expected 'file' or 'memory', got "tape"/, 'argument');
    await rejected({ memory: 1e6, slots: 3 }, /there is no option "slots"/, 'argument');
    await rejected({ memory: 1e6, folder: 3 }, /experts: folder: expected a path/, 'argument');
    await rejected({ memory: 1e6, warn: 3 }, /experts: warn: expected a function/, 'argument');
    t.mock.method(fsPromises, 'statfs', async () => ({ bavail: 1, bsize: 4096 }));
    await rejected({ memory: 1e6 }, /experts: \d+ bytes are to be kept in .*, where 4096 are free; experts: \{ store: 'memory' \} keeps them in memory/);
    t.mock.restoreAll();
    const real = fsPromises.open;
    t.mock.method(fsPromises, 'open', async (...args) => {
      const handle = await real(...args);
      handle.write = async () => { throw Object.assign(new Error('ENOSPC: no space left'), { code: 'ENOSPC' }); };
      return handle;
    });
    await rejected({ memory: 1e6 }, /experts: what is kept of them outside cannot be written/);
    assert.deepEqual(readdirSync(folder), []);
  });

  it('a model without experts', async () => {
    const linear = new nn.Linear(4, 4);
    const model = await compile(linear, { weights: { weight: { data: new Float32Array(16), shape: [4, 4] }, bias: { data: new Float32Array(4), shape: [4] } }, inputs: [[1, 4]], experts: { memory: 0 } });
    assert.equal(model.experts, null);
    model.dispose();
    assert.equal(model.experts, null);
  });

  it('a model that fits only so is refused with this advice', async () => {
    await assert.rejects(load(null, { memoryLimit: 600_000, threads: 1 }), /with precision: 'q8' it is \d+ kB, which fits/);
    const whole = await load(null, { precision: 'q4' });
    const needed = whole.memory.weights;
    whole.dispose();
    const memoryLimit = needed - 3 * await bytesOf('q4') + (await sharedEngine({ threads: 1 })).exports.lam_memory_used();
    await assert.rejects(load(null, { precision: 'q4', memoryLimit, threads: 1 }), /fewer bits would not make it smaller; with experts: \{ memory: bytes \} as well \d+ kB, and up to \d+ kB for experts, of which the others \(\d+ kB in all\) stay in a file/);
    await assert.rejects(load(null, { memoryLimit, threads: 1 }), /with precision: 'q4' it is still \d+ kB; with experts/);
    await assert.rejects(load({ memory: 1e6 }, { memoryLimit, threads: 1 }), /fewer bits or less memory for the experts might do/);
    const model = await load({ memory: 0 }, { precision: 'q4', memoryLimit, threads: 1 });
    assert.ok(model.memory.weights < memoryLimit);
    model.dispose();
  });

  it('the file has no name while it is used, where the system allows that', async () => {
    const store = await openFile(1000, folder);
    if (process.platform === 'linux') assert.deepEqual(readdirSync(folder), []);
    await store.write(100, Uint8Array.of(1, 2, 3));
    await store.written();
    assert.deepEqual([...await store.read(101, 2)], [2, 3]);
    assert.equal((await store.read(102, 5)).length, 1);
    await store.close();
    await assert.rejects(store.read(100, 3), { code: 'EBADF' });
    assert.ok(existsSync(folder));
  });
});
