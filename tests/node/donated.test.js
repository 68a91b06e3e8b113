/** The engine writes over a run's inputs: what each run is given, every run must write, and nothing that is still to be read may be lost. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compile, F, Module, nn, Tensor } from '../../js/index.js';

const WIDTH = 64;
const build = process.env.LAMELLA_BUILD ?? 'simd';
/** A module of one function of its inputs. */
class Call extends Module {
  /** @param {(...inputs: any[]) => any} forward */
  constructor(forward) {
    super();
    this.forward = forward;
  }
}
const rows = (/** @type {number} */ n, seed = 1) => new Tensor(Float32Array.from({ length: n * WIDTH }, (_, i) => Math.sin(seed * 3 + i * 0.7) * 2), [n, WIDTH]);
const relu = (/** @type {ArrayLike<number>} */ x) => Float32Array.from(x, (v) => Math.max(0, v));
/** @param {(...inputs: any[]) => any} forward @param {any[]} inputs @param {object} [options] */
const model = (forward, inputs, options = {}) => compile(new Call(forward), { inputs, build, ...options });

const doubled = (/** @type {Float32Array} */ x) => x.map((v) => -2 * v);

test('a layer that may writes over its input, and the caller’s numbers stay as they are', async () => {
  for (const worker of [false, true]) {
    const net = await model((x) => F.mul(x, -2), [[null, WIDTH]], { worker });
    for (const n of [8, 8, 100, 3, 100]) {
      const x = rows(n, n);
      const given = x.data.slice();
      assert.deepEqual((await net.forward(x)).data, doubled(given));
      assert.deepEqual(x.data, given);
      const [{ milliseconds }] = await net.profile(x);
      assert.ok(milliseconds >= 0);
      assert.deepEqual((await net.forward(x)).data, doubled(given));
    }
    assert.equal(net.memory.activations, 100 * WIDTH * 4, 'more than one block of memory');
    net.dispose();
  }
});

test('inputs that are outputs, and views of them, beside layers that would write over them', async () => {
  const net = await model((x, ids) => [x, F.relu(x), F.flatten(x, 0, 1), ids, F.unflatten(ids, 0, [1, 4])], [[null, WIDTH], { shape: [4], dtype: 'i32' }]);
  for (const n of [2, 5, 2]) {
    const x = rows(n, n);
    const ids = Int32Array.of(n, 1, 2, 3);
    const [same, y, flat, sameIds, view] = await net.forward(x, ids);
    assert.deepEqual(same.data, x.data);
    assert.deepEqual(y.data, relu(x.data));
    assert.deepEqual(flat.data, x.data);
    assert.deepEqual([sameIds.data, view.data, view.shape], [ids, ids, [1, 4]]);
  }
  net.dispose();
});

test('an input that is read again later', async () => {
  const net = await model((x, z) => F.sub(F.mul(F.permute(F.relu(x), [1, 0]), F.permute(x, [1, 0])), z), [[null, WIDTH], [WIDTH, null]]);
  for (const n of [7, 2]) {
    const [x, z] = [rows(n), new Tensor(rows(n, 5).data, [WIDTH, n])];
    const y = await net.forward(x, z);
    assert.deepEqual(y.data, Float32Array.from(y.data, (_, i) => Math.fround(Math.max(0, x.data[i % n * WIDTH + Math.floor(i / n)]) * x.data[i % n * WIDTH + Math.floor(i / n)]) - z.data[i]));
  }
  net.dispose();
});

test('an input that nothing reads', async () => {
  const net = await model((x, unread) => (assert.ok(unread), F.relu(x)), [[null, WIDTH], [null, 1000]]);
  const other = await model((x) => F.softmax(x, -1), [[null, WIDTH]]);   // in the same engine
  const before = (await other.forward(rows(3))).data;
  for (const n of [1, 200, 2000]) {
    assert.deepEqual((await net.forward(rows(4), new Tensor(new Float32Array(n * 1000).fill(7), [n, 1000]))).data, relu(rows(4).data));
    assert.deepEqual((await other.forward(rows(3))).data, before);
  }
  net.dispose();
  other.dispose();
});

test('after a refused id, and after a run that was aborted in the middle', async () => {
  const table = { weight: { data: Float32Array.from({ length: 8 * WIDTH }, (_, i) => i), shape: [8, WIDTH] } };
  const net = await compile(new nn.Embedding(8, WIDTH), { weights: table, inputs: [{ shape: [null], dtype: 'i32' }], build });
  for (let i = 0; i < 2; i++) {
    await assert.rejects(net.forward(Int32Array.of(1, 8, 2)), { code: 'argument' });
    assert.deepEqual((await net.forward(Int32Array.of(1, 7, 2))).data, Float32Array.from([1, 7, 2].flatMap((id) => [...table.weight.data.slice(id * WIDTH, (id + 1) * WIDTH)])));
  }
  net.dispose();

  const n = 40_000;   // several slices
  const deep = await model((x) => Array.from({ length: 30 }).reduce((y) => F.softmax(F.mul(y, 3), -1), x), [[null, WIDTH]]);
  const expected = (await deep.forward(rows(n))).data;
  const stop = new AbortController();
  setTimeout(() => stop.abort(), 1);
  await assert.rejects(deep.forward(rows(n, 2), { signal: stop.signal }), { name: 'AbortError' });
  assert.deepEqual((await deep.forward(rows(n))).data, expected);
  deep.dispose();
});

test('what caches have taken stays when their input is written over', async () => {
  const net = await model((x) => [F.mean(F.cache(x), 1), F.softmax(x, -1)], [[1, null, WIDTH]]);
  const session = await net.session({ context: 10, cache: 'f32' });
  const { data } = rows(10);
  const part = (/** @type {number} */ from, /** @type {number} */ to) => new Tensor(data.slice(from * WIDTH, to * WIDTH), [1, to - from, WIDTH]);
  for (const [from, to] of [[0, 4], [4, 5], [5, 10], [2, 3], [3, 10]]) {
    await session.seek(from);
    const [mean, soft] = await session.forward(part(from, to));
    for (let j = 0; j < WIDTH; j++) {
      let sum = 0;
      for (let t = 0; t < to; t++) sum += data[t * WIDTH + j];
      assert.ok(Math.abs(mean.data[j] - sum / to) < 1e-5, `tokens ${from} to ${to}, column ${j}`);
    }
    assert.deepEqual(soft.data, (await net.forward(part(from, to)))[1].data);
  }
  session.dispose();
  net.dispose();
});
