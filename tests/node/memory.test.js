/** What a model costs while it loads and after: measured by the engine's own allocator, not by what it says of itself. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compile, models, nn, safetensors, Tensor } from '../../js/index.js';
import { sharedEngine } from '../../js/init.js';

const options = { layers: [1, 1, 1, 1], outputDim: 256, heads: 16, imageSize: 64, width: 32, useSe: true, layerNorm: true };

/** A checkpoint of the tower in the order of `names`, values from a small generator. @param {(names: string[]) => string[]} order */
function checkpoint(order) {
  const parameters = new Map([...new models.ModifiedResNet(options).stateDict()].filter(([name]) => !name.endsWith('num_batches_tracked')));
  const names = order([...parameters.keys()]);
  const parts = [];
  let at = 0;
  /** @type {Record<string, object>} */
  const header = {};
  let state = 1;
  for (const name of names) {
    const { shape } = parameters.get(name);
    const data = new Float32Array(shape.reduce((n, size) => n * size, 1));
    for (let i = 0; i < data.length; i++) data[i] = ((state = Math.imul(state, 1664525) + 1013904223 >>> 0) / 2 ** 32 - 0.5) * 0.1 + (name.endsWith('var') ? 1 : 0);
    header[name] = { dtype: 'F32', shape, data_offsets: [at, at += data.byteLength] };
    parts.push(new Uint8Array(data.buffer));
  }
  const json = new TextEncoder().encode(JSON.stringify(header));
  const length = new Uint8Array(8);
  new DataView(length.buffer).setBigUint64(0, BigInt(json.byteLength), true);
  return new Blob([length, json, ...parts]);
}

const orders = {
  'file order': (names) => names,
  backwards: (names) => [...names].reverse(),
  'all large ones first': (names) => [...names].sort((a, b) => Number(/(bn|norm|ln|bias)/.test(a)) - Number(/(bn|norm|ln|bias)/.test(b))),
};

test('loading takes at most 1.25 x the packed weights, in whatever order they come', async (t) => {
  const { exports } = await sharedEngine({ build: 'simd' });
  for (const [name, order] of Object.entries(orders)) {
    await t.test(name, async () => {
      const before = exports.lam_memory_used();
      exports.lam_memory_reset_peak();
      // A stream: nothing can be read out of order.
      const model = await compile(new models.ModifiedResNet(options), { weights: checkpoint(order).stream(), build: 'simd' });
      const peak = exports.lam_memory_peak() - before;
      const { weights } = model.memory;
      model.dispose();
      assert.ok(weights > 20e6, `${weights} bytes: too small a model to tell`);
      assert.ok(peak <= 1.25 * weights, `peak ${peak}, packed weights ${weights}`);
      assert.equal(exports.lam_memory_used(), before);
    });
  }
});

test('models that come and go leave nothing behind', async () => {
  const { exports, memory } = await sharedEngine({ build: 'simd' });
  const weights = await safetensors.open(checkpoint(orders['file order']));
  const before = exports.lam_memory_used();
  let pages = 0;
  for (let i = 0; i < 6; i++) {
    const model = await compile(new models.ModifiedResNet(options), { weights, build: 'simd' });
    await model.forward(new Float32Array(3 * 64 * 64 * (1 + i % 2)));
    model.dispose();
    assert.equal(exports.lam_memory_used(), before);
    if (i === 1) pages = memory.buffer.byteLength;
  }
  assert.equal(memory.buffer.byteLength, pages, 'the engine grew although nothing is held');
});

test('products past 32 bits', async (t) => {
  await t.test('in the windows of an adaptive pooling', async () => {
    const model = await compile(new nn.AdaptiveAvgPool2d([null, 1]), { inputs: [[1, 1, null, null]], build: 'simd' });
    const x = new Tensor(Float32Array.from({ length: 70000 }, (_, i) => i), [1, 1, 70000, 1]);
    assert.deepEqual((await model.forward(x)).data, x.data);
    model.dispose();
  });
  await t.test('in the packed size of weights, which is more than their own', async () => {
    const weights = { weight: { data: new Uint8Array(2 ** 27), shape: [1, 2 ** 27] } };
    await assert.rejects(compile(new nn.Linear(2 ** 27, 1, { bias: false }), { weights, inputs: [[null, 2 ** 27]], build: 'simd' }), { code: 'memory' });
  });
});

test('a header with one very long string', async () => {
  const file = safetensors.write({ a: { data: Float32Array.of(1), shape: [1] } }, { text: 'x'.repeat(2e7) });
  const weights = await safetensors.open(file);
  assert.equal(weights.metadata.text.length, 2e7);
  await weights.close();
});

test('a weight that is larger than any memory is refused where it is used, before a byte is read', async () => {
  const table = Object.assign(new nn.Embedding(131072, 8192), { inputs: [{ shape: [null], dtype: 'i32' }] });   // 2^32 bytes
  await assert.rejects(compile(table), { code: 'memory', message: /out of memory: weight "weight" of \[131072, 8192\]/ });
});
