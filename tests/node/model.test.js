/** Model: what goes in and comes out, turns, aborting, profiling, freeing. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { compile, F, Module, nn, Tensor } from '../../js/index.js';
import { sharedEngine } from '../../js/init.js';

/** y = 2 x, and several copies of it to keep busy. */
class Double extends Module {
  constructor(shape, layers = 1) {
    super();
    this.inputs = [shape];
    this.layers = layers;
  }

  forward(x) {
    let y = F.mul(x, 2);
    for (let i = 1; i < this.layers; i++) y = F.mul(F.matmul(y, y), 1e-6);
    return y;
  }
}

const double = (shape, layers) => compile(new Double(shape, layers));
const engine = await sharedEngine({});
const used = () => engine.exports.lam_memory_used();

describe('inputs', () => {
  it('are Tensors, typed arrays, nested arrays or numbers', async () => {
    const model = await double([null, 2]);
    const expected = [[2, 4], [6, 8]];
    for (const input of [new Tensor([[1, 2], [3, 4]]), new Tensor(Int32Array.of(1, 2, 3, 4), [2, 2]), Float32Array.of(1, 2, 3, 4), Float64Array.of(1, 2, 3, 4),
      BigInt64Array.of(1n, 2n, 3n, 4n), Uint8Array.of(1, 2, 3, 4), [[1, 2], [3, 4]], new Tensor(Float32Array.of(0, 1, 2, 3, 4).subarray(1), [2, 2])]) {
      const output = await model.forward(input);
      assert.ok(output instanceof Tensor);
      assert.deepEqual(output.toArray(), expected);
    }
    model.dispose();
    const scalar = await double([]);
    assert.equal((await scalar.forward(21)).item(), 42);
    scalar.dispose();
  });

  it('of another shape or type are named, with what was expected and what came', async () => {
    const model = await double([null, 3]);
    const wrong = [
      [new Tensor([1, 2, 3]), 'shape', 'forward: input 0: expected shape [?, 3], got [3]'],
      [new Tensor([[1, 2]]), 'shape', 'forward: input 0: expected shape [?, 3], got [1, 2]'],
      [new Float32Array(4), 'shape', 'forward: input 0: expected shape [?, 3], got 4 numbers'],
      [[[1, 2, 3], [1, 2]], 'shape', /^forward: input 0: Tensor: the nested arrays are ragged: expected an array of 3 at depth 1, got \[1, 2\]/],
      [[['a', 2, 3]], 'argument', /input 0: Tensor: element: expected a number, got "a"/],
      ['text', 'argument', 'forward: input 0: expected a Tensor of shape [?, 3] or numbers, got "text"'],
      [undefined, 'argument', /input 0: expected a Tensor.*got undefined/],
      [null, 'argument', /input 0: expected a Tensor.*got null/],
      [{}, 'argument', /input 0: expected a Tensor.*got Object/],
      [new DataView(new ArrayBuffer(12)), 'argument', /input 0: Tensor: data: expected a typed array.*got DataView/],
    ];
    for (const [input, code, message] of wrong) await assert.rejects(model.forward(input), { name: 'LamellaError', code, message });
    await assert.rejects(model.forward(), { code: 'argument', message: 'forward: expected 1 input [?, 3], got 0' });
    await assert.rejects(model.forward([[1, 2, 3]], [[1]]), { code: 'argument', message: /expected 1 input .*got 2/ });
    assert.deepEqual((await model.forward([[1, 2, 3]])).toArray(), [[2, 4, 6]]);
    model.dispose();
    const ambiguous = await double([null, null]);
    await assert.rejects(ambiguous.forward(new Float32Array(6)), { code: 'shape', message: /\[\?, \?\] does not follow from 6 numbers; pass new Tensor\(data, shape\)/ });
    ambiguous.dispose();
  });

  it('may change their size between calls', async () => {
    const model = await compile(new nn.Conv2d(1, 2, 3, { padding: 1, bias: false }), {
      weights: { weight: new Tensor(new Float32Array(18).fill(1), [2, 1, 3, 3]) }, inputs: [[null, 1, null, null]],
    });
    for (const [n, h, w] of [[1, 4, 4], [2, 7, 3], [1, 1, 1], [1, 40, 33], [1, 4, 4], [1, 4, 4]]) {
      const { data, shape } = await model.forward(new Tensor(new Float32Array(n * h * w).fill(1), [n, 1, h, w]));
      assert.deepEqual(shape, [n, 2, h, w]);
      const taps = (size, at) => Math.min(at + 2, size) - Math.max(at - 1, 0);
      for (let i = 0; i < h * w; i++) assert.equal(data[i], taps(h, Math.floor(i / w)) * taps(w, i % w));
    }
    model.dispose();
  });

  it('that do not fit each other are refused when they come, and the next ones work', async () => {
    class Sum extends Module {
      inputs = [[null, 2], [null, 2]];

      forward(a, b) { return F.add(a, b); }
    }
    const model = await compile(new Sum());
    await assert.rejects(model.forward(new Tensor(new Float32Array(4), [2, 2]), new Tensor(new Float32Array(6), [3, 2])),
      { code: 'shape', message: /\[2, 2\] and \[3, 2\] do not broadcast/ });
    assert.deepEqual((await model.forward([[1, 2]], [[3, 4]])).toArray(), [[4, 6]]);
    model.dispose();
  });

  it('may be pictures where a picture is wanted', async () => {
    const pixels = { data: Uint8Array.from({ length: 8 * 8 * 3 }, (_, i) => (i % 3) * 100), width: 8, height: 8, channels: 3 };
    const module = new Double([null, 3, 8, 8]);
    module.preprocess = { mean: [0, 0, 0], std: [1, 1, 1] };
    const model = await compile(module);
    for (const [input, n] of [[pixels, 1], [[pixels, pixels], 2]]) {
      const { data, shape } = await model.forward(input);
      assert.deepEqual(shape, [n, 3, 8, 8]);
      data.forEach((v, i) => assert.ok(Math.abs(v - 2 * (Math.floor(i / 64) % 3) * 100 / 255) < 1e-6));
    }
    await assert.rejects(model.forward({}), { name: 'LamellaError', message: /image/ });
    await assert.rejects(model.forward(new Uint8Array(5)), { code: 'shape', message: /expected shape \[\?, 3, 8, 8\], got 5 numbers/ });
    assert.deepEqual((await model.forward(new Uint8Array(192).fill(3))).data, new Float32Array(192).fill(6));
    model.dispose();
  });

  it('may be empty', async () => {
    const model = await double([null, 2]);
    assert.deepEqual((await model.forward(new Tensor(new Float32Array(0), [0, 2]))).shape, [0, 2]);
    assert.deepEqual((await model.forward([[1, 2]])).toArray(), [[2, 4]]);
    model.dispose();
  });
});

