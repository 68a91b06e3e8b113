/** compile(..., { precision }): weights in 8 and 4 bits through the public interface, and what becomes of whole models' numbers. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { compile, F, image, LamellaError, models, Module, nn, safetensors, Tensor } from '../../js/index.js';
import { buildsHere, cosines, error } from './fixtures.js';

const at = (/** @type {string} */ path) => fileURLToPath(new URL(`../../${path}`, import.meta.url));
const numbers = (/** @type {number[]} */ shape, n = 1, scale = 1) => {
  let state = n * 7919 + 1;
  return new Tensor(Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state / 2 ** 31 - 1) * scale;
  }), shape);
};
/** Weights as large as layers are initialised with. @param {Module} module */
const weightsOf = (module) => Object.fromEntries([...module.stateDict()].map(([name, { shape }], n) => [name, shape.length > 1
  ? numbers(shape, n, Math.sqrt(3 / shape.slice(1).reduce((a, b) => a * b, 1)))
  : new Tensor(Float32Array.from({ length: shape[0] ?? 1 }, () => (/bias|mean/.test(name) ? 0.1 : 1)), shape)]));

/** Where the largest number of each row is. @param {Tensor} y */
function largest(y) {
  const size = y.shape.at(-1);
  return Array.from({ length: y.data.length / size }, (_, row) => {
    const numbers = y.data.subarray(row * size, (row + 1) * size);
    return numbers.indexOf(Math.max(...numbers));
  });
}

class Net extends Module {
  inputs = [[null, 64, null, null]];
  methods = { tokens: { inputs: [[null, 128]] } };

  constructor() {
    super();
    this.conv = new nn.Conv2d(64, 64, 5, { padding: 2 });
    this.bn = new nn.BatchNorm2d(64);
    this.fc = new nn.Linear(64, 256);
    this.out = new nn.Linear(256, 128);
    this.small = new nn.Linear(128, 8);
  }

  tokens(x) { return this.small(x); }

  forward(x) {
    x = F.adaptiveAvgPool2d(F.relu(this.bn(this.conv(x))), 1);
    return this.tokens(this.out(F.relu(this.fc(F.flatten(x, 1)))));
  }
}

/** @param {import('../../js/index.js').Model} model */
const layers = async (model, ...shapes) => (await model.summary(...shapes)).rows.map(({ layer }) => layer).filter((name) => /linear|conv2d|experts/.test(name));

