/** What is wrong in forward is said at its line, with the module's path, what was expected and what came; nothing stays behind. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { compile, F, LamellaError, models, Module, nn, Parameter, Tensor } from '../../js/index.js';
import { sharedEngine } from '../../js/init.js';

const engine = await sharedEngine({});

/** A module whose forward is a function. */
class Forward extends Module {
  constructor(inputs, forward, attributes = {}) {
    super();
    Object.assign(this, attributes);
    this.inputs = inputs;
    this.compute = forward;
  }

  forward(...inputs) { return this.compute(...inputs); }
}

/** compile must fail, and leave nothing in the engine. */
async function rejects(module, expected) {
  const before = engine.exports.lam_memory_used();
  await assert.rejects(compile(module, { weights: {} }), (error) => {
    assert.ok(error instanceof LamellaError, String(error?.stack));
    for (const [key, value] of Object.entries(expected)) {
      if (value instanceof RegExp) assert.match(error[key], value);
      else assert.equal(error[key], value);
    }
    return true;
  });
  assert.equal(engine.exports.lam_memory_used(), before, 'bytes left in the engine');
}

describe('shapes', () => {
  it('that do not fit are an error at the line of forward, which names the module', async () => {
    class Net extends Module {
      constructor() {
        super();
        this.layer2 = [new nn.Sequential({ conv1: new nn.Conv2d(3, 8, 3), bn1: new nn.BatchNorm2d(9) })];
        this.inputs = [[null, 3, 8, 8]];
      }

      forward(x) {
        return this.layer2[0](x);   // the line
      }
    }
    await rejects(new Net(), { code: 'shape', path: 'layer2.0.bn1', message: /^layer2\.0\.bn1: batch_norm: expected 9 channels, got \[\?, 8, 6, 6\]/, stack: /\.forward .*errors\.test\.js/ });
  });

  const wrong = [
    ['conv2d of other channels', new nn.Conv2d(4, 8, 3), [null, 3, 8, 8], /conv2d: .*3.*4|conv2d: .*4.*3/],
    ['conv2d of a vector', new nn.Conv2d(4, 8, 3), [null, 4], /conv2d: .*\[\?, 4\]/],
    ['conv2d larger than its image', new nn.Conv2d(3, 8, 9), [null, 3, 8, 8], /conv2d: .*8/],
    ['linear of another width', new nn.Linear(4, 8), [null, 5], /linear: .*5.*4|linear: .*4.*5/],
    ['layer norm of another width', new nn.LayerNorm(4), [null, 5], 'layerNorm: expected an input that ends in [4], got [?, 5]'],
    ['group norm of other channels', new nn.GroupNorm(2, 4), [null, 6], 'group_norm: weights [4] for the channels of [?, 6]'],
    ['RMS norm of another width', new nn.RMSNorm(4), [null, 5], 'rmsNorm: expected an input that ends in [4], got [?, 5]'],
    ['a pool larger than its image', new nn.MaxPool2d(9), [null, 3, 8, 8], /max_pool2d: /],
    ['an attention pool of another size', new nn.AttentionPool2d(3, 8, 2), [null, 8, 4, 4], /attention_pool2d: positional_embedding \[10, 8\]/],
    ['flatten past the end', new nn.Flatten(1, 5), [null, 3], 'flatten: endDim: 5 is outside the 2 axes of [?, 3]'],
    ['softmax past the end', new nn.Softmax(2), [null, 3], 'softmax: dim: 2 is outside the 2 axes of [?, 3]'],
    ['attention of images', new nn.MultiheadAttention(8, 2), [null, 8, 4, 4], /expected 1 input|query/],
  ];
  for (const [name, module, shape, message] of wrong) {
    it(`${name}`, async () => {
      module.inputs = [shape];
      if (module instanceof nn.MultiheadAttention) {
        await rejects(new Forward([shape], function forward(x) { return this.inner(x, x, x)[0]; }, { inner: module }), { code: 'shape', message: /MultiheadAttention: expected query, key and value of 3 axes/, path: undefined });
      } else await rejects(module, { code: 'shape', message });
    });
  }

  const arguments_ = [
    ['add', (a, b) => F.add(a, b), /\[2, 3\] and \[3, 2\] do not broadcast/],
    ['matmul', (a) => F.matmul(a, a), /matmul: \[2, 3\] by \[2, 3\]/],
    ['cat', (a, b) => F.cat([a, b], 0), /cat: .*\[3, 2\] beside \[2, 3\]/],
    ['reshape', (a) => a.reshape(4, 2), /reshape: \[2, 3\] cannot become \[4, 2\]/],
    ['reshape of null', (a) => a.view(a.shape[0] * null, 3), /reshape: size 0 .*reads as null/],
    ['unflatten', (a) => a.unflatten(1, [2, 2]), /axis 1 of \[2, 3\] into \[2, 2\]/],
    ['permute', (a) => a.permute(0, 0), 'permute: [0, 0] is not an order of the axes of [2, 3]'],
    ['narrow', (a) => a.narrow(1, 2, 5), /narrow: start 2, length 5 on axis 1 of \[2, 3\]/],
    ['split', (a) => a.split([1, 1], 1), 'split: sizes [1, 1] do not add up to axis 1 of [2, 3]'],
    ['squeeze', (a) => a.squeeze(0), 'squeeze: axis 0 of [2, 3] does not have size 1'],
    ['chunk', (a) => a.chunk(2, 7), /chunk: dim: 7 is outside/],
    ['attention', (a) => F.scaledDotProductAttention(a, a.reshape(1, 6), a), /attention: q \[2, 3\], k \[1, 6\]/],
  ];
  for (const [name, compute, message] of arguments_) {
    it(`of ${name}`, () => rejects(new Forward([[2, 3], [3, 2]], compute), { code: 'shape', message }));
  }
});

