/** compile: modules from outside the package, the report of keys, loading, aborting, running out of memory. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, it } from 'node:test';
import { compile, F, init, LamellaError, Module, nn, Parameter, Tensor } from '../../js/index.js';
import { sharedEngine } from '../../js/init.js';

/** A network of one's own: two inputs, a skip connection, an array of blocks, a parameter of its own, several outputs. */
class Gate extends Module {
  constructor(width) {
    super();
    this.proj = new nn.Linear(width, width);
  }

  forward(x) { return F.sigmoid(this.proj(x)); }
}

class TwoTowers extends Module {
  constructor(width) {
    super();
    this.left = new nn.Linear(3, width);
    this.right = new nn.Linear(2, width, { bias: false });
    this.blocks = [new Gate(width), new Gate(width)];
    this.gamma = new Parameter([width]);
    this.inputs = [[null, 3], [null, 2]];
  }

  forward(a, b) {
    let x = this.left(a).add(this.right(b));
    for (const gate of this.blocks) x = x.add(gate(x).mul(this.gamma));
    const half = x.mul(0.5);
    return { sum: x, parts: [half, F.sub(1, half)], nothing: null };
  }
}

const WIDTH = 4;
let seed = 1;
const random = (...shape) => {
  const data = Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => {
    seed = (seed * 48271) % 2147483647;
    return seed / 2147483647 - 0.5;
  });
  return new Tensor(data, shape);
};
const weightsOf = (module, prefix = '') => Object.fromEntries([...module.stateDict()].map(([name, { shape }]) => [prefix + name, random(...shape)]));

const linear = (x, w, b) => x.map((row) => w.toArray().map((weights, o) => row.reduce((sum, v, i) => sum + v * weights[i], b ? b.data[o] : 0)));
const zip = (a, b, f) => a.map((row, i) => row.map((v, j) => f(v, Array.isArray(b) ? b[i][j] : b.data[j], j)));

/** The same in plain loops. */
function twoTowers(w, a, b) {
  let x = zip(linear(a, w['left.weight'], w['left.bias']), linear(b, w['right.weight']), (p, q) => p + q);
  for (const i of [0, 1]) {
    const gate = linear(x, w[`blocks.${i}.proj.weight`], w[`blocks.${i}.proj.bias`]).map((row) => row.map((v) => 1 / (1 + Math.exp(-v))));
    x = zip(x, zip(gate, w.gamma, (g, scale) => g * scale), (p, q) => p + q);
  }
  return x;
}

/** max |y - expected| <= tolerance max |expected| */
function close(tensor, expected, tolerance = 1e-5) {
  const flat = expected.flat(Infinity);
  assert.equal(tensor.data.length, flat.length);
  const scale = Math.max(...flat.map(Math.abs));
  tensor.data.forEach((v, i) => assert.ok(Math.abs(v - flat[i]) <= tolerance * scale, `element ${i}: ${v}, expected ${flat[i]}`));
}

const used = async (options = {}) => (await sharedEngine(options)).exports.lam_memory_used();

/** Runs `attempt`, which must fail, and checks that it left nothing in the engine. */
async function failsCleanly(attempt, expected, options = {}) {
  const before = await used(options);
  await assert.rejects(attempt, expected);
  assert.equal(await used(options), before, 'bytes left in the engine');
}

