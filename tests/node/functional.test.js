/** Functions and forms of attention that have no fixture: against plain loops, and against each other. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { compile, F, Module, nn, Tensor } from '../../js/index.js';

let seed = 7;
const random = (...shape) => new Tensor(Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => {
  seed = (seed * 48271) % 2147483647;
  return seed / 2147483647 - 0.5;
}), shape);

class Forward extends Module {
  constructor(forward, attributes) {
    super();
    Object.assign(this, attributes);
    this.compute = forward;
  }

  forward(...inputs) { return this.compute(...inputs); }
}

/** Runs `forward` on inputs once with known sizes and once with sizes that vary; both must agree. */
async function run(forward, inputs, { attributes = {}, weights = {}, fixed = [] } = {}) {
  const results = [];
  for (const vary of [false, true]) {
    const shapes = inputs.map(({ shape, dtype }) => ({ shape: shape.map((size, i) => (vary && !fixed.includes(i - shape.length) ? null : size)), dtype: dtype === 'bool' ? 'bool' : 'f32' }));
    const model = await compile(new Forward(forward, attributes), { weights, inputs: shapes });
    results.push(await model.forward(...inputs));
    model.dispose();
  }
  assert.deepEqual(results[1], results[0]);
  return results[0];
}

function close(a, b, tolerance = 1e-5) {
  assert.deepEqual(a.shape, b.shape);
  const scale = Math.max(...b.data.map(Math.abs));
  a.data.forEach((v, i) => assert.ok(Math.abs(v - b.data[i]) <= tolerance * scale, `element ${i}: ${v}, expected ${b.data[i]}`));
}