describe('outputs', () => {
  it('belong to the caller', async () => {
    const model = await double([1, 2]);
    const first = await model.forward([[1, 2]]);
    const kept = [...first.data];
    const second = await model.forward([[5, 6]]);
    assert.deepEqual([...first.data], kept);
    assert.notEqual(first.data.buffer, engine.memory.buffer);
    assert.notEqual(first.data.buffer, second.data.buffer);
    model.dispose();
    assert.deepEqual([...second.data], [10, 12]);
  });

  it('may be an input, a weight, and the same tensor twice', async () => {
    class Echo extends Module {
      constructor() {
        super();
        this.scale = new nn.Parameter([2]);
        this.inputs = [[null, 2]];
      }

      forward(x) {
        const y = x.mul(this.scale);
        return { x, scale: this.scale, y, again: [y, y.reshape(-1)] };
      }
    }
    const model = await compile(new Echo(), { weights: { scale: new Tensor([3, 4]) } });
    for (const x of [[[1, 2]], [[1, 2], [5, 6]]]) {
      const result = await model.forward(x);
      assert.deepEqual(result.x.toArray(), x);
      assert.deepEqual(result.scale.toArray(), [3, 4]);
      assert.deepEqual(result.y.toArray(), x.map(([a, b]) => [3 * a, 4 * b]));
      assert.deepEqual(result.again[0].data, result.y.data);
      assert.deepEqual(result.again[1].shape, [2 * x.length]);
    }
    model.dispose();
  });
});