describe('precision', () => {
  const net = new Net();
  const weights = weightsOf(net);
  const x = numbers([2, 64, 9, 7], 5);
  const parameters = (/** @type {string[]} */ ...names) => names.reduce((sum, name) => sum + weights[name].data.length, 0);

  test('layers say it, memory shows it, and numbers stay near', async () => {
    const bounds = /** @type {const} */ ({ q8: [0.999, 4], q4: [0.99, 7] });
    const plain = await compile(net, { weights });
    const y = await plain.forward(x);
    for (const precision of /** @type {const} */ (['q8', 'q4'])) {
      const model = await compile(net, { weights, precision });
      assert.deepEqual(await layers(model, [2, 64, 9, 7]), ['q8 conv2d+batch_norm+relu', `${precision} linear+relu`, `${precision} linear`, 'linear']);
      assert.deepEqual((await model.profile(x)).map(({ name }) => name).filter((name) => /linear|conv2d/.test(name)), await layers(model, [2, 64, 9, 7]));
      assert.ok(cosines(await model.forward(x), y)[0] >= bounds[precision][0]);
      const f32 = 4 * parameters('conv.weight', 'fc.weight', 'out.weight');
      const kept = model.memory.weights - (plain.memory.weights - f32);
      const expected = parameters('conv.weight') + parameters('fc.weight', 'out.weight') * (precision === 'q8' ? 1 : 4.5 / 8);
      assert.ok(kept >= expected && kept < expected * 1.15, `${kept} bytes, of ${f32} in f32; the codes alone are ${expected}`);
      const [before, after] = await Promise.all([plain, model].map(async (m) => (await m.summary([2, 64, 9, 7])).rows.find(({ path }) => path === 'fc').bytes));
      const activations = 2 * (64 + 256) * 4;
      assert.ok(before >= 4 * 64 * 256 + activations && after < before / 2 && after > activations, `a layer reads ${after} bytes, ${before} in f32`);
      model.dispose();
    }
    plain.dispose();
  });

  test('a function decides for each weight by its name and shape', async () => {
    /** @type {[string, readonly number[]][]} */
    const asked = [];
    const model = await compile(net, { weights, precision: (name, shape) => {
      asked.push([name, shape]);
      return name === 'fc.weight' ? 'q4' : name === 'out.weight' ? 'q8' : name === 'bn.weight' ? null : undefined;
    } });
    assert.deepEqual(await layers(model, [1, 64, 5, 5]), ['conv2d+batch_norm+relu', 'q4 linear+relu', 'q8 linear', 'linear']);
    assert.deepEqual(asked.find(([name]) => name === 'conv.weight'), ['conv.weight', [64, 64, 5, 5]]);
    assert.equal(new Set(asked.map(([name]) => name)).size, asked.length, 'each is asked for once');
    model.dispose();
  });

  test("names are the module's with a prefix too, and of a method's weights alone", async () => {
    const prefixed = Object.fromEntries(Object.entries(weights).map(([name, tensor]) => [`deep.${name}`, tensor]));
    /** @type {string[]} */
    const asked = [];
    const model = await compile(net, { weights: prefixed, prefix: 'deep.', methods: ['tokens'], precision: (name) => { asked.push(name); return 'q8'; } });
    assert.deepEqual(asked.sort(), ['small.bias', 'small.weight']);
    const plain = await compile(net, { weights, methods: ['tokens'] });
    const tokens = numbers([3, 128]);
    assert.deepEqual((await model.call('tokens', tokens)).data, (await plain.call('tokens', tokens)).data);   // 8 outputs: f32
    model.dispose();
    plain.dispose();
  });

  test('what is no precision is an error that names the weight', async () => {
    const wrong = (/** @type {any} */ precision, /** @type {RegExp} */ message) => assert.rejects(compile(net, { weights, precision }), (/** @type {any} */ e) => {
      assert.ok(e instanceof LamellaError && e.code === 'argument', String(e));
      assert.match(e.message, message);
      return true;
    });
    await wrong('q5', /^compile: precision: expected one of 'f32', 'f16', 'q8', 'q4', or a function .*, got "q5"$/);
    await wrong(8, /got 8$/);
    await wrong(null, /got null$/);
    await wrong((/** @type {string} */ name) => (name === 'out.weight' ? 'int8' : 'q8'), /^(.*: )?compile: precision of out\.weight: expected .*, got "int8"$/);
  });

  test('every build, any number of threads, and a worker give the same numbers', async () => {
    for (const precision of /** @type {const} */ (['q8', 'q4'])) {
      /** @type {Tensor | undefined} */
      let first;
      for (const build of buildsHere()) {
        for (const worker of [false, true]) {
          const model = await compile(net, { weights, precision, build: /** @type {any} */ (build), worker, ...(build.endsWith('threads') ? { threads: 3 } : {}) });
          assert.ok((await layers(model, [2, 64, 9, 7])).includes(`${precision} linear`));
          const y = await model.forward(x);
          first ??= y;
          assert.ok(error(y, first) <= 1e-5, `${build}${worker ? ' in a worker' : ''}: ${error(y, first)}`);
          model.dispose();
        }
      }
    }
  });
});

