/** CLIP whole: what open_clip computes for small models, in each form that texts come in; zero-shot; one tower alone; bad input. */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { compile, LamellaError, models, safetensors, Tensor } from '../../js/index.js';
import { buildsHere, error } from './fixtures.js';

const fixture = (/** @type {string} */ name) => fileURLToPath(new URL(`../reference/fixtures/${name}`, import.meta.url));
const builds = process.env.LAMELLA_BUILD ? [process.env.LAMELLA_BUILD] : buildsHere();

/** A word-level tokenizer of `words`, with start and end as its last ids. @param {string[]} words */
function wordTokenizer(words) {
  const all = ['<unk>', ...words, '<|startoftext|>', '<|endoftext|>'];
  const vocab = Object.fromEntries(all.map((word, i) => [word, i]));
  const special = (/** @type {string} */ content) => ({ id: vocab[content], content, single_word: false, lstrip: false, rstrip: false, normalized: false, special: true });
  return {
    added_tokens: [special('<|startoftext|>'), special('<|endoftext|>')], normalizer: { type: 'Lowercase' }, pre_tokenizer: { type: 'Whitespace' },
    post_processor: null, decoder: null, model: { type: 'WordPiece', unk_token: '<unk>', continuing_subword_prefix: '##', max_input_chars_per_word: 100, vocab },
  };
}

/** @param {unknown} thrown @param {string} code @param {RegExp} message */
function says(thrown, code, message) {
  assert.ok(thrown instanceof LamellaError, String(thrown));
  assert.equal(thrown.code, code, thrown.message);
  assert.match(thrown.message, message);
  return true;
}

/** @type {safetensors.Weights} */
let file;
/** @type {any[]} */
let cases;
before(async () => {
  file = await safetensors.open(fixture('clip.safetensors'));
  cases = JSON.parse(file.metadata.cases);
});
after(() => file.close());

/** @param {string} name */
async function tensor(name) {
  const stored = await file.tensor(name);
  return new Tensor(stored.dtype === 'I64' ? Int32Array.from(stored.toFloat32()) : stored.toFloat32(), stored.shape);
}

/** @param {number} i @param {object} [options] */
const load = (i, options) => compile(new models.CLIP(...cases[i].args), { weights: file, prefix: `${i}.weights.`, ...options });

for (const build of builds) {
  describe(`CLIP in ${build}`, () => {
    for (const i of [0, 1, 2]) {
      it(`agrees with open_clip, configuration ${i}`, async () => {
        const model = await load(i, { build });
        const [images, ids] = [await tensor(`${i}.input.0`), await tensor(`${i}.input.1`)];
        const close = async (/** @type {Tensor} */ y, /** @type {string} */ name) => {
          const worst = error(y, await tensor(`${i}.${name}`));
          assert.ok(worst <= 1e-4, `${name}: ${worst}`);
        };
        await close(await model.encodeImage(images), 'features.image');
        await close(await model.encodeText(ids), 'features.text');
        await close(await model.encodeImage(images, { normalize: true }), 'output.0');
        await close(await model.encodeText(ids, { normalize: true }), 'output.1');
        const { imageFeatures, textFeatures, logitScale } = await model.forward(images, ids);
        await close(imageFeatures, 'output.0');
        await close(textFeatures, 'output.1');
        await close(logitScale, 'output.2');
        const [n, m, d] = [imageFeatures.shape[0], textFeatures.shape[0], imageFeatures.shape[1]];
        const logits = Float32Array.from({ length: n * m }, (_, at) => {
          const [row, column] = [Math.floor(at / m), at % m];
          let sum = 0;
          for (let k = 0; k < d; k++) sum += imageFeatures.data[row * d + k] * textFeatures.data[column * d + k];
          return logitScale.item() * sum;
        });
        await close(new Tensor(logits, [n, m]), 'logits');
        model.dispose();
      });
    }
  });
}

