/** quantize(): the file, and that a model made from it computes the very numbers of one whose weights are quantised while they load. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { compile, F, LamellaError, models, Module, nn, quantize, safetensors, Tensor } from '../../js/index.js';
import { buildsHere, error } from './fixtures.js';

const at = (/** @type {string} */ path) => fileURLToPath(new URL(`../../${path}`, import.meta.url));
let state = 1;
const random = () => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) / 2 ** 31 - 1;
const tensor = (/** @type {readonly number[]} */ shape, scale = 1) => new Tensor(Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => random() * scale), [...shape]);
/** Weights of a usual size; variances are positive. @param {Module} module */
const weightsOf = (module) => Object.fromEntries([...module.stateDict()].map(([name, { shape }]) => {
  const weight = tensor(shape, Math.sqrt(3 / shape.slice(1).reduce((a, b) => a * b, 1)));
  return [name, /var$/.test(name) ? new Tensor(weight.data.map((/** @type {number} */ x) => 0.5 + x * x), [...shape]) : weight];
}));
const same = (/** @type {Tensor} */ y, /** @type {Tensor} */ expected, /** @type {string} */ what) => {
  assert.deepEqual(y.shape, expected.shape, what);
  assert.deepEqual(new Uint32Array(y.data.buffer, y.data.byteOffset, y.data.length), new Uint32Array(expected.data.buffer, expected.data.byteOffset, expected.data.length), what);
};
/** What `compile` is to be told to quantise the same weights itself. @param {Awaited<ReturnType<typeof quantize>>} made */
const precisionsOf = (made) => {
  const chosen = new Map(made.tensors.map(({ name, to }) => [name, to.toLowerCase()]));
  return (/** @type {string} */ name) => /** @type {any} */ (['q4', 'q8', 'f16'].includes(/** @type {string} */ (chosen.get(name))) ? chosen.get(name) : 'f32');
};

/** Convolutions, two with a batch norm that is folded in, of all kinds; linear layers, one with a batch norm; attention; rows that fill no block of 32. */
class Net extends Module {
  inputs = [[null, 64, null, null]];

  constructor() {
    super();
    this.conv = new nn.Conv2d(64, 48, 5, { padding: 2 });
    this.bn = new nn.BatchNorm2d(48);
    this.strided = new nn.Conv2d(48, 80, 3, { stride: 2, bias: false });
    this.bn2 = new nn.BatchNorm2d(80);
    this.pointwise = new nn.Conv2d(80, 96, 1);
    this.grouped = new nn.Conv2d(96, 64, 3, { groups: 2, stride: 2, padding: 1 });
    this.depthwise = new nn.Conv2d(64, 64, 3, { groups: 64, padding: 1 });
    this.fc = new nn.Linear(64, 56);
    this.bn3 = new nn.BatchNorm1d(56);
    this.attention = new nn.MultiheadAttention(56, 4, { batchFirst: true });
    this.odd = new nn.Linear(56, 67);
    this.odder = new nn.Linear(67, 33);
    this.small = new nn.Linear(33, 8);
  }

  /** @param {any} x */
  forward(x) {
    x = F.relu(this.bn2(this.strided(F.relu(this.bn(this.conv(x))))));
    x = this.depthwise(this.grouped(F.gelu(this.pointwise(x))));
    x = this.bn3(this.fc(F.flatten(F.adaptiveAvgPool2d(x, 1), 1)));
    const y = F.unsqueeze(x, 1);
    const [mixed] = this.attention(y, y, y, { needWeights: false });
    return this.small(F.relu(this.odder(F.relu(this.odd(F.flatten(mixed, 1))))));
  }
}

const DECODER = {
  vocab_size: 150, hidden_size: 96, intermediate_size: 136, num_hidden_layers: 3, num_attention_heads: 4, kv_lora_rank: 64, q_lora_rank: 48, qk_rope_head_dim: 16, qk_nope_head_dim: 32,
  v_head_dim: 32, max_position_embeddings: 64, n_routed_experts: 6, num_experts_per_tok: 2, moe_intermediate_size: 40, n_shared_experts: 1, first_k_dense_replace: 1,
};

/** @type {string} */ let folder;
before(async () => { folder = await mkdtemp(join(tmpdir(), 'lamella-quantize-')); });
after(() => rm(folder, { recursive: true, force: true }));

