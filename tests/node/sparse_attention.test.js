import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { compile, F, Module, nn, Parameter, Tensor } from '../../js/index.js';

const build = /** @type {any} */ (process.env.LAMELLA_BUILD);
const SMALL = { dim: 14, dimHead: 6, heads: 4, kvHeads: 2, slidingWindowSize: 3, compressBlockSize: 4, compressBlockSlidingStride: 2, selectionBlockSize: 4, numSelectedBlocks: 2, causal: true };

let state = 1;
const uniform = () => ((state = (Math.imul(state, 1664525) + 1013904223) >>> 0) / 2 ** 31 - 1);
/** @param {readonly number[]} shape @param {number} [size] */
const random = (shape, size = 1) => new Tensor(Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => size * uniform()), [...shape]);
/** @param {any} module */
const weightsOf = (module) => Object.fromEntries([...module.stateDict()].map(([name, { shape }]) => [name, random(shape, shape.length > 1 ? 1.2 : 0.9)]));
/** @param {any} module @param {any} [options] */
const compiled = (module, options = {}) => compile(module, { weights: weightsOf(module), inputs: [[null, null, 14]], build, ...options });
/** Tokens [first, end) of x [1, t, w]. @param {any} x @param {number} first @param {number} end */
const tokens = (x, first, end) => new Tensor(x.data.slice(first * x.shape[2], end * x.shape[2]), [1, end - first, x.shape[2]]);

/** @param {any} y @param {any} expected @param {string} what */
function near(y, expected, what) {
  assert.deepEqual(y.shape, expected.shape, what);
  const largest = Math.max(...expected.data.map(Math.abs));
  y.data.forEach((/** @type {number} */ value, /** @type {number} */ i) => assert.ok(Math.abs(value - expected.data[i]) <= 1e-5 * largest, `${what}: ${value} and ${expected.data[i]} at ${i}`));
}

/** @type {[string, any][]} */
const forms = [
  ['windows that overlap', {}],
  ['stride = block = selection', { compressBlockSlidingStride: 4 }],
  ['each head for itself', { queryHeadsShareSelectedKv: false, kvHeads: 1 }],
  ['stride = block < selection', { compressBlockSize: 3, compressBlockSlidingStride: 3, selectionBlockSize: 6, numSelectedBlocks: 1, numCompressedMemKv: 2 }],
  ['none selected, no norm', { numSelectedBlocks: 0, norm: false }],
  ['a long window', { slidingWindowSize: 17 }],
  ['ConvLinearCompress', { compressMlp: new nn.ConvLinearCompress(2, 6, 4) }],
  ['EfficientConvLinearCompress', { compressMlp: new nn.EfficientConvLinearCompress(2, 6, 4) }],
  ['AttentionPool', { compressMlp: new nn.AttentionPool(6, 4) }],
  ['ScaledAttentionPool', { compressMlp: new nn.ScaledAttentionPool(6, 4) }],
  ['GroupedMLP', { compressMlp: new nn.GroupedMLP(6, 4, 2) }],
  ['EnhancedGroupedMLP', { compressMlp: new nn.EnhancedGroupedMLP(6, 4, 2) }],
  ['SingleProjection', { compressMlp: new nn.SingleProjection(6, 4) }],
  ['SingleProjection of each head', { compressMlp: new nn.SingleProjection(6, 4, 2) }],
  ['CompressTransformer', { compressMlp: new nn.CompressTransformer(2, 12, 3) }],
];