describe('texts as token ids', () => {
  /** @type {models.CLIPModel} */
  let model;
  /** @type {Tensor} */ let ids;
  /** @type {Tensor} */ let expected;
  before(async () => {
    model = await load(0);
    ids = await tensor('0.input.1');
    expected = await tensor('0.features.text');
  });
  after(() => model.dispose());

  it('come as a Tensor, typed arrays, lists and lists of different lengths', async () => {
    const rows = ids.toArray();
    const bigints = BigInt64Array.from(/** @type {Int32Array} */ (ids.data), BigInt);
    const cut = rows.map((/** @type {number[]} */ row) => row.slice(0, row.indexOf(Math.max(...row)) + 1));   // what follows the end does not matter
    for (const given of [ids, ids.data, bigints, new Tensor(bigints, ids.shape), rows, rows.map((/** @type {number[]} */ row) => Int32Array.from(row)), cut]) {
      assert.ok(error(await model.encodeText(/** @type {any} */ (given)), expected) <= 1e-4);
    }
    const first = new Tensor(/** @type {Float32Array} */ (expected.data).slice(0, 12), [1, 12]);
    for (const given of [rows[0], Int32Array.from(rows[0]), rows[0].map(BigInt), new Tensor(Int32Array.from(rows[0]))]) assert.ok(error(await model.encodeText(given), first) <= 1e-4);
  });

  it('are many more than are computed at once, each in its place', async () => {
    const rows = ids.toArray();
    const many = Array.from({ length: 500 }, (_, i) => rows[(i * 7) % rows.length]);
    const y = await model.encodeText(many);
    const wanted = Float32Array.from({ length: 500 * 12 }, (_, at) => expected.data[((Math.floor(at / 12) * 7) % rows.length) * 12 + (at % 12)]);
    assert.ok(error(y, { data: wanted, shape: [500, 12] }) <= 1e-4);
  });

  it('give what the method of the graph gives, positions said', async () => {
    const positions = Int32Array.from({ length: 9 }, (_, i) => i);
    assert.ok(error(await model.call('encodeText', ids, positions), expected) <= 1e-4);
    await assert.rejects(model.call('encodeText', ids, positions.map((p) => p + 1)), (thrown) => says(thrown, 'argument', /9/));
  });

  it('are refused outside the vocabulary and beyond the context', async () => {
    const bad = [
      [[[35, 37, 36]], /sequence 0: token 1: expected an id from 0 to 36, the vocabulary, got 37/],
      [[[35, 36], [35, -1, 36]], /sequence 1: token 1: .* got -1/],
      [[[35, 1.5, 36]], /got 1.5/],
      [[[35, '1', 36]], /got "1"/],
      [[[35, 2n ** 40n, 36]], /got 1099511627776n/],
      [[Array(10).fill(1)], /sequence 0: 10 tokens are more than the context of 9/],
      [new Int32Array(10), /10 tokens are more than the context of 9/],
      [[[]], /sequence 0: expected token ids, got none/],
      [[], /expected a text, texts or token ids, got \[\]/],
      [null, /expected a text, texts or token ids, got null/],
      [[null], /texts\[0\]: expected token ids, like the first, got null/],
      [7, /got 7/],
    ];
    for (const [given, message] of bad) await assert.rejects(model.encodeText(/** @type {any} */ (given)), (thrown) => says(thrown, 'argument', /** @type {RegExp} */ (message)));
    await assert.rejects(model.encodeText(new Tensor(new Int32Array(8), [2, 2, 2])), (thrown) => says(thrown, 'shape', /\[n, t\], got a Tensor \[2, 2, 2\]/));
    assert.ok(error(await model.encodeText(ids), expected) <= 1e-4, 'the model still works');
  });
});

