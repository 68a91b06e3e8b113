/** The demo's writing panel in three browsers: a small model of bytes that the tests make, from an address and from files. */
import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { checkpointAt, STORY_TELLER } from '../../demo/language-checkpoint.js';
import { Writer } from '../../demo/writer.js';
import { FIELDS, files, TEXT_CONFIG, TOKENIZER } from '../node/byte-model.js';
import { BROWSERS, launch } from './browsers.mjs';
import { startServer } from './server.mjs';
import { until } from './until.mjs';

const SAMPLING = { temperature: 0.9, topK: 50, topP: 0.9, minP: 0.01, repetitionPenalty: 1.2, maxTokens: 40, seed: 7 };
const PROMPT = 'Où est la lamelle ?';
const TALK = ['Bonjour!', 'And then?'];
const MAIN = files();
/** Checkpoints that something is wrong with. */
const SPOILT = {
  template: { 'tokenizer_config.json': JSON.stringify({ ...TEXT_CONFIG, chat_template: "{{ raise_exception('only on Sundays') }}" }) },
  tokenizer: { 'tokenizer.json': JSON.stringify({ ...TOKENIZER, added_tokens: [], model: { ...TOKENIZER.model, vocab: { a: 0, b: 1 } } }) },
  config: { 'config.json': JSON.stringify({ ...FIELDS, hidden_size: undefined }) },
  kind: { 'config.json': JSON.stringify({ ...FIELDS, model_type: 'mamba' }) },
};
const MADE = Object.fromEntries(Object.entries({ bytes: {}, ...SPOILT }).flatMap(([folder, other]) => Object.entries({ ...MAIN, ...other }).map(([name, content]) => [`${folder}/${name}`, content])));

const OPENING = 'The king had three daughters, and the youngest';
/** What Node writes: a text in 8 and 32 bits, the answers in a conversation, the likeliest end of a story, and what a GGUF file's model says. */
const GGUF = 'tests/reference/fixtures/gguf/deepseek2.gguf';
const GGUF_PARTS = 'tests/reference/fixtures/gguf/deepseek2_parts-00001-of-00004.gguf';
const expected = { text: '', exact: '', answers: [], story: '', gguf: '', parts: '' };
before(async () => {
  const server = await startServer({ isolation: false, made: MADE });
  const checkpoint = await checkpointAt(`${server.url}made/bytes`);
  const exact = await Writer.load(checkpoint);
  const writer = await Writer.load(checkpoint, { precision: 'q8' });
  const joined = async pieces => { let text = ''; for await (const piece of pieces) text += piece; return text; };
  expected.exact = await joined(exact.continue(PROMPT, SAMPLING));
  expected.text = await joined(writer.continue(PROMPT, SAMPLING));
  const messages = [];
  for (const content of TALK) {
    messages.push({ role: 'user', content });
    const answer = await joined(writer.answer(messages, SAMPLING));
    expected.answers.push(answer);
    messages.push({ role: 'assistant', content: answer });
  }
  const teller = await Writer.load(STORY_TELLER);
  expected.story = await joined(teller.continue(OPENING, { temperature: 0, maxTokens: 24 }));
  teller.dispose();
  for (const [what, file] of [['gguf', GGUF], ['parts', GGUF_PARTS]]) {
    const packed = await Writer.load(await checkpointAt(`${server.url}${file}`), { precision: 'f32' });
    expected[what] = await joined(packed.continue('Hi', { ...SAMPLING, temperature: 0, maxTokens: 12 }));
    packed.dispose();
  }
  exact.dispose();
  writer.dispose();
  await server.close();
  assert.ok(expected.text.length > 10 && expected.exact !== expected.text);
});