describe('a quantised checkpoint', () => {
  const net = new Net();
  const weights = weightsOf(net);
  const file = safetensors.write(weights, { format: 'pt' });
  const x = tensor([2, 64, 11, 9]);

  for (const precision of /** @type {const} */ (['q8', 'q4'])) {
    test(`${precision}: the numbers are those of quantising while loading, in every build and in a worker`, async () => {
      const made = await quantize(file, { precision });
      const bytes = await made.bytes();
      assert.equal(bytes.length, made.size);
      for (const build of buildsHere()) {
        const threads = build.endsWith('threads') ? { threads: 3 } : {};
        const options = { build: /** @type {any} */ (build), ...threads };
        const expected = await compile(net, { weights, precision: precisionsOf(made), ...options });
        const y = await expected.forward(x);
        for (const worker of [false, true]) {
          const model = await compile(net, { weights: bytes, worker, ...options });
          same(await model.forward(x), y, `${build}${worker ? ' in a worker' : ''}`);
          assert.equal(model.memory.weights, expected.memory.weights);
          model.dispose();
        }
        assert.ok((await expected.summary([2, 64, 11, 9])).rows.some(({ layer }) => layer.startsWith(`${precision} linear`)));
        expected.dispose();
      }
    });
  }

  test('so are those of numbers between two codes, of two equally large, of scales between two, and of next to nothing', async () => {
    const linear = new nn.Linear(64, 48, { bias: false });
    const most = [1, -1, 1 + 2 ** -8, 1 + 2 ** -7 + 2 ** -8, -1 - 2 ** -8, 127 / 128, 1e-41, 1e-38];
    const data = Float32Array.from({ length: 48 * 64 }, (_, i) => Math.round(random() * 16) / 16 * most[(i >> 6) % 8]);
    for (let i = 0; i < data.length; i += 32) [data[i + 5], data[i + 9]] = [most[(i >> 6) % 8], -most[(i >> 6) % 8]];
    const inputs = [[3, 64]];
    for (const precision of /** @type {const} */ (['q8', 'q4'])) {
      const models = await Promise.all([await (await quantize(safetensors.write({ weight: { data, shape: [48, 64] } }), { precision })).bytes(), { weight: { data, shape: [48, 64] } }]
        .map((given, i) => compile(linear, { weights: /** @type {any} */ (given), inputs, ...(i && { precision }) })));
      const y = tensor([3, 64]);
      same(await models[0].forward(y), await models[1].forward(y), precision);
      for (const model of models) model.dispose();
    }
  });

  test('f16: the numbers are those of the weights rounded to halves', async () => {
    const made = await quantize(file, { precision: 'f16' });
    assert.ok(made.tensors.every(({ to, shape }) => to === (shape.length > 1 ? 'F16' : 'F32')) && made.size < 0.52 * file.length);
    const bytes = await made.bytes();
    const halves = await safetensors.open(bytes);
    const rounded = Object.fromEntries(await Promise.all(halves.names.map(async (name) => [name, new Tensor((await halves.tensor(name)).toFloat32(), weights[name].shape)])));
    const [model, expected] = [await compile(net, { weights: bytes }), await compile(net, { weights: rounded })];
    same(await model.forward(x), await expected.forward(x), 'f16');
    for (const each of [model, expected]) each.dispose();
    for (const name of halves.names) assert.ok(error(rounded[name], weights[name]) < 2 ** -11, name);
    await halves.close();
  });

  test('its weights in f32 are scale times code, in layers and beside them', async () => {
    const made = await quantize(file);
    const stored = await safetensors.open(await made.bytes());
    const numbers = { ...weights };
    for (const { name, to, shape } of made.tensors) {
      const [rows, columns] = [shape[0], shape.slice(1).reduce((a, b) => a * b, 1)];
      if (to !== 'q4' && to !== 'q8') continue;
      const scales = (await stored.tensor(`${name}_scale`)).toFloat32();
      const codes = /** @type {any} */ ((await stored.tensor(to === 'q4' ? `${name}_packed` : name)).data);
      const code = to === 'q8' ? (/** @type {number} */ i) => codes[i] : (/** @type {number} */ i) => (codes[i >> 3] >>> (i % 8 * 4) & 15) - 8;
      const group = to === 'q8' ? columns : 32;
      numbers[name] = new Tensor(Float32Array.from({ length: rows * columns }, (_, i) => scales[Math.floor(i / columns) * Math.ceil(columns / group) + Math.floor(i % columns / group)] * code(i)), [...shape]);
      const worst = error(numbers[name], weights[name]);
      assert.ok(worst > 0 && worst < (to === 'q8' ? 0.005 : 0.13), `${name}: ${worst}`);
    }
    const model = await compile(net, { weights: stored, precision: 'f32' });
    const expected = await compile(net, { weights: numbers });
    same(await model.forward(x), await expected.forward(x), 'f32');
    for (const each of [model, expected]) each.dispose();
    await stored.close();
  });

  test('other precisions than the stored can be asked for', async () => {
    const stored = await (await quantize(file)).bytes();
    const all = await compile(net, { weights: stored, precision: 'q8' });
    const labels = (await all.summary([1, 64, 9, 9])).rows.map(({ layer }) => layer).filter((layer) => /linear/.test(layer));
    assert.ok(labels.includes('q8 linear') && !labels.some((label) => label.startsWith('q4')), labels.join());
    all.dispose();
    const some = await compile(net, { weights: stored, precision: (name) => (name === 'fc.weight' ? 'q4' : undefined) });
    assert.equal((await some.summary([1, 64, 9, 9])).rows.filter(({ layer }) => /^q/.test(layer)).map(({ layer }) => layer).join(), 'q4 linear+batch_norm');
    some.dispose();
  });

  test('a model that does not fit says which bits it speaks of: those of the checkpoint, or those asked for', async () => {
    const limit = (/** @type {any} */ source, /** @type {any} */ options = {}) => compile(net, { weights: source, memoryLimit: 1e5, threads: 1, ...options }).then(() => assert.fail('it fits'), (/** @type {any} */ e) => e.message);
    for (const precision of /** @type {const} */ (['q8', 'q4', 'f16'])) {
      const stored = await (await quantize(file, { precision })).bytes();
      // Halves alone are numbers like others; beside codes and in GGUF files they are kept.
      assert.match(await limit(stored), precision === 'f16' ? /its weights take \d+ kB as f32, there/ : /its weights take \d+ kB in the bits of the checkpoint, there/);
      assert.match(await limit(stored, { precision: 'f32' }), /its weights take \d+ kB as f32, there/);
    }
    assert.match(await limit(weights), /its weights take \d+ kB as f32, there/);
  });

  test('the code for codes is fetched by a checkpoint that has some, and by no name', async () => {
    const config = { embed_dim: 8, vision_cfg: { layers: [1, 1, 1, 1], width: 4, image_size: 64 }, text_cfg: { width: 16, heads: 2, layers: 1, vocab_size: 20 } };
    const clip = weightsOf(new models.CLIP(config));
    assert.ok('logit_scale' in clip);
    await writeFile(join(folder, 'clip.safetensors'), safetensors.write(clip));
    await writeFile(join(folder, 'coded.safetensors'), await (await quantize(safetensors.write(clip), { precision: 'q8' })).bytes());
    await writeFile(join(folder, 'fours.safetensors'), await (await quantize(safetensors.write(clip))).bytes());
    const hooks = `import { writeSync } from 'node:fs';
      export async function load(url, context, next) {
        if (url.endsWith('/weights/coded.js')) writeSync(1, 'fetched\\n');
        return next(url, context);
      }`;
    const program = `import { register } from 'node:module';
      register('data:text/javascript,' + encodeURIComponent(${JSON.stringify(hooks)}));
      const { compile, models } = await import(${JSON.stringify(new URL('../../js/index.js', import.meta.url))});
      const model = await compile(new models.CLIP(${JSON.stringify(config)}), { weights: process.argv[1], threads: 1 });
      console.log((await model.encodeText([[1, 2, 19]])).shape.join());`;
    for (const [name, fetched] of [['clip', ''], ['coded', 'fetched\n'], ['fours', 'fetched\n']]) {
      const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', program, join(folder, `${name}.safetensors`)]);
      assert.equal(stdout, `${fetched}1,8\n`, name);
    }
  });

  test('with a prefix, in shards, as tensors in memory, and as the result itself', async () => {
    const prefixed = Object.fromEntries(Object.entries(weights).map(([name, weight]) => [`deep.${name}`, weight]));
    const made = await quantize(safetensors.write(prefixed));
    const bytes = await made.bytes();
    const expected = await compile(net, { weights, precision: (name) => precisionsOf(made)(`deep.${name}`) });
    const y = await expected.forward(x);
    const opened = await safetensors.open(bytes);
    /** @type {Record<string, any>} */
    const tensors = {};
    for (const name of opened.names) tensors[name] = await opened.tensor(name);
    const names = Object.keys(tensors);
    /** Codes and scales in different files, codes first. */
    const shards = [names.filter((name) => !name.endsWith('_scale')), names.filter((name) => name.endsWith('_scale'))].map((group) => safetensors.write(group.map((name) => [name, tensors[name]])));
    for (const [what, source, prefix] of /** @type {[string, any, string][]} */ ([['prefix', bytes, 'deep.'], ['under', opened.under('deep.'), ''], ['shards', shards, 'deep.'], ['tensors', tensors, 'deep.'], ['result', made, 'deep.']])) {
      const model = await compile(net, { weights: source, prefix });
      same(await model.forward(x), y, what);
      model.dispose();
    }
    expected.dispose();
    await opened.close();
  });

  test('missing, unexpected and misshapen weights have their own names', async () => {
    const { 'fc.weight': fc, ...rest } = weights;
    const bytes = await (await quantize(safetensors.write({ ...rest, 'more.weight': fc, 'odd.weight': tensor([68, 56]) }))).bytes();
    await assert.rejects(compile(net, { weights: bytes }), (/** @type {any} */ e) => {
      assert.deepEqual([e.code, e.missing, e.unexpected, e.misshapen], ['keys', ['fc.weight'], ['more.weight'], [{ name: 'odd.weight', expected: [67, 56], got: [68, 56] }]]);
      return true;
    });
    const loose = await (await quantize(safetensors.write({ ...weights, 'more.weight': fc }))).bytes();
    (await compile(net, { weights: loose, strict: false })).dispose();
    await assert.rejects(compile(net, { weights: loose }), { code: 'keys', unexpected: ['more.weight'] });
  });
});

