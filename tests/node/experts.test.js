/** Mixtures of experts: F.route and F.experts with PyTorch's numbers in every build, and what they refuse. */
import assert from 'node:assert/strict';
import { after, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { compile, F, Module, Parameter, safetensors, Tensor } from '../../js/index.js';
import { buildsHere, error } from './fixtures.js';
import { Parity } from './parity.js';

const FIXTURE = fileURLToPath(new URL('../reference/fixtures/experts.safetensors', import.meta.url));
const builds = process.env.LAMELLA_BUILD ? [process.env.LAMELLA_BUILD] : buildsHere();

/** The routing of each token, and the mixture of its experts. */
class Mixture extends Module {
  constructor({ width, inter, out, experts, act, route }) {
    super();
    this.gate = new Parameter([experts, width]);
    this.bias = route.method === 'noaux_tc' ? new Parameter([experts]) : null;
    this.experts = Array.from({ length: experts }, () => [new Parameter([inter, width]), new Parameter([inter, width]), new Parameter([out, inter])]);
    this.act = act;
    this.route = { ...route, masked: Number(route.masked === '-inf' ? -Infinity : route.masked) };
  }

  forward(x) {
    const routing = F.route(F.linear(x, this.gate), this.bias, this.route);
    return [routing, F.experts(x, routing, this.experts, this.act)];
  }
}

describe('mixtures of experts', async () => {
  const weights = await safetensors.open(FIXTURE);
  const cases = JSON.parse(weights.metadata.cases);
  const read = async (name) => {
    const stored = await weights.tensor(name);
    return new Tensor(stored.toFloat32(), stored.shape);
  };
  for (const build of builds) {
    const parity = new Parity('experts', build);
    after(() => parity.write());
    for (const [i, { name, args, tolerance }] of cases.entries()) {
      it(`${build}: ${name}`, async () => {
        const x = await read(`${i}.input.0`);
        const varying = x.shape.map((size, k) => (k < x.shape.length - 1 ? null : size));
        for (const shape of [x.shape, varying]) {
          const model = await compile(new Mixture(args[0]), { weights, prefix: `${i}.weights.`, inputs: [shape], build, threads: build.endsWith('threads') ? 3 : 1 });
          const outputs = await model.forward(x);
          model.dispose();
          for (const [j, y] of outputs.entries()) {
            const relative = error(y, await read(`${i}.output.${j}`));
            parity.add(['F.route', 'F.experts'][j], relative, tolerance);
            assert.ok(relative <= tolerance, `output ${j}: ${relative}`);
          }
        }
      });
    }
  }
});

describe('what route and experts refuse', () => {
  class Forward extends Module {
    constructor(forward, attributes = {}) {
      super();
      Object.assign(this, attributes);
      this.compute = forward;
    }

    forward(...inputs) { return this.compute(...inputs); }
  }
  const parts = (inter, width) => [new Parameter([inter, width]), new Parameter([inter, width]), new Parameter([width, inter])];
  const cases = [
    ['more experts for a token than there are', (x) => F.route(x, null, { topK: 7 }), 'shape', 'route: 7 of 6 experts for each token'],
    ['groups that do not divide the experts', (x) => F.route(x, null, { topK: 1, method: 'group_limited_greedy', nGroup: 4 }), 'shape', 'route: 4 groups do not divide 6 experts'],
    ['more groups kept than there are', (x) => F.route(x, null, { topK: 1, method: 'noaux_tc', nGroup: 2, topkGroup: 3 }), 'shape', 'route: 3 of 2 groups are kept'],
    ['groups of one by their two best', (x) => F.route(x, null, { topK: 1, method: 'noaux_tc', nGroup: 6 }), 'shape', 'route: 6 groups of 6 experts have less than two each'],
    ['a bias where none is used', (x) => F.route(x, new Tensor(new Float32Array(6)), { topK: 1 }), 'shape', 'route: a bias [6], which only noaux_tc has'],
    ['a bias of another length', (x) => F.route(x, new Tensor(new Float32Array(5)), { topK: 1, method: 'noaux_tc' }), 'shape', 'route: bias [5] for 6 experts'],
    ['an unknown method', (x) => F.route(x, null, { topK: 1, method: 'best' }), 'argument', "route: method: expected 'greedy' or 'group_limited_greedy' or 'noaux_tc', got \"best\""],
    ['an unknown scoring', (x) => F.route(x, null, { topK: 1, scoring: 'tanh' }), 'argument', "route: scoring: expected 'softmax' or 'sigmoid', got \"tanh\""],
    ['a mask that is not a number', (x) => F.route(x, null, { topK: 1, masked: NaN }), 'argument', 'route: masked: expected a number, got NaN'],
    ['no experts', (x) => F.experts(x, x, []), 'argument', 'experts: weights: expected an array of [gate, up, down], got []'],
    ['an expert of two weights', function forward(x) { return F.experts(x, x, [this.a.slice(0, 2)]); }, 'argument', 'experts: expert 0: expected [gate, up, down], got [Parameter, Parameter]', { a: parts(3, 6) }],
    ['experts of different shapes', function forward(x) { return F.experts(x, x.narrow(-1, 0, 2), [this.a, this.b]); }, 'shape',
      'experts: expert 1 has gate [4, 6], up [4, 6] and down [6, 4], expected [3, 6], [3, 6] and [6, 3] as in expert 0', { a: parts(3, 6), b: parts(4, 6) }],
    ['a routing of another width', function forward(x) { return F.experts(x, x, [this.a, this.b]); }, 'shape', 'experts: 2 experts need a routing [..., 2] with the axes of [2, 6], got [2, 6]', { a: parts(3, 6), b: parts(3, 6) }],
    ['an unknown activation', function forward(x) { return F.experts(x, x.narrow(-1, 0, 1), [this.a], 'swish'); }, 'argument', /^experts: act: expected 'identity' or .*, got "swish"$/, { a: parts(3, 6) }],
    ['computed weights', function forward(x) { return F.experts(x, x.narrow(-1, 0, 1), [[this.a[0], x, this.a[2]]]); }, 'shape', 'experts: gate, up and down of expert 0 must be weights, not computed values', { a: parts(3, 6) }],
  ];
  for (const [name, forward, code, message, attributes] of cases) {
    it(name, () => assert.rejects(compile(new Forward(forward, attributes), { inputs: [[2, 6]] }), { code, message }));
  }
});
