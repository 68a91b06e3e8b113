/** Tensors of GGUF files that are larger than what is read at a time, asked for in any order, left in the middle: made here, beside the files of tests/reference. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { kindOf } from '../../js/gguf/blocks.js';
import { GgufWeights, openGguf } from '../../js/gguf/gguf_weights.js';

/**
 * A file of f32 tensors whose numbers count through all of them.
 * @param {string} architecture
 * @param {Record<string, number[]>} shapes
 * @param {Record<string, unknown>} [keys] Of the metadata.
 * @param {number} [piece] Bytes that the source gives at a time.
 */
function file(architecture, shapes, keys = {}, piece = 5000) {
  let at = 0;
  const tensors = Object.entries(shapes).map(([name, shape]) => {
    const begin = at;
    at += 4 * shape.reduce((a, b) => a * b, 1);
    return { name, shape, kind: kindOf(0), begin, end: at };
  });
  const bytes = new Uint8Array(Float32Array.from({ length: at / 4 }, (_, i) => i).buffer);
  const source = {
    name: 'x.gguf', size: at, random: true, gap: 0, open: 0, close() {},
    /** @param {number} begin @param {number} [end] @param {{ signal?: AbortSignal | null }} [options] */
    async* stream(begin, end = at, { signal } = {}) {
      this.open++;
      try {
        for (let i = begin; i < end; i += piece) {
          signal?.throwIfAborted();
          yield bytes.slice(i, Math.min(end, i + piece));
        }
      } finally {
        this.open--;
      }
    },
  };
  const metadata = { 'general.architecture': architecture, ...Object.fromEntries(Object.entries(keys).map(([key, value]) => [`${architecture}.${key}`, value])) };
  return { source, weights: new GgufWeights([{ source, metadata, tensors: tensors.map((tensor) => ({ ...tensor, source })) }], null) };
}

/** @param {GgufWeights} weights @param {string[]} names */
async function numbers(weights, names) {
  /** @type {Record<string, number[]>} */
  const found = {};
  for await (const { name, offset, data } of weights.chunks(names)) {
    assert.equal(offset, 4 * (found[name] ??= []).length, name);
    for (const x of new Float32Array(data.slice().buffer)) found[name].push(x);
  }
  return found;
}

test('heads that are larger than a piece keep their rows together', async () => {
  const [rows, columns] = [96, 1024];   // 64 rows are a piece
  for (const [heads, list] of [[1, false], [2, true], [6, false]]) {
    const { source, weights } = file('llama', { 'blk.0.attn_q.weight': [rows, columns] }, { 'attention.head_count': list ? [heads, heads] : heads });
    const name = 'model.layers.0.self_attn.q_proj.weight';
    const got = (await numbers(weights, [name]))[name];
    const head = rows / Number(heads);
    for (let i = 0; i < rows; i++) {
      const [first, within] = [i - i % head, i % head];
      const from = within < head / 2 ? first + 2 * within : first + 2 * (within - head / 2) + 1;
      assert.deepEqual([got[i * columns], got[(i + 1) * columns - 1]], [from * columns, (from + 1) * columns - 1], `row ${i} of heads of ${head}`);
    }
    assert.equal(source.open, 0);
  }
});

test('how many heads layers have that differ is not guessed', () => {
  for (const key of ['attention.head_count', 'attention.head_count_kv']) {
    assert.throws(() => file('llama', { 'blk.0.attn_k.weight': [96, 8], 'blk.0.attn_q.weight': [96, 8] }, { 'attention.head_count': 4, [key]: [4, 2] }), { code: 'gguf', message: /head_count.*: layers that differ are not supported$/ });
  }
});

test('experts in any order are those that were asked for', async () => {
  const { weights } = file('deepseek2', { 'blk.1.ffn_up_exps.weight': [4, 3, 8] });
  const name = (/** @type {number} */ i) => `model.layers.1.mlp.experts.${i}.up_proj.weight`;
  const found = await numbers(weights, [name(3), name(0), name(2)]);
  for (const i of [0, 2, 3]) assert.deepEqual(found[name(i)], Array.from({ length: 24 }, (_, j) => 24 * i + j));
});

test('who leaves in the middle, or aborts, leaves nothing open', async () => {
  const shapes = { 'blk.0.ffn_up.weight': [200, 1024], 'blk.0.attn_k_b.weight': [3, 8, 4], 'blk.0.attn_v_b.weight': [3, 5, 8] };
  const [rows, heads] = ['model.layers.0.mlp.up_proj.weight', 'model.layers.0.self_attn.kv_b_proj.weight'];
  for (const [architecture, name, piece] of /** @type {[string, string, number][]} */ ([['llama', rows, 5000], ['llama', rows, 1e7], ['deepseek2', heads, 5000]])) {
    const left = file(architecture, shapes, {}, piece);
    for await (const { data } of left.weights.chunks([name])) if (data) break;
    assert.equal(left.source.open, 0);
    const { source, weights } = file(architecture, shapes, {}, piece);
    const controller = new AbortController();
    const reason = new Error('enough');
    let chunks = 0;
    await assert.rejects(async () => {
      for await (const { data } of weights.chunks([name], { signal: controller.signal })) {
        chunks += Number(data.length > 0);
        controller.abort(reason);
      }
    }, reason);
    assert.deepEqual([chunks, source.open], [1, 0], name);
  }
});

test('rows of blocks of 256 are whole blocks, and big numbers at the end are refused', async () => {
  /** A header as the format has it. @param {boolean} little @param {[number, number[]][]} tensors Their types and sizes. */
  const header = (little, tensors) => {
    const view = new DataView(new ArrayBuffer(4096));
    let at = 0;
    const u32 = (/** @type {number} */ x) => { view.setUint32(at, x, little); at += 4; };
    const u64 = (/** @type {number} */ x) => { view.setBigUint64(at, BigInt(x), little); at += 8; };
    const string = (/** @type {string} */ s) => { u64(s.length); for (const c of s) view.setUint8(at++, c.charCodeAt(0)); };
    for (const c of 'GGUF') view.setUint8(at++, c.charCodeAt(0));
    u32(3), u64(tensors.length), u64(1);
    string('general.architecture'), u32(8), string('llama');
    tensors.forEach(([type, sizes], i) => { string(`t${i}`), u32(sizes.length), sizes.forEach(u64), u32(type), u64(0); });
    return new Uint8Array(view.buffer);
  };
  await assert.rejects(openGguf(header(false, [])), { code: 'gguf', message: /its numbers are big-endian, which is not supported$/ });
  await assert.rejects(openGguf(header(true, [[12, [288, 2]]])), { code: 'gguf', message: /tensor "t0": Q4_K needs rows of a multiple of 256, got \[2, 288\]$/ });
  await assert.rejects(openGguf(header(true, [[2, [48, 2]]])), { code: 'gguf', message: /tensor "t0": Q4_0 needs rows of a multiple of 32, got \[2, 48\]$/ });
  await assert.rejects(openGguf(header(true, [[0, [2 ** 32, 2 ** 21]]])), { code: 'gguf', message: /is more than a file can hold$/ });
});

test('what is none is not left open', async () => {
  let cancelled = false;
  const body = new ReadableStream({ pull: (controller) => controller.enqueue(new Uint8Array(1000)), cancel: () => { cancelled = true; } });
  await assert.rejects(openGguf(new Response(body)), { code: 'gguf', message: /cannot be read from a stream/ });
  assert.ok(cancelled);
});
