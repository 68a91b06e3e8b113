/** Everything that a model with `cache` needs is kept: weights, configuration, tokenizer, chat template. A second visit works without the server. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, beforeEach, describe, it } from 'node:test';
import { cache, chat, compile, complete, LamellaError, models, quantize, safetensors, text } from '../../js/index.js';
import { FIELDS, files, module as byteModel, TEMPLATE, TEXT_CONFIG, TOKENIZER } from './byte-model.js';

const fixture = (/** @type {string} */ name) => readFileSync(new URL(`../reference/fixtures/${name}`, import.meta.url));
const sum = (/** @type {Uint8Array | string} */ bytes) => createHash('sha256').update(bytes).digest('hex');
const MESSAGES = [{ role: 'user', content: 'Hi' }];
const NAMES = ['config.json', 'model.safetensors', 'tokenizer.json', 'tokenizer_config.json'];

/** @type {string} */ let base;
/** @type {string} */ let folder;
/** What was asked for. @type {string[]} */ let asked = [];
/** What the server has; nothing at all where it is down. @type {Record<string, string | Uint8Array>} */ let here = {};
let isDown = false;
const server = createServer((request, response) => {
  const name = /** @type {string} */ (request.url).slice(1);
  asked.push(name);
  if (isDown) return response.destroy();
  if (here[name] === undefined) return response.writeHead(404).end();
  return response.writeHead(200, { etag: `"${sum(here[name])}"` }).end(here[name]);
});
before(() => new Promise((resolve) => { server.listen(0, '127.0.0.1', () => { base = `http://127.0.0.1:${/** @type {any} */ (server.address()).port}/`; resolve(null); }); }));
after(() => { server.closeAllConnections(); server.close(); });
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'lamella-offline-'));
  [asked, here, isDown] = [[], files(), false];
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const kept = async () => (await cache.list({ folder })).filter(({ complete: whole }) => whole).map(({ url }) => url.slice(base.length)).sort();
/** @param {AsyncIterable<string>} pieces */
async function joined(pieces) {
  let all = '';
  for await (const piece of pieces) all += piece;
  return all;
}

/** What the byte model answers, all of it from the server's address. @param {any} [options] Of compile. @param {(source: string, options: any) => any} [open] Its weights. */
async function answer(options = {}, open = (source) => source) {
  const config = await models.DeepseekV2Config.fromPretrained(base, { cache: { folder } });
  const model = await compile(new models.DeepseekV2ForCausalLM(config), { weights: await open(`${base}model.safetensors`, { cache: { folder } }), cache: { folder }, ...options });
  const session = await model.session({ context: 64 });
  const found = [await joined(chat(session, MESSAGES, { maxTokens: 12 })), await joined(complete(session, 'Once', { maxTokens: 12 }))];
  model.dispose();
  return found;
}

/** The same, and then again without a server. @param {() => Promise<any>} visit @param {string[]} names That are kept. */
async function twice(visit, names) {
  const first = await visit();
  assert.deepEqual(await kept(), names);
  [asked, isDown] = [[], true];
  assert.deepEqual(await visit(), first);
  return first;
}