describe('a module of one\'s own', () => {
  const module = new TwoTowers(WIDTH);
  const weights = weightsOf(module);

  it('computes what it says', async () => {
    const model = await compile(module, { weights });
    const [a, b] = [random(5, 3), random(5, 2)];
    const result = await model.forward(a, b);
    const expected = twoTowers(weights, a.toArray(), b.toArray());
    assert.deepEqual(Object.keys(result), ['sum', 'parts', 'nothing']);
    assert.equal(result.nothing, null);
    assert.deepEqual(result.sum.shape, [5, WIDTH]);
    close(result.sum, expected);
    close(result.parts[0], expected.map((row) => row.map((v) => v / 2)));
    close(result.parts[1], expected.map((row) => row.map((v) => 1 - v / 2)));
    model.dispose();
  });

  it('can be compiled twice, and used in another', async () => {
    class Outer extends Module {
      constructor() {
        super();
        this.inner = module;
      }

      forward(a, b) { return this.inner(a, b).sum; }
    }
    const outer = new Outer();
    const models = await Promise.all([compile(module, { weights }), compile(outer, {
      weights: Object.fromEntries(Object.entries(weights).map(([name, value]) => [`inner.${name}`, value])), inputs: module.inputs,
    })]);
    const [a, b] = [random(2, 3), random(2, 2)];
    assert.deepEqual((await models[1].forward(a, b)).data, (await models[0].forward(a, b)).sum.data);
    for (const model of models) model.dispose();
  });

  it('frees everything', async () => {
    const before = await used();
    const model = await compile(module, { weights });
    await model.forward(random(50, 3), random(50, 2));
    assert.ok(await used() > before);
    model.dispose();
    assert.equal(await used(), before);
  });

  it('must be one', async () => {
    for (const wrong of [undefined, {}, TwoTowers, 'net']) await assert.rejects(compile(wrong), { code: 'argument', message: /^compile: module: expected a Module/ });
  });

  it('must have inputs of known rank', async () => {
    await assert.rejects(compile(new nn.ReLU()), { code: 'argument', message: /compile: inputs: expected an array .*no `inputs` of its own.*got undefined/ });
    await assert.rejects(compile(new nn.ReLU(), { inputs: [7] }), { code: 'argument', message: /compile: inputs\[0\]: expected a shape/ });
    await assert.rejects(compile(new nn.ReLU(), { inputs: [[-1]] }), { code: 'argument', message: /inputs\[0\]\[0\]: expected an integer of at least 0, got -1/ });
    await assert.rejects(compile(new nn.ReLU(), { inputs: [{ shape: [1], dtype: 'f16' }] }), { code: 'argument', message: /dtype: expected 'f32', 'i32' or 'bool', got "f16"/ });
  });

  it('refuses options it does not know', async () => {
    await assert.rejects(compile(module, { weight: weights }), { code: 'argument', message: /no option "weight"; known: weights, prefix/ });
    await assert.rejects(compile(module, { weights, prefix: 7 }), { code: 'argument' });
    await assert.rejects(compile(module), { code: 'argument', message: /^compile: weights: expected a checkpoint.*got undefined/ });
  });
});

describe('constants', () => {
  class Constants extends Module {
    inputs = [[null, 2]];

    forward(x) { return F.div(F.add(x, new Tensor([[1, 2], [3, 4]])), 2); }
  }

  it('are numbers and Tensors written in forward', async () => {
    const model = await compile(new Constants());
    assert.deepEqual((await model.forward([[1, 1], [1, 1]])).toArray(), [[1, 1.5], [2, 2.5]]);
    model.dispose();
  });
});