describe('turns', () => {
  it('are taken by calls made at once', async () => {
    const model = await double([null, 2]);
    const results = await Promise.all([1, 2, 3, 4, 5].map((n) => model.forward(new Tensor(new Float32Array(2 * n).fill(n), [n, 2]))));
    results.forEach(({ shape, data }, i) => {
      assert.deepEqual(shape, [i + 1, 2]);
      assert.ok(data.every((v) => v === 2 * (i + 1)));
    });
    model.dispose();
  });

  it('go on after a call that failed', async () => {
    const model = await double([null, 2]);
    const calls = [model.forward([[1, 2]]), model.forward([[1]]), model.forward([[3, 4]])];
    const settled = await Promise.allSettled(calls);
    assert.deepEqual(settled.map(({ status }) => status), ['fulfilled', 'rejected', 'fulfilled']);
    assert.deepEqual(settled[2].value.toArray(), [[6, 8]]);
    model.dispose();
  });
});

describe('abort', () => {
  const input = new Tensor(new Float32Array(256 * 256).fill(1), [256, 256]);

  it('before the start', async () => {
    const model = await double([null, null]);
    await assert.rejects(model.forward(input, { signal: AbortSignal.abort() }), { name: 'AbortError' });
    await assert.rejects(model.forward(input, { signal: 5 }), { code: 'argument', message: 'forward: signal: expected an AbortSignal, got 5' });
    await assert.rejects(model.forward(input, { signl: AbortSignal.abort() }), { code: 'argument', message: 'forward: there is no option "signl"; known: signal' });
    model.dispose();
  });

  it('during a run stops it soon, and the model can be used again', async () => {
    const model = await double([256, 256], 400);
    const whole = performance.now();
    const expected = await model.forward(input, { signal: new AbortController().signal });
    const wholeTime = performance.now() - whole;
    const controller = new AbortController();
    const reason = new Error('changed my mind');
    setTimeout(() => controller.abort(reason), 20);
    const start = performance.now();
    await assert.rejects(model.forward(input, { signal: controller.signal }), (error) => error === reason);
    const aborted = performance.now() - start;
    assert.ok(aborted < wholeTime, `aborted after ${aborted} ms; a whole run takes ${wholeTime} ms`);
    assert.deepEqual((await model.forward(input)).data, expected.data);
    model.dispose();
  });

  it('of a call that waits its turn leaves the others alone', async () => {
    const model = await double([256, 256], 20);
    const controller = new AbortController();
    const calls = [model.forward(input, { signal: new AbortController().signal }), model.forward(input, { signal: controller.signal }), model.forward(input)];
    controller.abort();
    const settled = await Promise.allSettled(calls);
    assert.deepEqual(settled.map(({ status }) => status), ['fulfilled', 'rejected', 'fulfilled']);
    assert.deepEqual(settled[0].value.data, settled[2].value.data);
    model.dispose();
  });
});

describe('profile', () => {
  it('tells each layer, fused ones as one', async () => {
    const net = new nn.Sequential({ conv: new nn.Conv2d(3, 8, 3, { padding: 1, bias: false }), norm: new nn.BatchNorm2d(8), act: new nn.ReLU(), pool: new nn.AvgPool2d(2) });
    const weights = Object.fromEntries([...net.stateDict()].map(([name, { shape }]) => [name, new Tensor(new Float32Array(shape.reduce((a, b) => a * b, 1)).fill(0.5), [...shape])]));
    const model = await compile(net, { weights, inputs: [[null, 3, 16, 16]] });
    const layers = await model.profile(new Tensor(new Float32Array(2 * 3 * 256), [2, 3, 16, 16]));
    const conv = layers.find(({ name }) => name.startsWith('conv2d'));
    assert.equal(conv.name, 'conv2d+batch_norm+relu');
    assert.equal(conv.path, 'conv');
    assert.deepEqual(conv.shape, [2, 8, 16, 16]);
    assert.ok(conv.flops >= 2 * 2 * 8 * 256 * 27 && conv.flops < 2.2 * 2 * 8 * 256 * 27, `${conv.flops} flops`);
    assert.ok(conv.milliseconds > 0 && conv.bytes > 0);
    assert.ok(Math.abs(conv.gflops - conv.flops / conv.milliseconds / 1e6) < 1e-9);
    assert.ok(layers.some(({ path, name }) => path === 'pool' && name.startsWith('avg_pool2d')));
    model.dispose();
  });
});