describe('a session of SparseAttention', () => {
  for (const [name, options] of forms) {
    it(`agrees with the whole sequence: ${name}`, async () => {
      const model = await compiled(new nn.SparseAttention({ ...SMALL, ...options }));
      const x = random([1, 37, 14], 2);
      const whole = await model.forward(x);
      for (const start of [1, 5, 8, 19]) {
        const session = await model.session({ context: 37 });
        near(await session.forward(tokens(x, 0, start)), tokens(whole, 0, start), `the first ${start}`);
        for (let t = start; t < 37; t++) near(await session.forward(tokens(x, t, t + 1)), tokens(whole, t, t + 1), `token ${t} after ${start}`);
        session.dispose();
      }
      const session = await model.session({ context: 37 });
      let at = 0;
      for (const count of [3, 2, 1, 7, 4, 9, 11]) {
        near(await session.forward(tokens(x, at, at + count)), tokens(whole, at, at + count), `${count} tokens after ${at}`);
        at += count;
      }
      for (const back of [29, 14, 15, 3]) {
        await session.seek(back);
        near(await session.forward(tokens(x, back, back + 1)), tokens(whole, back, back + 1), `token ${back} again`);
        near(await session.forward(tokens(x, back + 1, 37)), tokens(whole, back + 1, 37), `and on from ${back}`);
      }
      await session.seek(6);
      const other = random([1, 12, 14], 2);   // another continuation: nothing of the first one is left
      const joined = new Tensor(Float32Array.from([...tokens(x, 0, 6).data, ...other.data]), [1, 18, 14]);
      const expected = await model.forward(joined);
      for (let t = 0; t < 12; t += 3) near(await session.forward(tokens(other, t, t + 3)), tokens(expected, 6 + t, 9 + t), `another continuation, token ${t}`);
      model.dispose();
    });
  }

  it('agrees with the whole sequence in long chunks', async () => {
    const model = await compiled(new nn.SparseAttention({ ...SMALL, compressMlp: new nn.GroupedMLP(6, 4, 2) }), { threads: build?.endsWith('threads') ? 3 : 1 });
    const x = random([1, 341, 14], 2);
    const whole = await model.forward(x);
    const session = await model.session({ context: 341 });
    let at = 0;
    for (const count of [70, 64, 1, 3, 135, 67, 1]) {   // keys and values are read where they lie, or from copies head by head
      near(await session.forward(tokens(x, at, at + count)), tokens(whole, at, at + count), `${count} tokens after ${at}`);
      at += count;
    }
    model.dispose();
  });

  it('goes on in two layers, with a feed-forward between them', async () => {
    class Blocks extends Module {
      constructor() {
        super();
        this.layers = [0, 1].map(() => new nn.SparseAttention({ ...SMALL, compressMlp: () => new nn.GroupedMLP(6, 4, 2) }));
        this.ff = new nn.Linear(14, 14);
      }

      /** @param {any} x */
      forward(x) {
        const [first, second] = this.layers;
        const y = F.add(x, first(x));
        return second(F.add(y, F.gelu(this.ff(y))));
      }
    }
    const model = await compiled(new Blocks());
    const x = random([1, 23, 14]);
    const whole = await model.forward(x);
    const session = await model.session({ context: 30 });
    near(await session.forward(tokens(x, 0, 9)), tokens(whole, 0, 9), 'prefill');
    for (let t = 9; t < 23; t++) near(await session.forward(tokens(x, t, t + 1)), tokens(whole, t, t + 1), `token ${t}`);
    model.dispose();
  });

  it('ends with the context', async () => {
    const model = await compiled(new nn.SparseAttention(SMALL));
    const session = await model.session({ context: 9 });
    await session.forward(random([1, 8, 14]));
    await assert.rejects(session.forward(random([1, 2, 14])), { code: 'shape', message: /the context of 9 tokens is full: 8 of them are taken and 2 more came/ });
    await session.forward(random([1, 1, 14]));
    await assert.rejects(session.forward(random([2, 1, 14])), { code: 'shape', message: /expected shape \[1, \?, 14\], got \[2, 1, 14\]/ });
    model.dispose();
  });

  it('does not go on where attention is not causal', async () => {
    const model = await compiled(new nn.SparseAttention({ ...SMALL, causal: false }));
    const session = await model.session({ context: 9 });
    const x = random([1, 5, 14]);
    near(await session.forward(x), await model.forward(x), 'a whole sequence');
    await assert.rejects(session.forward(random([1, 1, 14])), { name: 'LamellaError', code: 'shape', message: /sparse_attention: 1 queries and 6 keys: only causal attention goes on/ });
    model.dispose();
  });
});