describe('texts as strings', () => {
  const words = Array.from({ length: 34 }, (_, i) => `w${String.fromCharCode(97 + (i % 26))}${i < 26 ? '' : 'x'}`);
  const tokenizer = wordTokenizer(words);   // 37 tokens

  it('become start, tokens and end; long ones are cut and keep their end', async () => {
    const model = await load(0, { tokenizer });
    const id = (/** @type {string} */ word) => words.indexOf(word) + 1;
    const pairs = [
      ['wa wb', [35, id('wa'), id('wb'), 36]],
      ['  WA\n wb ', [35, id('wa'), id('wb'), 36]],
      ['', [35, 36]],
      ['unheardof', [35, 0, 36]],
      [words.slice(0, 20).join(' '), [35, 1, 2, 3, 4, 5, 6, 7, 36]],
    ];
    const y = await model.encodeText(pairs.map(([given]) => /** @type {string} */ (given)));
    assert.deepEqual(y, await model.encodeText(pairs.map(([, ids]) => /** @type {number[]} */ (ids))));
    assert.deepEqual(await model.encodeText('wa wb'), await model.encodeText([[35, 1, 2, 36]]));
    await assert.rejects(model.encodeText(/** @type {any} */ (['wa', 3])), (thrown) => says(thrown, 'argument', /texts\[1\]: expected a string, like the first, got 3/));
    model.dispose();
  });

  it('need a tokenizer, of the same vocabulary', async () => {
    const without = await load(0, { weights: Object.fromEntries(await Promise.all(file.names.filter((name) => name.startsWith('0.weights.')).map(async (name) => [name.slice(10), await tensor(name)]))), prefix: '' });
    await assert.rejects(without.encodeText('wa'), (thrown) => says(thrown, 'tokenizer', /strings need a tokenizer: pass compile/));
    without.dispose();
    const beside = await load(0);   // no tokenizer.json beside the fixtures
    await assert.rejects(beside.encodeText('wa'), (thrown) => says(thrown, 'tokenizer', /none beside the checkpoint \(.*fixtures.tokenizer\.json: there is no such file\)/));
    beside.dispose();
    const other = await load(0, { tokenizer: wordTokenizer(words.slice(1)) });
    await assert.rejects(other.encodeText('wa'), (thrown) => says(thrown, 'tokenizer', /the tokenizer has 36 tokens but text_cfg\.vocab_size is 37/));
    other.dispose();
    const { added_tokens: _, ...endless } = wordTokenizer([...words, 'wy', 'wz']);
    for (const token of ['<|startoftext|>', '<|endoftext|>']) delete endless.model.vocab[token];
    const noEnd = await load(0, { tokenizer: { ...endless, added_tokens: [] } });
    await assert.rejects(noEnd.encodeText('wa'), (thrown) => says(thrown, 'tokenizer', /ends a text with its largest id, 36, got none/));
    noEnd.dispose();
  });

  it('rank labels for pictures', async () => {
    const model = await load(1, { tokenizer: wordTokenizer([...words, ...Array.from({ length: 13 }, (_, i) => `v${i}`)]) });
    const images = await tensor('1.input.0');
    const templates = ['{} wb', (/** @type {string} */ label) => `wc ${label}`];
    const rankings = await model.zeroShot(images, ['wd', 'we', 'wf'], { templates });
    assert.equal(rankings.length, 2);
    // The same by hand.
    const unit = (/** @type {number[]} */ x) => x.map((v) => v / Math.hypot(...x));
    const { logitScale, imageFeatures } = await model.forward(images, 'wa');
    const labels = await Promise.all(['wd', 'we', 'wf'].map(async (label) => {
      const [a, b] = (await model.encodeText([`${label} wb`, `wc ${label}`], { normalize: true })).toArray();
      return unit(a.map((/** @type {number} */ v, /** @type {number} */ k) => v + b[k]));
    }));
    for (const [n, ranking] of rankings.entries()) {
      const powers = labels.map((row) => Math.exp(logitScale.item() * row.reduce((sum, v, k) => sum + v * imageFeatures.toArray()[n][k], 0)));
      const total = powers.reduce((a, b) => a + b);
      for (const { label, probability } of ranking) assert.ok(Math.abs(probability - powers[['wd', 'we', 'wf'].indexOf(label)] / total) < 1e-5);
      assert.ok(Math.abs(ranking.reduce((sum, { probability }) => sum + probability, 0) - 1) < 1e-6);
      assert.deepEqual(ranking, [...ranking].sort((a, b) => b.probability - a.probability));
    }
    assert.deepEqual(await model.zeroShot(images, ['wd', 'we', 'wf'], { templates }), rankings, 'remembered labels');
    assert.notDeepEqual(await model.zeroShot(images, ['wd', 'we', 'wf']), rankings, 'another template');
    for (const [labelList, options, message] of /** @type {[any, any, RegExp][]} */ ([
      [[], {}, /labels: expected a list of texts, got \[\]/], ['wa', {}, /labels: expected a list of texts/], [['wa', 3], {}, /labels\[1\]: expected a string, got 3/],
      [['wa'], { templates: 'no place' }, /templates: .* got "no place"/], [['wa'], { templates: [] }, /at least one/], [['wa'], { templates: [() => 3] }, /returned 3/],
    ])) await assert.rejects(model.zeroShot(images, labelList, options), (thrown) => says(thrown, 'argument', message));
    model.dispose();
  });
});

