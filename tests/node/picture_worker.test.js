/** Pictures that a worker prepares: the same numbers, and what becomes of the worker. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { afterEach, beforeEach, describe, it } from 'node:test';
import threads from 'node:worker_threads';
import sharp from 'sharp';
import { compile, F, image, LamellaError, Module } from '../../js/index.js';

const raw = (/** @type {number} */ width, /** @type {number} */ height, /** @type {number} */ channels) => ({ width, height, channels, data: Uint8Array.from({ length: width * height * channels }, (_, i) => Math.imul(i, 2654435761) >>> 24) });
const photo = raw(400, 300, 3);
const RealWorker = threads.Worker;
/** Workers that were started, and what they were asked. @type {import('node:worker_threads').Worker[]} */
let started = [];
let requests = 0;
beforeEach(() => {
  started = [];
  requests = 0;
  threads.Worker = /** @type {any} */ (class extends RealWorker {
    /** @param {any[]} args */
    constructor(...args) {
      super(.../** @type {[any]} */ (args));
      started.push(this);
    }

    /** @param {any} message @param {any} [transfer] */
    postMessage(message, transfer) {
      requests++;
      super.postMessage(message, transfer);
    }
  });
});
afterEach(() => { threads.Worker = RealWorker; });

describe('pictures in a worker', () => {
  it('become the same numbers', async (t) => {
    t.mock.timers.enable({ apis: ['setTimeout'] });
    const sources = [photo, raw(300, 700, 4), raw(500, 400, 1), raw(260, 330, 2), await sharp(photo.data, { raw: photo }).png().toBuffer(), new Blob([await sharp(photo.data, { raw: photo }).jpeg().withMetadata({ orientation: 6 }).toBuffer()])];
    const settings = [{}, { size: 60, crop: false }, { size: [50, 90], resize: 'squash', interpolation: 'lanczos' }, { orientation: 'none', size: 100, crop: 64 }, { resize: 'none' }];
    for (const source of sources) {
      for (const options of /** @type {import('../../js/image.js').ImageOptions[]} */ (settings)) {
        const [here, there] = [await image.toTensor(source, options), await image.toTensor(source, { ...options, worker: true })];
        assert.deepEqual(there.shape, here.shape);
        assert.deepEqual(there.data, here.data);
      }
    }
    assert.deepEqual([started.length, requests], [1, sources.length * settings.length]);
    assert.deepEqual([photo.data.length, (await image.toTensor([photo, photo], { size: 20, worker: true })).shape], [360_000, [2, 3, 20, 20]]);
    // What is small is done sooner here.
    const before = requests;
    await image.toTensor(raw(255, 255, 3), { worker: true });
    assert.equal(requests, before);

    const [worker] = started;
    const end = new Promise((resolve) => { worker.on('exit', resolve); });
    t.mock.timers.tick(10_000);
    await end;
    assert.deepEqual((await image.toTensor(photo, { worker: true })).data, (await image.toTensor(photo)).data);
    assert.equal(started.length, 2);
    t.mock.timers.tick(10_000);
  });

  it('say what is wrong with them as they do here, and can be given up', async (t) => {
    t.mock.timers.enable({ apis: ['setTimeout'] });
    const wrong = [[{ ...photo, channels: 2 }, {}], [Buffer.from('no picture'), {}], [photo, { crop: 300 }], [photo, { interpolation: 'cubic' }], [photo, { worker: 'yes' }]];
    for (const [source, options] of /** @type {any[]} */ (wrong)) {
      const told = await Promise.all([{ worker: true, ...options }, { worker: false, ...options }].map((each) => image.toTensor(source, each).then(() => assert.fail(), (/** @type {any} */ error) => {
        assert.ok(error instanceof LamellaError, error.stack);
        return [error.code, error.message];
      })));
      assert.deepEqual(told[0], told[1]);
    }
    const controller = new AbortController();
    const reason = new Error('enough');
    const before = requests;
    const waiting = image.toTensor(raw(3000, 2000, 3), { worker: true, signal: controller.signal });
    while (requests === before) await new Promise(setImmediate);
    controller.abort(reason);
    await assert.rejects(waiting, (/** @type {unknown} */ error) => error === reason);
    // The worker ends in the middle of it; the next picture has one of its own.
    t.mock.timers.tick(10_000);
    for (const count of [2, 3]) {
      assert.deepEqual((await image.toTensor(photo, { worker: true })).data, (await image.toTensor(photo)).data);
      assert.deepEqual([started.length, requests], [2, before + count]);
    }
    t.mock.timers.tick(10_000);
  });

  it('as inputs of a model that runs in one', async () => {
    class Mean extends Module {
      inputs = [[null, 3, 32, 32]];

      /** @param {any} x */
      forward(x) { return F.adaptiveAvgPool2d(x, 1); }
    }
    const [model, plain] = [await compile(new Mean(), { worker: true, threads: 1 }), await compile(new Mean(), { threads: 1 })];
    const before = started.length;
    assert.deepEqual((await model.forward(photo)).data, (await plain.forward(photo)).data);
    assert.equal(started.length, before + 1);
    for (const each of [model, plain]) each.dispose();
  });
});

it('a worker that fails is not asked again', () => {
  const script = `import { mock } from 'node:test';
    import threads from 'node:worker_threads';
    import { image } from ${JSON.stringify(new URL('../../js/index.js', import.meta.url))};
    let started = 0;
    const { Worker } = threads;
    threads.Worker = class extends Worker { constructor() { super('throw new Error("not here")', { eval: true }); started++; } };
    const photo = { width: 400, height: 300, data: new Uint8Array(360_000) };
    mock.timers.enable({ apis: ['setTimeout'] });
    for (let i = 0; i < 3; i++) {
      console.log((await image.toTensor(photo, { worker: true })).shape.join(), started);
      mock.timers.tick(10_000);
    }`;
  const { status, stdout, stderr } = spawnSync(process.execPath, ['--no-warnings', '--input-type=module', '-e', script], { encoding: 'utf8', timeout: 30000 });
  assert.deepEqual([stderr, stdout, status], ['', '1,3,224,224 1\n'.repeat(3), 0]);
});

it('the worker does not keep Node running', () => {
  const script = `import { image } from ${JSON.stringify(new URL('../../js/index.js', import.meta.url))};
    console.log((await image.toTensor({ width: 400, height: 300, data: new Uint8Array(360_000) }, { worker: true })).shape.join());
    setTimeout(() => console.log('still there'), 5000).unref();`;
  const { status, stdout } = spawnSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8', timeout: 30000 });
  assert.deepEqual([stdout, status], ['1,3,224,224\n', 0]);
});