describe('labels', () => {
  test("the demo's model says the same of many pictures", async (t) => {
    const config = JSON.parse(readFileSync(at('demo/model/config.json'), 'utf8'));
    const { size, mean, std } = config.preprocess_cfg;
    const read = async (/** @type {string} */ file, /** @type {string} */ name) => {
      const opened = await safetensors.open(at(file));
      const stored = await opened.tensor(name);
      const tensor = new Tensor(stored.toFloat32(), stored.shape);
      await opened.close();
      return tensor;
    };
    const [held, table] = await Promise.all([read('tests/reference/fixtures/emoji.safetensors', 'input'), read('demo/model/labels.safetensors', 'embedding')]);
    const samples = await image.toTensor(readdirSync(at('demo/samples')).map((file) => readFileSync(at(`demo/samples/${file}`))), { size, mean, std });
    const pictures = [...held.data, ...samples.data];
    const rows = pictures.length / size;
    const clamp = (/** @type {number} */ v) => Math.min(size - 1, Math.max(0, v));
    /** All of them, mirrored or not and moved. */
    const sets = [0, size - 1].flatMap((mirror) => [[0, 0], [3, 0], [0, 3], [-3, 2], [2, -4]].map(([dx, dy]) => {
      const moved = new Float32Array(pictures.length);
      for (let row = 0; row < rows; row++) {
        const from = (row - row % size + clamp(row % size + dy)) * size;
        for (let x = 0; x < size; x++) moved[row * size + x] = pictures[from + clamp(Math.abs(mirror - x) + dx)];
      }
      return new Tensor(moved, [rows / size / 3, 3, size, size]);
    }));
    const labels = async (/** @type {any} */ precision) => {
      const model = await compile(new models.CLIP(config), { weights: at('demo/model/model.safetensors'), methods: ['encodeImage'], precision });
      const found = [];
      for (const set of sets) {
        const y = await model.encodeImage(set);
        for (let i = 0; i < y.shape[0]; i++) {
          let [best, most] = [-1, -Infinity];
          for (let row = 0; row < table.shape[0]; row++) {
            let sum = 0;
            for (let k = 0; k < y.shape[1]; k++) sum += y.data[i * y.shape[1] + k] * table.data[row * y.shape[1] + k];
            if (sum > most) [best, most] = [row, sum];
          }
          found.push(best);
        }
      }
      model.dispose();
      return found;
    };
    const expected = await labels('f32');
    for (const [precision, least] of /** @type {const} */ ([['q8', 0.99], ['q4', 0.98]])) {
      const found = await labels(precision);
      const same = found.filter((label, i) => label === expected[i]).length;
      t.diagnostic(`${precision}: ${same} of ${found.length} labels`);
      assert.ok(same >= least * found.length, `${precision}: ${same} of ${found.length}`);
    }
  });
});

