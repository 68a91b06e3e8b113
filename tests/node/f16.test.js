/** precision 'f16': the numbers are those of f32 on weights that were rounded to halves beforehand, in half the memory. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { compile, F, Module, nn, Parameter, Tensor } from '../../js/index.js';
import { buildsHere, error } from './fixtures.js';

const builds = process.env.LAMELLA_BUILD ? [process.env.LAMELLA_BUILD] : buildsHere();

/** The half nearest to x, ties to even, at most 65504. */
function rounded(x) {
  const size = Math.min(Math.abs(x), 65504);
  const step = 2 ** (Math.max(-14, Math.floor(Math.log2(size || 1))) - 10);
  const whole = Math.floor(size / step);
  const rest = size / step - whole;
  return Math.sign(x) * step * (whole + Number(rest > 0.5 || (rest === 0.5 && whole % 2 === 1)));
}

let state = 1;
const random = () => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) / 2 ** 31 - 1;
const values = (count, size = 1) => Float32Array.from({ length: count }, () => random() * size);
const tensor = (shape) => new Tensor(values(shape.reduce((a, b) => a * b)), shape);

class Of extends Module {
  constructor(parts, forward) {
    super();
    Object.assign(this, parts);
    this.forward = forward;
  }
}

const parameters = (...shapes) => shapes.map((shape) => new Parameter(shape));
const ids = Int32Array.from({ length: 9 }, (_, i) => (i * 37) % 100);

/** @type {{ name: string, make: () => Module, input: Tensor, inputs: any[], layer: string, small?: boolean }[]} small: what is kept beside the weights counts, too */
const cases = [
  ...[1, 2, 5, 40].map((rows) => ({
    name: `linear of ${rows} rows`, make: () => new nn.Linear(1100, 70), input: tensor([rows, 1100]), inputs: [[null, 1100]], layer: 'f16 linear',
  })),
  { name: 'a small linear', make: () => new nn.Linear(5, 3), input: tensor([7, 5]), inputs: [[null, 5]], layer: 'f16 linear', small: true },
  {
    name: 'linear, batch norm and activation', make: () => new Of({ fc: new nn.Linear(192, 48), bn: new nn.BatchNorm1d(48) }, function (x) { return F.gelu(this.bn(this.fc(x))); }),
    input: tensor([20, 192]), inputs: [[null, 192]], layer: 'f16 linear+batch_norm+gelu',
  },
  {
    name: 'a product by a matrix', make: () => new Of({ matrix: new Parameter([300, 64]) }, function (x) { return F.matmul(x, this.matrix); }),
    input: tensor([3, 300]), inputs: [[null, 300]], layer: 'f16 linear',
  },
  {
    name: 'convolution with stride and batch norm',
    make: () => new Of({ conv: new nn.Conv2d(64, 48, 3, { stride: 2, padding: 1 }), bn: new nn.BatchNorm2d(48) }, function (x) { return F.relu(this.bn(this.conv(x))); }),
    input: tensor([2, 64, 9, 11]), inputs: [[null, 64, null, null]], layer: 'f16 conv2d+batch_norm+relu',
  },
  {
    name: 'a convolution in groups', make: () => new nn.Conv2d(32, 40, 5, { groups: 4, padding: 2 }), input: tensor([1, 32, 8, 8]),
    inputs: [[null, 32, null, null]], layer: 'f16 conv2d',
  },
  {
    name: 'a mixture of experts',
    make: () => new Of({ gate: new nn.Linear(48, 3), experts: [0, 1, 2].map(() => parameters([64, 48], [64, 48], [40, 64])) },
      function (x) { return F.experts(x, F.softmax(this.gate(x), -1), this.experts); }),
    input: tensor([30, 48]), inputs: [[null, 48]], layer: 'f16 experts',
  },
  {
    name: 'an embedding', make: () => new nn.Embedding(100, 33), input: ids, inputs: [{ shape: [null], dtype: 'i32' }], layer: 'f16 embedding',
  },
];