describe('functions of shape', () => {
  const x = new Tensor(Float32Array.from({ length: 24 }, (_, i) => i), [2, 3, 4]);
  const at = (i, j, k) => i * 12 + j * 4 + k;
  const filled = (shape, value) => {
    const strides = shape.map((_, i) => shape.slice(i + 1).reduce((a, b) => a * b, 1));
    const size = shape.reduce((a, b) => a * b, 1);
    return new Tensor(Float32Array.from({ length: size }, (_, n) => value(...strides.map((stride, i) => Math.floor(n / stride) % shape[i]))), shape);
  };
  const cases = [
    ['permute', (t) => t.permute(2, 0, 1), filled([4, 2, 3], (k, i, j) => at(i, j, k))],
    ['transpose', (t) => t.transpose(-1, 0), filled([4, 3, 2], (k, j, i) => at(i, j, k))],
    ['narrow', (t) => t.narrow(1, 1, 2), filled([2, 2, 4], (i, j, k) => at(i, j + 1, k))],
    ['narrow from the end', (t) => t.narrow(-1, -2, -1), filled([2, 3, 2], (i, j, k) => at(i, j, k + 2))],
    ['flatten', (t) => t.flatten(1), filled([2, 12], (i, j) => i * 12 + j)],
    ['unflatten', (t) => t.unflatten(2, [2, -1]), filled([2, 3, 2, 2], (i, j, k, l) => at(i, j, 2 * k + l))],
    ['unsqueeze', (t) => t.unsqueeze(1), filled([2, 1, 3, 4], (i, _, j, k) => at(i, j, k))],
    ['unsqueeze at the end', (t) => t.unsqueeze(-1), filled([2, 3, 4, 1], (i, j, k) => at(i, j, k))],
    ['squeeze', (t) => t.narrow(1, 2, 1).squeeze(1), filled([2, 4], (i, k) => at(i, 2, k))],
    ['squeeze at the end', (t) => t.narrow(2, 3, 1).squeeze(-1), filled([2, 3], (i, j) => at(i, j, 3))],
    ['reshape', (t) => t.reshape([null, -1]), filled([2, 12], (i, j) => i * 12 + j)],
    ['cat', (t) => F.cat([t, t.narrow(1, 0, 1)], 1), filled([2, 4, 4], (i, j, k) => at(i, j % 3, k))],
    ['mean', (t) => t.mean(1), filled([2, 4], (i, k) => at(i, 1, k))],
    ['mean over two axes, kept', (t) => t.mean([0, -1], { keepdim: true }), filled([1, 3, 1], (_, j) => 4 * j + 7.5)],
    ['mean of all', (t) => t.mean(), new Tensor([11.5], [])],
    ['arithmetic with numbers', (t) => F.sub(1, t.mul(2).add(3).div(4)), filled([2, 3, 4], (i, j, k) => 1 - (2 * at(i, j, k) + 3) / 4)],
    ['broadcasting', (t) => t.sub(t.narrow(1, 0, 1)), filled([2, 3, 4], (_, j) => 4 * j)],
  ];
  for (const [name, forward, expected] of cases) {
    it(name, async () => {
      assert.deepEqual(await run(forward, [x]), new Tensor(expected.data, expected.shape));
    });
  }

  it('expandAs repeats axes of size 1, whatever the other holds', async () => {
    const other = new Tensor(Float32Array.from({ length: 24 }, (_, i) => [NaN, Infinity, 5][i % 3]), [2, 3, 4]);
    const row = new Tensor(Float32Array.of(1, 2, 3), [3, 1]);
    assert.deepEqual(await run((t) => F.expandAs(row, t), [other], { fixed: [-2] }), filled([2, 3, 4], (_, j) => j + 1));
    assert.deepEqual(await run((t, r) => F.relu(r.expandAs(t)), [other, new Tensor(Float32Array.of(-1, 2), [2, 1, 1])], { fixed: [-1, -2, -3] }), filled([2, 3, 4], (i) => 2 * i));
    for (const shape of [[2], [3, 4, 1], [1, 2, 3, 4]]) {
      await assert.rejects(run((t) => F.expandAs(new Tensor(new Float32Array(shape.reduce((a, b) => a * b)), shape), t), [other]),
        { name: 'LamellaError', code: 'shape', message: /does not expand/ });
    }
  });

  it('split and chunk', async () => {
    const parts = await run((t) => [t.split(2, 1), t.split([1, 3], 2), t.chunk(3, -1)].flat(), [x], { fixed: [-2, -1] });
    assert.deepEqual(parts.map(({ shape }) => shape), [[2, 2, 4], [2, 1, 4], [2, 3, 1], [2, 3, 3], [2, 3, 2], [2, 3, 2]]);
    assert.deepEqual(parts[1], filled([2, 1, 4], (i, _, k) => at(i, 2, k)));
    assert.deepEqual(parts[3], filled([2, 3, 3], (i, j, k) => at(i, j, k + 1)));
  });

  it('split of an axis that varies says so', async () => {
    await assert.rejects(compile(new Forward((t) => t.split(2)), { inputs: [[null, 2]] }), { code: 'shape', message: /split: axis 0 of \[\?, 2\] varies/ });
  });
});

describe('activations', () => {
  const sigmoid = (v) => 1 / (1 + Math.exp(-v));
  const softplus = (v) => Math.log1p(Math.exp(v));
  const cases = {
    relu: (v) => Math.max(v, 0), sigmoid, silu: (v) => v * sigmoid(v), tanh: Math.tanh, quickGelu: (v) => v * sigmoid(1.702 * v), softplus,
    mish: (v) => v * Math.tanh(softplus(v)),
  };
  for (const [name, f] of Object.entries(cases)) {
    it(name, async () => {
      const x = new Tensor(Float32Array.from({ length: 41 }, (_, i) => (i - 20) / 4));
      close(await run(F[name], [x]), new Tensor(Float32Array.from(x.data, f)));
    });
  }
});

describe('matmul and linear', () => {
  it('with computed weights are the same', async () => {
    const [x, w] = [random(2, 3, 5), random(4, 5)];
    const [a, b, c] = await run((t, u) => [F.linear(t, u.mul(1), new Tensor([1, 2, 3, 4])), F.matmul(t, u.transpose(0, 1)).add(new Tensor([1, 2, 3, 4])), F.matmul(t, u, { transposeB: true })], [x, w]);
    close(a, b);
    close(c, new Tensor(b.data.map((v, i) => v - 1 - (i % 4)), [2, 3, 4]));
    const expected = x.data.slice(0, 5).reduce((sum, v, i) => sum + v * w.data[i], 0);
    assert.ok(Math.abs(c.data[0] - expected) < 1e-6);
  });
});

