/** Tokenizers: open_clip's token ids from a tokenizer.json, and what goes wrong with one. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, it } from 'node:test';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { LamellaError, text } from '../../js/index.js';
import { tokenize } from '../../js/models/clip_tokens.js';
import { clean } from '../../js/text/clean.js';

const path = fileURLToPath(new URL('../reference/fixtures/clip_tokenizer.json', import.meta.url));
/** Made by open_clip's own tokenizer: tests/reference/clip.py. @type {{ text: string, ids: number[] }[]} */
const expected = JSON.parse(readFileSync(new URL('../reference/fixtures/clip_tokens.json', import.meta.url), 'utf8'));
const CONTEXT = 77;

describe("CLIP's tokenizer", () => {
  it("gives open_clip's ids", async () => {
    const tokenizer = await text.loadTokenizer(path);
    assert.ok(expected.length > 40);
    for (const { text: given, ids } of expected) assert.deepEqual([...tokenize(tokenizer, given, CONTEXT)], ids, JSON.stringify(given));
    assert.ok(expected.some(({ ids }) => ids.length === CONTEXT), 'one is cut');
  });

  it('cuts at a context of any length and keeps the end', async () => {
    const tokenizer = await text.loadTokenizer(path);
    const whole = [...tokenize(tokenizer, 'a photo of a cat', CONTEXT)];
    assert.deepEqual([...tokenize(tokenizer, 'a photo of a cat', 4)], [whole[0], whole[1], whole[2], 49407]);
    assert.deepEqual([...tokenize(tokenizer, 'a photo of a cat', 2)], [49406, 49407]);
    assert.deepEqual([...tokenize(tokenizer, 'a photo of a cat', 1)], [49407]);
  });

  it('goes there and back', async () => {
    const tokenizer = await text.loadTokenizer(path);
    assert.equal(tokenizer.vocabSize, 49408);
    assert.equal(tokenizer.idOf('<|endoftext|>'), 49407);
    assert.equal(tokenizer.idOf('no such token'), undefined);
    const ids = tokenizer.encode('a photo of a cat');
    assert.deepEqual([ids[0], ids.at(-1)], [49406, 49407]);
    assert.deepEqual(tokenizer.encode('a photo of a cat', { addSpecialTokens: false }), ids.slice(1, -1));
    assert.equal(tokenizer.decode(ids).trim(), 'a photo of a cat');
    assert.equal(tokenizer.decode(BigInt64Array.from(ids, BigInt)).trim(), 'a photo of a cat');
    assert.match(tokenizer.decode(ids, { skipSpecialTokens: false }), /<\|startoftext\|>a photo of a cat ?<\|endoftext\|>/);
    assert.equal(tokenizer.decode([]), '');
    assert.throws(() => tokenizer.encode(/** @type {any} */ (3)), /encode: text: expected a string, got 3/);
    assert.throws(() => tokenizer.decode([49408]), /decode: ids\[0\]: expected an integer from 0 to 49407, got 49408/);
  });

  it('comes from a path, a URL, a Blob, bytes, a Response, an object, a Tokenizer', async () => {
    const bytes = readFileSync(path);
    const json = JSON.parse(bytes.toString());
    const first = await text.loadTokenizer(path);
    assert.equal(await text.loadTokenizer(first), first);
    for (const source of [pathToFileURL(path), new Blob([bytes]), new File([bytes], 'tokenizer.json'), bytes, new Response(bytes), json]) {
      assert.deepEqual((await text.loadTokenizer(source)).encode('a photo of a cat'), first.encode('a photo of a cat'));
    }
  });

  it('says what is wrong', async () => {
    const says = (/** @type {string} */ code, /** @type {RegExp} */ message) => (/** @type {unknown} */ thrown) => {
      assert.ok(thrown instanceof LamellaError, String(thrown));
      assert.equal(thrown.code, code, thrown.message);
      assert.match(thrown.message, message);
      return true;
    };
    await assert.rejects(text.loadTokenizer(`${path}.not`), says('file', /no such file/));
    await assert.rejects(text.loadTokenizer(Buffer.from('{"model": ')), says('tokenizer', /text that is not JSON/));
    await assert.rejects(text.loadTokenizer(Buffer.from('[1]')), says('tokenizer', /"model" and its "vocab", got \[1\]/));
    await assert.rejects(text.loadTokenizer({ weights: 1, version: 2 }), says('tokenizer', /got \{ weights, version \}/));
    await assert.rejects(text.loadTokenizer(Buffer.from('null')), says('tokenizer', /got null/));
    await assert.rejects(text.loadTokenizer({ added_tokens: [], normalizer: null, post_processor: null, decoder: null, pre_tokenizer: { type: 'Nonsense' }, model: { type: 'BPE', vocab: { a: 0 }, merges: [] } }), says('tokenizer', /cannot be used: .*Nonsense/));
    await assert.rejects(text.loadTokenizer(/** @type {any} */ (undefined)), says('argument', /got undefined/));
    const controller = new AbortController();
    controller.abort(new Error('enough'));
    await assert.rejects(text.loadTokenizer(path, { signal: controller.signal }), /enough/);
  });
});

it('a character that has no token, where there is none for what is unknown, is an error', async () => {
  const tokenizer = await text.loadTokenizer({ added_tokens: [], normalizer: null, pre_tokenizer: { type: 'Whitespace' }, post_processor: null, decoder: null, model: { type: 'WordPiece', unk_token: '?', continuing_subword_prefix: '##', vocab: { a: 0 } } });
  assert.deepEqual(tokenizer.encode('a a'), [0, 0]);
  assert.throws(() => tokenizer.encode('a z'), { name: 'LamellaError', code: 'tokenizer', message: /no token for a part of "a z"/ });
});

describe('the cleaning of a text', () => {
  it('is what open_clip does, as far as it goes', () => {
    for (const [given, wanted] of [
      ['  a \n\t b\u3000c\x1c', 'a b c'], ['&lt;&#60;&#x3c;', '<<<'], ['&amp;amp;amp;', '&'], ['&nosuch; &amp', '&nosuch; &amp'], ['&constructor;', '&constructor;'],
      ['&#0;&#xd800;&#1114112;', '\ufffd\ufffd\ufffd'], ['\ud800x', '\ufffdx'], ['😀', '😀'], ['‘a’ “b”', '\'a\' "b"'], ['ﬃ ﬆ Ǆ', 'ffi st DŽ'], ['Ａ１！', 'A1!'],
      ['e\u0301', 'é'], ['\x1b[31mred\x1b[0m\x07', 'red'], ['\ufeffx', 'x'], ['', ''],
    ]) assert.equal(clean(given), wanted);
  });
});
