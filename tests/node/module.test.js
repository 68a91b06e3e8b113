/** The tree of modules: names, order, calling, printing. No engine needed. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { inspect } from 'node:util';
import * as models from '../../js/models/index.js';
import * as nn from '../../js/nn/index.js';
import { Buffer as LamellaBuffer, Module, Parameter } from '../../js/module.js';

class Pair extends Module {
  #secret = 7;
  field = 'a field';

  constructor() {
    super();
    this.first = new nn.Linear(2, 3);
    this.list = [new nn.ReLU(), new nn.Linear(3, 4, { bias: false })];
    this.scale = new Parameter([1]);
  }

  forward(x) { return this.list[1](this.first(x)); }

  get secret() { return this.#secret; }
}

describe('Module', () => {
  it('is callable, an instance of its class, with fields and private members', () => {
    const pair = new Pair();
    assert.equal(typeof pair, 'function');
    assert.ok(pair instanceof Pair && pair instanceof Module);
    assert.equal(pair.field, 'a field');
    assert.equal(pair.secret, 7);
  });

  it('takes attributes called name and length', () => {
    class Odd extends Module {
      constructor() {
        super();
        this.name = new nn.Linear(1, 2);
        this.length = new Parameter([5]);
      }
    }
    const odd = new Odd();
    assert.deepEqual([...odd.stateDict().keys()].sort(), ['length', 'name.bias', 'name.weight']);
    assert.equal(new Pair().name, undefined);
  });

  it('needs no eval', () => {
    const url = new URL('../../js/nn/index.js', import.meta.url).href;
    const script = `const { Linear } = await import(${JSON.stringify(url)}); if (typeof new Linear(1, 2) !== 'function') process.exit(1);`;
    execFileSync(process.execPath, ['--disallow-code-generation-from-strings', '--input-type=module', '-e', script], { cwd: fileURLToPath(new URL('.', import.meta.url)) });
  });

  it('names weights by the path of attributes, arrays by index', () => {
    assert.deepEqual([...new Pair().stateDict().keys()], ['scale', 'first.weight', 'first.bias', 'list.1.weight']);
    assert.deepEqual([...new Pair().namedModules()].map(([path]) => path), ['', 'first', 'list.0', 'list.1']);
    assert.deepEqual([...new Pair().stateDict('visual').keys()][1], 'visual.first.weight');
  });

  it('keeps parameters and buffers apart', () => {
    const norm = new nn.BatchNorm2d(4);
    assert.deepEqual([...norm.namedParameters()].map(([name]) => name), ['weight', 'bias']);
    assert.deepEqual([...norm.namedBuffers()].map(([name]) => name), ['running_mean', 'running_var', 'num_batches_tracked']);
    assert.ok([...norm.buffers()].every((buffer) => buffer instanceof LamellaBuffer));
    assert.deepEqual([...norm.parameters()].map(({ shape }) => shape), [[4], [4]]);
  });

  it('gives a shared weight both names and counts it once', () => {
    class Tied extends Module {
      constructor() {
        super();
        this.a = new nn.Linear(2, 2, { bias: false });
        this.b = new nn.Linear(2, 2, { bias: false });
        this.b.weight = this.a.weight;
      }
    }
    const tied = new Tied();
    assert.deepEqual([...tied.stateDict().keys()], ['a.weight', 'b.weight']);
    assert.equal([...tied.parameters()].length, 1);
  });

  it('refuses a module that contains itself', () => {
    const pair = new Pair();
    pair.first.parent = pair;
    assert.throws(() => [...pair.namedModules()], { name: 'LamellaError', code: 'argument', message: /contains itself/ });
  });

  it('says where layers may be called', () => {
    assert.throws(() => new nn.ReLU()(1), { name: 'LamellaError', code: 'state', message: /ReLU.*compile/ });
  });

  it('prints as PyTorch does, with the parameters behind', () => {
    assert.equal(String(new Pair()), `\
Pair(                                                      # 22 parameters: scale [1]
  (first): Linear(inFeatures=2, outFeatures=3, bias=true)  # 9: weight [3, 2], bias [3]
  (list): ModuleList(                                      # 12
    (0): ReLU()
    (1): Linear(inFeatures=3, outFeatures=4, bias=false)   # 12: weight [4, 3]
  )
)`);
    assert.equal(inspect(new Pair()), String(new Pair()));
    assert.equal(String(new nn.ReLU()), 'ReLU()');
    assert.equal(String(new nn.BatchNorm1d(1200, { eps: 0.5 })),
      'BatchNorm1d(1200, eps=0.5)  # 2,400 parameters: weight, bias, running_mean, running_var [1200], num_batches_tracked []');
  });

  it('prints equal neighbours once, a shared weight counted once', () => {
    class Tied extends Module {
      constructor() {
        super();
        this.scale = new nn.Parameter([]);
        this.blocks = Array.from({ length: 4 }, (_, i) => new nn.Linear(3, i < 3 ? 3 : 2));
        this.blocks[1].weight = this.blocks[0].weight;
        this.layers = new nn.Sequential([['1', new nn.ReLU()], ['3', new nn.ReLU()], ['4', new nn.ReLU()]]);
      }

      extraRepr() { return 'tied=true\nblocks=4'; }
    }
    assert.equal(String(new Tied()), `\
Tied(                                                          # 36 parameters: scale []
  tied=true
  blocks=4
  (blocks): ModuleList(                                        # 35
    (0-2): 3 x Linear(inFeatures=3, outFeatures=3, bias=true)  # 3 x 12: weight [3, 3], bias [3]
    (3): Linear(inFeatures=3, outFeatures=2, bias=true)        # 8: weight [2, 3], bias [2]
  )
  (layers): Sequential(
    (1): ReLU()
    (3-4): 2 x ReLU()
  )
)`);
  });

  it('prints no module that contains itself', () => {
    const pair = new Pair();
    pair.first.parent = pair;
    assert.throws(() => String(pair), { name: 'LamellaError', code: 'argument', message: /contains itself/ });
  });
});

describe('containers', () => {
  it('number their modules, or name them in the order given', () => {
    const [a, b, c] = [new nn.ReLU(), new nn.Sigmoid(), new nn.Identity()];
    const names = (sequential) => [...sequential.namedChildren()];
    assert.deepEqual(names(new nn.Sequential(a, b)), [['0', a], ['1', b]]);
    assert.deepEqual(names(new nn.Sequential([a, b])), [['0', a], ['1', b]]);
    assert.deepEqual(names(new nn.Sequential({ '-1': a, 0: b, 1: c })), [['-1', a], ['0', b], ['1', c]]);
    assert.deepEqual(names(new nn.Sequential(new Map([['z', a], ['0', b]]))), [['z', a], ['0', b]]);
    assert.deepEqual(names(new nn.Sequential([['7', a], ['3', b]])), [['7', a], ['3', b]]);
    assert.deepEqual([...new nn.Sequential([['7', a], ['3', b]])], [a, b]);
    assert.equal(new nn.Sequential(a, b).at(-1), b);
    assert.equal(new nn.Sequential().size, 0);
    assert.deepEqual(names(new nn.ModuleList([a]).append(b)), [['0', a], ['1', b]]);
    assert.throws(() => new nn.Sequential(a, 7), { code: 'argument', message: 'Sequential: 1: expected a module, got 7' });
  });
});

describe('names in checkpoints', () => {
  const keys = (module) => [...module.stateDict().keys()];

  it('are those of CLIP for ModifiedResNet', () => {
    const net = new models.ModifiedResNet({ layers: [3, 4, 6, 3], outputDim: 1024, heads: 32 });
    const names = keys(net);
    for (const name of ['conv1.weight', 'bn3.running_var', 'layer1.0.downsample.0.weight', 'layer1.0.downsample.1.num_batches_tracked',
      'layer4.2.bn3.bias', 'attnpool.positional_embedding', 'attnpool.c_proj.bias']) assert.ok(names.includes(name), name);
    assert.ok(!names.some((name) => name.includes('downsample.-1') || name.includes('layer1.1.downsample') || name.includes('ln.')));
    const numbers = [...net.parameters()].reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0);
    assert.equal(numbers, 38316896);   // open_clip's count for the RN50 image tower
    assert.deepEqual(net.inputs, [[null, 3, 224, 224]]);
  });

  it('are those of the seeds', () => {
    assert.deepEqual(keys(new nn.SEBlock(64)), ['fc.0.weight', 'fc.2.weight']);
    assert.deepEqual(new nn.SEBlock(64, { reduction: 4 }).fc.at(0).weight.shape, [16, 64]);
    assert.ok(keys(new nn.Bottleneck(256, 64, { useSe: true })).includes('se.fc.0.weight'));
    assert.ok(keys(new nn.ResidualBlock(3, 8)).includes('shortcut.0.weight'));
    assert.ok(!keys(new nn.ResidualBlock(8, 8)).some((name) => name.startsWith('shortcut')));
    const pool = keys(new nn.AttentionPool2d(7, 64, 8, { layerNorm: true }));
    assert.deepEqual(pool, ['positional_embedding', 'k_proj.weight', 'k_proj.bias', 'q_proj.weight', 'q_proj.bias', 'v_proj.weight', 'v_proj.bias',
      'c_proj.weight', 'c_proj.bias', 'ln.weight', 'ln.bias']);
    const se = new models.ModifiedResNet({ layers: [1, 1, 1, 1], outputDim: 8, heads: 4, width: 8, imageSize: 64, useSe: true, layerNorm: true });
    assert.ok(keys(se).includes('layer3.0.se.fc.2.weight') && keys(se).includes('attnpool.ln.weight'));
  });

  it('are PyTorch\'s for MultiheadAttention', () => {
    assert.deepEqual(keys(new nn.MultiheadAttention(8, 2)), ['in_proj_weight', 'in_proj_bias', 'out_proj.weight', 'out_proj.bias']);
    assert.deepEqual(keys(new nn.MultiheadAttention(8, 2, { kdim: 6, bias: false, addBiasKv: true })),
      ['q_proj_weight', 'k_proj_weight', 'v_proj_weight', 'bias_k', 'bias_v', 'out_proj.weight']);
  });
});

describe('arguments', () => {
  it('come in PyTorch\'s order or by name', () => {
    const byOrder = new nn.Conv2d(4, 8, 3, 2, 1, 1, 2, false);
    const byName = new nn.Conv2d(4, 8, [3, 3], { stride: 2, padding: [1, 1], groups: 2, bias: false });
    assert.equal(String(byOrder), String(byName));
    assert.deepEqual(byOrder.weight.shape, [8, 2, 3, 3]);
    assert.equal(new nn.Linear(2, 3, false).bias, null);
    assert.equal(new nn.BatchNorm2d(3, 1e-3).eps, 1e-3);
    assert.deepEqual(new nn.AvgPool2d(3, { padding: 1 }).options.stride, [3, 3]);
    assert.equal(new nn.Flatten({ endDim: 2 }).endDim, 2);
    assert.equal(new nn.Dropout().p, 0.5);
  });

  const wrong = [
    [() => new nn.Conv2d(3.5, 8, 3), 'Conv2d: inChannels: expected an integer of at least 1, got 3.5'],
    [() => new nn.Conv2d(3, 8), 'Conv2d: kernelSize: expected an integer of at least 1, got undefined'],
    [() => new nn.Conv2d(3, 8, [3, 3, 3]), 'Conv2d: kernelSize: expected an integer or [height, width], got [3, 3, 3]'],
    [() => new nn.Conv2d(6, 8, 3, { groups: 4 }), 'Conv2d: inChannels 6 is not a multiple of groups 4'],
    [() => new nn.Conv2d(8, 6, 3, { groups: 4 }), 'Conv2d: outChannels 6 is not a multiple of groups 4'],
    [() => new nn.Conv2d(3, 8, 3, { strides: 2 }), /Conv2d: there is no option "strides"; known: stride, padding/],
    [() => new nn.Conv2d(3, 8, 3, { padding: 'full' }), /Conv2d: padding: .*got "full"/],
    [() => new nn.Conv2d(3, 8, 3, { padding: 'same', stride: 2 }), /stride 1 with 'same', got \[2, 2\]/],
    [() => new nn.Conv2d(3, 8, 3, { paddingMode: 'reflect' }), /'zeros', got "reflect"/],
    [() => new nn.Linear('2', 3), 'Linear: inFeatures: expected an integer of at least 1, got "2"'],
    [() => new nn.Linear(2, 3, 4), 'Linear: bias: expected true or false, got 4'],
    [() => new nn.MultiheadAttention(10, 3), 'MultiheadAttention: embedDim 10 is not a multiple of numHeads 3'],
    [() => new nn.AttentionPool2d(7, 10, 3), 'AttentionPool2d: embedDim 10 is not a multiple of numHeads 3'],
    [() => new nn.BatchNorm2d(3, { trackRunningStats: false }), /BatchNorm2d: trackRunningStats: expected true/],
    [() => new nn.LayerNorm([]), /LayerNorm: normalizedShape: expected at least one size/],
    [() => new nn.RMSNorm([]), /RMSNorm: normalizedShape: expected at least one size/],
    [() => new nn.Softmax(), /Softmax: dim: expected an integer, got undefined/],
    [() => new nn.ReLU(5), 'ReLU: inplace: expected true or false, got 5'],
    [() => new nn.Dropout(0.5, 'yes'), 'Dropout: inplace: expected true or false, got "yes"'],
    [() => new nn.Dropout('0.5'), 'Dropout: p: expected a probability from 0 to 1, got "0.5"'],
    [() => new nn.MultiheadAttention(8, 2, 'z'), 'MultiheadAttention: dropout: expected a probability from 0 to 1, got "z"'],
    [() => new nn.MultiheadAttention(8, 2, { dropout: 1.5 }), 'MultiheadAttention: dropout: expected a probability from 0 to 1, got 1.5'],
    [() => new nn.MaxPool2d(2, { dilation: 0 }), 'MaxPool2d: dilation: expected an integer of at least 1, got 0'],
    [() => new nn.MaxPool2d(2, { ceilMode: 1 }), 'MaxPool2d: ceilMode: expected true or false, got 1'],
    [() => new nn.AvgPool2d(2, { padding: -1 }), 'AvgPool2d: padding: expected an integer of at least 0, got -1'],
    [() => new nn.AvgPool2d(2, { divisorOverride: 0 }), 'AvgPool2d: divisorOverride: expected an integer of at least 1, got 0'],
    [() => new nn.Sequential({ size: new nn.ReLU() }), 'Sequential: size: expected a name that is no attribute of the container, got "size"'],
    [() => new nn.Sequential({ forward: new nn.ReLU() }), 'Sequential: forward: expected a name that is no attribute of the container, got "forward"'],
    [() => new nn.Sequential({ 'a.b': new nn.ReLU() }), 'Sequential: a.b: expected a name without dots that is not empty, got "a.b"'],
    [() => new nn.Sequential({ '': new nn.ReLU() }), 'Sequential: : expected a name without dots that is not empty, got ""'],
    [() => new nn.Sequential([['a', new nn.ReLU()], ['a', new nn.ReLU()]]), 'Sequential: a: expected a different name for each module, got "a"'],
    [() => new nn.Sequential(new nn.ReLU(), 5), 'Sequential: 1: expected a module, got 5'],
    [() => new nn.Dropout(2), /Dropout: p: expected a probability/],
    [() => new nn.MaxPool2d(2, { returnIndices: true }), /MaxPool2d: returnIndices: expected false/],
    [() => new nn.SEBlock(8), 'SEBlock: channel: expected an integer of at least 16, got 8'],
    [() => new models.ModifiedResNet({ layers: [1, 1, 1], outputDim: 8, heads: 4 }), /ModifiedResNet: layers: expected four/],
    [() => new models.ModifiedResNet({ layers: [1, 1, 1, 1], outputDim: 8, heads: 7 }), /2048 is not a multiple of heads 7/],
    [() => new models.ModifiedResNet({ layers: [1, 1, 1, 1], heads: 8 }), /outputDim: expected an integer of at least 1, got undefined/],
    [() => new Parameter(3), /Parameter: shape: expected an array of integers, got 3/],
    [() => new Parameter([2, -1]), /Parameter: shape\[1\]: expected an integer of at least 0, got -1/],
  ];
  for (const [make, message] of wrong) {
    it(`refuses ${String(make).slice(6)}`, () => {
      assert.throws(make, (error) => {
        assert.equal(error.name, 'LamellaError');
        assert.equal(error.code, 'argument');
        if (typeof message === 'string') assert.equal(error.message, message);
        else assert.match(error.message, message);
        return true;
      });
    });
  }
});