describe('one tower', () => {
  it('loads without the weights of the other, and without needing them', async () => {
    const all = Object.fromEntries(await Promise.all(file.names.filter((name) => name.startsWith('2.weights.')).map(async (name) => [name.slice(10), await tensor(name)])));
    const isImage = (/** @type {string} */ name) => name.startsWith('visual.');
    const only = (/** @type {(name: string) => boolean} */ wanted) => Object.fromEntries(Object.entries(all).filter(([name]) => wanted(name)));
    const both = await compile(new models.CLIP(...cases[2].args), { weights: all });
    const bytes = { text: 0, image: 0 };
    for (const [tower, method] of /** @type {const} */ ([['text', 'encodeText'], ['image', 'encodeImage']])) {
      const mine = (/** @type {string} */ name) => isImage(name) === (tower === 'image');
      for (const weights of [all, only(mine)]) {
        let loaded = 0;
        const model = await compile(new models.CLIP(...cases[2].args), { weights, methods: [method], onProgress: (p) => { loaded = p.total; } });
        const input = await tensor(`2.input.${tower === 'text' ? 1 : 0}`);
        assert.ok(error(await /** @type {any} */ (model)[method](input), await tensor(`2.features.${tower}`)) <= 1e-4);
        assert.ok(model.memory.weights < both.memory.weights * 0.95);
        bytes[tower] = loaded;
        const other = method === 'encodeText' ? model.encodeImage(await tensor('2.input.0')) : model.encodeText([[1, 2]]);
        await assert.rejects(other, (thrown) => says(thrown, 'argument', /the model has no method/));
        model.dispose();
      }
    }
    const total = Object.entries(all).filter(([name]) => name !== 'logit_scale' && !name.endsWith('num_batches_tracked')).reduce((sum, [, { data }]) => sum + data.byteLength, 0);
    assert.equal(bytes.text + bytes.image, total);
    both.dispose();
  });
});

describe('configurations', () => {
  it("has open_clip's names", () => {
    const sizes = { RN50: [1024, 224], 'RN101-quickgelu': [512, 224], RN50x4: [640, 288], 'RN50x16-quickgelu': [768, 384], RN50x64: [1024, 448] };
    for (const [name, [embedDim, imageSize]] of Object.entries(sizes)) {
      const clip = new models.CLIP(name);
      assert.deepEqual([clip.settings.embedDim, clip.preprocess.size, clip.settings.text.quickGelu], [embedDim, imageSize, name.endsWith('-quickgelu')]);
    }
    const count = (/** @type {Iterable<any>} */ parameters) => [...parameters].reduce((sum, { shape }) => sum + shape.reduce((/** @type {number} */ a, /** @type {number} */ b) => a * b, 1), 0);
    // Millions of parameters as docs/model_profile.csv of open_clip has them.
    for (const [name, millions] of [['RN50', 102.01], ['RN101', 119.69], ['RN50x4', 178.3], ['RN50x16', 290.98], ['RN50x64', 623.26]]) {
      assert.equal((count(new models.CLIP(/** @type {string} */ (name)).parameters()) / 1e6).toFixed(2), Number(millions).toFixed(2));
    }
  });

  it('takes what an open_clip_config.json holds, and overrides', () => {
    const model_cfg = { embed_dim: 8, vision_cfg: { layers: [1, 1, 1, 1], width: 4, image_size: [64, 64] }, text_cfg: { width: 16, heads: 2, layers: 1, vocab_size: 20 } };
    const clip = new models.CLIP({ model_cfg, preprocess_cfg: { mean: [0.5, 0.5, 0.5], std: [0.25, 0.25, 0.25], interpolation: 'bilinear', resize_mode: 'squash' } });
    assert.deepEqual(clip.preprocess, { size: 64, mean: [0.5, 0.5, 0.5], std: [0.25, 0.25, 0.25], interpolation: 'bilinear', resize: 'squash' });
    assert.equal(clip.settings.text.quickGelu, false);
    const other = new models.CLIP(model_cfg, { quickGelu: true, useSe: true, layerNorm: true });
    assert.equal(other.settings.text.quickGelu, true);
    assert.ok(other.stateDict().has('visual.layer1.0.se.fc.0.weight') && other.stateDict().has('visual.attnpool.ln.weight'));
  });

  it('says what is wrong, with both values of a contradiction', () => {
    const vision = { layers: [1, 1, 1, 1], width: 4, image_size: 64 };
    const textual = { width: 16, heads: 2, layers: 1, vocab_size: 20 };
    const config = (/** @type {object} */ more, v = {}, t = {}) => ({ embed_dim: 8, vision_cfg: { ...vision, ...v }, text_cfg: { ...textual, ...t }, ...more });
    const bad = /** @type {[any, RegExp][]} */ ([
      ['RN5O', /no configuration "RN5O"; known, all ResNets: RN50, RN50-quickgelu, RN101, .*RN50x64-quickgelu/],
      ['ViT-B-32', /no configuration "ViT-B-32"/],
      [undefined, /config: expected a name .* got undefined/],
      [{ embed_dim: 8 }, /vision_cfg: expected an object, got undefined/],
      [config({ embed_dim: 0 }), /embed_dim: expected an integer of at least 1, got 0/],
      [config({}, { output_dim: 9 }), /embed_dim is 8 but vision_cfg\.output_dim is 9: they must agree/],
      [config({}, {}, { output_dim: 7 }), /embed_dim is 8 but text_cfg\.output_dim is 7/],
      [config({}, {}, { heads: 3 }), /text_cfg\.width 16 is not a multiple of text_cfg\.heads 3/],
      [config({}, { head_width: 48 }), /vision_cfg\.width \* 32 = 128 is not a multiple of vision_cfg\.head_width 48/],
      [config({}, { heads: 4, head_width: 64 }), /vision_cfg\.heads is 4 but vision_cfg\.width \* 32 \/ head_width is 2/],
      [config({}, { layers: 12 }), /four block counts.*vision transformer, which is not built.*got 12/],
      [config({}, { layers: [1, 1, 0, 1] }), /vision_cfg\.layers\[2\]: .*got 0/],
      [config({}, { image_size: [64, 96] }), /pictures are square, got \[64, 96\]/],
      [config({}, { timm_model_name: 'resnet50' }), /vision_cfg\.timm_model_name: expected null, the only kind that is built, got "resnet50"/],
      [config({}, {}, { pool_type: 'last' }), /text_cfg\.pool_type: expected "argmax", .* got "last"/],
      [config({}, {}, { no_causal_mask: true }), /text_cfg\.no_causal_mask: expected false, .* got true/],
      [config({ custom_text: true }), /custom_text: expected false/],
      [config({ quick_gelu: 'yes' }), /quickGelu: expected true or false, got "yes"/],
      [config({ preprocess_cfg: { size: 224 } }), /preprocess_cfg\.size is 224 but vision_cfg\.image_size is 64/],
      [config({ preprocess_cfg: { resize_mode: 'longest' } }), /resize_mode: .* got "longest"/],
    ]);
    for (const [given, message] of bad) assert.throws(() => new models.CLIP(given), (thrown) => says(thrown, 'argument', message));
    assert.throws(() => new models.CLIP('RN50', /** @type {any} */ ({ quickgelu: true })), (thrown) => says(thrown, 'argument', /no option "quickgelu"; known: quickGelu/));
  });
});