describe('attention', () => {
  const [q, k, v] = [random(2, 4, 5, 8), random(2, 4, 7, 8), random(2, 4, 7, 6)];
  const explicit = (a, b, c, scale = 1 / Math.sqrt(8), mask = null) => {
    const scores = F.matmul(a.mul(scale), b, { transposeB: true });
    return F.matmul(F.softmax(mask ? scores.add(mask) : scores, -1), c);
  };

  it('is softmax(q k^T / sqrt(d)) v', async () => {
    const [fused, plain, scaled, plainScaled] = await run((a, b, c) => [F.scaledDotProductAttention(a, b, c), explicit(a, b, c),
      F.scaledDotProductAttention(a, b, c, { scale: 0.3 }), explicit(a, b, c, 0.3)], [q, k, v]);
    close(fused, plain);
    close(scaled, plainScaled);
  });

  it('takes masks: a bool one keeps what is true, another is added', async () => {
    const keep = Uint8Array.from({ length: 35 }, (_, i) => Number(i % 3 !== 0));
    const bool = new Tensor(keep, [5, 7], { dtype: 'bool' });
    const added = new Tensor(Float32Array.from(keep, (one) => (one ? 0 : -Infinity)), [5, 7]);
    const [a, b, c] = await run((x, y, z, m, n) => [F.scaledDotProductAttention(x, y, z, { attnMask: m }), F.scaledDotProductAttention(x, y, z, { attnMask: n }),
      explicit(x, y, z, undefined, n)], [q, k, v, bool, added]);
    close(a, c);
    close(b, c);
  });

  it('is causal', async () => {
    const square = random(2, 4, 5, 8);
    const mask = new Tensor(Float32Array.from({ length: 25 }, (_, i) => (i % 5 > Math.floor(i / 5) ? -Infinity : 0)), [5, 5]);
    const [a, b] = await run((x, y) => [F.scaledDotProductAttention(x, y, y, { isCausal: true }), explicit(x, y, y, undefined, mask)], [q, square]);
    close(a, b);
  });

  it('groups heads', async () => {
    const [a, b] = await run((x, y, z) => {
      const one = (t) => t.narrow(1, 0, 1);
      const two = (t) => F.cat([one(t), one(t), t.narrow(1, 1, 1), t.narrow(1, 1, 1)], 1);
      return [F.scaledDotProductAttention(x, y.narrow(1, 0, 2), z.narrow(1, 0, 2), { enableGqa: true }), F.scaledDotProductAttention(x, two(y), two(z))];
    }, [q, k, v], { fixed: [-3] });
    close(a, b);
    await assert.rejects(compile(new Forward((x, y) => F.scaledDotProductAttention(x, y, y)), { inputs: [[1, 4, 2, 8], [1, 2, 2, 8]] }), { code: 'shape', message: /enableGqa/ });
  });
});

