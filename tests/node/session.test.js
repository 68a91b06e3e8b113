import assert from 'node:assert/strict';
import { describe, it, mock } from 'node:test';
import { compile, F, Model, Module, nn, Parameter, Session, Tensor } from '../../js/index.js';
import { Runner } from '../../web/runner.js';

const build = /** @type {any} */ (process.env.LAMELLA_BUILD);
const numbers = (/** @type {number} */ n, seed = 1) => Float32Array.from({ length: n }, (_, i) => Math.sin(seed + i * 1.7));

/** Mean of everything seen so far, through a linear layer. */
class Running extends Module {
  constructor() {
    super();
    this.embed = new nn.Embedding(11, 6);
    this.fc = new nn.Linear(6, 4);
    this.inputs = [{ shape: [null, null], dtype: 'i32' }];
  }

  /** @param {any} ids */
  forward(ids) {
    return this.fc(F.cache(this.embed(ids)).mean(1));
  }
}
const runningWeights = { 'embed.weight': new Tensor(numbers(66), [11, 6]), 'fc.weight': new Tensor(numbers(24, 3), [4, 6]), 'fc.bias': new Tensor(numbers(4, 5)) };
const running = (options = {}) => compile(new Running(), { weights: runningWeights, build, ...options });

/** Logits of each token by the mean so far, of the rows that are asked for. */
class Lasting extends Module {
  constructor() {
    super();
    this.embed = new nn.Embedding(11, 6);
    this.head = new nn.Linear(6, 5, { bias: false });
    this.inputs = [{ shape: [null, null], dtype: 'i32' }, /** @type {any} */ ({ shape: [null, null], dtype: 'i32', rows: true })];
  }

  /** @param {any} ids @param {any} [rows] */
  forward(ids, rows) {
    const x = F.add(this.embed(ids), F.reshape(F.cache(this.embed(ids)).mean(1), [-1, 1, 6]));
    return this.head(rows ? F.embedding(rows, F.flatten(x, 0, 1)) : x);
  }
}

/** @param {any} [options] */
async function lasting(options) {
  return compile(new Lasting(), { weights: { 'embed.weight': runningWeights['embed.weight'], 'head.weight': new Tensor(numbers(30, 7), [5, 6]) }, build, ...options });
}

/** @param {Tensor} a @param {Tensor} b */
function near(a, b) {
  assert.deepEqual(a.shape, b.shape);
  a.data.forEach((x, i) => assert.ok(Math.abs(Number(x) - Number(b.data[i])) < 1e-5, `${x} and ${b.data[i]} at ${i}`));
}

