/** What compile does so that the first forward is not the slowest: it must leave no trace but the plan of the memory. */
import assert from 'node:assert/strict';
import { getEventListeners } from 'node:events';
import { describe, it } from 'node:test';
import { compile, F, Module, nn, Tensor } from '../../js/index.js';
import { sharedEngine } from '../../js/init.js';
import { warm } from '../../js/warm.js';
import { uniform } from '../bench/tower.mjs';

const engine = await sharedEngine({});
const used = () => engine.exports.lam_memory_used();

/** 3 x 3 convolutions, the last of any size; `side` of the image, null: any. */
class Net extends Module {
  constructor(side) {
    super();
    this.inputs = [[null, 3, side, side]];
    this.body = new nn.Sequential(new nn.Conv2d(3, 16, 3, { padding: 1 }), new nn.SiLU(), new nn.Conv2d(16, 24, 3, { padding: 1 }));
    this.fc = new nn.Linear(24, 5);
  }

  forward(x) {
    return this.fc(F.flatten(F.adaptiveAvgPool2d(this.body(x), 1), 1));
  }
}

const random = (shape, name) => new Tensor(uniform(name, shape.reduce((a, b) => a * b, 1), 0.5), [...shape]);
const weightsOf = (module) => Object.fromEntries([...module.stateDict()].map(([name, { shape }]) => [name, random(shape, name)]));
const load = (module, options) => compile(module, { weights: weightsOf(module), ...options });

/** Some hundred milliseconds, for 512. */
class Slow extends Module {
  constructor(size) {
    super();
    this.inputs = [[size, size]];
    this.fc = new nn.Linear(size, size, { bias: false });
  }

  forward(x) {
    let y = x;
    for (let i = 0; i < 40; i++) y = this.fc(y);
    return y;
  }
}

class Large extends Module {
  inputs = [[1, 2 ** 23]];

  forward(x) {
    return F.relu(x);
  }
}

describe('a compiled model', () => {
  it('has run where the sizes are known, and nowhere else', async () => {
    const known = await load(new Net(20));
    assert.ok(known.memory.activations > 0, 'the plan of its memory is there');
    const unknown = await load(new Net(null));
    assert.equal(unknown.memory.activations, 0);
    known.dispose();
    unknown.dispose();
  });

  for (const options of [{}, { worker: true }, { threads: 2 }]) {
    it(`gives the numbers of one that has not: ${JSON.stringify(options)}`, async () => {
      const picture = random([2, 3, 20, 20], 'picture');
      const known = await load(new Net(20), options);
      const unknown = await load(new Net(null), options);
      const { data } = await unknown.forward(picture);
      assert.deepEqual((await known.forward(picture)).data, data);
      assert.deepEqual((await known.forward(picture)).data, data);
      known.dispose();
      unknown.dispose();
    });
  }

  it('has seen no tokens', async () => {
    class Remember extends Module {
      inputs = [[1, 3, 2]];

      forward(x) {
        return F.cache(x);
      }
    }
    const model = await compile(new Remember());
    const session = await model.session({ context: 3 });
    assert.equal(session.position, 0);
    assert.deepEqual((await session.forward([[[1, 2], [3, 4], [5, 6]]])).data, Float32Array.of(1, 2, 3, 4, 5, 6));
    assert.equal(session.position, 3);
    model.dispose();
  });

  it('of a huge input waits for it', async () => {
    const model = await compile(new Large());
    assert.equal(model.memory.activations, 0);
    model.dispose();
  });

  for (const worker of [false, true]) {
    it(`that is aborted before it is ready never is${worker ? ', in a worker' : ''}`, { timeout: 20000 }, async () => {
      const controller = new AbortController();
      const reason = new Error('changed my mind');
      const before = used();
      // Aborts in the next turn of the event loop after the weights are there, when the model runs for the first time.
      const onProgress = ({ loaded, total }) => { if (loaded === total) setTimeout(() => controller.abort(reason), 0); };
      const module = new Slow(512);
      await assert.rejects(load(module, { worker, signal: controller.signal, onProgress, threads: 1 }), reason);
      assert.equal(used(), before);
    });
  }
});

describe('warming', () => {
  const now = () => performance.now();
  /** A model that notes its calls. @param {number} weights Bytes. @param {(options: any) => unknown} [run] */
  const fake = (weights, run = () => {}) => {
    /** @type {any[][]} */
    const calls = [];
    return { calls, memory: { weights }, call: async (/** @type {any[]} */ ...args) => { calls.push(args); return run(args.at(-1)); } };
  };
  const specs = [{ shape: [null, 5], dtype: 'i32' }, { shape: [2, 3], dtype: 'f32' }, { shape: [null, null], dtype: 'i32', rows: true }];
  const methods = /** @type {any} */ (new Map([['forward', { specs }], ['other', { specs: specs.slice(1, 2) }]]));

  it('gives each method zeros of its types and sizes, a batch of one, some times', async () => {
    const model = fake(0);
    await warm(/** @type {any} */ (model), methods, { since: now(), signal: null });
    assert.ok(model.calls.length >= 2 && model.calls.length <= 2 * 24, `${model.calls.length} calls`);
    const inputs = (/** @type {any[]} */ [name, ...args]) => [name, ...args.filter((arg) => arg instanceof Tensor).map(({ data, shape }) => [data.constructor.name, data.length, shape, data.some(Boolean)])];
    assert.deepEqual(inputs(model.calls[0]), ['forward', ['Int32Array', 5, [1, 5], false], ['Float32Array', 6, [2, 3], false]]);
    assert.deepEqual(inputs(model.calls[1]), ['other', ['Float32Array', 6, [2, 3], false]]);
  });

  it('leaves large models alone that were there quickly', async () => {
    const [quick, slow] = [fake(65e6), fake(65e6)];
    await warm(/** @type {any} */ (quick), methods, { since: now(), signal: null });
    await warm(/** @type {any} */ (slow), methods, { since: now() - 2000, signal: null });
    assert.equal(quick.calls.length, 0);
    assert.ok(slow.calls.length > 0);
  });

  it('ends at its time or with the load, and leaves no timer and no listener', async (t) => {
    const waits = ({ signal } = /** @type {any} */ ({})) => new Promise((_, reject) => { signal.addEventListener('abort', () => reject(signal.reason)); });
    const controller = new AbortController();
    const timers = () => process.getActiveResourcesInfo().filter((kind) => kind === 'Timeout').length;
    const before = timers();
    await warm(/** @type {any} */ (fake(0, waits)), methods, { since: now(), signal: controller.signal });
    await warm(/** @type {any} */ (fake(0)), methods, { since: now(), signal: controller.signal });
    assert.equal(timers(), before);
    assert.deepEqual(getEventListeners(controller.signal, 'abort'), []);
    t.mock.timers.enable({ apis: ['setTimeout'] });   // which never ends it
    const model = fake(0, waits);
    const warming = warm(/** @type {any} */ (model), methods, { since: now(), signal: controller.signal });
    controller.abort();
    await warming;
    assert.equal(model.calls.length, 1);
  });
});
