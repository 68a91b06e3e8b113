/** Text from a small model whose tokens are bytes: what it writes is dictated through the logits. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { chat, compile, complete, LamellaError, models, text } from '../../js/index.js';
import { TextStream } from '../../js/text/pieces.js';
import { END, FIELDS, files, module as byteModel, special, spelt, START, TEXT_CONFIG, TOKENIZER, VOCAB } from './byte-model.js';

const build = /** @type {any} */ (process.env.LAMELLA_BUILD);
const bytes = (/** @type {string} */ string) => [...new TextEncoder().encode(string)];

/** @type {string} */
let folder;
/** @type {import('../../js/index.js').Model} */
let model;
/** @type {import('../../js/index.js').Session} */
let session;
const module = byteModel();
before(async () => {
  folder = mkdtempSync(join(tmpdir(), 'lamella-chat-'));
  for (const [name, content] of Object.entries(files())) writeFileSync(join(folder, name), content);
  model = await compile(module, { weights: join(folder, 'model.safetensors'), build });
  session = await model.session({ context: 256 });
});
after(() => {
  model.dispose();
  rmSync(folder, { recursive: true });
});

/** A hook that makes the model write these tokens, and notes what it was asked with. @param {number[]} tokens */
function dictate(tokens) {
  let at = 0;
  /** @type {number[]} */
  const prompt = [];
  return { prompt, logits: (/** @type {Float32Array} */ logits, /** @type {readonly number[]} */ all) => { if (!at) prompt.push(...all); logits[tokens[at++] ?? END] = Infinity; } };
}

/** @param {AsyncIterable<string>} pieces */
async function all(pieces) {
  const list = [];
  for await (const piece of pieces) list.push(piece);
  return list;
}

describe('complete', () => {
  const written = "été 👩‍🚀, 数\n don't ǅ.";

  it('gives whole characters', async () => {
    const { prompt, logits } = dictate(bytes(written));
    const list = await all(complete(session, 'Où', { logits, maxTokens: bytes(written).length }));
    assert.equal(list.join(''), written);
    assert.deepEqual(prompt, bytes('Où'));
    assert.deepEqual(list, [...written]);
  });

  it('gives what is no text as such, at its place', async () => {
    const tokens = [...bytes('a'), 0xff, ...bytes('b'), 0xf0, 0x9f];
    assert.equal((await all(complete(session, 'x', { logits: dictate(tokens).logits, maxTokens: tokens.length }))).join(''), 'a\ufffdb\ufffd');
  });

  it('holds back what a stop string may begin with, and gives it out when it does not', async () => {
    const run = (/** @type {string} */ string, /** @type {any} */ stop) => all(complete(session, 'x', { logits: dictate(bytes(string)).logits, stop, maxTokens: bytes(string).length }));
    assert.deepEqual(await run('ab##c##\nUser', ['##\n']), ['a', 'b', '##c']);
    assert.deepEqual(await run('aab', 'ab'), ['a']);
    assert.deepEqual(await run('ab##', ['###']), ['a', 'b', '##']);
    assert.deepEqual(await run('a😁b😀c', ['😀', 'x']), ['a', '😁', 'b']);
    assert.deepEqual(await run('xyz', ['yz', 'xyz']), []);
    assert.deepEqual(await run('abc', [bytes('c')[0], 'q']), ['a', 'b']);
  });

  it('never writes a row that no token has', async () => {
    const list = await all(complete(session, 'x', { maxTokens: 20, logits: (logits) => { for (let id = 0; id < VOCAB; id++) assert.ok(id < 258 || logits[id] === -Infinity); logits[65] = 1e9; } }));
    assert.equal(list.join(''), 'A'.repeat(20));
  });
});

