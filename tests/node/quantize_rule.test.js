/** What quantize() makes of which weight, by its name and shape alone; and that it leaves its source as it should: open or closed, and its metadata. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { quantize, safetensors } from '../../js/index.js';
import { decide } from '../../js/quantization/rule.js';
import { Weights } from '../../js/weights/safetensors.js';

const zeros = (/** @type {number[]} */ shape) => ({ data: new Float32Array(shape.reduce((a, b) => a * b, 1)), shape });

describe('what becomes of a weight', () => {
  const kept = (/** @type {string} */ name, /** @type {number[]} */ shape, { precision = 'q4', tied = false, dtype = 'F32' } = {}) => decide(name, { dtype, shape }, /** @type {any} */ (precision), tied).to;

  it('at the least size that the engine has codes for, and below', () => {
    assert.deepEqual([[16, 32], [15, 32], [16, 31], [16, 40], [16, 36]].map((shape) => kept('fc.weight', shape)), ['q4', 'keep', 'keep', 'q4', 'q8']);
    assert.deepEqual([[16, 32], [15, 32], [16, 31], [16, 36]].map((shape) => kept('fc.weight', shape, { precision: 'q8' })), ['q8', 'keep', 'keep', 'q8']);
    assert.deepEqual([[64, 1, 3, 3], [64, 32, 3, 3], [64]].map((shape) => kept('conv.weight', shape)), ['keep', 'q8', 'keep']);
  });

  it('of layers that are known by their names', () => {
    const names = ['lm_head', 'output', 'classifier', 'self_attn.kv_b_proj', 'self_attn.q_b_proj', 'mlp.gate', 'router', 'mlp.gate_proj', 'model.embed_tokens', 'wte', 'embed_out'];
    assert.deepEqual(names.map((name) => kept(`${name}.weight`, [64, 64])), ['q8', 'q8', 'q8', 'q8', 'q4', 'keep', 'keep', 'q4', 'f16', 'f16', 'f16']);
    assert.equal(kept('model.embed_tokens.weight', [64, 64], { tied: true }), 'q8');
    assert.deepEqual([kept('fc.bias', [64, 64]), kept('fc.weight', [64, 64], { dtype: 'I64' }), kept('mlp.gate.weight', [64, 64], { precision: 'f16' }), kept('conv.weight', [64, 1, 3, 3], { precision: 'f16' })], ['keep', 'keep', 'keep', 'f16']);
  });

  it('a pattern means its dots, and * anything', async () => {
    const source = safetensors.write({ 'a.b.weight': zeros([16, 32]), 'axb.weight': zeros([16, 32]) });
    const chosen = async (/** @type {Record<string, any>} */ overrides) => (await quantize(source, { overrides })).tensors.map(({ to }) => to);
    assert.deepEqual(await chosen({ 'a.b.*': 'q8' }), ['q8', 'q4']);
    assert.deepEqual(await chosen({ 'a*': 'q8' }), ['q8', 'q8']);
    assert.deepEqual(await chosen({ 'b.weight': 'q8' }), ['q4', 'q4']);
  });
});

describe('the source', () => {
  const source = safetensors.write({ 'fc.weight': zeros([16, 32]) }, { format: 'pt', note: 'old' });

  it('is closed if quantize opened it, whatever happens, and left open if not', async (t) => {
    const { mock } = t.mock.method(Weights.prototype, 'close');
    await (await quantize(source)).bytes();
    assert.equal(mock.callCount(), 1, 'read to its end');
    for await (const piece of await quantize(source)) if (piece) break;
    assert.equal(mock.callCount(), 2, 'left after the header');
    await (await quantize(source)).close();
    assert.equal(mock.callCount(), 3, 'not read');
    await assert.rejects(quantize(source, { overrides: () => { throw new Error('mine'); } }), /mine/);
    assert.equal(mock.callCount(), 4, 'an override that throws');
    const weights = await safetensors.open(source);
    await (await quantize(weights)).bytes();
    await assert.rejects(quantize(weights, { overrides: () => { throw new Error('mine'); } }), /mine/);
    assert.equal(mock.callCount(), 4, 'the caller\'s own');
    await weights.close();
  });

  it('gives its metadata, of which what is asked for takes the place', async () => {
    const opened = await safetensors.open(await (await quantize(source, { metadata: { note: 'new', more: 'x' } })).bytes());
    const { format, note, more } = opened.metadata;
    assert.deepEqual([format, note, more], ['pt', 'new', 'x']);
    await opened.close();
  });

  it('is read no further once it is aborted', async () => {
    const controller = new AbortController();
    const made = await quantize(safetensors.write({ 'a.weight': zeros([64, 64]), 'b.weight': zeros([64, 64]) }), { signal: controller.signal });
    const reason = new Error('enough');
    let pieces = 0;
    await assert.rejects(async () => {
      for await (const piece of made) {
        pieces += Math.min(1, piece.length);
        controller.abort(reason);
      }
    }, reason);
    assert.ok(pieces <= 3, `${pieces}: the header and two shapes`);
  });

  it('numbers that halves cannot hold become the largest that they can', async () => {
    const data = new Float32Array(512).fill(1);
    data.set([1e5, -1e5, 65519, 65504]);
    const opened = await safetensors.open(await (await quantize(safetensors.write({ 'fc.weight': { data, shape: [16, 32] } }), { precision: 'f16' })).bytes());
    assert.deepEqual([...(await opened.tensor('fc.weight')).toFloat32().subarray(0, 5)], [65504, -65504, 65504, 65504, 1]);
    await opened.close();
  });
});
