/** This package, through the interface that users have. */
import { compile, F, Module, models, nn, Tensor } from '../../../js/index.js';
import { net } from '../nets.mjs';
import description from '../../../package.json' with { type: 'json' };
import { towerInput, towerTensors, HEADS, LAYERS, OUTPUT, SIZE } from '../tower.mjs';
import { attentionInput, ATTENTION, gemmInput, GEMMS, gemmWeight, gemvInput, GEMVS, gemvWeight, ROWS, rowsInput } from '../work.mjs';

const PICTURE = [1, 3, SIZE, SIZE];
export const tower = () => new models.ModifiedResNet({ layers: LAYERS, outputDim: OUTPUT, heads: HEADS });

/** Its attention pool left out. */
class Trunk extends models.ModifiedResNet {
  constructor() {
    super({ layers: LAYERS, outputDim: OUTPUT, heads: HEADS });
    this.attnpool = new nn.Identity();
  }
}

/** What a function of F computes. */
class Call extends Module {
  constructor(forward) {
    super();
    this.forward = forward;
  }
}

/** @param {{ build: string, threads: number }} options */
export async function start({ build, threads }) {
  /** @param {{ module: any, weights?: any, inputs: any[], precision?: string, strict?: boolean }} network weights: name -> { data, shape }; inputs: Tensors */
  const model = ({ inputs, module, weights, ...options }) => compile(module, { ...options, weights, inputs: inputs.map(({ shape }) => [...shape]), build, threads });
  const known = new Map();
  /** Two jobs: the model as it is called, and its layers alone. */
  const both = (name, network, { layerName = '' } = {}) => {
    const shared = () => {
      if (!known.has(name)) {
        const parts = network();
        const { inputs } = parts; // the weights are to be forgotten
        known.set(name, model(parts).then(compiled => ({ compiled, inputs })));
      }
      return known.get(name);
    };
    const run = async () => {
      const { compiled, inputs } = await shared();
      return (await compiled.forward(...inputs)).data;
    };
    const layers = async () => {
      const { compiled, inputs } = await shared();
      return compiled.profile(...inputs);
    };
    const milliseconds = async () => (await layers()).filter(layer => layer.name.includes(layerName)).reduce((sum, layer) => sum + layer.milliseconds, 0);
    const job = more => async () => {
      await shared();
      return { run, layers, ...more };
    };
    return { [name]: job({}), [`${name}, layer`]: job({ milliseconds }) };
  };
  const linear = (outputs, inputs, weight, input, precision) => () => ({
    module: new nn.Linear(inputs, outputs, { bias: false }), weights: { weight: { data: weight(), shape: [outputs, inputs] } }, inputs: [input()], ...precision && { precision },
  });
  const picture = () => [new Tensor(towerInput(), PICTURE)];
  const rows = (module, weights) => () => ({ module: module(), weights, inputs: [new Tensor(rowsInput(), ROWS)] });
  const heads = name => new Tensor(attentionInput(name), [1, ATTENTION.heads, ATTENTION.length, ATTENTION.size]);
  const weights = () => Object.fromEntries(towerTensors());
  const ones = { weight: { data: new Float32Array(ROWS[1]).fill(1), shape: [ROWS[1]] }, bias: { data: new Float32Array(ROWS[1]), shape: [ROWS[1]] } };
  return {
    version: description.version,
    jobs: {
      ...both('tower', () => ({ module: tower(), weights: weights(), inputs: picture() })),
      ...both('small', () => {
        const { module, checkpoint, input } = net('small-1ms');
        return { module, weights: checkpoint, inputs: [input] };
      }),
      ...both('trunk', () => ({ module: new Trunk(), weights: weights(), inputs: picture(), strict: false })),
      ...both('tower q8', () => ({ module: tower(), weights: weights(), inputs: picture(), precision: 'q8' })),
      ...Object.assign({}, ...GEMMS.map(n => both(`gemm ${n}`, linear(n, n, () => gemmWeight(n), () => new Tensor(gemmInput(n), [n, n]))))),
      ...both('gemm 1024 q8', linear(1024, 1024, () => gemmWeight(1024), () => new Tensor(gemmInput(1024), [1024, 1024]), 'q8')),
      ...Object.assign({}, ...GEMVS.map(size => both(`gemv ${size}`, linear(...size, () => gemvWeight(size), () => new Tensor(gemvInput(size), [1, size[1]]), 'q4')))),
      ...both('attention', () => ({
        module: new Call((q, k, v) => F.scaledDotProductAttention(q, k, v, { isCausal: true })), inputs: [heads('q'), heads('k'), heads('v')],
      }), { layerName: 'attention' }),
      ...both('softmax', rows(() => new nn.Softmax(-1))),
      ...both('layer norm', rows(() => new nn.LayerNorm(ROWS[1]), ones)),
      ...both('gelu', rows(() => new nn.GELU())),
      ...both('silu', rows(() => new nn.SiLU())),
    },
  };
}
