/** The demo's model as shipped: its checkpoint gives PyTorch's embeddings and the same labels; tests/reference/fixtures/emoji.safetensors is made by demo/train. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { compile, image, models, safetensors, Tensor } from '../../js/index.js';
import { tokenize } from '../../js/models/clip_tokens.js';
import { buildsHere, error } from './fixtures.js';
import { Parity } from './parity.js';

const at = (/** @type {string} */ path) => fileURLToPath(new URL(`../../${path}`, import.meta.url));
const config = JSON.parse(readFileSync(at('demo/model/config.json'), 'utf8'));
const { layers, width, heads, image_size: imageSize, use_se: useSe, layer_norm: layerNorm } = config.vision_cfg;
const labels = JSON.parse(readFileSync(at('demo/model/labels.json'), 'utf8'));

/** Numbers of the labels nearest to an embedding, best first. */
function nearest(embedding, table, count) {
  const [rows, size] = table.shape;
  const scores = Array.from({ length: rows }, (_, row) => {
    let sum = 0;
    for (let i = 0; i < size; i++) sum += embedding[i] * table.data[row * size + i];
    return [sum, row];
  });
  return scores.sort((a, b) => b[0] - a[0]).slice(0, count).map(([, row]) => row);
}

describe('the emoji model', () => {
  /** @type {Record<string, Tensor>} */
  const expected = {};
  let table;

  before(async () => {
    const fixture = await safetensors.open(at('tests/reference/fixtures/emoji.safetensors'));
    for (const name of fixture.names) {
      const stored = await fixture.tensor(name);
      expected[name] = new Tensor(stored.toFloat32(), stored.shape);
    }
    await fixture.close();
    const file = await safetensors.open(at('demo/model/labels.safetensors'));
    const stored = await file.tensor('embedding');
    table = new Tensor(stored.toFloat32(), stored.shape);
    await file.close();
  });

  it('has a label for every embedding, each of length 1', () => {
    const [rows, size] = table.shape;
    assert.equal(labels.length, rows);
    assert.equal(size, config.embed_dim);
    for (let row = 0; row < rows; row++) {
      const length = Math.hypot(...table.data.subarray(row * size, (row + 1) * size));
      assert.ok(Math.abs(length - 1) < 2e-3, `${labels[row].name}: ${length}`);
    }
  });

  it('sees its pictures as the training code prepared them', async () => {
    const [count, height, wide] = expected.pixels.shape;
    const stride = height * wide * 3;
    const pictures = Array.from({ length: count }, (_, i) => ({ data: Uint8Array.from(expected.pixels.data.subarray(i * stride, (i + 1) * stride)), width: wide, height }));
    const { size, mean, std } = config.preprocess_cfg;
    assert.ok(error(await image.toTensor(pictures, { size, mean, std }), expected.input) <= 1e-6);
  });

  for (const build of buildsHere()) {
    it(`is a whole CLIP in ${build}: texts become PyTorch's token ids and embeddings`, async () => {
      const fixture = await safetensors.open(at('tests/reference/fixtures/emoji_text.safetensors'));
      const texts = JSON.parse(fixture.metadata.texts);
      const [tokens, embedding] = await Promise.all(['tokens', 'embedding'].map(async (name) => {
        const stored = await fixture.tensor(name);
        return new Tensor(stored.toFloat32(), stored.shape);
      }));
      await fixture.close();
      const clip = await compile(new models.CLIP(config), { weights: at('demo/model/model.safetensors'), build });   // with the tokenizer.json beside it
      const tokenizer = await clip.tokenizer();
      const { contextLength } = clip.module.settings.text;
      texts.forEach((text, row) => {
        const expected = [...tokens.data.subarray(row * tokens.shape[1], (row + 1) * tokens.shape[1])];
        const ids = [...tokenize(tokenizer, text, contextLength)];
        assert.deepEqual([...ids, ...Array(tokens.shape[1] - ids.length).fill(0)], expected, text);
      });
      const y = await clip.encodeText(texts);
      assert.ok(error(y, embedding) <= 1e-4, String(error(y, embedding)));
      assert.ok(error(await clip.encodeImage(expected.input), expected.embedding) <= 1e-4);
      const [[best]] = await clip.zeroShot(new Tensor(expected.input.data.slice(0, 3 * imageSize ** 2), [1, 3, imageSize, imageSize]), labels.map(({ name }) => name), { templates: '{}' });
      assert.equal(best.label, labels[expected.top5.data[0]].name);
      clip.dispose();
    });

    describe(build, () => {
      let model;
      const parity = new Parity('emoji', build);
      before(async () => {
        const tower = new models.ModifiedResNet({ layers, width, heads, imageSize, useSe, layerNorm, outputDim: config.embed_dim });
        // The text tower is in the file too, outside the prefix.
        model = await compile(tower, { weights: at('demo/model/model.safetensors'), prefix: 'visual.', build });
      });
      after(() => {
        model.dispose();
        parity.write();
      });

      it("gives PyTorch's embeddings and labels", async () => {
        const y = await model.forward(expected.input);
        const worst = error(y, expected.embedding);
        parity.add("the demo's picture tower", worst, 1e-4);
        assert.ok(worst <= 1e-4, String(worst));
        const [count, size] = y.shape;
        let right = 0;
        for (let i = 0; i < count; i++) {
          const best = nearest(y.data.subarray(i * size, (i + 1) * size), table, 5);
          assert.deepEqual(best, [...expected.top5.data.subarray(i * 5, i * 5 + 5)], labels[expected.label.data[i]].name);
          right += Number(best[0] === expected.label.data[i]);
        }
        assert.ok(right >= count / 2, `${right} of ${count} pictures of the held-out set`);
      });
    });
  }
});