describe('keys', () => {
  const module = new nn.Sequential(new nn.Conv2d(3, 4, 3), new nn.BatchNorm2d(4));
  const inputs = [[null, 3, 8, 8]];
  const good = weightsOf(module);

  it('are reported all at once', async () => {
    const { '0.weight': weight, '1.bias': removed, '1.weight': alsoRemoved, ...rest } = good;
    const weights = { ...rest, '0.weight': random(4, 3, 3, 2), extra: random(1), 'another.extra': random(2, 2) };
    await failsCleanly(() => compile(module, { weights, inputs }), (error) => {
      assert.ok(error instanceof LamellaError);
      assert.equal(error.code, 'keys');
      assert.deepEqual(error.missing, ['1.weight', '1.bias']);
      assert.deepEqual(error.unexpected, ['extra', 'another.extra']);
      assert.deepEqual(error.misshapen, [{ name: '0.weight', expected: [4, 3, 3, 3], got: [4, 3, 3, 2] }]);
      for (const part of ['Sequential', '2 missing, 2 unexpected, 1 of another shape', 'missing: 1.weight [4]', 'missing: 1.bias [4]', 'unexpected: extra [1]',
        'unexpected: another.extra [2, 2]', 'wrong shape: 0.weight: expected [4, 3, 3, 3], got [4, 3, 3, 2]']) assert.ok(error.message.includes(part), part);
      return true;
    });
  });

  it('outside the prefix do not count', async () => {
    const weights = { ...weightsOf(module, 'visual.'), 'text.weight': random(1) };
    const model = await compile(module, { weights, inputs, prefix: 'visual.' });
    model.dispose();
    await failsCleanly(() => compile(module, { weights: { 'visual.2.weight': random(1) }, inputs, prefix: 'visual.' }), (error) => {
      assert.ok(error.missing.includes('visual.0.weight'));
      assert.deepEqual(error.unexpected, ['visual.2.weight']);
      return /under the prefix "visual\."/.test(error.message);
    });
  });

  it('may be too many without strict, but not too few', async () => {
    const model = await compile(module, { weights: { ...good, extra: random(1) }, inputs, strict: false });
    model.dispose();
    const { '0.bias': removed, ...rest } = good;
    await failsCleanly(() => compile(module, { weights: rest, inputs, strict: false }), { code: 'keys', missing: ['0.bias'] });
  });

  it('num_batches_tracked is welcome and not needed', async () => {
    const { '1.num_batches_tracked': removed, ...rest } = good;
    for (const weights of [rest, { ...rest, '1.num_batches_tracked': { data: BigInt64Array.of(7n), shape: [] } }]) {
      (await compile(module, { weights, inputs })).dispose();
    }
  });

  it('of a shared weight: one of its names is enough', async () => {
    class Tied extends Module {
      constructor() {
        super();
        this.a = new nn.Linear(2, 2, { bias: false });
        this.b = new nn.Linear(2, 2, { bias: false });
        this.b.weight = this.a.weight;
        this.inputs = [[null, 2]];
      }

      forward(x) { return this.b(this.a(x)); }
    }
    const weight = new Tensor([[0, 2], [1, 0]]);
    for (const weights of [{ 'a.weight': weight }, { 'b.weight': weight }, { 'a.weight': weight, 'b.weight': weight }]) {
      const model = await compile(new Tied(), { weights });
      assert.deepEqual((await model.forward([[1, 10]])).toArray(), [[2, 20]]);
      model.dispose();
    }
  });

  it('that forward does not use must be there all the same', async () => {
    class Unused extends Module {
      constructor() {
        super();
        this.used = new nn.Linear(1, 1, { bias: false });
        this.unused = new nn.Linear(1, 1, { bias: false });
        this.inputs = [[1, 1]];
      }

      forward(x) { return this.used(x); }
    }
    const weights = { 'used.weight': new Tensor([[3]]), 'unused.weight': new Tensor([[4]]) };
    const model = await compile(new Unused(), { weights });
    assert.equal((await model.forward([[2]])).item(), 6);
    model.dispose();
    await assert.rejects(compile(new Unused(), { weights: { 'used.weight': weights['used.weight'] } }), { code: 'keys', missing: ['unused.weight'] });
  });
});