it('text goes on as if it had been decoded whole, whatever the decoder does with blanks', async () => {
  const metaspace = { ...TOKENIZER, added_tokens: [], pre_tokenizer: null, decoder: { type: 'Sequence', decoders: [{ type: 'Replace', pattern: { String: '▁' }, content: ' ' }, { type: 'ByteFallback' }, { type: 'Fuse' }, { type: 'Strip', content: ' ', start: 1, stop: 0 }] },
    model: { type: 'BPE', byte_fallback: true, vocab: Object.fromEntries(['▁the', '▁cat', 's', '▁', '.', ...Array.from({ length: 256 }, (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`)].map((token, id) => [token, id])), merges: [] } };
  const tokenizer = await text.loadTokenizer(metaspace);
  const byte = (/** @type {string} */ string) => bytes(string).map((b) => b + 5);
  for (const ids of [[0, 1, 2, 3, 0, 4], [0, ...byte('é👍'), 1, ...byte('数'), 2, 4, 3, 3, 1]]) {
    const stream = new TextStream(tokenizer);
    const list = [...ids.map((id) => stream.push(id)), stream.end()];
    assert.equal(list.join(''), tokenizer.decode(ids));
    assert.ok(!list.some((piece) => piece.includes('\ufffd')), list.join('|'));
  }
});

describe('chat', () => {
  const messages = [{ role: 'user', content: 'Hi' }];

  it('ends with the text where the ending token is the first of all', async () => {
    const template = { chat_template: '{{ messages[0].content }}', eos_token: spelt[0] };
    assert.equal((await all(chat(session, messages, { template, logits: dictate([...bytes('Hello.'), 0, ...bytes('more')]).logits }))).join(''), 'Hello.');
  });

  it('uses the tokenizer and the template beside the checkpoint, and ends with the text', async () => {
    const { prompt, logits } = dictate([...bytes('Hello.'), END, ...bytes('more')]);
    /** @type {any} */
    let timing;
    assert.equal((await all(chat(session, messages, { logits, onTiming: (t) => { timing = t; } }))).join(''), 'Hello.');
    assert.deepEqual(prompt, [START, ...bytes('[user]Hi[assistant]')]);
    assert.ok(timing.prefill.tokens > 0 && timing.decode.tokens === 6);
    // The next turn begins with what has been seen.
    const longer = [...messages, { role: 'assistant', content: 'Hello.' }, { role: 'user', content: 'Bye' }];
    await all(chat(session, longer, { logits: dictate([]).logits, onTiming: (t) => { timing = t; } }));
    assert.equal(timing.prefill.tokens, 1 + bytes('[user]Bye[assistant]').length);
  });

  it('takes a template, a configuration and variables of its own', async () => {
    for (const template of ["{{ tool }}:{{ messages[0].content }}", { chat_template: [{ name: 'tool_use', template: 'x' }, { name: 'default', template: '{{ tool }}:{{ messages[0].content }}' }] }]) {
      const { prompt, logits } = dictate([]);
      await all(chat(session, messages, { template, variables: { tool: 'T' }, tokenizer: TOKENIZER, logits, maxTokens: 1 }));
      assert.deepEqual(prompt, bytes('T:Hi'));
    }
  });

  it('finds chat_template.jinja', async () => {
    writeFileSync(join(folder, 'chat_template.jinja'), '{{ bos_token }}|{{ messages[0].content }}');
    writeFileSync(join(folder, 'tokenizer_config.json'), JSON.stringify({ ...TEXT_CONFIG, chat_template: undefined }));
    const { prompt, logits } = dictate([]);
    await all(chat(session, messages, { logits, maxTokens: 1 }));
    assert.deepEqual(prompt, [START, ...bytes('|Hi')]);
    rmSync(join(folder, 'chat_template.jinja'));
    await assert.rejects(all(chat(session, messages)), { code: 'template', message: /expected a chat_template in tokenizer_config.json, got undefined/ });
    writeFileSync(join(folder, 'tokenizer_config.json'), '{');
    await assert.rejects(all(chat(session, messages)), { code: 'template', message: /tokenizer_config.json: expected a tokenizer_config.json, got text that is not JSON/ });
    writeFileSync(join(folder, 'tokenizer_config.json'), JSON.stringify(TEXT_CONFIG));
  });

  it('says what is wrong', async () => {
    const rejects = (/** @type {any} */ options, /** @type {string} */ code, /** @type {RegExp} */ message, given = messages) => assert.rejects(all(chat(session, given, options)), (/** @type {any} */ e) => {
      assert.ok(e instanceof LamellaError, String(e));
      assert.equal(e.code, code, e.message);
      assert.match(e.message, message);
      return true;
    });
    await assert.rejects(all(chat(session, [{ role: 'sheriff', content: '' }])), (/** @type {any} */ e) => e.code === 'template' && /no role sheriff/.test(e.message) && /no role sheriff/.test(e.cause.message));
    await rejects({ template: '{% for %}' }, 'template', /the template cannot be used with these messages/);
    await rejects({}, 'argument', /messages: expected an array/, []);
    await rejects({}, 'argument', /messages: expected an array, .* got "Hi"/, /** @type {any} */ ('Hi'));
    await rejects({ stop: '' }, 'argument', /not empty/);
    await rejects({ template: 5 }, 'argument', /template: expected a text in Jinja, .*got 5/);
    await rejects({ temprature: 1 }, 'argument', /there is no option "temprature"/);
    for (const [what, write] of /** @type {[string, any][]} */ ([['chat', () => chat(/** @type {any} */ (model), messages)], ['complete', () => complete(/** @type {any} */ (undefined), 'x')]])) {
      await assert.rejects(all(write()), (/** @type {any} */ e) => e instanceof LamellaError && e.code === 'argument' && e.message.startsWith(`${what}: session: expected a session`));
    }
    await rejects({ logits: 3 }, 'argument', /logits: expected a function/);
    await rejects({ temperature: -2 }, 'argument', /temperature/);
    await rejects({ tokenizer: { ...TOKENIZER, added_tokens: [special(VOCAB, '<other>')] } }, 'tokenizer', /the tokenizer has 265 tokens but vocab_size is 264: they are not of one model/);
    const vocabulary = (/** @type {number} */ count) => ({ ...TOKENIZER, added_tokens: [], model: { ...TOKENIZER.model, vocab: Object.fromEntries(spelt.slice(0, count).map((character, byte) => [character, byte])) } });
    await rejects({ tokenizer: vocabulary(131) }, 'tokenizer', /the tokenizer has 131 tokens but vocab_size is 264: they are not of one model/);
    await rejects({ template: ' ', tokenizer: { ...TOKENIZER, normalizer: { type: 'Strip', strip_left: true, strip_right: true } } }, 'argument', /^chat: expected a text of at least one token/);
    await assert.rejects(all(complete(session, '')), { code: 'argument', message: /^complete: expected a text of at least one token/ });
    await assert.rejects(all(chat(session, messages, { signal: AbortSignal.abort() })), { name: 'AbortError' });
    await assert.rejects(all(complete(session, /** @type {any} */ (3))), { code: 'argument', message: /prompt: expected a string, got 3/ });
    const alone = await compile(module, { weights: readFileSync(join(folder, 'model.safetensors')), build });
    await assert.rejects(all(chat(await alone.session({ context: 8 }), messages)), { code: 'tokenizer', message: /there is no tokenizer: pass/ });
    alone.dispose();
    const ending = await compile(new models.DeepseekV2ForCausalLM({ ...FIELDS, eos_token_id: [END, 260] }), { weights: join(folder, 'model.safetensors'), build });
    await assert.rejects(all(complete(await ending.session({ context: 8 }), 'x')), { code: 'tokenizer', message: /the tokenizer has 258 tokens but eos_token_id is 260: they are not of one model/ });
    ending.dispose();
  });

  it('of more than the context says so, or forgets the older half', async () => {
    const small = await model.session({ context: 24 });
    const long = [{ role: 'user', content: 'x'.repeat(40) }];
    await assert.rejects(all(chat(small, long)), { code: 'shape', message: /the context of 24 tokens is full, with 58 of them; \{ slide: true \}/ });
    assert.equal(small.position, 0);
    const { prompt, logits } = dictate(bytes('forty letters are more than there is room.'));
    assert.equal((await all(chat(small, long, { logits, slide: true, keep: 1 }))).join(''), 'forty letters are more than there is room.');
    assert.deepEqual(prompt, [START, ...bytes(`[user]${'x'.repeat(40)}[assistant]`)]);
    small.dispose();
  });

  it('ends at any moment when it is aborted, and goes on afterwards', async () => {
    for (let moment = 0; moment < 4; moment++) {
      const abort = new AbortController();
      const { logits } = dictate(bytes('Hello'));
      const got = [];
      await assert.rejects(async () => {
        const pieces = chat(session, messages, { signal: abort.signal, logits: (row, all) => { logits(row, all); if (moment === 2) abort.abort(new Error('now')); } });
        if (moment === 0) setTimeout(() => abort.abort(new Error('now')));
        for await (const piece of pieces) {
          got.push(piece);
          if (moment === 1) abort.abort(new Error('now'));
          if (moment === 3 && got.length === 3) abort.abort(new Error('now'));
          if (moment === 0) await new Promise((resolve) => { setTimeout(resolve, 5); });
        }
      }, { message: 'now' }, `moment ${moment}`);
      assert.ok(got.length <= 3 && !got.includes('o'), got.join(''));
      assert.equal((await all(chat(session, messages, { logits: dictate(bytes('again')).logits }))).join(''), 'again');
    }
  });
});