describe('arguments in forward', () => {
  const wrong = [
    ['not a tensor', (x) => F.relu('x'), 'relu: input: expected a tensor, got "x"'],
    ['undefined', (x) => F.add(x, undefined), 'add: second operand: expected a tensor, got undefined'],
    ['a module that is not called', (x) => F.relu(new nn.ReLU()), /relu: input: expected a tensor, got ReLU; call the module: layer\(x\)/],
    ['a stride that is no integer', (x) => F.avgPool2d(x.reshape(1, 1, 2, 3), 2, { stride: 1.5 }), 'avgPool2d: stride: expected an integer of at least 1, got 1.5'],
    ['an unknown option', (x) => F.maxPool2d(x.reshape(1, 1, 2, 3), 2, { strid: 1 }), /maxPool2d: there is no option "strid"; known: stride, padding, dilation, ceilMode/],
    ['too much padding', (x) => F.maxPool2d(x.reshape(1, 1, 2, 3), 2, { padding: 2 }), 'maxPool2d: padding [2, 2] is more than half the kernel [2, 2]'],
    ['an empty list', () => F.cat([]), 'cat: tensors: expected an array of tensors, got []'],
    ['a fraction in reshape', (x) => x.reshape(1.5, 4), 'reshape: size 0: expected an integer of at least -1, got 1.5'],
    ['an unknown gelu', (x) => F.gelu(x, { approximate: 'fast' }), /gelu: approximate: expected 'none' or 'tanh', got "fast"/],
    ['no output', () => undefined, /Forward: forward must return a tensor, or an array or object of tensors, got undefined/],
    ['nothing but null', () => ({ x: null }), 'Forward: forward returned no tensor'],
    ['a promise', async (x) => x, /forward must not be async/],
    ['a string beside it', (x) => ({ x, label: 'dog' }), /got "dog"/],
    ['a window below -1', (a) => F.scaledDotProductAttention(a, a, a, { windowSize: [2, -2] }), /scaledDotProductAttention: windowSize\[1\]: expected an integer of at least -1, got -2/],
    ['another norm', (x) => F.normalize(x, { p: 1 }), 'normalize: p: expected 2, got 1'],
    ['an alignment', (a) => F.scaledDotProductAttention(a, a, a, { align: 'middle' }), /scaledDotProductAttention: align: expected 'start' or 'end', got "middle"/],
  ];
  for (const [name, compute, message] of wrong) {
    it(`${name}`, () => rejects(new Forward([[2, 3]], compute), { code: 'argument', message }));
  }

  it('a Parameter that is no attribute', async () => {
    const loose = new Parameter([2, 3]);
    await rejects(new Forward([[2, 3]], (x) => x.add(loose)), { code: 'argument', message: /a Parameter of shape \[2, 3\] is used that is not an attribute of the model/ });
    await rejects(new Forward([[2, 3]], (x) => new nn.Linear(3, 1)(x)), { code: 'argument', message: /a Parameter of shape \[1, 3\]/ });
  });

  it('a tensor of another compile', async () => {
    let kept;
    const model = await compile(new Forward([[2, 3]], (x) => (kept = x.relu())));
    for (const compute of [(x) => x.add(kept), () => kept.flatten(), (x) => F.cat([x, kept]), () => kept]) {
      await rejects(new Forward([[2, 3]], compute), { code: 'argument', message: /comes from another compile/ });
    }
    model.dispose();
    assert.throws(() => kept.relu(), { code: 'state', message: /relu/ });
  });

  it('an exception of the user\'s own comes through as it is', async () => {
    const before = engine.exports.lam_memory_used();
    await assert.rejects(compile(new Forward([[2, 3]], () => { throw new RangeError('mine'); })), { name: 'RangeError', message: 'mine' });
    assert.equal(engine.exports.lam_memory_used(), before);
  });

  it('isCausal alone where the attention weights are wanted', async () => {
    const attention = new nn.MultiheadAttention(8, 2);
    await rejects(new Forward([[4, 1, 8]], function forward(x) { return this.attention(x, x, x, { isCausal: true })[0]; }, { attention }), { code: 'argument', message: /isCausal with needWeights or keyPaddingMask needs an attnMask/ });
  });
});