describe('quality', () => {
  for (const build of buildsHere()) {
    test(`the demo's picture tower in ${build}`, async (t) => {
      const config = JSON.parse(readFileSync(at('demo/model/config.json'), 'utf8'));
      const { layers: blocks, width, heads, image_size: imageSize, use_se: useSe, layer_norm: layerNorm } = config.vision_cfg;
      const fixture = await safetensors.open(at('tests/reference/fixtures/emoji.safetensors'));
      const stored = await fixture.tensor('input');
      const input = new Tensor(stored.toFloat32(), stored.shape);
      await fixture.close();
      const labels = await safetensors.open(at('demo/model/labels.safetensors'));
      const embedding = await labels.tensor('embedding');
      const table = new Tensor(embedding.toFloat32(), embedding.shape);
      await labels.close();
      const embed = async (/** @type {any} */ precision) => {
        const tower = new models.ModifiedResNet({ layers: blocks, width, heads, imageSize, useSe, layerNorm, outputDim: config.embed_dim });
        const model = await compile(tower, { weights: at('demo/model/model.safetensors'), prefix: 'visual.', build: /** @type {any} */ (build), precision });
        const y = await model.forward(input);
        model.dispose();
        return y;
      };
      /** Labels that are nearest. @param {Tensor} y */
      const nearest = (y) => largest(new Tensor(Float32Array.from({ length: y.shape[0] * table.shape[0] }, (_, i) => {
        const [a, b] = [Math.floor(i / table.shape[0]) * y.shape[1], i % table.shape[0] * y.shape[1]];
        return y.data.subarray(a, a + y.shape[1]).reduce((sum, v, k) => sum + v * table.data[b + k], 0);
      }), [y.shape[0], table.shape[0]]));
      const expected = await embed('f32');
      for (const [precision, least] of /** @type {const} */ ([['q8', 0.9995], ['q4', 0.997]])) {
        const y = await embed(precision);
        const [cosine] = cosines(y, expected);
        t.diagnostic(`${precision}: cosine at least ${cosine.toFixed(5)}`);
        assert.ok(cosine >= least && cosine < 1 - 1e-6, `${precision}: ${cosine}`);
        assert.deepEqual(nearest(y), nearest(expected), precision);
      }
    });

    test(`a decoder's logits in ${build}`, async (t) => {
      const fields = {
        vocab_size: 300, hidden_size: 128, intermediate_size: 256, num_hidden_layers: 3, num_attention_heads: 4, kv_lora_rank: 64, q_lora_rank: 64, qk_rope_head_dim: 16, qk_nope_head_dim: 32,
        v_head_dim: 32, max_position_embeddings: 64, n_routed_experts: 6, num_experts_per_tok: 2, moe_intermediate_size: 96, n_shared_experts: 1, first_k_dense_replace: 1, tie_word_embeddings: true,
      };
      const module = new models.DeepseekV2ForCausalLM(fields);
      const weights = weightsOf(module);
      const ids = Int32Array.from({ length: 24 }, (_, i) => (i * i * 7 + 3 * i) % fields.vocab_size);
      /** @param {any} precision */
      const run = async (precision) => {
        const model = await compile(module, { weights, build: /** @type {any} */ (build), precision });
        const names = await layers(model, [1, 24]);
        const whole = await model.forward(new Tensor(ids, [1, 24]));
        const session = await model.session({ context: 24, cache: 'f32' });
        const rows = [...(await session.forward(ids.subarray(0, 20))).data];
        for (let i = 20; i < 24; i++) rows.push(...(await session.forward([ids[i]])).data);
        model.dispose();
        return { names, whole, parts: new Tensor(Float32Array.from(rows), whole.shape) };
      };
      const expected = await run('f32');
      // A token whose experts were nearly tied may go to others.
      for (const [precision, typical, least] of /** @type {const} */ ([['q8', 0.9985, 0.97], ['q4', 0.965, 0.92]])) {
        const { names, whole, parts } = await run(precision);
        assert.ok(names.includes(`${precision} experts`) && names.at(-1) === `${precision} linear`, names.join());   // the last is tied to the embedding
        const sorted = cosines(whole, expected.whole);
        const median = sorted[sorted.length >> 1];
        t.diagnostic(`${precision}: median cosine ${median.toFixed(5)}, at least ${sorted[0].toFixed(5)}`);
        assert.ok(median >= typical && median < 1 - 1e-6 && sorted[0] >= least, `${precision}: ${sorted.join(' ')}`);
        // Attention adds in another order, and what lies between two codes may become the other one.
        assert.ok(cosines(parts, whole)[0] >= 0.999, `token by token: ${cosines(parts, whole)[0]}, error ${error(parts, whole)}`);
      }
    });
  }
});

describe("a picture's numbers", () => {
  for (const build of buildsHere()) {
    test(`do not depend on its batch, ${build}`, async () => {
      // By Winograd, small and large tiles, with more channels than are transformed at once, and as a product where pixels are few.
      for (const [inputs, outputs, size] of [[64, 64, 14], [64, 40, 10], [300, 64, 7], [40, 33, 29], [64, 64, 3]]) {
        const module = new nn.Conv2d(inputs, outputs, 3, { padding: 1 });
        const pictures = numbers([3, inputs, size, size], 5);
        const one = pictures.data.length / 3;
        for (const precision of /** @type {const} */ (['f32', 'f16', 'q8'])) {
          const model = await compile(module, { weights: weightsOf(module), inputs: [[null, inputs, null, null]], build: /** @type {any} */ (build), precision });
          const together = await model.forward(pictures);
          const alone = [];
          for (let i = 0; i < 3; i++) alone.push(...(await model.forward(new Tensor(pictures.data.slice(i * one, (i + 1) * one), [1, inputs, size, size]))).data);
          model.dispose();
          assert.deepEqual([...together.data], alone, `${inputs} -> ${outputs}, ${size} x ${size}, ${precision}`);
        }
      }
    });
  }
});