describe('a session', () => {
  for (const worker of [false, true]) {
    it(`remembers what it has seen${worker ? ', in a worker' : ''}`, async () => {
      const model = await running({ worker });
      const ids = [4, 0, 10, 3, 3, 7, 1];
      const whole = await Promise.all(ids.map((_, i) => model.forward(new Tensor(Int32Array.from(ids.slice(0, i + 1)), [1, i + 1]))));
      const session = await model.session({ context: 7 });
      assert.ok(session instanceof Session);
      near(await session.forward(ids.slice(0, 3)), whole[2]);
      const other = await model.session({ context: 3 });
      for (let i = 3; i < 7; i++) {
        near(await session.forward([ids[i]]), whole[i]);
        assert.equal(session.position, i + 1);
        if (i < 5) near(await other.forward(BigInt64Array.of(BigInt(ids[i - 3]))), whole[i - 3]);
      }
      await assert.rejects(session.forward([1]), { code: 'shape', message: /the context of 7 tokens is full: 7 of them are taken and 1 more came/ });
      assert.equal(session.position, 7);
      await session.seek(2);
      near(await session.forward(Int32Array.from(ids.slice(2, 6))), whole[5]);
      await assert.rejects(session.seek(7), { message: /position 7 is outside the 6 tokens seen so far/ });
      assert.ok(model.memory.caches >= 10 * 6 * 4, `${model.memory.caches}`);
      session.dispose();
      session.dispose();
      await assert.rejects(session.forward([1]), { code: 'disposed' });
      near(await other.forward([ids[2]]), whole[2]);
      assert.equal(model.memory.caches, 3 * 6 * 4);
      model.dispose();
      await assert.rejects(other.forward([1]), { code: 'disposed' });
    });
  }

  it('stays where it was when a call fails or is aborted', async () => {
    const model = await running();
    const session = await model.session({ context: 7 });
    await session.forward([1, 2]);
    await assert.rejects(session.forward([11]), { code: 'argument', message: /embed: embedding: id 11 \(number 0 of \[1, 1\]\) is outside the table of 11 rows/ });
    await assert.rejects(session.forward([-1]), { code: 'argument' });
    await assert.rejects(session.forward([1.5]), { code: 'argument', message: /whole numbers of 32 bits, got 1.5 at 0/ });
    await assert.rejects(session.forward([3], { signal: AbortSignal.abort() }), { name: 'AbortError' });
    assert.equal(session.position, 2);
    const signal = new AbortController().signal;
    near(await session.forward([5], { signal }), await model.forward(new Tensor([[1, 2, 5]])));
    model.dispose();
  });

  for (const worker of [false, true]) {
    it(`takes over from a sequence what it has of its beginning${worker ? ', in a worker' : ''}`, async () => {
      const model = await lasting({ worker });
      const session = await model.session({ context: 8 });
      const runs = mock.method(Runner.prototype, 'forward').mock;
      /** @param {number[]} ids @param {number} kept */
      const check = async (ids, kept) => {
        runs.resetCalls();
        const logits = await session.sync(ids);
        if (!worker) assert.deepEqual(runs.calls.map(({ arguments: [, inputs] }) => inputs.map(({ shape }) => shape)), [[[1, ids.length - kept], [1, 1]]]);
        const whole = await model.forward(new Tensor(Int32Array.from(ids), [1, ids.length]));
        assert.deepEqual([logits.length, session.position, whole.shape], [5, ids.length, [1, ids.length, 5]]);
        logits.forEach((x, i) => assert.ok(Math.abs(x - whole.data.at(i - 5)) < 1e-5, `${x} at ${i}`));
      };
      await check([4, 0, 10], 0);
      await check([4, 0, 10, 3, 3], 3);
      await check([4, 0, 10, 3, 3], 4);   // the logits of the last one are wanted
      await check([4, 0, 7], 2);
      await check([1], 0);
      await session.forward([2, 3]);
      await check([1, 2, 3, 4], 3);
      await session.seek(2);
      await check([1, 2, 3], 2);
      const both = await Promise.all([session.sync([1, 2, 9, 9]), session.sync(Int32Array.of(1, 2, 9, 8, 8))]);
      assert.deepEqual(both.map(({ length }) => length), [5, 5]);
      await check([1, 2, 9, 8, 8, 1], 5);
      await assert.rejects(session.sync(new Int32Array(9)), { code: 'shape', message: /9 tokens are more than the context of 8/ });
      assert.equal(session.position, 6);
      await assert.rejects(session.sync([1, 2, 11]), { code: 'argument', message: /outside the table/ });
      assert.equal(session.position, 2);
      await assert.rejects(session.sync([]), { code: 'argument', message: /sync: tokens: expected at least one/ });
      await assert.rejects(session.sync([0.5]), { code: 'argument', message: /sync: tokens\[0\]: expected an integer, got 0.5/ });
      await assert.rejects(session.sync([1], { signal: AbortSignal.abort() }), { name: 'AbortError' });
      runs.restore();
      model.dispose();
    });
  }

  it('asks for the last row only', async () => {
    const model = await lasting();
    assert.deepEqual(model.inputs, [[null, null]]);
    const shape = async (/** @type {any[]} */ ...inputs) => (await model.profile(...inputs)).find(({ path }) => path === 'head')?.shape;
    assert.deepEqual(await shape(new Tensor(new Int32Array(6), [2, 3])), [2, 3, 5]);
    assert.deepEqual(await shape(new Tensor(new Int32Array(6), [2, 3]), new Tensor(Int32Array.of(2, 5), [2, 1])), [2, 1, 5]);
    assert.equal((await model.summary([1, 7])).rows.find(({ path }) => path === 'head')?.shape.join(), '1,7,5');
    const ids = new Tensor(Int32Array.of(1, 2, 3, 4), [1, 4]);
    const whole = await model.forward(ids, { signal: new AbortController().signal });
    assert.deepEqual((await model.forward(ids, [[3, 0]])).data, Float32Array.of(...whole.data.slice(15), ...whole.data.slice(0, 5)));
    await assert.rejects(model.forward(ids, [[4]]), { code: 'argument', message: /id 4 .* outside the table of 4 rows/ });
    await assert.rejects(model.forward(), { code: 'argument', message: /expected 1 input \[\?, \?\], got 0/ });
    await assert.rejects(model.forward(ids, [[0]], ids), { code: 'argument', message: /got 3/ });
    model.dispose();
    const fixed = await lasting({ inputs: [{ shape: [1, null], dtype: 'i32' }] });   // cannot be told
    const session = await fixed.session({ context: 4 });
    assert.deepEqual(await session.sync([1, 2, 3]), (await fixed.forward([1, 2, 3])).data.slice(-5));
    fixed.dispose();
    const other = await running();
    await assert.rejects((await other.session({ context: 4 })).sync([1]), { code: 'shape', message: /makes logits/ });
    other.dispose();
  });

  it('is refused where its caches are more than an address can count', async () => {
    const wide = new Tensor(new Float32Array(64).fill(1), [1, 1, 64]);
    const kept = Object.assign(new nn.Identity(), { inputs: [[null, null, 64]], forward: (/** @type {any} */ x) => F.cache(x).mean(1) });
    const model = await compile(kept, { build });
    const session = await model.session({ context: 2 ** 26 });   // times 64 numbers: 2^32
    await assert.rejects(session.forward(wide), { code: 'memory', message: /a cache for 67108864 tokens needs/ });
    assert.deepEqual([session.position, model.memory.caches], [0, 0]);
    near(await model.forward(wide), new Tensor(new Float32Array(64).fill(1), [1, 64]));
    model.dispose();
  });

  it('needs a model that remembers', async () => {
    const model = await compile(new nn.Linear(2, 3, { bias: false }), { weights: { weight: new Tensor(numbers(6), [3, 2]) }, inputs: [[null, 2]], build });
    await assert.rejects(model.session({ context: 4 }), { code: 'shape', message: /no layer of it is a cache/ });
    await assert.rejects(model.session({ context: 0 }), { code: 'argument' });
    await assert.rejects(/** @type {any} */ (model).session({}), { code: 'argument' });
    await assert.rejects(/** @type {any} */ (model).session(), { code: 'argument' });
    near(await model.forward(numbers(2)), await model.forward(numbers(2)));
    model.dispose();
  });
});