describe('memory and dispose', () => {
  it('counts weights and activations', async () => {
    const model = await compile(new nn.Linear(100, 50), { weights: { weight: new Tensor(new Float32Array(5000), [50, 100]), bias: new Tensor(new Float32Array(50)) }, inputs: [[null, 100]] });
    assert.ok(model.memory.weights >= 5050 * 4 && model.memory.weights < 7000 * 4, `${model.memory.weights}`);
    await model.forward(new Tensor(new Float32Array(100), [1, 100]));
    const small = model.memory.activations;
    await model.forward(new Tensor(new Float32Array(10000), [100, 100]));
    assert.ok(model.memory.activations > small && small > 0);
    assert.equal(model.memory.total, model.memory.weights + model.memory.activations + model.memory.caches);
    assert.deepEqual(model.inputs, [[null, 100]]);
    model.dispose();
    assert.deepEqual(model.memory, { weights: 0, activations: 0, caches: 0, cacheFormats: { f32: 0, f16: 0, q8: 0 }, total: 0 });
  });

  it('frees everything and refuses further calls', async () => {
    const before = used();
    const model = await double([null, 2]);
    await model.forward([[1, 2]]);
    model.dispose();
    model.dispose();
    assert.equal(used(), before);
    await assert.rejects(model.forward([[1, 2]]), { name: 'LamellaError', code: 'disposed', message: /disposed/ });
    await assert.rejects(model.profile([[1, 2]]), { code: 'disposed' });
  });

  it('in the middle of a run and with calls waiting', async () => {
    const before = used();
    const model = await double([256, 256], 400);
    const input = new Tensor(new Float32Array(256 * 256), [256, 256]);
    const calls = [model.forward(input, { signal: new AbortController().signal }), model.forward(input)];
    await new Promise((resolve) => { setTimeout(resolve, 10); });
    model.dispose();
    const settled = await Promise.allSettled(calls);
    for (const { status, reason } of settled) {
      assert.equal(status, 'rejected');
      assert.equal(reason.code, 'disposed');
    }
    assert.equal(used(), before);
  });

  it('by `using`, where there is such a thing', async () => {
    const model = await double([1, 1]);
    if (Symbol.dispose) model[Symbol.dispose]();
    else model.dispose();
    await assert.rejects(model.forward([[1]]), { code: 'disposed' });
  });
});

describe('Tensor', () => {
  it('checks its shape', () => {
    assert.throws(() => new Tensor(new Float32Array(5), [2, 3]), { code: 'shape', message: 'Tensor: shape [2, 3] has 6 elements, the data has 5' });
    assert.throws(() => new Tensor('abc'), { code: 'argument', message: /Tensor: data: expected a typed array of numbers or nested arrays, got "abc"/ });
    assert.throws(() => new Tensor([1, 2], [-2]), { code: 'argument' });
    assert.throws(() => new Tensor([[1, 2], 3]), { code: 'shape', message: /ragged/ });
    assert.throws(() => new Tensor([1, 2]).item(), { code: 'shape', message: /\[2\] has 2 elements, not 1/ });
  });

  it('converts', () => {
    const tensor = new Tensor([[[1, 2, 3]], [[4, 5, 6]]]);
    assert.deepEqual(tensor.shape, [2, 1, 3]);
    assert.deepEqual(tensor.toArray(), [[[1, 2, 3]], [[4, 5, 6]]]);
    assert.equal(new Tensor([], [0, 2]).toArray().length, 0);
    assert.equal(new Tensor([7], []).toArray(), 7);
    assert.equal(new Tensor([true, false]).dtype, 'bool');
    assert.equal(new Tensor(BigInt64Array.of(1n)).dtype, 'i64');
    assert.equal(new Tensor(Uint16Array.of(0x3c00), [1], { dtype: 'f16' }).dtype, 'f16');
    assert.equal(String(tensor), 'Tensor(shape=[2, 1, 3], dtype=f32)');
  });
});

it('an abort while a picture is on its way', async () => {
  const { createServer } = await import('node:http');
  const server = createServer(() => {});   // takes the request and says nothing
  await new Promise((resolve) => { server.listen(0, '127.0.0.1', () => resolve(null)); });
  const model = await compile(new nn.ReLU(), { inputs: [[1, 3, 8, 8]] });
  const stop = new AbortController();
  const running = model.forward(`http://127.0.0.1:${server.address().port}/a.png`, { signal: stop.signal });
  setTimeout(() => stop.abort(), 20);
  await assert.rejects(running, { name: 'AbortError' });
  model.dispose();
  server.closeAllConnections();
  server.close();
});