describe('SparseAttention', () => {
  const names = (/** @type {any} */ module) => Object.fromEntries([...module.stateDict()].map(([name, { shape }]) => [name, [...shape]]));
  const own = {
    'norm.weight': [14], 'rotary_emb.freqs': [3], 'to_qkv.weight': [48, 14], compress_mem_kv: [2, 2, 1, 6], k_intrablock_positions: [2, 4, 6], v_intrablock_positions: [2, 4, 6],
    'to_strategy_combine.0.weight': [12, 14], 'to_strategy_combine.0.bias': [12], 'combine_heads.weight': [14, 24],
  };

  it('has the names of native-sparse-attention-pytorch', () => {
    const mlp = (/** @type {string} */ k) => ({ [`${k}.1.weight`]: [24, 24], [`${k}.1.bias`]: [24], [`${k}.3.weight`]: [6, 24], [`${k}.3.bias`]: [6] });
    assert.deepEqual(names(new nn.SparseAttention(SMALL)), { ...own, ...mlp('k_compress'), ...mlp('v_compress') });
    const grouped = (/** @type {string} */ k) => ({ [`${k}.net.0.weight`]: [2, 24, 24], [`${k}.net.0.bias`]: [1, 2, 1, 24], [`${k}.net.2.weight`]: [2, 24, 6], [`${k}.net.2.bias`]: [1, 2, 1, 6] });
    for (const compressMlp of [new nn.GroupedMLP(6, 4, 2), () => new nn.GroupedMLP(6, 4, 2)]) {
      assert.deepEqual(names(new nn.SparseAttention({ ...SMALL, compressMlp })), { ...own, ...grouped('k_compress'), ...grouped('v_compress') });
    }
    const layer = Object.entries({ 'norm1.weight': [12], 'norm2.weight': [12], 'attn.q_proj.weight': [12, 12], 'attn.q_proj.bias': [12], 'attn.k_proj.weight': [12, 12], 'attn.k_proj.bias': [12],
      'attn.v_proj.weight': [12, 12], 'attn.v_proj.bias': [12], 'attn.out_proj.weight': [12, 12], 'attn.out_proj.bias': [12], 'ff.fc1.weight': [48, 12], 'ff.fc1.bias': [48], 'ff.fc2.weight': [12, 48], 'ff.fc2.bias': [12] });
    assert.deepEqual(names(new nn.CompressTransformer(2, 12, 3)), Object.fromEntries([0, 1].flatMap((i) => layer.map(([name, shape]) => [`layers.${i}.${name}`, shape]))));
    assert.deepEqual(names(new nn.SingleProjection(6, 4)), { 'compress.1.weight': [6, 24] });
    assert.deepEqual(names(new nn.SingleProjection(6, 4, 2)), { 'compress.weight': [2, 6, 6] });
  });

  it('takes arguments in order, too', () => {
    const module = new nn.SparseAttention(14, 6, 4, 3, 4, 2, 4, 2, 2, 1, true);
    assert.deepEqual(names(module), names(new nn.SparseAttention(SMALL)));
    assert.match(String(module), /^  dim=14, dimHead=6, heads=4, kvHeads=2, slidingWindowSize=3, .*numSelectedBlocks=2, causal=true$/m);
  });

  it('copies a module for keys and for values', () => {
    const shared = new Parameter([6]);
    class Twice extends Module {
      constructor() {
        super();
        this.parts = [new nn.Sequential({ a: new nn.Linear(2, 3) }), { kept: 1 }];
        this.first = shared;
        this.second = shared;
      }

      /** @param {any} kv */
      forward(kv) {
        return F.mul(F.mean(kv, 3), F.mul(this.first, this.second));
      }
    }
    const given = new Twice();
    const { k_compress: k, v_compress: v } = /** @type {any} */ (new nn.SparseAttention({ ...SMALL, compressMlp: given }));
    assert.ok(k instanceof Twice && v instanceof Twice && k !== v && k !== given);
    assert.ok(k.first === k.second && k.first !== v.first && k.first !== shared && k.first instanceof Parameter);
    assert.ok(k.parts[0].a !== v.parts[0].a && k.parts[0].a.weight !== given.parts[0].a.weight && k.parts[1] === given.parts[1]);
    assert.deepEqual(names(k), names(given));
  });

  /** @type {[any, string | RegExp][]} */
  const wrong = [
    [{ kvHeads: 3 }, 'SparseAttention: heads 4 is not a multiple of kvHeads 3'],
    [{ kvHeads: 8 }, 'SparseAttention: heads 4 is not a multiple of kvHeads 8'],
    [{ heads: 0 }, /SparseAttention: heads: expected an integer of at least 1, got 0/],
    [{ dimHead: 7 }, /SparseAttention: dimHead: expected an even number.*got 7/],
    [{ dim: undefined }, /SparseAttention: dim: expected an integer of at least 1, got undefined/],
    [{ compressBlockSlidingStride: 5 }, 'SparseAttention: compressBlockSlidingStride 5 is more than compressBlockSize 4'],
    [{ compressBlockSlidingStride: 0 }, /compressBlockSlidingStride: expected an integer of at least 1, got 0/],
    [{ selectionBlockSize: 5 }, 'SparseAttention: selectionBlockSize 5 is not a multiple of compressBlockSlidingStride 2'],
    [{ numSelectedBlocks: -1 }, /numSelectedBlocks: expected an integer of at least 0, got -1/],
    [{ slidingWindowSize: 0 }, /slidingWindowSize: expected an integer of at least 1, got 0/],
    [{ numCompressedMemKv: 0 }, /numCompressedMemKv: expected an integer of at least 1, got 0/],
    [{ causal: 1 }, /causal: expected true or false, got 1/],
    [{ compressMlp: 3 }, /compressMlp: expected a module or a function that makes one, got 3/],
    [{ compressMlp: () => 3 }, /compressMlp: expected a module or a function that makes one, got 3/],
    [{ compressMlpExpandFactor: 0 }, /compressMlpExpandFactor: expected at least .* got 0/],
    [{ windowSize: 3 }, /there is no option "windowSize"/],
  ];
  for (const [options, message] of wrong) {
    it(`refuses ${JSON.stringify(options)}`, () => {
      assert.throws(() => new nn.SparseAttention({ ...SMALL, ...options }), { name: 'LamellaError', code: 'argument', message });
    });
  }

  it('refuses compressions and gates of other sizes', async () => {
    await assert.rejects(compiled(new nn.SparseAttention({ ...SMALL, compressMlp: new nn.GroupedMLP(6, 3, 2) })), { code: 'shape', path: 'k_compress', message: /GroupedMLP: expected \[b, 2, w, 3, 6\], got \[\?, 2, \?, 4, 6\]/ });
    await assert.rejects(compiled(new nn.SparseAttention({ ...SMALL, compressMlp: new nn.Sequential(new nn.Flatten(3), new nn.Linear(24, 5)) })), { code: 'shape', message: /what compressMlp returns: expected \[b, 2, w, 6\], got \[\?, 2, \?, 5\]/ });
    await assert.rejects(compiled(new nn.SparseAttention({ ...SMALL, compressMlp: new nn.CompressTransformer(1, 10, 2) })), { code: 'shape', message: /CompressTransformer: 2 heads of 6 are not its dim 10/ });
    await assert.rejects(compiled(new nn.SparseAttention({ ...SMALL, strategyCombineMlp: new nn.Linear(14, 8) })), { code: 'shape', message: /gates: expected \[b, t, 12\].*got \[\?, \?, 8\]/ });
    const model = await compiled(new nn.SparseAttention({ ...SMALL, compressMlp: new nn.EfficientConvLinearCompress(2, 6, 2) }));
    await assert.rejects(model.forward(random([1, 9, 14])), { code: 'shape', message: /compressed k \[1, 8, 12\] and v \[1, 8, 12\]: expected \[b, floor\(t \/ 2\), 12\]/ });
    model.dispose();
    await assert.rejects(compile(new nn.SparseAttention(SMALL), { weights: weightsOf(new nn.SparseAttention(SMALL)), inputs: [[null, null, 12]], build }), { code: 'shape', message: /SparseAttention: expected \[b, t, 14\], got \[\?, \?, 12\]/ });
  });

  it('SingleProjection of each head needs to know the window', async () => {
    const module = new nn.SingleProjection(6, 4, 2);
    await assert.rejects(compile(module, { weights: weightsOf(module), inputs: [[1, 2, null, null, 6]], build }), { code: 'shape', message: /the window must have a fixed size, 4, in/ });
  });
});