class Two extends Module {
  constructor() {
    super();
    this.shared = new nn.Linear(3, 4, { bias: false });
    this.only = new nn.Linear(4, 2);
    this.projection = new Parameter([4, 5]);
    this.methods = { narrow: { inputs: [[null, 3]] }, longest: { inputs: [{ shape: [null, null], dtype: 'i32' }, [null, null, 3]] } };
  }

  get Model() {
    return TwoModel;
  }

  /** @param {any} x */
  narrow(x) {
    return { y: this.only(this.shared(x)), p: F.matmul(this.shared(x), this.projection) };
  }

  /** @param {any} ids @param {any} x */
  longest(ids, x) {
    const at = F.argmax(ids, -1);
    return [at, this.shared(F.select(x, at))];
  }
}
class TwoModel extends Model {
  /** @param {any} x */
  async narrow(x) {
    return (await this.call('narrow', x)).y;
  }
}
const twoWeights = { 'shared.weight': new Tensor(numbers(12), [4, 3]), 'only.weight': new Tensor(numbers(8, 2), [2, 4]), 'only.bias': new Tensor(numbers(2)), projection: new Tensor(numbers(20, 4), [4, 5]) };
const product = (/** @type {number[]} */ x, /** @type {ArrayLike<number>} */ w, /** @type {number} */ out) => Array.from({ length: out }, (_, o) => x.reduce((sum, v, i) => sum + v * w[o * x.length + i], 0));