describe('a decoder', () => {
  const ids = new Tensor(Int32Array.from({ length: 20 }, (_, i) => (i * i * 7 + 3 * i) % DECODER.vocab_size), [1, 20]);

  for (const tied of [false, true]) {
    test(`with ${tied ? 'a tied' : 'its own'} output layer`, async () => {
      const module = new models.DeepseekV2ForCausalLM({ ...DECODER, tie_word_embeddings: tied });
      const weights = weightsOf(module);
      if (tied) delete weights['lm_head.weight'];
      for (const precision of /** @type {const} */ (['q4', 'q8'])) {
        // Latent attention keeps f32, whose numbers codes do not have.
        const made = await quantize(safetensors.write(weights), { precision, overrides: { '*.kv_b_proj.weight': 'keep' } });
        const chosen = Object.fromEntries(made.tensors.map(({ name, to }) => [name, to]));
        assert.equal(chosen['model.embed_tokens.weight'], tied ? 'q8' : 'F16');
        assert.equal(chosen['model.layers.1.mlp.gate.weight'], 'F32');
        assert.equal(chosen['model.layers.1.mlp.experts.3.down_proj.weight'], precision);
        if (!tied) assert.equal(chosen['lm_head.weight'], 'q8');
        const model = await compile(module, { weights: await made.bytes() });
        const plain = { ...weights };
        // The table of a tied model is looked up as its codes say it: the engine has one form of it.
        if (tied) plain['model.embed_tokens.weight'] = await expanded(made, 'model.embed_tokens.weight', [DECODER.vocab_size, DECODER.hidden_size]);
        const expected = await compile(module, { weights: plain, precision: precisionsOf(made) });
        const [y, reference] = [await model.forward(ids), await expected.forward(ids)];
        if (!tied) same(y, reference, precision);
        else assert.ok(error(y, reference) <= 1e-6, `${precision}: ${error(y, reference)}`);   // the table's scales come out again to the last bit but one
        const session = await model.session({ context: 20 });
        const other = await expected.session({ context: 20 });
        const [step, stepExpected] = [await session.forward(ids.data.subarray(0, 5)), await other.forward(ids.data.subarray(0, 5))];
        if (!tied) same(step, stepExpected, `${precision} in a session`);
        for (const each of [model, expected]) each.dispose();
      }
    });
  }

  /** @param {Awaited<ReturnType<typeof quantize>>} made @param {string} name @param {number[]} shape */
  async function expanded(made, name, shape) {
    const opened = await safetensors.open(await made.bytes());
    const [codes, scales] = [await opened.tensor(name), await opened.tensor(`${name}_scale`)];
    await opened.close();
    return new Tensor(Float32Array.from(/** @type {Int8Array} */ (codes.data), (code, i) => Math.fround(code * scales.data[Math.floor(i / shape[1])])), shape);
  }
});