describe('MultiheadAttention', () => {
  const [t, s, n, e, heads] = [5, 7, 2, 12, 3];
  const weightsOf = (module) => Object.fromEntries([...module.stateDict()].map(([name, { shape }]) => [`inner.${name}`, random(...shape)]));
  const inner = new nn.MultiheadAttention(e, heads, { batchFirst: true });
  const weights = weightsOf(inner);
  const [query, key] = [random(n, t, e), random(n, s, e)];
  const padding = new Tensor(Uint8Array.of(0, 0, 0, 0, 0, 1, 1, 0, 1, 0, 0, 0, 0, 0), [n, s], { dtype: 'bool' });
  const go = (forward, inputs, attributes = { inner }) => run(forward, inputs, { attributes, weights, fixed: [-1] });

  it('gives the same with and without its weights, which add up to 1', async () => {
    const [[a, w], [b, none], [, each]] = await go(function forward(x, y, m) {
      return [this.inner(x, y, y, { keyPaddingMask: m }), this.inner(x, y, y, { keyPaddingMask: m, needWeights: false }), this.inner(x, y, y, { keyPaddingMask: m, averageAttnWeights: false })];
    }, [query, key, padding]);
    close(b, a);
    assert.equal(none, null);
    assert.deepEqual([w.shape, each.shape], [[n, t, s], [n, heads, t, s]]);
    for (let row = 0; row < n * t; row++) assert.ok(Math.abs(w.data.slice(row * s, row * s + s).reduce((x, y) => x + y) - 1) < 1e-6);
    w.data.forEach((value, i) => assert.equal(value === 0, padding.data[Math.floor(i / (t * s)) * s + (i % s)] === 1));
    const mean = w.data.map((_, i) => [0, 1, 2].reduce((sum, h) => sum + each.data[(Math.floor(i / (t * s)) * heads + h) * t * s + (i % (t * s))], 0) / heads);
    close(w, new Tensor(mean, [n, t, s]));
  });

  it('takes a mask for all, or one for each head', async () => {
    const mask = random(t, s);
    const repeated = new Tensor(Float32Array.from({ length: n * heads * t * s }, (_, i) => mask.data[i % (t * s)]), [n * heads, t, s]);
    const [a, b, c] = await go(function forward(x, y, m, r) {
      return [this.inner(x, y, y, { attnMask: m })[0], this.inner(x, y, y, { attnMask: r })[0], this.inner(x, y, y, { attnMask: r, needWeights: false })[0]];
    }, [query, key, mask, repeated]);
    close(b, a);
    close(c, a);
  });

  it('is causal by hint or by mask', async () => {
    const mask = new Tensor(Uint8Array.from({ length: t * t }, (_, i) => Number(i % t > Math.floor(i / t))), [t, t], { dtype: 'bool' });
    const [a, b, c] = await go(function forward(x, m) {
      return [this.inner(x, x, x, { attnMask: m })[0], this.inner(x, x, x, { isCausal: true, needWeights: false })[0], this.inner(x, x, x, { isCausal: true, attnMask: m })[0]];
    }, [query, mask]);
    close(b, a);
    close(c, a);
  });

  it('takes the sequence first, or no batch at all', async () => {
    const first = new nn.MultiheadAttention(e, heads);
    const [a] = await go(function forward(x, y) { return this.inner(x, y, y); }, [query, key]);
    const [b] = await go(function forward(x, y) {
      const [output, w] = this.inner(x.transpose(0, 1), y.transpose(0, 1), y.transpose(0, 1));
      return [output.transpose(0, 1), w];
    }, [query, key], { inner: first });
    close(b, a);
    const half = (tensor) => new Tensor(tensor.data.slice(0, tensor.size / 2), tensor.shape.slice(1));
    const [c, w] = await go(function forward(x, y, m) { return this.inner(x, y, y, { keyPaddingMask: m }); }, [half(query), half(key), half(padding).data.some(Boolean) ? new Tensor(new Uint8Array(s), [s], { dtype: 'bool' }) : half(padding)], { inner: first });
    close(c, half(a));
    assert.deepEqual(w.shape, [t, s]);
  });

  it('has extra keys that no mask hides, reported last', async () => {
    const extra = new nn.MultiheadAttention(e, heads, { batchFirst: true, addBiasKv: true, addZeroAttn: true });
    const all = new Tensor(new Uint8Array(n * s).fill(1), [n, s], { dtype: 'bool' });
    const [[output, w], [same]] = await run(function forward(x, y, m) {
      return [this.inner(x, y, y, { keyPaddingMask: m }), this.inner(x, y, y, { keyPaddingMask: m, needWeights: false })];
    }, [query, key, all], { attributes: { inner: extra }, weights: weightsOf(extra), fixed: [-1] });
    assert.deepEqual(w.shape, [n, t, s + 2]);
    w.data.forEach((value, i) => assert.equal(value === 0, i % (s + 2) < s));
    close(same, output);
  });
});
