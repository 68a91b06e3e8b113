/** model.summary: what is in it, what it costs, what it refuses. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { inspect } from 'node:util';
import { compile, F, Module, nn, Tensor } from '../../js/index.js';

/** Weights of any numbers. @param {Module} module */
const weightsOf = (module) => new Map([...module.stateDict()].map(([name, { shape }]) => [name, new Tensor(new Float32Array(shape.reduce((a, b) => a * b, 1)).fill(0.5), [...shape])]));

class Net extends Module {
  constructor() {
    super();
    this.conv = new nn.Conv2d(3, 8, 3, { padding: 1, bias: false });
    this.norm = new nn.BatchNorm2d(8);
    this.scale = new nn.Parameter([8, 1, 1]);
    this.fc = new nn.Linear(8, 5);
    this.again = this.fc;
    this.embedding = new nn.Embedding(11, 8);
    this.inputs = [[null, 3, null, 6]];
    this.methods = { words: { inputs: [{ shape: [null, 4], dtype: 'i32' }] } };
  }

  forward(x) {
    const y = F.relu(this.norm(this.conv(x))).mul(this.scale);
    const z = F.adaptiveAvgPool2d(y, 1).flatten(1);
    return this.fc(z).add(this.again(F.tanh(z)));
  }

  words(ids) { return this.fc(this.embedding(ids)); }
}

const module = new Net();
const model = await compile(module, { weights: weightsOf(module) });

describe('summary', () => {
  it('has a row for each layer that runs, with its parameters and operations', async () => {
    const { rows, totals, name, method, inputs } = await model.summary([2, 3, 5, 6]);
    assert.deepEqual({ name, method, inputs }, { name: 'Net', method: 'forward', inputs: [[2, 3, 5, 6]] });
    const conv = rows.find(({ path, parameters }) => path === 'conv' && parameters);
    const pixels = 2 * 8 * 5 * 6;
    assert.deepEqual({ ...conv, bytes: 0 }, { path: 'conv', layer: 'conv2d+batch_norm+relu', shape: [2, 8, 5, 6], parameters: 3 * 8 * 9 + 2 * 8, flops: 2 * pixels * 27 + pixels, bytes: 0 });
    assert.ok(conv.bytes >= 4 * (2 * 3 * 5 * 6 + pixels + 3 * 8 * 9), String(conv.bytes));
    assert.ok(rows.every(({ parameters, flops, bytes }) => parameters || flops || bytes));
    // The linear layer runs twice and its weights count once; the embedding belongs to another method.
    assert.deepEqual(rows.filter(({ layer }) => layer.startsWith('linear')).map(({ parameters }) => parameters), [45, 0]);
    assert.equal(totals.parameters, [...module.parameters()].reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0) - 88);
    for (const key of ['parameters', 'flops', 'bytes']) assert.equal(totals[key], rows.reduce((sum, row) => sum + row[key], 0));
  });

  it('agrees with profile', async () => {
    const { rows } = await model.summary([2, 3, 5, 6]);
    const profile = await model.profile(new Tensor(new Float32Array(2 * 3 * 5 * 6), [2, 3, 5, 6]));
    const figures = (layers) => layers.filter(({ flops, bytes }) => flops || bytes).map(({ path, shape, flops, bytes }) => ({ path, shape, flops, bytes }));
    assert.deepEqual(figures(rows), figures(profile));
  });

  it('takes 1 for sizes that vary, and other methods', async () => {
    assert.deepEqual((await model.summary()).inputs, [[1, 3, 1, 6]]);
    const { rows, totals, inputs } = await model.summary({ method: 'words' });
    assert.deepEqual(inputs, [[1, 4]]);
    assert.deepEqual(rows.at(-1).shape, [1, 4, 5]);
    assert.equal(totals.parameters, 88 + 45);
    assert.deepEqual((await model.summary([7, 4], { method: 'words' })).rows.at(-1).shape, [7, 4, 5]);
  });

  it('prints a table', async () => {
    const summary = await model.summary({ method: 'words' });
    assert.equal(String(summary), `\
Net: words([1, 4])
path       layer      output     parameters  FLOPs    bytes
-----------------------------------------------------------
embedding  embedding  [1, 4, 8]          88     0     496 B
fc         linear     [1, 4, 5]          45   320     516 B
-----------------------------------------------------------
total                                   133   320   1.01 kB`);
    assert.equal(inspect(summary), String(summary));
  });

  it('keeps no memory, leaves the model as it was, and waits its turn', async () => {
    const picture = new Tensor(new Float32Array(3 * 5 * 6).fill(1), [1, 3, 5, 6]);
    const before = await model.forward(picture);
    const { total } = model.memory;
    const [, after] = await Promise.all([model.summary([50, 3, 50, 6]), model.forward(picture)]);
    assert.deepEqual(after, before);
    assert.equal(model.memory.total, total);
  });

  it('is the same in a worker', async () => {
    const remote = await compile(module, { weights: weightsOf(module), worker: true });
    const threads = (await compile(module, { weights: weightsOf(module), threads: 1 }));
    assert.equal(String(await remote.summary([2, 3, 5, 6])), String(await threads.summary([2, 3, 5, 6])));
    remote.dispose();
    threads.dispose();
    await assert.rejects(remote.summary(), { name: 'LamellaError', code: 'disposed' });
  });

  const wrong = [
    [[[1, 3, 5]], 'shape', 'summary: input 0: expected [?, 3, ?, 6], got [1, 3, 5]'],
    [[[1, 4, 5, 6]], 'shape', 'summary: input 0: expected [?, 3, ?, 6], got [1, 4, 5, 6]'],
    [[[1, 3, -5, 6]], 'argument', /summary: input 0/],
    [[7], 'argument', 'summary: input 0: expected sizes, [?, 3, ?, 6], got 7'],
    [[[1, 3, 5, 6], [1]], 'argument', 'summary: expected the sizes of 1 input [?, 3, ?, 6], got 2'],
    [[{ method: 'sing' }], 'argument', /no method "sing"/],
    [[{ method: 7 }], 'argument', /method/],
    [[{ batch: 7 }], 'argument', 'summary: there is no option "batch"; known: method'],
  ];
  for (const [given, code, message] of wrong) {
    it(`refuses ${JSON.stringify(given)}`, async () => {
      await assert.rejects(model.summary(...given), { name: 'LamellaError', code, message });
    });
  }

  it('says where sizes do not fit each other', async () => {
    const pool = new nn.Sequential(new nn.MaxPool2d(3));
    const small = await compile(pool, { inputs: [[null, 1, null, null]] });
    await assert.rejects(small.summary(), { name: 'LamellaError', code: 'shape', message: /max_pool2d|pool/ });
    assert.deepEqual((await small.summary([1, 1, 3, 3])).rows.at(-1).shape, [1, 1, 1, 1]);
    small.dispose();
  });
});