for (const name of BROWSERS) {
  describe(`the writing panel in ${name}`, () => {
    /** @type {import('./browsers.mjs').Browser} */ let browser;
    /** @type {Awaited<ReturnType<typeof startServer>>} */ let server;
    /** @type {import('./browsers.mjs').Page} */ let page;
    before(async () => {
      [browser, server] = [await launch(name), await startServer({ isolation: true, made: MADE })];
      page = await browser.open(`${server.url}demo/`);
      await until(page, 'the page has started', () => document.querySelectorAll('#writer-openings button').length);
      await page.evaluate(() => document.querySelectorAll('#writer details').forEach(details => { details.open = true; }));
    });
    after(async () => {
      await browser?.close();
      await server?.close();
    });

    const text = selector => page.evaluate(s => document.querySelector(s).textContent, selector);
    const written = () => page.evaluate(() => [...document.querySelectorAll('#writer-output .passage')].map(passage => passage.textContent));
    const status = pattern => until(page, `the panel says ${pattern}`, source => new RegExp(source).test(document.querySelector('#writer-status').textContent), pattern);
    const set = values => page.evaluate(given => {
      for (const [id, value] of Object.entries(given)) {
        const input = document.querySelector(`#writer-${id}`);
        input.value = value;
        input.dispatchEvent(new Event('input', { bubbles: true }));
      }
    }, values);
    const slide = wanted => page.evaluate(value => { document.querySelector('#writer-sampling [name=slide]').checked = value; }, wanted);
    const submit = form => page.evaluate(id => document.querySelector(id).requestSubmit(), `#writer-${form}`);
    const load = async address => {
      await set({ url: address });
      await submit('own');
    };
    const fails = async () => {
      await until(page, 'an error shows', () => !document.querySelector('#writer-error').hidden);
      return text('#writer-error p');
    };

    it('fetches the story-teller when it is first asked, which writes what it writes in Node', async () => {
      const fetched = () => page.evaluate(() => performance.getEntriesByType('resource').some(({ name }) => name.includes('models/story/')));
      assert.equal(await fetched(), false);
      await page.evaluate(() => { document.querySelector('#writer-precision').value = 'f32'; });
      await set({ temperature: 0, maxTokens: 24, prompt: '' });
      await page.click('#writer-openings li:nth-child(2) button');
      await status('Seed \\d+\\.$');
      assert.equal(await fetched(), true);
      assert.deepEqual(await written(), [OPENING + expected.story]);
      assert.match(expected.story, /[a-z]{3,} [a-z]{2,} /);
      assert.equal(await page.evaluate(() => document.querySelector('#writer-modes').hidden), true);
      await page.evaluate(() => { document.querySelector('#writer-precision').value = 'q8'; });
    });

    it('loads a checkpoint by the address of its folder', async () => {
      await load(`${server.url}made/bytes`);
      await status('^bytes is loaded\\.');
      assert.match(await text('#writer-facts'), /KindDeepSeek-V2.*Layers1.*Vocabulary264/);
      assert.match(await text('#writer-memory-text'), /^\d+ kB$/);
      assert.equal(await page.evaluate(() => document.querySelector('#writer-modes').hidden), false);
    });

    it('writes what Node writes with the same seed, and says how fast', async () => {
      await set({ prompt: PROMPT, ...SAMPLING });
      await page.click('#writer-go');
      await status('Seed 7\\.$');
      assert.deepEqual(await written(), [PROMPT + expected.text]);
      for (const id of ['prefill', 'decode']) assert.match(await text(`#writer-${id}`), /^[\d.,]+$/);
      assert.match(await text('#writer-context-text'), /^\d+ of 256 tokens$/);
      assert.deepEqual(await page.evaluate(() => [...document.querySelectorAll('#writer-memory span')].map(part => Number(part.style.flexGrow) > 0)), [true, true, true]);
      assert.equal(await page.evaluate(() => document.querySelector('#writer-output').hasAttribute('aria-busy')), false);
    });

    it('streams beyond its context, stops at once, goes on where it stopped, and the page answers meanwhile', async () => {
      await set({ maxTokens: 100000, seed: '' });
      await page.evaluate(() => { globalThis.recorded.longestPause = 0; });
      await page.click('#writer-go');
      const longer = least => until(page, `${least} characters are there`, count => document.querySelector('#writer-output').textContent.length > count, least);
      await longer(60);
      assert.equal(await page.evaluate(() => document.querySelector('#writer-output').getAttribute('aria-busy')), 'true');
      assert.equal(await page.evaluate(() => document.querySelector('#writer-go').disabled), true);
      await longer(400);
      await page.click('#writer-stop');
      await status('^Stopped\\.$');
      const [stopped] = await written();
      assert.ok(stopped.startsWith(PROMPT));
      await page.click('#writer-more');
      await longer(stopped.length + 20);
      await page.evaluate(() => document.querySelector('#writer-prompt').focus());
      await page.press('Escape');
      await status('^Stopped\\.$');
      assert.ok((await written())[0].startsWith(stopped));
      assert.ok(await page.evaluate(() => globalThis.recorded.longestPause) < 2500);
    });

    it('says that the context is full where it may not forget, keeps the text, and can be asked again', async () => {
      await slide(false);
      await page.evaluate(() => document.querySelector('#writer-prompt').dispatchEvent(new KeyboardEvent('keydown', { key: 'Enter', ctrlKey: true, bubbles: true, cancelable: true })));
      assert.match(await fails(), /the context of 256 tokens is full/);
      assert.ok((await written())[0].length > PROMPT.length + 50);
      await slide(true);
      await set({ ...SAMPLING });
      await page.click('#writer-go');
      await status('Seed 7\\.$');
      assert.deepEqual(await written(), [PROMPT + expected.text]);
      assert.equal(await page.evaluate(() => document.querySelector('#writer-error').hidden), true);
    });

    it('points at a setting that is not allowed', async () => {
      await set({ topK: '-3' });
      await page.evaluate(() => { document.querySelector('#writer-settings').open = false; });
      await page.click('#writer-go');
      assert.equal(await page.evaluate(() => document.querySelector('#writer-settings').open && document.activeElement.id), 'writer-topK');
      assert.deepEqual(await written(), [PROMPT + expected.text]);
      await set(SAMPLING);
    });

    it('talks', async () => {
      await page.click('input[name=writer-mode][value=chat]');
      assert.equal(await text('#writer-go'), 'Send');
      const sofar = [];
      for (const [i, message] of TALK.entries()) {
        await set({ prompt: message });
        await submit('form');
        await until(page, 'the answer is whole', count => document.querySelectorAll('.passage').length === count && /Seed 7/.test(document.querySelector('#writer-status').textContent), 2 * i + 2);
        sofar.push(message, expected.answers[i]);
        assert.deepEqual(await written(), sofar);
      }
      await page.click('#writer-clear');
      assert.deepEqual(await written(), []);
      await page.click('input[name=writer-mode][value=text]');
    });

    it('loads the same checkpoint from chosen files, in another precision', async () => {
      await page.evaluate(async given => {
        const data = new DataTransfer();
        for (const [file, base64] of given) data.items.add(new File([Uint8Array.from(atob(base64), c => c.charCodeAt(0))], file));
        const input = document.querySelector('#writer-files');
        input.files = data.files;
        input.dispatchEvent(new Event('change', { bubbles: true }));
      }, Object.entries(MAIN).map(([file, content]) => [file, Buffer.from(content).toString('base64')]));
      await status('^model\\.safetensors is loaded\\.');
      await page.evaluate(() => {
        const select = document.querySelector('#writer-precision');
        select.value = 'f32';
        select.dispatchEvent(new Event('change', { bubbles: true }));
      });
      await until(page, 'it is loaded anew', () => /Weightsf32/.test(document.querySelector('#writer-facts').textContent));
      await set({ prompt: PROMPT, ...SAMPLING });
      await until(page, 'it can write', () => !document.querySelector('#writer-go').disabled);
      await page.click('#writer-go');
      await status('Seed 7\\.$');
      assert.deepEqual(await written(), [PROMPT + expected.exact]);
    });

    // The drivers of the others cannot choose a folder.
    if (name === 'chromium') {
      it('loads the checkpoint in a chosen folder', async () => {
        const folder = await mkdtemp(path.join(tmpdir(), 'lamella-folder-'));
        await mkdir(path.join(folder, 'model/.cache'), { recursive: true });
        for (const [file, content] of Object.entries({ ...MAIN, '.cache/config.json': '{}', 'README.md': 'text' })) await writeFile(path.join(folder, 'model', file), content);
        await page.setFile('#writer-folder', path.join(folder, 'model'));
        await status('^model is loaded\\.');
        await rm(folder, { recursive: true });
      });
    }

    it('loads a GGUF file', async () => {
      await load(`${server.url}${GGUF}`);
      await status('^deepseek2\\.gguf is loaded\\.');
      assert.match(await text('#writer-facts'), /KindDeepSeek-V2, GGUF.*Weightsf32/);
      await set({ prompt: 'Hi', temperature: 0, maxTokens: 12 });
      await page.click('#writer-go');
      await status('Seed 7\\.$');
      assert.deepEqual(await written(), [`Hi${expected.gguf}`]);
      await set({ prompt: PROMPT, ...SAMPLING });
    });

    it('loads a GGUF model in several files', async () => {
      await load(`${server.url}${GGUF_PARTS}`);
      await status('^deepseek2_parts-00001-of-00004\\.gguf is loaded\\.');
      await set({ prompt: 'Hi', temperature: 0, maxTokens: 12 });
      await page.click('#writer-go');
      await status('Seed 7\\.$');
      assert.deepEqual(await written(), [`Hi${expected.parts}`]);
      await set({ prompt: PROMPT, ...SAMPLING });
    });

    it('cancels a slow load', async () => {
      await load(`${server.url}slow/made/bytes/`);
      await until(page, 'progress shows', () => !document.querySelector('#writer-loading').hidden);
      await page.click('#writer-cancel');
      await status('^Loading was cancelled\\.$');
      assert.equal(await page.evaluate(() => document.querySelector('#writer-loading').hidden && document.querySelector('#writer-error').hidden), true);
    });

    it('goes back to the story-teller', async () => {
      await page.click('#writer-embedded');
      await status('^The story-teller is loaded\\.');
      assert.equal(await page.evaluate(() => document.querySelector('#writer-embedded').hidden), true);
    });

    it('has not gone wrong so far', async () => {
      assert.deepEqual([...await page.evaluate(() => globalThis.recorded.errors), ...page.errors()], []);
    });

    it('says in words what is wrong with a checkpoint, and goes on', async () => {
      const refused = async folder => {
        await load(`${server.url}made/${folder}/`);
        return fails();
      };
      assert.match(await refused('config'), /DeepseekV2Config: hidden_size is missing/);
      assert.equal(await text('#writer-facts'), '', 'those of the model before');
      assert.match(await refused('kind'), /"mamba"; what can be run here: deepseek_v2, .*llama/);
      assert.match(await refused('nothing'), /config\.json: the server answered 404/);
      await page.evaluate(() => {
        const data = new DataTransfer();
        data.items.add(new File(['{}'], 'config.json'));
        const input = document.querySelector('#writer-files');
        input.files = data.files;
        input.dispatchEvent(new Event('change', { bubbles: true }));
      });
      await until(page, 'what is missing is named', () => /There is no tokenizer\.json and no model\.safetensors in what was chosen, only config\.json\./.test(document.querySelector('#writer-error').textContent));

      await load(`${server.url}made/tokenizer/`);
      await status('^tokenizer is loaded');
      await page.click('#writer-go');
      assert.match(await fails(), /the tokenizer has 2 tokens but vocab_size is 264: they are not of one model/);

      await load(`${server.url}made/template/`);
      await status('^template is loaded');
      await page.click('input[name=writer-mode][value=chat]');
      await set({ prompt: 'Hello' });
      await submit('form');
      assert.match(await fails(), /the template cannot be used with these messages: .*only on Sundays/);
      assert.deepEqual([await written(), await page.evaluate(() => document.querySelector('#writer-prompt').value)], [[], 'Hello'], 'the message is not lost');
      await page.click('input[name=writer-mode][value=text]');
      await set({ prompt: PROMPT });
      await page.click('#writer-go');
      await status('Seed 7\\.$');
      assert.deepEqual(await written(), [PROMPT + expected.exact]);
    });

    it('loads again without a server what it has kept', async () => {
      const kept = await page.evaluate(async () => (await (await import('/js/index.js')).cache.list().catch(() => [])).map(({ url }) => url));
      if (!kept.length) return assert.equal(name, 'webkit', 'only this browser may have no place for them');
      for (const file of ['bytes/config.json', 'bytes/model.safetensors', 'bytes/tokenizer.json', 'bytes/tokenizer_config.json', 'deepseek2.gguf']) assert.ok(kept.some(url => url.endsWith(file)), file);
      await page.evaluate(() => {
        globalThis.online = globalThis.fetch;
        globalThis.fetch = () => Promise.reject(new TypeError('no connection'));
      });
      await load(`${server.url}made/bytes`);
      await status('^bytes is loaded\\.');
      assert.equal(await page.evaluate(() => document.querySelector('#writer-modes').hidden), false, 'the template is there, too');
      await set({ prompt: PROMPT, ...SAMPLING });
      await page.click('#writer-go');
      await status('Seed 7\\.$');
      assert.deepEqual(await written(), [PROMPT + expected.exact]);
      await load(`${server.url}${GGUF}`);
      await status('^deepseek2\\.gguf is loaded\\.');
      await load(`${server.url}made/nowhere`);
      assert.match(await fails(), /config\.json: cannot be fetched: no connection/);
      await page.evaluate(() => { globalThis.fetch = globalThis.online; });
    });

    it('shows what downloads are kept, and throws them away', async () => {
      const kept = await page.evaluate(async () => (await (await import('/js/index.js')).cache.list().catch(() => [])).length);
      assert.equal(await page.evaluate(() => !document.querySelector('#writer-forget').hidden), kept > 0);
      if (!kept) return assert.equal(name, 'webkit', 'only this browser may have no place for them');
      await page.click('#writer-forget');
      await until(page, 'nothing is kept', () => document.querySelector('#writer-forget').hidden);
      assert.equal(await page.evaluate(async () => (await (await import('/js/index.js')).cache.list()).length), 0);
    });
  });
}