/** Weights of every size that halves have, and smaller ones. */
function weightsOf(module) {
  const weights = {};
  for (const [name, { shape }] of named(module)) {
    const count = shape.reduce((a, b) => a * b, 1);
    const data = values(count, shape.length > 1 ? 1 / Math.sqrt(count / shape[0]) : 1);
    for (let i = 0; i < count && shape.length > 1; i += 5) data[i] *= 2 ** -(i % 24);          // subnormal halves, and less
    if (name.endsWith('running_var')) data.forEach((x, i) => { data[i] = x * x + 0.5; });
    weights[name] = { data, shape };
  }
  return weights;
}

const named = (module) => [...module.namedParameters(), ...(module.namedBuffers?.() ?? [])].filter(([name]) => !name.endsWith('num_batches_tracked'));

describe("precision: 'f16'", () => {
  for (const build of builds) {
    const threads = build.endsWith('threads') ? 2 : 1;
    for (const { name, make, input, inputs, layer, small } of cases) {
      it(`${build}: ${name}`, async () => {
        const weights = weightsOf(make());
        const halves = Object.fromEntries(Object.entries(weights).map(([key, { data, shape }]) => [key, { data: shape.length > 1 ? data.map(rounded) : data, shape }]));
        const run = async (checkpoint, precision) => {
          const model = await compile(make(), { weights: checkpoint, inputs, build, threads, precision });
          const y = await model.forward(input);
          const { rows } = await model.summary(input.shape ?? [input.length]);
          const result = { y, bytes: model.memory.weights, layers: rows.map((row) => row.layer) };
          model.dispose();
          return result;
        };
        const [f16, same, f32] = [await run(weights, 'f16'), await run(halves, 'f32'), await run(weights, 'f32')];
        assert.ok(f16.layers.includes(layer), `${layer} among ${f16.layers}`);
        assert.ok(error(f16.y, same.y) <= 1e-5, `${error(f16.y, same.y)} from rounded weights`);
        assert.ok(error(f16.y, f32.y) > 1e-5 && error(f16.y, f32.y) < 3e-3, `${error(f16.y, f32.y)} from weights as they are`);
        if (!small) assert.ok(f16.bytes < f32.bytes * 0.54, `${f16.bytes} bytes of ${f32.bytes}`);
      });
    }
    it(`${build}: large weights become 65504, and what is no number shows`, async () => {
      const weights = { weight: { data: Float32Array.from([1e6, -1e6, 65504, NaN, 1, 2]), shape: [6, 1] } };
      const run = async (module, spec, input) => {
        const model = await compile(module, { weights, inputs: [spec], build, threads, precision: 'f16' });
        const { data } = await model.forward(input);
        model.dispose();
        return [...data];
      };
      const expected = [65504, -65504, 65504, NaN, 1, 2];
      assert.deepEqual(await run(new nn.Linear(1, 6, { bias: false }), [1, 1], new Tensor([1], [1, 1])), expected);
      assert.deepEqual(await run(new nn.Embedding(6, 1), { shape: [6], dtype: 'i32' }, Int32Array.of(0, 1, 2, 3, 4, 5)), expected);
    });
  }

  it('is for some weights where a function says so, and an embedding is f16 in q8 and q4', async () => {
    const make = () => new nn.Sequential(new nn.Embedding(64, 64), new nn.Linear(64, 64), new nn.Linear(64, 64));
    const layers = async (precision) => {
      const model = await compile(make(), { weights: weightsOf(make()), inputs: [{ shape: [5], dtype: 'i32' }], precision });
      const { rows } = await model.summary();
      model.dispose();
      return rows.map((row) => row.layer);
    };
    assert.deepEqual(await layers((name) => (name === '1.weight' ? 'f16' : undefined)), ['embedding', 'f16 linear', 'linear']);
    for (const precision of ['q8', 'q4']) assert.deepEqual(await layers(precision), ['f16 embedding', `${precision} linear`, `${precision} linear`]);
    await assert.rejects(layers('f8'), { code: 'argument', message: /'f32', 'f16', 'q8', 'q4'.*"f8"/ });
  });
});