describe('a second visit without the server', () => {
  it('of a model that talks', async () => {
    const [answered, continued] = await twice(answer, NAMES);
    assert.ok(answered.length && continued.length);
    assert.deepEqual(asked, []);
  });

  it('with weights that were opened before, whole and in codes', async () => {
    await twice(() => answer({ cache: undefined }, safetensors.open), NAMES);
    assert.deepEqual(asked, []);
    await cache.clear({ folder });
    isDown = false;
    here['model.safetensors'] = await (await quantize(files()['model.safetensors'], { precision: 'q8', overrides: { '*embed*': 'q8' } })).bytes();
    await twice(() => answer({ cache: undefined }, safetensors.open), NAMES);
  });

  it('whose template lies in a file of its own', async () => {
    here = { ...here, 'chat_template.jinja': TEMPLATE, 'tokenizer_config.json': JSON.stringify({ ...TEXT_CONFIG, chat_template: undefined }) };
    const expected = await twice(answer, ['chat_template.jinja', ...NAMES].sort());
    isDown = false;
    await cache.clear({ folder });
    // Without a tokenizer_config.json the template has no names of special tokens; a server that cannot be reached is taken for one that has none.
    delete here['tokenizer_config.json'];
    const bare = await twice(answer, ['chat_template.jinja', ...NAMES.filter((name) => name !== 'tokenizer_config.json')].sort());
    assert.deepEqual(bare[1], expected[1]);
    assert.deepEqual(asked, ['tokenizer_config.json']);
  });

  it('whose tokenizer lies elsewhere, of a Llama, and with a tokenizer for one call', async () => {
    here = { ...here, 'other/t.json': here['tokenizer.json'], 'llama/config.json': JSON.stringify({ ...FIELDS, model_type: 'llama' }) };
    await twice(async () => (await models.LlamaConfig.fromPretrained(`${base}llama`, { cache: { folder } })).hidden_size, ['llama/config.json']);
    isDown = false;
    await cache.clear({ folder });
    delete here['tokenizer.json'];
    await twice(() => answer({ tokenizer: `${base}other/t.json` }), [...NAMES.filter((name) => name !== 'tokenizer.json'), 'other/t.json'].sort());
    const model = await compile(byteModel(), { weights: files()['model.safetensors'], cache: { folder } });
    assert.ok(await joined(complete(await model.session({ context: 32 }), 'x', { maxTokens: 3, tokenizer: `${base}other/t.json` })));
    model.dispose();
  });

  it('of CLIP', async () => {
    const tokenizer = fixture('clip_tokenizer.json');
    const text_cfg = { width: 16, heads: 2, layers: 1, vocab_size: 49408, context_length: 8 };
    const clip = new models.CLIP({ embed_dim: 8, vision_cfg: { layers: [1, 1, 1, 1], width: 4, image_size: 64 }, text_cfg });
    const weights = Object.fromEntries([...clip.stateDict()].filter(([name]) => !name.startsWith('visual')).map(([name, { shape }]) => [name, { data: Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => Math.sin(i)), shape: [...shape] }]));
    here = { 'clip/open_clip_model.safetensors': safetensors.write(weights), 'clip/tokenizer.json': tokenizer };
    const [[first]] = await twice(async () => {
      const model = await compile(clip, { weights: `${base}clip/open_clip_model.safetensors`, methods: ['encodeText'], cache: { folder } });
      const features = (await model.encodeText('a cat')).toArray();
      model.dispose();
      return features;
    }, Object.keys(here));
    assert.ok(Number.isFinite(first));
    assert.deepEqual(asked, []);
  });

  for (const [what, file] of [['a GGUF file', 'llama.gguf'], ['GGUF files that are one model', 'deepseek2_parts-00001-of-00004.gguf']]) it(`of ${what}, opened by itself or by compile`, async () => {
    // Answered by ranges, as GGUF needs it.
    const ranges = createServer((request, response) => {
      if (isDown) return response.destroy();
      const body = Buffer.concat([fixture(`gguf${request.url}`), Buffer.alloc(4 << 20)]);   // the last weight is not the file's end
      const [, begin, last] = /** @type {RegExpExecArray} */ (/bytes=(\d+)-(\d*)/.exec(/** @type {string} */ (request.headers.range)));
      const end = Math.min(body.length, last ? Number(last) + 1 : Infinity);
      asked.push(`${begin}-${end}`);
      return response.writeHead(206, { etag: '"1"', 'content-range': `bytes ${begin}-${end - 1}/${body.length}` }).end(body.subarray(Number(begin), end));
    });
    await new Promise((resolve) => { ranges.listen(0, '127.0.0.1', () => resolve(null)); });
    const url = `http://127.0.0.1:${/** @type {any} */ (ranges.address()).port}/${file}`;
    try {
      const { module, weights } = await models.fromGGUF(url, { cache: { folder } });
      const from = new Set();
      (await compile(module, { weights, onProgress: (progress) => from.add(progress.from) })).dispose();
      await weights.close();
      assert.deepEqual([...from], ['network']);
      assert.ok((await cache.list({ folder })).every(({ complete: isWhole }) => isWhole), 'also what no weight is in');
      [asked, isDown] = [[], true];
      for (const open of [async () => url, async () => (await models.fromGGUF(url, { cache: { folder } })).weights]) {
        from.clear();
        const model = await compile(module, { weights: await open(), cache: { folder }, onProgress: (progress) => from.add(progress.from) });
        assert.ok(await joined(complete(await model.session({ context: 32 }), 'Hi', { maxTokens: 3 })));
        model.dispose();
        assert.deepEqual([...from], ['cache']);
      }
      assert.deepEqual(asked, []);
    } finally {
      ranges.closeAllConnections();
      ranges.close();
    }
  });
});