describe('after an error', () => {
  it('the runtime goes on working', async () => {
    await rejects(new Forward([[2, 3]], (x) => F.matmul(x, x)), { code: 'shape' });
    const model = await compile(new Forward([[2, 3]], (x) => x.add(1)));
    assert.deepEqual((await model.forward(new Tensor(new Float32Array(6), [2, 3]))).data, new Float32Array(6).fill(1));
    model.dispose();
  });

  it('a network whose sizes vary says what does not fit when the sizes are known', async () => {
    const net = new models.ModifiedResNet({ layers: [1, 1, 1, 1], outputDim: 8, heads: 4, width: 8, imageSize: 64 });
    let seed = 1;
    const number = () => ((seed = (seed * 48271) % 2147483647) / 2147483647);
    const weights = Object.fromEntries([...net.stateDict()].filter(([, { dtype }]) => dtype === 'f32').map(([name, { shape }]) => [name, new Tensor(Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, number), [...shape])]));
    const model = await compile(net, { weights, inputs: [[null, 3, null, null]] });
    const image = (h, w) => new Tensor(new Float32Array(3 * h * w).fill(0.5), [1, 3, h, w]);
    assert.deepEqual((await model.forward(image(64, 64))).shape, [1, 8]);
    assert.deepEqual((await model.forward(image(32, 128))).shape, [1, 8]);
    await assert.rejects(model.forward(image(96, 64)), { code: 'shape', message: /^attnpool: attention_pool2d: positional_embedding \[5, 256\]/ });
    await assert.rejects(model.forward(image(1, 1)), { code: 'shape', message: /avg_pool2d|conv2d|attention_pool2d/ });
    assert.deepEqual((await model.forward(image(64, 64))).shape, [1, 8]);
    model.dispose();
  });
});