describe('in a worker', () => {
  it('takes pictures, more than are computed at once, and texts', async () => {
    const model = await load(0, { worker: true });
    const picture = (/** @type {number} */ seed) => ({ data: Uint8Array.from({ length: 70 * 80 * 3 }, (_, i) => (i * (seed + 3) * 7) % 251), width: 80, height: 70 });
    const pictures = Array.from({ length: 11 }, (_, i) => picture(i));
    const together = (await model.encodeImage(pictures, { normalize: true })).toArray();
    assert.equal(together.length, 11);
    for (const i of [0, 7, 8, 10]) {
      const [alone] = (await model.encodeImage(pictures[i], { normalize: true })).toArray();
      assert.ok(alone.every((/** @type {number} */ x, /** @type {number} */ k) => Math.abs(x - together[i][k]) < 1e-5), `picture ${i}`);
      assert.ok(Math.abs(Math.hypot(...alone) - 1) < 1e-6);
    }
    assert.notDeepEqual(together[0], together[1]);
    const { textFeatures, logitScale } = await model.forward(pictures, await tensor('0.input.1'));
    assert.ok(error(textFeatures, await tensor('0.output.1')) <= 1e-4);
    assert.ok(error(logitScale, await tensor('0.output.2')) <= 1e-4);
    const controller = new AbortController();
    const stopped = model.encodeImage(pictures, { signal: controller.signal });
    controller.abort(new Error('enough'));
    await assert.rejects(stopped, /enough/);
    assert.equal((await model.encodeImage(pictures[0])).shape[0], 1);
    model.dispose();
    await assert.rejects(model.encodeText([[35, 36]]), (thrown) => says(thrown, 'disposed', /disposed/));
  });
});