describe('files beside a checkpoint', () => {
  const talk = (/** @type {any} */ options) => answer({ cache: { folder, ...options } });
  const wrong = sum('something else');

  it('are not held against the sum of the weights, but against their own', async () => {
    await talk({ sha256: sum(/** @type {Uint8Array} */ (here['model.safetensors'])) });
    assert.deepEqual(await kept(), NAMES);
    await cache.clear({ folder });
    await talk({ sha256: { 'tokenizer.json': sum(here['tokenizer.json']) } });
    assert.equal((await cache.list({ folder })).find(({ url }) => url.endsWith('/tokenizer.json'))?.sha256, sum(here['tokenizer.json']));
    await cache.clear({ folder });
    await assert.rejects(talk({ sha256: { 'tokenizer.json': wrong } }), (/** @type {any} */ error) => error instanceof LamellaError && error.code === 'checksum' && error.message.includes('tokenizer.json: expected sha256'));
    assert.ok(!(await kept()).includes('tokenizer.json'));
  });

  it('are asked for again with revalidate, and taken as they are without a server', async () => {
    const load = async (/** @type {any} */ options) => (await text.loadTokenizer(`${base}tokenizer.json`, { cache: { folder, ...options } })).vocabSize;
    assert.equal(await load({}), 258);
    here['tokenizer.json'] = JSON.stringify({ ...TOKENIZER, added_tokens: [] });
    assert.equal(await load({}), 258);
    assert.equal(await load({ revalidate: true }), 256);
    isDown = true;
    assert.equal(await load({ revalidate: true }), 256);
    await assert.rejects(text.loadTokenizer(`${base}tokenizer.json`), { code: 'http' });
  });

  it('that are not what they should be are not kept', async () => {
    here = { 'tokenizer.json': '{"model": 1}', 'config.json': '[1]', 'cut.json': '{"model": {"vocab"' };
    for (const name of ['tokenizer.json', 'cut.json']) await assert.rejects(text.loadTokenizer(`${base}${name}`, { cache: { folder } }), { code: 'tokenizer' });
    await assert.rejects(models.DeepseekV2Config.fromPretrained(base, { cache: { folder } }), { code: 'argument', message: /config\.json: expected a config\.json, got \[1\]/ });
    await assert.rejects(text.loadTokenizer(`${base}none.json`, { cache: { folder } }), { code: 'http', message: /404/ });
    assert.deepEqual(await cache.list({ folder }), []);
    here = files();
    await answer();
    assert.deepEqual(await kept(), NAMES);
  });

  it('of any kind can be kept with cache.read', async () => {
    here['labels.json'] = '["cat", "dog"]';
    for (let visit = 0; visit < 2; visit++) {
      assert.equal(new TextDecoder().decode(await cache.read(`${base}labels.json`, { folder })), '["cat", "dog"]');
      isDown = true;
    }
    assert.deepEqual([asked, await kept()], [['labels.json'], ['labels.json']]);
    await assert.rejects(cache.read(`${base}labels.json`, { folder, sha256: wrong }), { code: 'http' });
    isDown = false;
    await assert.rejects(cache.read(new URL(`${base}labels.json`), { folder, sha256: wrong }), { code: 'checksum' });
    await assert.rejects(cache.read(`${base}labels.json`, { folder, signal: AbortSignal.abort(new Error('enough')) }), /enough/);
    await assert.rejects(cache.read(`${base}labels.json`, /** @type {any} */ ({ folder, keep: true })), { code: 'argument', message: /no option "keep"/ });
    await assert.rejects(cache.read(/** @type {any} */ (undefined)), { code: 'argument', message: /^cache\.read: expected a URL/ });
  });
});
