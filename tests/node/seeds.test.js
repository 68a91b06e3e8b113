/** The modules of the seeds and the layers they need: arguments, names in checkpoints, and inputs that do not fit. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { compile, F, Module, nn, Tensor } from '../../js/index.js';

const random = (...shape) => new Tensor(Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => Math.sin(i * 12.9898) * 2), shape);
const weightsOf = (module) => Object.fromEntries([...module.stateDict()].filter(([, { dtype }]) => dtype === 'f32').map(([name, { shape }]) => [name, random(...shape)]));

async function run(module, ...inputs) {
  const model = await compile(module, { weights: weightsOf(module), inputs: inputs.map(({ shape }) => [...shape]) });
  try {
    return await model.forward(...inputs);
  } finally {
    model.dispose();
  }
}

describe('arguments', () => {
  const wrong = [
    [() => new nn.SiLU(3), 'SiLU: inplace: expected true or false, got 3'],
    [() => new nn.Mish({ inplaced: true }), 'Mish: there is no option "inplaced"; known: inplace'],
    [() => new nn.GELU('erf'), "GELU: approximate: expected 'none' or 'tanh', got \"erf\""],
    [() => new nn.Softplus(0), 'Softplus: beta: expected a number other than 0, got 0'],
    [() => new nn.Softplus({ threshold: '10' }), 'Softplus: threshold: expected a number, got "10"'],
    [() => new nn.GroupNorm(4, 6), 'GroupNorm: numChannels 6 is not a multiple of numGroups 4'],
    [() => new nn.GroupNorm(0, 6), 'GroupNorm: numGroups: expected an integer of at least 1, got 0'],
    [() => new nn.GroupNorm(2, 6, { affine: 1 }), 'GroupNorm: affine: expected true or false, got 1'],
    [() => new nn.GroupNorm(2, 6, -1), 'GroupNorm: eps: expected a number of at least 0, got -1'],
    [() => new nn.LayerNorm(6, { eps: -1 }), 'LayerNorm: eps: expected a number of at least 0, got -1'],
    [() => new nn.RMSNorm(6, -0.5), 'RMSNorm: eps: expected a number of at least 0, got -0.5'],
    [() => new nn.BatchNorm2d(6, NaN), 'BatchNorm2d: eps: expected a number of at least 0, got NaN'],
    [() => new nn.Conv1d(3, 8), 'Conv1d: kernelSize: expected an integer of at least 1, got undefined'],
    [() => new nn.Conv1d(3, 8, [3]), 'Conv1d: kernelSize: expected an integer of at least 1, got [3]'],
    [() => new nn.Conv1d(6, 8, 3, { groups: 4 }), 'Conv1d: inChannels 6 is not a multiple of groups 4'],
    [() => new nn.Conv1d(8, 6, 3, { groups: 4 }), 'Conv1d: outChannels 6 is not a multiple of groups 4'],
    [() => new nn.Conv1d(3, 8, 3, { stride: 0 }), 'Conv1d: stride: expected an integer of at least 1, got 0'],
    [() => new nn.Conv1d(3, 8, 3, { padding: -1 }), 'Conv1d: padding: expected an integer of at least 0, got -1'],
    [() => new nn.Conv1d(3, 8, 3, { padding: 'full' }), "Conv1d: padding: expected an integer, 'same' or 'valid', got \"full\""],
    [() => new nn.Conv1d(3, 8, 3, { padding: 'same', stride: 2 }), "Conv1d: padding: expected stride 1 with 'same', got 2"],
    [() => new nn.Conv1d(3, 8, 3, { dilation: 1.5 }), 'Conv1d: dilation: expected an integer of at least 1, got 1.5'],
    [() => new nn.Conv1d(3, 8, 3, { bias: 1 }), 'Conv1d: bias: expected true or false, got 1'],
    [() => new nn.Conv1d(3, 8, 3, { paddingMode: 'circular' }), "Conv1d: paddingMode: expected 'zeros', got \"circular\""],
    [() => new nn.BatchNorm1d(0), 'BatchNorm1d: numFeatures: expected an integer of at least 1, got 0'],
    [() => new nn.BatchNorm1d(3, { trackRunningStats: false }), /^BatchNorm1d: trackRunningStats: expected true/],
    [() => new nn.SelfAttention(7), 'SelfAttention: inChannels: expected an integer of at least 8, got 7'],
    [() => new nn.ConvLinearCompress(0, 8, 4), 'ConvLinearCompress: heads: expected an integer of at least 1, got 0'],
    [() => new nn.ConvLinearCompress(2, 8), 'ConvLinearCompress: compressBlockSize: expected an integer of at least 1, got undefined'],
    [() => new nn.EfficientConvLinearCompress(2, 8, 4, { reductionFactor: 3 }), 'EfficientConvLinearCompress: reductionFactor: expected one that leaves a multiple of 2 heads of the 16 channels, got 3'],
    [() => new nn.EfficientConvLinearCompress(2, 8, 4, 17), /reductionFactor: expected one that leaves a multiple of 2 heads of the 16 channels, got 17/],
    [() => new nn.EfficientConvLinearCompress(2, 8, 4, { factor: 2 }), 'EfficientConvLinearCompress: there is no option "factor"; known: reductionFactor'],
    [() => new nn.AttentionPool(8.5, 4), 'AttentionPool: dimHead: expected an integer of at least 1, got 8.5'],
    [() => new nn.ScaledAttentionPool(8, 0), 'ScaledAttentionPool: compressBlockSize: expected an integer of at least 1, got 0'],
    [() => new nn.GroupedMLP(8, 4, 0), 'GroupedMLP: heads: expected an integer of at least 1, got 0'],
    [() => new nn.GroupedMLP(8, 4, 2, { expandFactor: 0.01 }), 'GroupedMLP: expandFactor: expected at least 0.03125, for one hidden feature, got 0.01'],
    [() => new nn.EnhancedGroupedMLP(8, 4, 2, { expandFactor: 'two' }), 'EnhancedGroupedMLP: expandFactor: expected a number, got "two"'],
    [() => new nn.EnhancedGroupedMLP(8, 4, 2, { dropout: 1.5 }), /expected a probability from 0 to 1, got 1\.5/],
    [() => new nn.OptimizedAttention(10, { numHeads: 4 }), 'OptimizedAttention: dim 10 is not a multiple of numHeads 4'],
    [() => new nn.OptimizedAttention(16, { useBias: 'yes' }), 'OptimizedAttention: useBias: expected true or false, got "yes"'],
    [() => new nn.OptimizedAttention(16, { attentionDropout: -1 }), /expected a probability from 0 to 1, got -1/],
    [() => new nn.ImprovedFeedForward(8), 'ImprovedFeedForward: hiddenDim: expected an integer of at least 1, got undefined'],
    [() => new nn.ImprovedFeedForward(8, 16, { bias: true }), 'ImprovedFeedForward: there is no option "bias"; known: dropout, useBias'],
    [() => new nn.ModuleList([new nn.ReLU(), 3]), 'ModuleList: 1: expected a module, got 3'],
    [() => new nn.ModuleList().append('x'), 'ModuleList: append: expected a module, got "x"'],
  ];
  for (const [make, message] of wrong) {
    it(`refuses ${String(make).slice(6)}`, () => {
      assert.throws(make, { name: 'LamellaError', code: 'argument', message });
    });
  }
});

describe('names in checkpoints', () => {
  const shapes = (module) => Object.fromEntries([...module.stateDict()].map(([name, { shape }]) => [name, [...shape]]));

  it('are those of the seeds', () => {
    assert.deepEqual(shapes(new nn.SelfAttention(20)), { gamma: [1], 'query.weight': [2, 20, 1, 1], 'query.bias': [2], 'key.weight': [2, 20, 1, 1], 'key.bias': [2], 'value.weight': [20, 20, 1, 1], 'value.bias': [20] });
    assert.deepEqual(shapes(new nn.EfficientConvLinearCompress(2, 8, 4)), {
      'channel_reduction.weight': [8, 8, 1], 'channel_reduction.bias': [8], 'grouped_conv.weight': [8, 4, 4], 'grouped_conv.bias': [8], 'channel_expansion.weight': [16, 4, 1], 'channel_expansion.bias': [16] });
    assert.deepEqual(shapes(new nn.ScaledAttentionPool(8, 4)), { 'to_attn_logits.weight': [8, 8] });
    assert.deepEqual(shapes(new nn.EnhancedGroupedMLP(8, 4, 2, { expandFactor: 1.5 })), {
      residual_scale: [1], 'net.0.weight': [2, 32, 48], 'net.0.bias': [1, 2, 1, 48], 'net.3.weight': [2, 48, 8], 'net.3.bias': [1, 2, 1, 8] });
    assert.deepEqual(shapes(new nn.OptimizedAttention(16)), { 'qkv.weight': [48, 16], 'proj.weight': [16, 16], 'proj.bias': [16] });
    assert.deepEqual(shapes(new nn.ImprovedFeedForward(4, 6, { useBias: true })), { 'net.0.weight': [6, 4], 'net.0.bias': [6], 'net.3.weight': [4, 6], 'net.3.bias': [4] });
  });

  it('are those of native-sparse-attention-pytorch', () => {
    assert.deepEqual(shapes(new nn.ConvLinearCompress(2, 8, 4)), { 'conv.weight': [16, 8, 4], 'conv.bias': [16] });
    assert.deepEqual(shapes(new nn.AttentionPool(8, 4)), { 'to_attn_logits.weight': [8, 8] });
    assert.deepEqual(shapes(new nn.GroupedMLP(8, 4, 2)), { 'net.0.weight': [2, 32, 32], 'net.0.bias': [1, 2, 1, 32], 'net.2.weight': [2, 32, 8], 'net.2.bias': [1, 2, 1, 8] });
  });

  it('are PyTorch\'s for layers of sequences', () => {
    assert.deepEqual(shapes(new nn.Conv1d(6, 4, 3, 1, 0, 1, 2)), { 'weight': [4, 3, 3], 'bias': [4] });
    assert.deepEqual([...new nn.BatchNorm1d(3, { affine: false }).stateDict().keys()], ['running_mean', 'running_var', 'num_batches_tracked']);
  });

  it('print with their sizes', () => {
    assert.equal(String(new nn.Conv1d(6, 4, 3, { stride: 2, padding: 'valid', groups: 2, bias: false })), 'Conv1d(6, 4, kernelSize=3, stride=2, padding=valid, groups=2, bias=false)  # 36 parameters: weight [4, 3, 3]');
    assert.equal(String(new nn.BatchNorm1d(5, { affine: false })), 'BatchNorm1d(5, eps=0.00001, affine=false)  # 0 parameters: running_mean, running_var [5], num_batches_tracked []');
    assert.equal(String(new nn.GELU('tanh')), "GELU(approximate='tanh')");
    assert.match(String(new nn.GroupedMLP(3, 2, 4)), /\(0\): EinMix\('b h w i -> b h w o', h=4, i=6, o=6\)/);
  });
});

describe('inputs that do not fit', () => {
  const wrong = [
    [new nn.Conv1d(6, 4, 3), [6, 9], /conv1d: expected \[n, c, l\], got \[6, 9\]/],
    [new nn.Conv1d(6, 4, 3), [2, 5, 9], /5/],
    [new nn.Conv1d(6, 4, 3), [2, 6, 2], /conv2d/],
    [new nn.BatchNorm1d(3), [2, 3, 4, 5], /BatchNorm1d: expected \[n, 3\] or \[n, 3, l\], got \[2, 3, 4, 5\]/],
    [new nn.BatchNorm1d(3), [2, 4], /4/],
    [new nn.SelfAttention(8), [8, 5, 5], /SelfAttention: expected \[n, 8, h, w\], got \[8, 5, 5\]/],
    [new nn.OptimizedAttention(16), [5, 16], /OptimizedAttention: expected \[n, t, 16\], got \[5, 16\]/],
    [new nn.OptimizedAttention(16), [2, 5, 12], /12/],
    [new nn.ConvLinearCompress(2, 8, 4), [1, 3, 2, 4, 8], /ConvLinearCompress: expected \[b, 2, w, n, 8\], got \[1, 3, 2, 4, 8\]/],
    [new nn.EfficientConvLinearCompress(2, 8, 4), [2, 2, 4, 8], /EfficientConvLinearCompress: expected \[b, 2, w, n, 8\], got \[2, 2, 4, 8\]/],
    [new nn.ScaledAttentionPool(8, 4), [1, 3, 2, 4, 9], /ScaledAttentionPool: expected \[b, heads, w, n, 8\], got \[1, 3, 2, 4, 9\]/],
    [new nn.GroupedMLP(8, 4, 2), [1, 1, 2, 4, 8], /GroupedMLP: expected \[b, 2, w, 4, 8\], got \[1, 1, 2, 4, 8\]/],
    [new nn.EnhancedGroupedMLP(32, 2, 4), [2, 4, 8, 16, 32], /EnhancedGroupedMLP: expected \[b, 4, w, 2, 32\], got \[2, 4, 8, 16, 32\]/],
  ];
  for (const [module, shape, message] of wrong) {
    it(`${String(module).split('(')[0]} on [${shape.join(', ')}]`, async () => {
      await assert.rejects(compile(module, { weights: weightsOf(module), inputs: [shape] }), { name: 'LamellaError', code: 'shape', message });
    });
  }

  it('are found in the call where sizes vary', async () => {
    const module = new nn.EnhancedGroupedMLP(8, 4, 2);
    const model = await compile(module, { weights: weightsOf(module), inputs: [[null, null, null, null, null]] });
    assert.deepEqual((await model.forward(random(1, 2, 3, 4, 8))).shape, [1, 2, 3, 8]);
    for (const shape of [[1, 2, 3, 5, 8], [1, 3, 3, 4, 8], [1, 2, 3, 8, 4]]) {
      await assert.rejects(model.forward(random(...shape)), { name: 'LamellaError', code: 'shape' });
    }
    assert.deepEqual((await model.forward(random(2, 2, 1, 4, 8))).shape, [2, 2, 1, 8]);
    model.dispose();
  });

  it('names the module where one is part of another', async () => {
    const module = new nn.Sequential({ first: new nn.ReLU(), attn: new nn.SelfAttention(8) });
    await assert.rejects(compile(module, { weights: weightsOf(module), inputs: [[8, 5, 5]] }), { code: 'shape', path: 'attn', message: /^attn: SelfAttention: expected/ });
  });
});

describe('numbers', () => {
  it('Mish stays itself and finite up to 1e4 on both sides', async () => {
    const x = new Tensor(Float32Array.of(1e4, 1e3, 89, 21, -21, -89, -104, -1e3, -1e4, Infinity, -Infinity, 0));
    const { data } = await run(new nn.Mish(), x);
    assert.deepEqual([...data.slice(0, 4)], [1e4, 1e3, 89, 21]);
    const expected = -21 * Math.exp(-21);
    assert.ok(Math.abs(data[4] - expected) <= 1e-5 * -expected, `${data[4]}`);
    for (let i = 5; i < 9; i++) assert.ok(data[i] <= 0 && data[i] > -1e-30, `${x.data[i]}: ${data[i]}`);
    assert.equal(data[9], Infinity);
    assert.ok(Math.abs(data[11]) === 0);
  });

  it('SelfAttention with gamma 0 is the identity', async () => {
    const module = new nn.SelfAttention(16);
    const x = random(2, 16, 5, 3);
    const model = await compile(module, { weights: { ...weightsOf(module), gamma: new Tensor([0]) }, inputs: [[...x.shape]] });
    assert.deepEqual([...(await model.forward(x)).data], [...x.data]);
    model.dispose();
  });

  it('F.conv1d takes constants, and refuses a computed weight', async () => {
    class Fixed extends Module {
      forward(x) { return F.conv1d(x, new Tensor(Float32Array.of(1, 2, 3), [1, 1, 3]), null, { padding: 1 }); }
    }
    const y = await run(new Fixed(), new Tensor(Float32Array.of(1, 10, 100, 1000), [1, 1, 4]));
    assert.deepEqual([...y.data], [32, 321, 3210, 2100]);
    class Computed extends Module {
      forward(x) { return F.conv1d(x, F.mul(x, 2)); }
    }
    await assert.rejects(run(new Computed(), random(1, 1, 4)), { name: 'LamellaError', message: /must be weights/ });
    class Flat extends Module {
      forward(x) { return F.conv1d(x, new Tensor(Float32Array.of(1, 2), [1, 2])); }
    }
    await assert.rejects(run(new Flat(), random(1, 1, 4)), { code: 'shape', message: /conv1d: expected a weight \[out, c \/ groups, k\], got \[1, 2\]/ });
  });
});