describe('weights', () => {
  const inputs = [[1, 2]];
  const module = new nn.Linear(2, 2, { bias: false });
  const numbers = [1, -2, 3, 4];
  const run = async (weight) => {
    const model = await compile(module, { weights: new Map([['weight', weight]]), inputs });
    const [a, b] = [await model.forward([[1, 0]]), await model.forward([[0, 1]])];
    model.dispose();
    return [a.data[0], b.data[0], a.data[1], b.data[1]];
  };

  it('may have any number format', async () => {
    for (const type of [Float32Array, Float64Array, Int32Array, Int16Array, Int8Array]) {
      assert.deepEqual(await run({ data: type.from(numbers), shape: [2, 2] }), numbers, type.name);
    }
    assert.deepEqual(await run({ data: BigInt64Array.from(numbers, BigInt), shape: [2, 2] }), numbers);
    assert.deepEqual(await run({ data: Uint16Array.of(0x3c00, 0xc000, 0x4200, 0x4400), shape: [2, 2], dtype: 'f16' }), numbers);
    assert.deepEqual(await run({ data: Uint16Array.of(0x3f80, 0xc000, 0x4040, 0x4080), shape: [2, 2], dtype: 'bf16' }), numbers);
    assert.deepEqual(await run({ data: Uint8Array.of(1, 2, 3, 4), shape: [2, 2] }), [1, 2, 3, 4]);
  });

  it('of an unknown format are refused by name', async () => {
    await failsCleanly(() => run({ data: Uint8Array.of(1, 2, 3, 4), shape: [2, 2], dtype: 'f8_e4m3' }), { code: 'dtype', path: 'weight', message: /^weight: numbers of type F8_E4M3 cannot be loaded; known: F32, F16/ });
    await failsCleanly(() => run({ data: [1, 2, 3, 4], shape: [2, 2] }), { code: 'argument', message: /weights: "weight": expected a Tensor or/ });
  });

  it('may be NaN', async () => {
    const [a, b, c] = await run({ data: Float32Array.of(NaN, 2, 3, 4), shape: [2, 2] });
    assert.ok(Number.isNaN(a) && Number.isNaN(b) && c === 3);   // 0 * NaN is NaN too
  });

  it('arrive in pieces, with progress', async () => {
    const wide = new nn.Linear(700, 900);   // 2.5 MB: several pieces
    const weights = weightsOf(wide);
    const seen = [];
    const model = await compile(wide, { weights, inputs: [[null, 700]], onProgress: (progress) => seen.push(progress) });
    const x = random(2, 700);
    close(await model.forward(x), linear(x.toArray(), weights.weight, weights.bias), 2e-5);
    assert.equal(seen.at(-1).loaded, seen.at(-1).total);
    assert.equal(seen.at(-1).total, (700 * 900 + 900) * 4);
    assert.ok(seen.every(({ name, loaded }, i) => (name === 'weight' || name === 'bias') && (i === 0 || loaded > seen[i - 1].loaded)));
    assert.equal(model.memory.weights >= (700 * 900 + 900) * 4, true);
    model.dispose();
  });
});

describe('abort', () => {
  const module = new nn.Sequential(new nn.Linear(8, 8), new nn.Linear(8, 8));
  const weights = weightsOf(module);
  const inputs = [[null, 8]];

  it('before the start', async () => {
    const reason = new Error('never mind');
    await failsCleanly(() => compile(module, { weights, inputs, signal: AbortSignal.abort(reason) }), reason);
    await failsCleanly(() => compile(module, { weights, inputs, signal: /** @type {any} */ (5) }), { code: 'argument', message: 'compile: signal: expected an AbortSignal, got 5' });
  });

  it('while loading frees everything, and the runtime goes on', async () => {
    const controller = new AbortController();
    let calls = 0;
    await failsCleanly(() => compile(module, { weights, inputs, signal: controller.signal, onProgress: () => { if (++calls === 2) controller.abort(); } }), { name: 'AbortError' });
    assert.equal(calls, 2);
    const model = await compile(module, { weights, inputs });
    assert.deepEqual((await model.forward(random(1, 8))).shape, [1, 8]);
    model.dispose();
  });

  it('an onProgress that throws frees everything', async () => {
    await failsCleanly(() => compile(module, { weights, inputs, onProgress() { throw new Error('oops'); } }), /oops/);
  });
});

