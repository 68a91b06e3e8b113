/** Rotary position embedding: the frequencies of each variant, axes that the fixtures have not, and what is refused. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { compile, F, Module, nn, Tensor } from '../../js/index.js';

class Forward extends Module {
  constructor(forward, attributes = {}) {
    super();
    Object.assign(this, attributes);
    this.compute = forward;
  }

  forward(...inputs) { return this.compute(...inputs); }
}

const near = (actual, expected, tolerance = 1e-6) => assert.ok(Math.abs(actual - expected) <= tolerance * Math.abs(expected), `${actual}, expected ${expected}`);

describe('rotaryFrequencies', () => {
  it('is YaRN as DeepSeek-V2-Lite has it', () => {
    // 64 columns, 4096 positions stretched 40 times: the ramp runs from pair 10 to pair 23.
    const scaling = { type: 'yarn', factor: 40, original_max_position_embeddings: 4096, beta_fast: 32, beta_slow: 1, mscale: 0.707, mscale_all_dim: 0.707 };
    const { freqs, scale, dynamic } = nn.rotaryFrequencies(64, { scaling });
    assert.deepEqual([freqs.length, scale, dynamic], [32, 1, null]);
    for (const [i, expected] of [[0, 1], [1, 0.749894], [10, 0.0562341], [11, 0.0390069], [12, 0.0268794], [22, 1.77828e-4], [23, 3.3338e-5], [31, 3.3338e-6]]) near(freqs[i], expected, 4e-5);
    near(nn.yarnMscale(40, 0.707), 1.2608038);
    near(nn.rotaryFrequencies(64, { scaling: { ...scaling, mscale: 1, mscale_all_dim: 0 } }).scale, 0.1 * Math.log(40) + 1);
  });

  it('takes names in both spellings, and a base from either place', () => {
    const camel = nn.rotaryFrequencies(8, { base: 500, scaling: { type: 'yarn', factor: 4, originalMaxPositionEmbeddings: 32 } });
    assert.deepEqual(nn.rotaryFrequencies(8, { scaling: { rope_type: 'yarn', factor: 4, original_max_position_embeddings: 32, rope_theta: 500, mscale: null } }), camel);
    assert.deepEqual(nn.rotaryFrequencies(4).freqs, Float32Array.of(1, 0.01));
    assert.deepEqual(nn.rotaryFrequencies(4, { scaling: { type: 'linear', factor: 4 } }).freqs, Float32Array.of(0.25, 0.0025));
    assert.deepEqual(nn.rotaryFrequencies(4, { scaling: { type: 'dynamic', factor: 2, max_position_embeddings: 9 } }).dynamic, { factor: 2, maxPositionEmbeddings: 9 });
  });

  for (const [dim, options, message] of [
    [7, {}, 'rotary embedding: dim: expected an even number, got 7'],
    [0, {}, 'rotary embedding: dim: expected an integer of at least 2, got 0'],
    [8, { base: 1 }, 'rotary embedding: base: expected a number above 1, got 1'],
    [8, { base: 500, scaling: { rope_theta: 1e4 } }, "rotary embedding: base 500 and the scaling's rope_theta 10000 contradict each other"],
    [8, { scaling: { type: 'ntk', factor: 2 } }, 'rope scaling: type: expected "default", "linear", "dynamic", "llama3", "yarn", got "ntk"'],
    [8, { scaling: { type: 'linear', rope_type: 'yarn' } }, 'rope scaling: type "linear" and rope_type "yarn" contradict each other'],
    [8, { scaling: { type: 'linear' } }, 'rope scaling "linear": factor is missing'],
    [8, { scaling: { type: 'linear', factor: 0.5 } }, 'rope scaling: factor: expected a number of at least 1, got 0.5'],
    [8, { scaling: { type: 'linear', factor: 2, beta: 1 } }, 'rope scaling "linear": there is no option "beta"; known: factor'],
    [8, { scaling: { type: 'yarn', factor: 2 } }, 'rope scaling "yarn": originalMaxPositionEmbeddings is missing'],
    [8, { scaling: { type: 'dynamic', factor: 2 } }, 'rope scaling "dynamic": maxPositionEmbeddings is missing'],
  ]) it(`refuses ${dim} ${JSON.stringify(options)}`, () => assert.throws(() => nn.rotaryFrequencies(dim, options), { code: 'argument', message }));
});

describe('F.rotary', () => {
  const x = new Tensor(Float32Array.from({ length: 2 * 5 * 3 * 6 }, (_, i) => Math.sin(i * 1.7)), [2, 5, 3, 6]);

  it('counts tokens along any axis but the last, with one table for several tensors', async () => {
    const rotary = new nn.RotaryEmbedding(4, { interleaved: true, first: 1 });
    const model = await compile(new Forward(function forward(q) {
      const table = this.rotary.table(q, 1);
      return [this.rotary(q, table, 1), this.rotary(q.permute(0, 2, 1, 3), table).permute(0, 2, 1, 3), this.rotary(q, null, 1)];
    }, { rotary }), { weights: {}, inputs: [[null, null, 3, 6]] });
    const [a, b, c] = await model.forward(x);
    model.dispose();
    assert.deepEqual([b, c], [a, a]);
    const freqs = [1, 0.01];
    for (let i = 0; i < x.size; i += 6) {
      const token = Math.floor(i / 18) % 5;
      const expected = [...x.data.subarray(i, i + 6)];
      freqs.forEach((freq, j) => {
        const [p, q] = [x.data[i + 1 + 2 * j], x.data[i + 2 + 2 * j]];
        expected[1 + 2 * j] = p * Math.cos(token * freq) - q * Math.sin(token * freq);
        expected[2 + 2 * j] = q * Math.cos(token * freq) + p * Math.sin(token * freq);
      });
      expected.forEach((value, k) => assert.ok(Math.abs(a.data[i + k] - value) < 1e-6, `${i + k}: ${a.data[i + k]}, expected ${value}`));
    }
  });

  const refuses = (name, forward, expected, attributes) => it(name, () => assert.rejects(compile(new Forward(forward, attributes), { inputs: [[2, 5, 3, 6]] }), expected));
  refuses('refuses more columns than there are', function forward(q) { return this.rotary(q); }, { code: 'shape', message: 'rotary: rotary: columns from 0 on, 2 times 4, of a width of 6' }, { rotary: new nn.RotaryEmbedding(8) });
  refuses('refuses columns past the end', function forward(q) { return this.rotary(q); }, { code: 'shape', message: 'rotary: rotary: columns from 3 on, 2 times 2, of a width of 6' }, { rotary: new nn.RotaryEmbedding(4, { first: 3 }) });
  refuses('refuses a table of another length', (q) => F.rotary(q, F.rotaryTable(q, new Tensor([1, 2]), { dim: 1 })), { code: 'shape', message: 'rotary: a table of 5 tokens for 3 tokens of [2, 5, 3, 6]' });
  refuses('refuses a dynamic factor below 1', (q) => F.rotaryTable(q, new Tensor([1]), { dynamic: { factor: 0.5, maxPositionEmbeddings: 4 } }), { code: 'argument', message: 'rotaryTable: dynamic.factor: expected a number of at least 1, got 0.5' });
  refuses('refuses to turn by the last axis', (q) => F.rotary(q, F.rotaryTable(q, new Tensor([1])), { dim: -1 }), { code: 'shape', message: /tokens along axis 3 of \[2, 5, 3, 6\], whose last axis is rotated/ });
});
