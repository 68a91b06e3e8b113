/** GGUF files, written by gguf-py (tests/reference/gguf_files.py): blocks, names, configurations, logits, tokenizers, bad input. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { chat, compile, complete, F, LamellaError, models, Module, Parameter, safetensors, Tensor, text } from '../../js/index.js';
import { openGguf } from '../../js/gguf/gguf_weights.js';
import { cosines, error } from './fixtures.js';

const build = /** @type {any} */ (process.env.LAMELLA_BUILD);
const path = (/** @type {string} */ name) => fileURLToPath(new URL(`../reference/fixtures/gguf/${name}`, import.meta.url));
/** @param {string} name */
async function reference(name) {
  const opened = await safetensors.open(path(`${name}.safetensors`));
  const [ids, logits] = [await opened.tensor('ids'), await opened.tensor('logits')];
  await opened.close();
  return { ids: new Tensor(/** @type {Int32Array} */ (ids.data), ids.shape), logits: new Tensor(logits.toFloat32(), logits.shape), encodings: JSON.parse(opened.metadata.encodings) };
}

describe('blocks', () => {
  test('are the numbers that gguf-py takes out of them', async () => {
    const expected = await safetensors.open(path('types.safetensors'));
    for (const name of expected.names) {
      const module = new (class extends Module {
        constructor() { super(); /** @type {any} */ (this)[name] = new Parameter([5, 512]); }
        /** @param {any} x */
        forward(x) { return F.add(x, /** @type {any} */ (this)[name]); }
      })();
      const model = await compile(module, { weights: path('types.gguf'), inputs: [[5, 512]], strict: false, precision: 'f32', build });
      const y = await model.forward(new Tensor(new Float32Array(2560).fill(-0), [5, 512]));   // which leaves zeros their sign
      assert.deepEqual(y.data, (await expected.tensor(name)).toFloat32(), name);
      model.dispose();
    }
    assert.deepEqual([...expected.names].sort(), ['BF16', 'F16', 'F32', 'Q4_0', 'Q4_K', 'Q6_K', 'Q8_0']);
    await expected.close();
  });

  test('of a kind that cannot be read are named', async () => {
    const module = new (class extends Module {
      Q5_K = new Parameter([2, 256]);
      /** @param {any} x */
      forward(x) { return F.add(x, this.Q5_K); }
    })();
    await assert.rejects(compile(module, { weights: path('types.gguf'), inputs: [[2, 256]], strict: false }), { code: 'dtype', message: /^Q5_K: numbers of type Q5_K cannot be loaded/ });
  });
});

for (const [name, Class] of /** @type {const} */ ([['llama', models.LlamaForCausalLM], ['llama3', models.LlamaForCausalLM], ['deepseek2', models.DeepseekV2ForCausalLM], ['deepseek2_kv_b', models.DeepseekV2ForCausalLM]])) {
  describe(name, () => {
    test('logits are those of transformers on the numbers in the file', async (t) => {
      const { ids, logits } = await reference(name);
      const { module, config, weights } = await models.fromGGUF(path(`${name}.gguf`));
      assert.ok(module instanceof Class && config === module.config);
      const model = await compile(module, { weights, precision: 'f32', build });
      t.diagnostic(`${name}: ${error(await model.forward(ids), logits)}`);
      assert.ok(error(await model.forward(ids), logits) <= 1e-4, String(error(await model.forward(ids), logits)));
      model.dispose();
      await weights.close();
    });

    test('by default weights are kept in as many bits as in the file', async (t) => {
      const { ids, logits } = await reference(name);
      const { module } = await models.fromGGUF(path(`${name}.gguf`));
      const model = await compile(module, { weights: path(`${name}.gguf`), build });
      const [least] = cosines(await model.forward(ids), logits);
      t.diagnostic(`${name}: least cosine ${least}`);
      assert.ok(least >= 0.97, String(least));
      const layers = (await model.summary([1, 5])).rows;
      const kept = (/** @type {string} */ layer) => layers.find((row) => row.path.endsWith(layer))?.layer.split(' ')[0];
      if (name === 'llama') assert.deepEqual(['layers.0.self_attn.q_proj', 'layers.0.self_attn.k_proj', 'layers.0.self_attn.o_proj', 'layers.1.self_attn.k_proj', 'layers.1.self_attn.v_proj', 'lm_head'].map(kept), ['q4', 'q8', 'f16', 'q4', 'q8', 'q8']);
      if (name === 'deepseek2') assert.deepEqual(['layers.0.self_attn.q_proj', 'layers.0.mlp.down_proj', 'lm_head'].map(kept), ['q4', 'q4', 'q8']);
      model.dispose();
    });
  });
}

