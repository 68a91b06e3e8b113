/** compile(..., { worker: true }): the same models in a worker of their own. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { describe, it } from 'node:test';
import { compile, F, LamellaError, models, Module, nn, Tensor } from '../../js/index.js';
import { recordingEngine } from '../../js/init.js';

let seed = 1;
const number = () => {
  seed = (seed * 48271) % 2147483647;
  return seed / 2147483647 - 0.5;
};
const random = (...shape) => new Tensor(Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, number), shape);
const weightsOf = (module) => Object.fromEntries([...module.stateDict()].map(([name, { shape }]) => [name, name.endsWith('running_var') ? new Tensor(new Float32Array(shape[0]).fill(1)) : random(...shape)]));

/** Much work and no weights. */
class Powers extends Module {
  inputs = [[256, 256]];

  forward(x) {
    let y = x;
    for (let i = 0; i < 150; i++) y = F.mul(F.matmul(y, y), 1e-3);
    return { y, x: [x] };
  }
}

const tick = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });
/** Bytes held on this side by what was recorded with these options. */
const used = async (options = {}) => (await recordingEngine(options)).engine.exports.lam_memory_used();

describe('a worker', () => {
  const net = new models.ModifiedResNet({ layers: [1, 1, 1, 1], outputDim: 16, heads: 4, width: 8, imageSize: 64, useSe: true, layerNorm: true });
  const weights = weightsOf(net);

  it('gives the same numbers, memory and profile, and leaves nothing on this side', async () => {
    const before = await used();
    const seen = [];
    const here = await compile(net, { weights });
    const there = await compile(net, { weights, worker: true, onProgress: (progress) => seen.push(progress) });
    assert.equal(await used(), before);
    assert.equal(seen.at(-1).loaded, seen.at(-1).total);
    for (const n of [1, 3]) {
      const image = random(n, 3, 64, 64);
      const [a, b] = await Promise.all([here.forward(image), there.forward(image)]);
      assert.deepEqual(b.shape, [n, 16]);
      assert.deepEqual(b.data, a.data);
      assert.equal(image.data.length, n * 3 * 64 * 64, 'the input is still the caller\'s');
    }
    assert.deepEqual(there.memory, here.memory);
    const image = random(1, 3, 64, 64);
    const [a, b] = [await here.profile(image), await there.profile(image)];
    assert.deepEqual(b.map(({ path, name, shape, flops }) => [path, name, shape, flops]), a.map(({ path, name, shape, flops }) => [path, name, shape, flops]));
    here.dispose();
    there.dispose();
  });

  it('does not block the caller, and aborts', async () => {
    const model = await compile(new Powers(), { worker: true });
    const x = new Tensor(new Float32Array(256 * 256).fill(0.01), [256, 256]);
    let ticks = 0;
    const timer = setInterval(() => { ticks++; }, 5);
    const whole = await model.forward(x);
    assert.ok(ticks >= 3, `${ticks} ticks of 5 ms during a run`);
    clearInterval(timer);

    const controller = new AbortController();
    const reason = new Error('enough');
    const waiting = [model.forward(x, { signal: controller.signal }), model.forward(x)];
    await tick(20);
    controller.abort(reason);
    await assert.rejects(waiting[0], (error) => error === reason);   // it would have resolved at its end
    assert.deepEqual((await waiting[1]).y.data, whole.y.data);
    model.dispose();
  });

  it('keeps the code and path of errors', async () => {
    await assert.rejects(compile(new nn.Sequential(new nn.Linear(2, 3), new nn.Linear(4, 2)), { weights: {}, inputs: [[null, 2]], worker: true }), { name: 'LamellaError', code: 'shape', path: '1' });
    await assert.rejects(compile(new nn.Linear(2, 3), { weights: {}, inputs: [[null, 2]], worker: true }), { code: 'keys', missing: ['weight', 'bias'] });
    class Sum extends Module {
      inputs = [[null, 2], [null, 2]];

      forward(a, b) { return F.add(a, b); }
    }
    const model = await compile(new Sum(), { worker: true });
    await assert.rejects(model.forward(random(2, 2), random(3, 2)), (error) => {
      assert.ok(error instanceof LamellaError);
      assert.equal(error.code, 'shape');
      return /\[2, 2\] and \[3, 2\] do not broadcast/.test(error.message);
    });
    assert.deepEqual((await model.forward([[1, 2]], [[3, 4]])).toArray(), [[4, 6]]);
    await assert.rejects(model.forward([[1, 2]]), { code: 'argument' });
    model.dispose();
  });

  it('that cannot start leaves nothing either', async () => {
    const before = await used({ threads: 0 });
    await assert.rejects(compile(net, { weights, worker: true, threads: 0 }), { name: 'LamellaError', code: 'argument', message: /threads: expected an integer of at least 1, got 0/ });
    assert.equal(await used({ threads: 0 }), before);
  });

  it('disposed in the middle of a run rejects what was asked', async () => {
    const model = await compile(new Powers(), { worker: true });
    const x = new Tensor(new Float32Array(256 * 256), [256, 256]);
    const calls = [model.forward(x), model.forward(x)];
    await tick(20);
    model.dispose();
    model.dispose();
    for (const { status, reason } of await Promise.allSettled(calls)) {
      assert.equal(status, 'rejected');
      assert.equal(reason.code, 'disposed');
    }
    await assert.rejects(model.forward(x), { code: 'disposed' });
    assert.deepEqual(model.memory, { weights: 0, activations: 0, caches: 0, cacheFormats: { f32: 0, f16: 0, q8: 0 }, total: 0 });
  });

  it('aborted while it loads is gone', async () => {
    const before = await used();
    const controller = new AbortController();
    await assert.rejects(compile(net, { weights, worker: true, signal: controller.signal, onProgress: () => controller.abort() }), { name: 'AbortError' });
    assert.equal(await used(), before);
  });

  it('may have threads', async () => {
    const model = await compile(net, { weights, worker: true, threads: 2 });
    const plain = await compile(net, { weights, threads: 1 });
    assert.equal(model.engine.threads, 2);
    assert.match(model.engine.build, /-threads$/);
    assert.equal(plain.engine.threads, 1);
    const image = random(1, 3, 64, 64);
    const [a, b] = [await model.forward(image), await plain.forward(image)];
    const scale = Math.max(...b.data.map(Math.abs));
    a.data.forEach((v, i) => assert.ok(Math.abs(v - b.data[i]) <= 1e-4 * scale));
    model.dispose();
    plain.dispose();
  });

  it('does not keep Node running, but is waited for', () => {
    const url = new URL('../../js/index.js', import.meta.url).href;
    const script = `const { compile, nn } = await import(${JSON.stringify(url)});
      const model = await compile(new nn.ReLU(), { inputs: [[null]], worker: true });
      console.log((await model.forward([-1, 2])).toArray().join());`;
    const { status, stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8', timeout: 30000 });
    assert.equal(stderr, '');
    assert.equal(stdout, '0,2\n');
    assert.equal(status, 0);
  });
});

describe('a worker that is gone', () => {
  it('rejects what waits and every later call', async () => {
    const { RemoteRunner } = await import('../../web/worker.js');
    const remote = new RemoteRunner({ post() {}, listen(_reply, fail) { this.fail = fail; }, keepAlive() {}, end() {} });
    const waiting = remote.request('forward', []);
    remote.fail(new LamellaError('worker', 'the worker failed: gone'));
    await assert.rejects(waiting, { code: 'worker' });
    await assert.rejects(remote.request('forward', []), { code: 'worker' });
  });
});