describe('the file', () => {
  const weights = { 'a.weight': tensor([17, 40]), 'b.weight': tensor([33, 35]), 'c.weight': tensor([19, 33, 3]), 'd.bias': tensor([7]), 'n': new Tensor(new BigInt64Array([5n]), [1]), 'e.weight': tensor([20, 40]), 'odd.bias': { data: new Uint16Array(3), shape: [3], dtype: 'bf16' } };

  test('is laid out as documented, aligned, and says so', async () => {
    const made = await quantize(safetensors.write(weights, { format: 'pt' }), { metadata: { note: 'x' } });
    const opened = await safetensors.open(await made.bytes());
    const shapes = Object.fromEntries(opened.names.map((name) => [name, [opened.get(name)?.dtype, ...(opened.get(name)?.shape ?? [])].join(' ')]));
    assert.deepEqual(shapes, {
      'a.weight_shape': 'I64 2', 'a.weight_packed': 'I32 17 5', 'a.weight_scale': 'BF16 17 2', 'e.weight_shape': 'I64 2', 'e.weight_packed': 'I32 20 5', 'e.weight_scale': 'BF16 20 2',
      'b.weight': 'I8 33 35', 'b.weight_scale': 'F32 33 1', 'c.weight': 'I8 19 33 3', 'c.weight_scale': 'F32 19 1', 'd.bias': 'F32 7', n: 'I64 1', 'odd.bias': 'BF16 3',
    });
    const header = JSON.parse(new TextDecoder().decode((await made.bytes()).subarray(8, 8 + Number(new DataView((await made.bytes()).buffer).getBigUint64(0, true)))));
    for (const [name, { dtype, data_offsets: [begin] }] of Object.entries(header).filter(([name]) => name !== '__metadata__')) {
      assert.equal(begin % { I64: 8, F32: 4, I32: 4, BF16: 2, I8: 1 }[/** @type {string} */ (dtype)], 0, `${name} begins at ${begin}`);
    }
    assert.ok(header['e.weight_scale'].data_offsets[1] === header['e.weight_packed'].data_offsets[0], 'scales lie in front of their codes');
    assert.deepEqual([opened.metadata.format, opened.metadata.note, opened.metadata['lamella.precision']], ['pt', 'x', 'q4']);
    assert.match(opened.metadata['lamella.layout'], /NAME_packed I32/);
    assert.deepEqual([.../** @type {any} */ ((await opened.tensor('a.weight_shape')).data)], [17n, 40n]);
    assert.deepEqual((await opened.tensor('d.bias')).data, weights['d.bias'].data);
    await opened.close();
  });

  test('overrides by name and by function, and reasons', async () => {
    const reasons = Object.fromEntries((await quantize(safetensors.write(weights))).tensors.map(({ name, to, why }) => [name, `${to} ${why}`]));
    assert.match(reasons['b.weight'], /^q8 rows of 35, no multiple of 8$/);
    assert.match(reasons['c.weight'], /^q8 convolution/);
    assert.match(reasons['d.bias'], /^F32 norms/);
    const source = safetensors.write(weights);
    const chosen = async (/** @type {any} */ overrides) => Object.fromEntries((await quantize(source, { precision: 'q8', overrides })).tensors.map(({ name, to }) => [name, to]));
    assert.deepEqual(await chosen({ 'a.*': 'q4', 'b.weight': 'f16', '*.weight': 'keep', 'd.bias': 'f16' }), { 'a.weight': 'q4', 'b.weight': 'F16', 'c.weight': 'F32', 'd.bias': 'F16', n: 'I64', 'e.weight': 'F32', 'odd.bias': 'BF16' });
    assert.deepEqual((await chosen((/** @type {string} */ name, /** @type {number[]} */ shape, /** @type {string} */ was) => (was === 'q8' && shape[0] === 33 ? 'f32' : undefined)))['b.weight'], 'F32');
    const wrong = (/** @type {any} */ options, /** @type {RegExp} */ message) => assert.rejects(quantize(source, options), (/** @type {any} */ e) => e instanceof LamellaError && e.code === 'argument' && (assert.match(e.message, message), true));
    await wrong({ precision: 'q5' }, /^quantize: precision: expected one of 'q4', 'q8', 'f16', got "q5"$/);
    await wrong({ overrides: { 'b.weight': 'q4' } }, /^quantize: b\.weight: q4 needs a matrix with a multiple of 8 columns, got F32 \[33, 35\]$/);
    await wrong({ overrides: { 'd.bias': 'q8' } }, /^quantize: d\.bias: q8 needs rows, got F32 \[7\]$/);
    await wrong({ overrides: { n: 'f16' } }, /needs floating-point numbers, got I64 \[1\]$/);
    await wrong({ overrides: { '*': 'int8' } }, /overrides\["\*"\]: expected one of .*, got "int8"$/);
    await wrong({ overrides: 'q8' }, /overrides: expected an object/);
    await wrong({ precison: 'q8' }, /no option "precison"/);
  });

  test('numbers that have no code are an error that names weight and row; so is a checkpoint that is quantised already', async () => {
    const bad = tensor([40, 64]);
    bad.data[64 * 21 + 5] = NaN;
    for (const precision of /** @type {const} */ (['q4', 'q8'])) {
      await assert.rejects((await quantize(safetensors.write({ 'a.weight': bad }), { precision })).bytes(), { code: 'quantize', path: 'a.weight', message: /^a\.weight: row 21 has a NaN/ });
    }
    const once = await (await quantize(safetensors.write(weights), { precision: 'q8' })).bytes();
    const again = await quantize(once);
    assert.ok(again.tensors.every(({ to }) => to !== 'q4'), 'codes are no floating-point numbers');
    await assert.rejects(quantize(safetensors.write({ 'a.weight': tensor([17, 40]), 'a.weight_scale': tensor([1]) })), { code: 'quantize', message: /a\.weight_scale/ });
  });

  test('codes of kinds that cannot be loaded are refused', async () => {
    const module = new nn.Linear(64, 32, { bias: false });
    const packed = { data: new Int32Array(32 * 8), shape: [32, 8] };
    const scale = (/** @type {number[]} */ shape) => ({ data: new Uint16Array(shape[0] * shape[1]), shape, dtype: 'bf16' });
    const wrong = (/** @type {any} */ tensors, /** @type {RegExp} */ message) => assert.rejects(compile(module, { weights: safetensors.write(tensors), inputs: [[1, 64]] }), (/** @type {any} */ e) => e.code === 'safetensors' && (assert.match(e.message, message), true));
    await wrong({ weight_packed: packed, weight_scale: scale([32, 3]) }, /^weight: weight_scale: expected BF16 \[32, 2\], .* got BF16 \[32, 3\]$/);
    await wrong({ weight_packed: packed, weight_scale: tensor([32, 2]) }, /got F32 \[32, 2\]$/);
    await wrong({ weight_packed: { data: new Uint8Array(1024), shape: [32, 32] }, weight_scale: scale([32, 2]) }, /weight_packed: expected I32/);
    await wrong({ weight_packed: packed, weight_scale: scale([32, 2]), weight_zero_point: packed }, /only symmetric ones/);
    await wrong({ weight: { data: new Int8Array(2048), shape: [32, 64] }, weight_scale: tensor([31, 1]) }, /expected F32, F16 or BF16 \[32, 1\].* got F32 \[31, 1\]$/);
  });

  test('what another tool has written: scales for 64 codes or the row, halves as scales', async () => {
    const module = new nn.Linear(64, 32, { bias: false });
    const x = tensor([3, 64]);
    const codes = Int32Array.from({ length: 32 * 8 }, () => Math.floor(random() * 2 ** 31));
    const one = async (/** @type {any} */ tensors, /** @type {any} */ plain) => {
      const model = await compile(module, { weights: safetensors.write(tensors), inputs: [[null, 64]], precision: 'f32' });
      const expected = await compile(module, { weights: { weight: new Tensor(plain, [32, 64]) }, inputs: [[null, 64]] });
      same(await model.forward(x), await expected.forward(x), Object.keys(tensors).join());
      for (const each of [model, expected]) each.dispose();
    };
    const scales = Float32Array.from({ length: 32 }, (_, i) => 2 ** (i % 5 - 6));
    await one({ weight_packed: { data: codes, shape: [32, 8] }, weight_scale: { data: scales, shape: [32, 1], dtype: 'bf16' } }, Float32Array.from({ length: 2048 }, (_, i) => ((codes[i >> 3] >>> (i % 8 * 4) & 15) - 8) * scales[i >> 6]));
    const bytes = Int8Array.from({ length: 2048 }, () => random() * 127);
    await one({ weight: { data: bytes, shape: [32, 64] }, weight_scale: { data: scales, shape: [32], dtype: 'f16' } }, Float32Array.from(bytes, (code, i) => code * scales[i >> 6]));
  });
});