describe('a model in several files', () => {
  const COUNT = 4;
  const part = (/** @type {number} */ i, count = COUNT) => `deepseek2_parts-0000${i}-of-0000${count}.gguf`;
  const paths = Array.from({ length: COUNT }, (_, i) => path(part(i + 1)));
  const files = paths.map((each) => new Uint8Array(readFileSync(each)));
  const named = (/** @type {Uint8Array} */ bytes, /** @type {number} */ i) => new File([/** @type {any} */ (bytes)], part(i + 1));
  /** With another number in its metadata. @param {Uint8Array} bytes @param {string} key @param {number} value */
  const changed = (bytes, key, value) => {
    const copy = new Uint8Array(bytes);
    copy[Buffer.from(bytes).indexOf(key) + key.length + 4] = value;
    return copy;
  };

  test('is the model: by a list in any order, and by one of its names', async () => {
    const { ids, logits } = await reference('deepseek2_parts');
    const asked = /** @type {string[]} */ ([]);
    const server = createServer((request, response) => {
      const { pathname } = new URL(/** @type {string} */ (request.url), 'http://x');
      const body = files[paths.findIndex((each) => each.endsWith(decodeURIComponent(pathname)))];
      asked.push(pathname);
      if (!body) return response.writeHead(404).end();
      const [, begin, end] = /** @type {RegExpExecArray} */ (/bytes=(\d+)-(\d*)/.exec(/** @type {string} */ (request.headers.range)));
      const last = Math.min(end ? Number(end) : body.length - 1, body.length - 1);
      return response.writeHead(206, { 'content-range': `bytes ${begin}-${last}/${body.length}` }).end(body.subarray(Number(begin), last + 1));
    });
    await new Promise((done) => { server.listen(0, '127.0.0.1', () => done(undefined)); });
    const base = `http://127.0.0.1:${/** @type {any} */ (server.address()).port}/`;
    try {
      const sources = [paths, [...paths].reverse(), files, files.map(named), [paths[0], files[1], named(files[2], 2), new URL(`file://${paths[3]}`)], paths[0], paths[2], `${base}${part(1)}?download=true`];
      for (const source of sources) {
        const { module, weights } = await models.fromGGUF(source);
        const model = await compile(module, { weights: source, precision: 'f32', build });
        assert.ok(error(await model.forward(ids), logits) <= 1e-4, String(error(await model.forward(ids), logits)));
        let written = '';
        for await (const piece of complete(await model.session({ context: 60 }), 'The boats', { maxTokens: 3 })) written += piece;
        assert.ok(written.length);
        model.dispose();
        await weights.close();
      }
      assert.deepEqual([...new Set(asked)].sort(), [1, 2, 3, 4].map((i) => `/${part(i)}`));
    } finally {
      server.closeAllConnections();
      server.close();
    }
  });

  test('of which some are missing, twice, or of another model, says so', async () => {
    const rejects = (/** @type {any} */ source, /** @type {string} */ code, /** @type {RegExp} */ message) => assert.rejects(compile(new models.DeepseekV2ForCausalLM((/** @type {any} */ (config))), { weights: source }), (/** @type {any} */ e) => {
      assert.ok(e instanceof LamellaError, String(e?.stack));
      assert.equal(e.code, code, e.message);
      assert.match(e.message, message);
      return true;
    });
    const { config, weights } = await models.fromGGUF(paths[1]);
    await weights.close();
    await rejects(files.slice(0, 3), 'gguf', /it is one of 4 files, but there are 3$/);
    await rejects([...files.slice(0, 3), files[2]], 'gguf', /part 3 of 4 is there twice: bytes is it, too$/);
    await rejects([...files, path('deepseek2.gguf')], 'gguf', /it is one of 4 files, but there are 5$/);
    await rejects([path('llama3.gguf'), path('llama.gguf')], 'gguf', /llama3\.gguf: it is one of 1 files, but there are 2$/);
    await rejects(files[0], 'gguf', /^bytes: part 1 of 4: expected a list of all of them, or an address or path that ends in -00001-of-00004\.gguf, beside which the others lie$/);
    await rejects(named(files[1], 1), 'gguf', /part 2 of 4: expected a list of all of them, .* -00002-of-00004\.gguf/);
    await rejects(files.map((bytes) => changed(bytes, 'split.tensors.count', 30)), 'gguf', /split\.tensors\.count is 30, but there are 29 in 4 files: they are not of one model$/);
    await rejects(files.map((bytes, i) => changed(bytes, 'split.no', i === 1 ? 9 : i)), 'gguf', /expected split\.no below split\.count, got 9 and 4$/);
    await rejects([changed(files[1], 'split.count', 0), files[0]], 'gguf', /expected split\.no below split\.count, got 1 and 0$/);
    // The norms of two layers under one name, in two files.
    const again = Buffer.from(files[2]);
    again.write('blk.0.attn_norm.weight', again.indexOf('blk.1.attn_norm.weight'));
    await rejects([files[0], files[1], again, files[3]], 'gguf', /tensor "blk\.0\.attn_norm\.weight" is there twice$/);
    const folder = mkdtempSync(join(tmpdir(), 'lamella-parts-'));
    try {
      for (const i of [0, 1, 3]) writeFileSync(join(folder, part(i + 1)), files[i]);
      await rejects(join(folder, part(1)), 'file', new RegExp(`${part(3)}: there is no such file`));
      writeFileSync(join(folder, 'model.gguf'), files[0]);
      await rejects(join(folder, 'model.gguf'), 'gguf', /part 1 of 4: expected a list/);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});

test('Q4_0 goes to the engine as the codes that it is, its scales rounded', async () => {
  const weights = await openGguf(path('llama.gguf'));
  const name = 'model.layers.0.mlp.gate_proj.weight';
  const parts = [];
  for await (const { data } of weights.chunks([name])) parts.push(...data);
  weights.asNumbers(true);
  const exact = [];
  for await (const { data } of weights.chunks([name])) exact.push(...new Float32Array(data.slice().buffer));
  assert.equal(parts.length, 256 * 256 / 32 * 18);
  const bytes = Uint8Array.from(parts);
  let worst = 0;
  for (let row = 0; row < 256; row++) {
    for (let i = 0; i < 256; i++) {
      const at = row * 144;
      const scale = new Float32Array(Uint32Array.of((bytes[at + (i >> 5) * 2] | bytes[at + (i >> 5) * 2 + 1] << 8) << 16).buffer)[0];
      const value = scale * ((bytes[at + 16 + (i >> 1)] >> (i % 2 * 4) & 15) - 8);
      const expected = exact[row * 256 + i];
      assert.ok(Math.abs(value - expected) <= Math.abs(expected) / 256, `${row}, ${i}: ${value}, expected ${expected}`);
      worst = Math.max(worst, expected ? Math.abs(value / expected - 1) : 0);
    }
  }
  assert.ok(worst > 0 && worst <= 2 ** -8, String(worst));
  await weights.close();
});

describe('text', () => {
  for (const name of ['llama', 'deepseek2']) {
    test(`${name}: tokens as the tokenizer that wrote the file makes them, there and back`, async () => {
      const { encodings } = await reference(name);
      const weights = await openGguf(path(`${name}.gguf`));
      const tokenizer = await text.loadTokenizer(weights.neighbour('tokenizer.json'));
      for (const [sample, ids] of Object.entries(encodings)) {
        if (sample) assert.deepEqual(tokenizer.encode(sample), ids, JSON.stringify(sample));
        if (sample) assert.equal(tokenizer.decode(/** @type {number[]} */ (ids)), sample);
      }
      await weights.close();
    });

    test(`${name}: chat and complete need nothing else`, async () => {
      const { module, weights } = await models.fromGGUF(path(`${name}.gguf`));
      const model = await compile(module, { weights });
      const session = await model.session({ context: 60 });
      let written = '';
      for await (const piece of complete(session, 'The boats', { maxTokens: 4 })) written += piece;
      assert.ok(written.length > 0);
      const pieces = [];
      for await (const piece of chat(session, [{ role: 'user', content: 'boats' }], { maxTokens: 4 })) pieces.push(piece);
      assert.ok(pieces.join('').length > 0);
      model.dispose();
    });
  }
});

describe('sources', () => {
  const bytes = readFileSync(path('llama3.gguf'));

  test('bytes, a Blob, a file URL and a server of ranges are the same', async () => {
    const { ids, logits } = await reference('llama3');
    const server = createServer((request, response) => {
      const [, begin, end] = /bytes=(\d+)-(\d*)/.exec(request.headers.range ?? '') ?? [];
      const last = Math.min(end ? Number(end) : bytes.length - 1, bytes.length - 1);
      if (begin === undefined) return response.writeHead(200, { 'content-length': bytes.length, 'accept-ranges': 'bytes' }).end(bytes);
      return response.writeHead(206, { 'content-range': `bytes ${begin}-${last}/${bytes.length}`, 'content-length': last + 1 - Number(begin), 'accept-ranges': 'bytes' }).end(bytes.subarray(Number(begin), last + 1));
    });
    await new Promise((done) => { server.listen(0, '127.0.0.1', () => done(undefined)); });
    const { port } = /** @type {any} */ (server.address());
    try {
      for (const source of [new Uint8Array(bytes), new Blob([bytes]), new URL(`file://${path('llama3.gguf')}`), `http://127.0.0.1:${port}/llama3.gguf`]) {
        const { module } = await models.fromGGUF(source);
        const model = await compile(module, { weights: source, precision: 'f32', build });
        assert.ok(error(await model.forward(ids), logits) <= 1e-4);
        model.dispose();
      }
    } finally {
      server.closeAllConnections();
      server.close();
    }
  });

  test('configurations', async () => {
    const { config } = await models.fromGGUF(path('deepseek2_kv_b.gguf'));
    const { num_hidden_layers, q_lora_rank, kv_lora_rank, qk_nope_head_dim, qk_rope_head_dim, v_head_dim, n_routed_experts, num_experts_per_tok, routed_scaling_factor, topk_method, first_k_dense_replace, rope_scaling, tie_word_embeddings } = config;
    assert.deepEqual({ num_hidden_layers, q_lora_rank, kv_lora_rank, qk_nope_head_dim, qk_rope_head_dim, v_head_dim, n_routed_experts, num_experts_per_tok, routed_scaling_factor, topk_method, first_k_dense_replace, tie_word_embeddings },
      { num_hidden_layers: 2, q_lora_rank: 32, kv_lora_rank: 64, qk_nope_head_dim: 32, qk_rope_head_dim: 16, v_head_dim: 32, n_routed_experts: 4, num_experts_per_tok: 2, routed_scaling_factor: 1.5, topk_method: 'greedy', first_k_dense_replace: 1, tie_word_embeddings: false });
    assert.deepEqual(rope_scaling, { type: 'yarn', factor: 4, original_max_position_embeddings: 32, beta_fast: 32, beta_slow: 1, mscale: 0.707, mscale_all_dim: 0.707 });
    const llama3 = (await models.fromGGUF(path('llama3.gguf'))).config;
    assert.deepEqual(llama3.rope_scaling, { rope_type: 'llama3', factor: 8, low_freq_factor: 1, high_freq_factor: 4, original_max_position_embeddings: 8192 });
    assert.equal((await models.fromGGUF(path('llama.gguf'))).config.tie_word_embeddings, true);
  });

  const rejects = (/** @type {any} */ source, /** @type {string} */ code, /** @type {RegExp} */ message) => assert.rejects(models.fromGGUF(source), (/** @type {any} */ e) => {
    assert.ok(e instanceof LamellaError, String(e?.stack));
    assert.equal(e.code, code, e.message);
    assert.match(e.message, message);
    return true;
  });
  /** The file with a text in its metadata replaced by one of the same length. @param {string} from @param {string} to */
  const changed = (from, to) => {
    const copy = new Uint8Array(bytes);
    const at = bytes.indexOf(from);
    assert.ok(at > 0 && from.length === to.length, from);
    copy.set(new TextEncoder().encode(to), at);
    return copy;
  };

  test('what is no GGUF file, is cut short, or of another kind, is said', async () => {
    await rejects(new Uint8Array(100), 'gguf', /not a valid gguf file: not starting with GGUF magic number/);
    await rejects(new Uint8Array(0), 'truncated', /header goes on behind the file's end/);
    for (const length of [7, 20, 100, 400, 1200]) await rejects(bytes.subarray(0, length), 'truncated', /behind the file's end|expected \d+ bytes from byte 0 on, got/);
    await rejects(bytes.subarray(0, bytes.length - 100), 'truncated', /the file is truncated: tensor ".*" ends at byte \d+, the file has \d+/);
    const version = new Uint8Array(bytes);
    version[4] = 9;
    await rejects(version, 'gguf', /unsupported version "9"/);
    await rejects(new Response(new Uint8Array(bytes)), 'gguf', /cannot be read from a stream/);
    // llama, as the value of general.architecture
    const other = new Uint8Array(bytes);
    const at = bytes.indexOf('general.architecture') + 'general.architecture'.length + 4 + 8;
    assert.equal(new TextDecoder().decode(other.subarray(at, at + 5)), 'llama');
    other.set(new TextEncoder().encode('qwen2'), at);
    await rejects(other, 'gguf', /general\.architecture: expected "llama" or "deepseek2", got "qwen2"$/);
    await rejects(changed('llama.block_count', 'llama.block_xount'), 'gguf', /llama\.block_count is missing$/);
    await rejects(changed('token_embd.weight', 'token_embx.weight'), 'gguf', /token_embd\.weight is missing$/);
    await rejects(changed('blk.0.attn_v.bias', 'blk.0.attn_k.bias'), 'gguf', /tensor "blk\.0\.attn_k\.bias" is there twice$/);
    const wrongFrequencies = new Uint8Array(bytes);
    const { weights } = await models.fromGGUF(bytes);
    const first = new Uint8Array(/** @type {Float32Array} */ (weights.frequencies).slice(20, 22).buffer);
    wrongFrequencies[bytes.indexOf(Buffer.from(first)) + 3] = 0x45;
    await rejects(wrongFrequencies, 'gguf', /rope_freqs\.weight: number \d+ is .* other factors are not supported$/);
  });

  test('weights that do not fit are reported under the names of the module', async () => {
    const { config } = await models.fromGGUF(bytes);
    await assert.rejects(compile(new models.LlamaForCausalLM({ ...config, intermediate_size: 48 }), { weights: bytes }), (/** @type {any} */ e) => {
      assert.deepEqual(e.misshapen[0], { name: 'model.layers.0.mlp.gate_proj.weight', expected: [48, 64], got: [32, 64] });
      return true;
    });
    await assert.rejects(compile(new models.LlamaForCausalLM({ ...config, num_hidden_layers: 2 }), { weights: bytes }), (/** @type {any} */ e) => e.missing.includes('model.layers.1.self_attn.q_proj.weight') && e.unexpected.length === 0);
    await assert.rejects(compile(new models.LlamaForCausalLM(config), { weights: changed('blk.0.attn_v.bias', 'blk.0.attn_w.bias') }), { code: 'keys', missing: ['model.layers.0.self_attn.v_proj.bias'], unexpected: ['blk.0.attn_w.bias'] });
  });

  test('a tokenizer that is not known is one when it is needed', async () => {
    const { weights } = await models.fromGGUF(path('deepseek2.gguf'));
    weights.metadata['tokenizer.ggml.pre'] = 'other';
    assert.throws(() => weights.neighbour('tokenizer.json'), { code: 'tokenizer', message: /tokenizer\.ggml\.pre: expected one of .*, got "other": pass/ });
    weights.metadata['tokenizer.ggml.model'] = 'bert';
    assert.throws(() => weights.neighbour('tokenizer.json'), { code: 'tokenizer', message: /expected "gpt2" or "llama", got "bert"/ });
    assert.equal(weights.neighbour('other.json'), undefined);
    await weights.close();
  });

  test('a signal stops it', async () => {
    const controller = new AbortController();
    controller.abort(new Error('enough'));
    await assert.rejects(models.fromGGUF(bytes, { signal: controller.signal }), /enough/);
  });
});
