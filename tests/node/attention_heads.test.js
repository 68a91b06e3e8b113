/** Heads beside each other in every token: permutations around attention are taken over, and nothing but time may tell. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compile, F, Module, Tensor } from '../../js/index.js';

const B = 2;
const [HEADS, KEY_HEADS, KEYS, D, DV] = [6, 3, 39, 7, 10];
let state = 7;
const random = (...shape) => {
  const data = Float32Array.from({ length: shape.reduce((a, b) => a * b) }, () => {
    state = (state * 1664525 + 1013904223) >>> 0;
    return state / 2 ** 31 - 1;
  });
  return new Tensor(data, shape);
};
/** [b, h, t, d] to [b, t, h, d] and back. */
const swapped = ({ data, shape: [b, h, t, d] }) => {
  const out = new Float32Array(data.length);
  for (let i = 0; i < b * h * t; i++) {
    const [image, head, row] = [Math.floor(i / (h * t)), Math.floor(i / t) % h, i % t];
    out.set(data.subarray(i * d, (i + 1) * d), ((image * t + row) * h + head) * d);
  }
  return new Tensor(out, [b, t, h, d]);
};
const SWAP = [0, 2, 1, 3];

class Attention extends Module {
  /** @param {boolean[]} by Which of q, k, v and the result lie by token. @param {number} again How often the result is swapped twice more. */
  constructor(by, again = 0) {
    super();
    this.by = by;
    this.again = again;
  }

  forward(q, k, v, mask) {
    const [a, b, c] = [q, k, v].map((x, i) => (this.by[i] ? F.permute(x, SWAP) : x));
    let y = F.scaledDotProductAttention(a, b, c, { attnMask: mask, enableGqa: true });
    for (let i = 0; i < 2 * this.again; i++) y = F.permute(y, SWAP);
    return this.by[3] ? F.permute(y, SWAP) : y;
  }
}

const k = random(B, KEY_HEADS, KEYS, D);
const v = random(B, KEY_HEADS, KEYS, DV);

async function run(by, again, q, mask) {
  const inputs = [q, k, v].map((x, i) => (by[i] ? swapped(x) : x));
  const model = await compile(new Attention(by, again), { inputs: [...inputs.map(({ shape }) => shape.map((size, i) => (i === 2 || i === 1 ? null : size))), mask.shape] });
  const y = await model.forward(...inputs, mask);
  const names = (await model.profile(...inputs, mask)).map(({ name }) => name);
  model.dispose();
  return { y: by[3] ? swapped(y) : y, names };
}

for (const queries of [1, 3, 5]) test(`q, k, v and the result by token, in all combinations: ${queries} queries`, async () => {
  const q = random(B, HEADS, queries, D);
  const mask = random(B, HEADS, queries, KEYS);
  const wanted = (await run([false, false, false, false], 0, q, mask)).y;
  assert.deepEqual(wanted.shape, [B, HEADS, queries, DV]);
  for (let bits = 1; bits < 16; bits++) {
    const by = [0, 1, 2, 3].map((i) => Boolean(bits >> i & 1));
    const { y, names } = await run(by, bits % 2, q, mask);
    assert.deepEqual(y.shape, wanted.shape, `${by}`);
    assert.deepEqual([...y.data], [...wanted.data], `${by}`);
    assert.equal(names.filter((name) => name === 'permute').length, 0, `${by}: ${names}`);
  }
});

test('a permutation that others read, too, stays', async () => {
  class Both extends Module {
    forward(x) {
      const heads = F.permute(x, SWAP);
      const y = F.scaledDotProductAttention(heads, heads, heads);
      return [F.permute(y, SWAP), y, heads];
    }
  }
  const x = random(B, 5, HEADS, D);
  const model = await compile(new Both(), { inputs: [x.shape] });
  const [byToken, byHead, heads] = await model.forward(x);
  model.dispose();
  assert.deepEqual([...byToken.data], [...swapped(byHead).data]);
  assert.deepEqual([...heads.data], [...swapped(x).data]);
});