describe('npx lamella', () => {
  const run = (/** @type {string[]} */ ...args) => promisify(execFile)(process.execPath, [at('js/cli.js'), ...args], { cwd: folder }).then((done) => ({ ...done, code: 0 }), (failed) => failed);

  test('quantize: a file, a folder of shards, options, a table of what became what', async () => {
    const weights = { 'a.weight': tensor([64, 64]), 'lm_head.weight': tensor([64, 64]), 'norm.weight': tensor([64]) };
    await writeFile(join(folder, 'in.safetensors'), safetensors.write(weights));
    const { stdout, code } = await run('quantize', 'in.safetensors', 'out.safetensors');
    assert.equal(code, 0);
    assert.match(stdout, /^in\.safetensors 0\.033 MB -> out\.safetensors 0\.00\d MB/);
    assert.match(stdout, /q4 +0\.016 MB -> +0\.002 MB +1 of a\.weight\n/);
    assert.match(stdout, /q8 .* 1 of lm_head\.weight \(output layer\)\n/);
    assert.match(stdout, /f32 .* 1 of norm\.weight \(norms/);
    assert.deepEqual(await readFile(join(folder, 'out.safetensors')), Buffer.from(await (await quantize(safetensors.write(weights))).bytes()));
    const listed = await run('quantize', 'in.safetensors', 'out.safetensors', '--force', '--list', '--precision', 'q8', '--for', 'lm_*=q4', '--for', '*=keep');
    assert.match(listed.stdout, /q4 .* lm_head\.weight \[64, 64\] F32: as asked\n/);
    assert.match(listed.stdout, /f32 .* a\.weight \[64, 64\] F32: as asked\n/);
    const sharded = await run('quantize', at('tests/reference/fixtures/sharded'), 'sharded.safetensors');
    assert.equal(sharded.code, 0, sharded.stderr);
    const opened = await safetensors.open(join(folder, 'sharded.safetensors'));
    assert.ok(opened.names.length > 0);
    await opened.close();
  });

  test('mistakes are said in a line, and leave nothing behind', async () => {
    await writeFile(join(folder, 'there.safetensors'), 'mine');
    await writeFile(join(folder, 'broken.safetensors'), safetensors.write({ 'a.weight': new Tensor(new Float32Array(4096).fill(NaN), [64, 64]) }));
    const before = await readdir(folder);
    /** @type {[string[], RegExp][]} */
    const mistakes = [
      [['quantize', 'broken.safetensors', 'there.safetensors'], /^lamella: there\.safetensors: is there already; --force overwrites it\n/],
      [['quantize', 'broken.safetensors', './broken.safetensors', '--force'], /is the file that is read/],
      [['quantize', 'missing.safetensors', 'x'], /^lamella: missing\.safetensors: there is no such file\n$/],
      [['quantize', 'broken.safetensors', 'x'], /^lamella: a\.weight: row 0 has a NaN/],
      [['quantize', 'broken.safetensors', 'x', '--precision', 'q5'], /precision: expected one of/],
      [['quantize', 'broken.safetensors', 'x', '--for', 'q4'], /--for: expected PATTERN=HOW, got "q4"/],
      [['quantize', 'broken.safetensors', 'x', '--quick'], /--quick/],
      [['quantize', 'broken.safetensors'], /expected two files, IN and OUT, got 1/],
      [['quantize', '.', 'x'], /neither a model\.safetensors nor/],
      [['quantize', 'broken.safetensors', 'no/such/folder/x'], /ENOENT/],
      [['shrink', 'a', 'b'], /there is no command "shrink"/],
    ];
    for (const [args, message] of mistakes) {
      const { code, stderr, stdout } = await run(...args);
      assert.equal(code, 1, args.join(' '));
      assert.match(stderr, message);
      assert.equal(stdout, '');
    }
    assert.deepEqual(await readdir(folder), before);
    assert.equal(await readFile(join(folder, 'there.safetensors'), 'utf8'), 'mine');
    assert.match((await run('--help')).stdout, /^lamella quantize IN OUT/);
  });
});