describe('methods', () => {
  it('are several networks on the same weights', async () => {
    const model = await compile(new Two(), { weights: twoWeights, build });
    assert.ok(model instanceof TwoModel);
    assert.deepEqual(model.methods, ['narrow', 'longest']);
    const x = [0.3, -1, 2];
    const h = product(x, twoWeights['shared.weight'].data, 4);
    near(await model.narrow(x), new Tensor(product(h, twoWeights['only.weight'].data, 2).map((v, i) => v + twoWeights['only.bias'].data[i]), [1, 2]));
    const { p } = await model.call('narrow', Float32Array.from(x));
    near(p, new Tensor(Array.from({ length: 5 }, (_, j) => h.reduce((sum, v, i) => sum + v * twoWeights.projection.data[i * 5 + j], 0)), [1, 5]));
    const [at, y] = await model.call('longest', [[4, 9, 9], [7, 1, 3]], new Tensor([...Array(3).fill([1, 1, 1]), x, x, x].flat(), [2, 3, 3]));
    assert.deepEqual([at.dtype, [...at.data], at.shape], ['i32', [1, 0], [2]]);
    near(y, new Tensor([...product([1, 1, 1], twoWeights['shared.weight'].data, 4), ...h], [2, 4]));
    const layers = await model.profile(Float32Array.from(x), { method: 'narrow' });
    assert.deepEqual(layers.map(({ path }) => path).sort(), ['', 'only', 'shared', 'shared']);
    await assert.rejects(model.profile(x), { code: 'argument', message: /no method "forward"/ });
    await assert.rejects(model.profile(x, { method: 'narrow', sigal: 1 }), { code: 'argument', message: /no option "sigal"/ });
    await assert.rejects(model.forward(x), { code: 'argument', message: /no method "forward"; it has narrow, longest/ });
    model.dispose();
  });

  it('can be chosen, and then need only their weights', async () => {
    const { 'shared.weight': shared } = twoWeights;
    const model = await compile(new Two(), { weights: { 'shared.weight': shared }, methods: ['longest'], build });
    assert.deepEqual(model.methods, ['longest']);
    model.dispose();
    await assert.rejects(compile(new Two(), { weights: { 'shared.weight': shared }, build }), { code: 'keys' });
    await assert.rejects(compile(new Two(), { weights: twoWeights, methods: ['wide'], build }), { code: 'argument', message: /names among narrow, longest, got "wide"/ });
    await assert.rejects(compile(new Two(), { weights: twoWeights, methods: /** @type {any} */ ('narrow'), build }), { code: 'argument' });
  });

  it('must be there and declare their inputs', async () => {
    const absent = Object.assign(new Two(), { methods: { missing: { inputs: [[1]] } } });
    await assert.rejects(compile(absent, { weights: twoWeights, build }), { message: /Two: missing: the module has no method of this name/ });
    const bare = Object.assign(new Two(), { methods: { narrow: {} } });
    await assert.rejects(compile(bare, { weights: twoWeights, build }), { message: /Two: methods.narrow.inputs: expected an array/ });
    const float = Object.assign(new Running(), { inputs: [[null, null]] });
    await assert.rejects(compile(float, { weights: runningWeights, build }), { code: 'shape', message: /embed: embedding: argument 0 holds f32, expected whole numbers/ });
  });
});