describe('not enough memory', () => {
  /** The engine with at most 2^9 pages, 32 MB: its 65536 pages are the bytes 80 80 04. */
  function smallEngine() {
    const bytes = new Uint8Array(readFileSync(new URL('../../dist/wasm/simd.wasm', import.meta.url)));
    let at = 8;
    while (bytes[at] !== 5) {   // the section of memories
      let size = 0;
      let shift = 0;
      let next = at + 1;
      do size |= (bytes[next] & 127) << shift; while ((shift += 7, bytes[next++] & 128));
      at = next + size;
    }
    const maximum = bytes.indexOf(0x80, at + 4);
    assert.deepEqual([...bytes.subarray(maximum, maximum + 3)], [0x80, 0x80, 0x04]);
    bytes.set([0x80, 0x84, 0x00], maximum);
    return bytes;
  }
  const options = { wasm: smallEngine(), build: 'simd', threads: 1 };

  it('for the weights', async () => {
    const big = new nn.Sequential(new nn.Linear(4096, 4096), new nn.Linear(4096, 16));
    const [large, small] = [new Float32Array(4096 * 4096), new Float32Array(4096 * 16)];
    const weights = {
      '0.weight': { data: large, shape: [4096, 4096] }, '0.bias': { data: small.subarray(0, 4096), shape: [4096] },
      '1.weight': { data: small, shape: [16, 4096] }, '1.bias': { data: small.subarray(0, 16), shape: [16] },
    };
    await failsCleanly(() => compile(big, { weights, inputs: [[null, 4096]], ...options }),
      { code: 'memory', message: /out of memory.*the weights need 67\d{6} bytes in all$/ }, options);
  });

  it('for the activations; smaller inputs still work', async () => {
    const module = new nn.Conv2d(1, 64, 3, { padding: 1 });
    const model = await compile(module, { weights: weightsOf(module), inputs: [[null, 1, null, null]], ...options });
    await assert.rejects(model.forward(new Tensor(new Float32Array(512 * 512), [1, 1, 512, 512])), { code: 'memory', message: /out of memory: activations/ });
    assert.deepEqual((await model.forward(random(1, 1, 16, 16))).shape, [1, 64, 16, 16]);
    model.dispose();
    assert.equal(await used(options), 0);
  });

  it('for activations of more bytes than there are addresses', async () => {
    class Outer extends Module {
      inputs = [[null, 1], [1, null]];

      forward(a, b) { return F.add(a, b).mean(); }
    }
    const model = await compile(new Outer());
    const n = 40000;   // 6.4 GB, which is 2.1 GB modulo 2^32
    await assert.rejects(model.forward(new Tensor(new Float32Array(n), [n, 1]), new Tensor(new Float32Array(n), [1, n])), { code: 'memory', message: /out of memory: arithmetic of \[40000, 40000\]/ });
    assert.equal((await model.forward([[1], [2]], [[3, 4]])).item(), 5);
    model.dispose();
  });

  it('for more weights than any memory holds', async () => {
    // The numbers themselves are never asked for.
    const without = (/** @type {number[]} */ shape) => Object.assign(Object.create(Tensor.prototype), { data: new Float32Array(0), shape, dtype: 'f32' });
    const one = new nn.Linear(65536, 65536, { bias: false });
    await failsCleanly(() => compile(one, { weights: { weight: without([65536, 65536]) }, inputs: [[null, 65536]] }), { code: 'memory', message: /out of memory: weight "weight" of \[65536, 65536\]/ });
    const two = new nn.Sequential(new nn.Linear(32768, 16384, { bias: false }), new nn.Linear(16384, 32768, { bias: false }));
    const weights = { '0.weight': without([16384, 32768]), '1.weight': without([32768, 16384]) };
    await failsCleanly(() => compile(two, { weights, inputs: [[null, 32768]] }), { code: 'memory', message: /its weights take 4\.30 GB as f32, there are 4\.29 GB; with precision: 'f16' it is 2\.15 GB, which fits/ });
  });
});

describe('init', () => {
  it('says what is in use, and is the default afterwards', async () => {
    const first = await init({ build: 'simd', threads: 1 });
    assert.deepEqual(first, { build: 'simd', threads: 1 });
    assert.equal(await sharedEngine({}), await sharedEngine({ build: 'simd', threads: 1 }));
    await init();
    await assert.rejects(init({ build: 'sse' }), { code: 'argument', message: /build: expected one of simd/ });
    await assert.rejects(init({ threads: 0 }), { code: 'argument' });
    await assert.rejects(init({ threads: /** @type {any} */ ('2') }), { code: 'argument', message: 'threads: expected an integer of at least 1, got "2"' });
    await assert.rejects(init(/** @type {any} */ ({ thread: 2 })), { code: 'argument', message: 'init: there is no option "thread"; known: wasm, build, threads' });
    await assert.rejects(init(/** @type {any} */ (2)), { code: 'argument', message: 'init: options: expected an object, { threads: 2 }, got 2' });
  });
});
