/** Checkpoints that are large for the memory there is: refused before they are fetched, streamed with little more memory than they are packed in. */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { compile, F, LamellaError, Module, models, nn } from '../../js/index.js';
import { sharedEngine } from '../../js/init.js';
import { serveFiles, shardFiles } from '../bench/synthetic.mjs';

const WIDTH = 1024;
const LAYERS = 12;
const module = new nn.Sequential(...Array.from({ length: LAYERS }, () => new nn.Linear(WIDTH, WIDTH, { bias: false })));
const ELEMENTS = LAYERS * WIDTH * WIDTH;
const inputs = [[null, WIDTH]];
const files = shardFiles(Array.from({ length: LAYERS }, (_, i) => [`${i}.weight`, [WIDTH, WIDTH]]), 8e6);

describe('a model that does not fit', () => {
  let server;
  before(async () => { server = await serveFiles(files); });
  after(() => server.close());

  it('is refused when its headers are known, with what would fit', async () => {
    const weights = `${server.url}model.safetensors.index.json`;
    for (const worker of [false, true]) {
      server.asked.length = 0;
      await assert.rejects(compile(module, { weights, inputs, worker, memoryLimit: 20e6, threads: 1 }), (/** @type {any} */ error) => {
        assert.ok(error instanceof LamellaError && error.code === 'memory', error.stack);
        assert.match(error.message, /the model does not fit: its weights take 50\.\d MB as f32, there are 20\.0 MB; with precision: 'q8' it is 12\.\d MB, which fits/);
        assert.ok(Math.abs(error.needed - 4 * ELEMENTS) < 3e5 && error.available > 19.8e6 && error.precision === 'q8');
        return true;
      });
      // Of each file no more than the piece that the header is in was asked for.
      const shards = Object.keys(files).length - 1;
      assert.equal(server.asked.filter(({ name }) => name.endsWith('.safetensors')).length, shards);
      for (const { begin, end } of server.asked) assert.ok(begin === 0 && end <= 256 * 1024);
    }
    const engine = await sharedEngine({ threads: 1 });
    assert.equal(engine.exports.lam_memory_used(), 0);
    const model = await compile(module, { weights, inputs, memoryLimit: 20e6, precision: 'q8', threads: 1 });
    assert.ok(model.memory.weights < 14e6);
    // What other models hold is not there any more.
    await assert.rejects(compile(module, { weights, inputs, memoryLimit: 20e6, precision: 'q8', threads: 1 }), /12\.\d MB as q8, \d\.\d MB of 20\.0 MB are free; with precision: 'q4' it is still 7\.\d MB/);
    model.dispose();
  });

  it('nor in any precision', async () => {
    const weights = `${server.url}model.safetensors.index.json`;
    const limit = (/** @type {any} */ options) => assert.rejects(compile(module, { weights, inputs, memoryLimit: 5e6, ...options }), (/** @type {any} */ error) => {
      assert.match(error.message, options.precision === 'q4' ? /fewer bits would not make it smaller$/ : /with precision: 'q4' it is still 7\.\d MB$/);
      assert.equal(error.precision, undefined);
      return true;
    });
    await limit({});
    await limit({ precision: 'q4' });
    await limit({ precision: () => 'f16' });
    await assert.rejects(compile(module, { weights, inputs, memoryLimit: /** @type {any} */ ('5 MB') }), { code: 'argument', message: 'compile: memoryLimit: expected a number of at least 0, got "5 MB"' });
  });

  it("a session's caches are counted", async () => {
    const config = { vocab_size: 64, hidden_size: 64, intermediate_size: 64, num_hidden_layers: 2, num_attention_heads: 4, num_key_value_heads: 2, max_position_embeddings: 100_000 };
    const decoder = new models.LlamaForCausalLM(/** @type {any} */ (config));
    const weights = Object.fromEntries([...decoder.namedParameters()].map(([name, { shape }]) => [name, { data: new Float32Array(shape.reduce((a, b) => a * b, 1)), shape: [...shape] }]));
    const options = { weights, memoryLimit: 1e6, threads: 1 };
    const model = await compile(decoder, options);
    const session = await model.session({ context: 1000 });
    await session.forward([1]);
    const { caches } = model.memory;
    model.dispose();
    await assert.rejects(compile(decoder, { ...options, context: 50_000 }), (/** @type {any} */ error) => {
      assert.match(error.message, /and a session of 50000 tokens \d+\.\d MB, there are 1\.0 MB/);
      assert.ok(error.needed > 50 * caches && error.needed < 50 * caches * 2.2 + 1e6, `${error.needed} and ${caches}`);
      return true;
    });
  });
});

describe('a checkpoint in shards', () => {
  it('streams with little more memory than it is packed in', async () => {
    const server = await serveFiles(files);
    try {
      const engine = await sharedEngine({ threads: 1 });
      for (const precision of /** @type {const} */ (['q4', 'q8', 'f16', 'f32'])) {
        engine.exports.lam_memory_reset_peak();
        const before = engine.exports.lam_memory_used();
        const model = await compile(module, { weights: `${server.url}model.safetensors.index.json`, inputs, precision, threads: 1 });
        const [peak, packed] = [engine.exports.lam_memory_peak() - before, model.memory.weights];
        // A piece of bf16 and the same as f32.
        assert.ok(peak <= packed * 1.01 + 3.5 * (1 << 20), `${precision}: ${peak} bytes for ${packed}`);
        model.dispose();
      }
    } finally {
      server.close();
    }
  });

  it('of more weights than addresses is refused with the precision that would fit', async () => {
    const wide = new nn.Sequential(...Array.from({ length: 5 }, () => new nn.Linear(16384, 16384, { bias: false })));
    const server = await serveFiles(shardFiles(Array.from({ length: 5 }, (_, i) => [`${i}.weight`, [16384, 16384]]), 1e9));
    try {
      await assert.rejects(compile(wide, { weights: `${server.url}model.safetensors.index.json`, inputs: [[1, 16384]] }), /its weights take 5\.37 GB as f32, there are 4\.29 GB; with precision: 'f16' it is 2\.\d\d GB, which fits/);
      assert.ok(server.sent() < 4e6);
    } finally {
      server.close();
    }
  });

  it('of a module without weights needs nothing', async () => {
    class Twice extends Module {
      inputs = [[null]];

      forward(x) { return F.add(x, x); }
    }
    const model = await compile(new Twice(), { memoryLimit: 1e6 });
    assert.equal((await model.forward([2])).item(), 4);
    model.dispose();
  });
});
