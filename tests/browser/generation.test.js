/** generate, complete and chat in browsers: with the model in the page, in a worker of the model's own, and with all of it in a worker of the page's. */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { files } from '../node/byte-model.js';
import { BROWSERS, launch } from './browsers.mjs';
import { write } from './generation.js';
import { startServer } from './server.mjs';
import { until } from './until.mjs';

/** What Node answers. @type {Awaited<ReturnType<typeof write>>} */
let expected;
before(async () => {
  const server = await startServer({ isolation: false, made: files() });
  expected = await write(`${server.url}made/`);
  await server.close();
});

it('Node answers what was dictated, and refuses what it must', () => {
  assert.deepEqual(expected.pieces, [..."été 👩‍🚀, 数\n don't ǅ."]);
  assert.deepEqual(expected.stopped, ['a', 'b', '##c']);
  assert.deepEqual(expected.emoji, ['a', '😁', 'b']);
  assert.equal(expected.chat.join(''), '¡Olé! 👍');
  assert.deepEqual(expected.timings, [[5, 0, true], [5, 1, true], [5, 2, true], [5, 3, true], [5, 4, true]]);
  const [first, second, again] = expected.seeded;
  assert.equal(first, again);
  assert.notEqual(first, second);
  assert.equal(expected.tokens.length, 60);
  assert.ok(expected.greedy.length > 10 && expected.slid.length > 10);
  assert.ok(expected.caches && expected.after && expected.left);
  assert.deepEqual(expected.overflow.map((error) => error.code ?? error), ['shape', 'shape', 2]);
  assert.match(expected.overflow[0].message, /the context of 16 tokens is full, with 36 of them; \{ slide: true \}/);
  assert.deepEqual(expected.refused.map(({ isLamella, code }) => isLamella && code), ['template', 'argument', 'argument', 'tokenizer']);
  for (const [moment, { error, early }] of expected.aborted) assert.deepEqual([error?.message, early], [moment, true]);
  assert.deepEqual([expected.disposed.code, expected.gone.code], ['disposed', 'disposed']);
});

for (const name of BROWSERS) {
  describe(`text in ${name}`, () => {
    /** @type {import('./browsers.mjs').Browser} */ let browser;
    before(async () => { browser = await launch(name); });
    after(() => browser?.close());

    for (const isolation of [true, false]) {
      describe(isolation ? 'with isolation headers' : 'without isolation headers', () => {
        /** @type {Awaited<ReturnType<typeof startServer>>} */ let server;
        /** @type {import('./browsers.mjs').Page} */ let page;
        before(async () => {
          server = await startServer({ isolation, made: files() });
          page = await browser.open(`${server.url}tests/browser/fixture.html`);
          await until(page, 'the page is ready', () => Boolean(globalThis.fixture));
        });
        after(() => server?.close());

        for (const worker of [false, true]) {
          const where = worker ? 'in a worker' : 'in the page';
          it(`is Node's, letter by letter, with the model ${where}`, async () => {
            const found = await page.evaluate(async (folder, options) => (await import('/tests/browser/generation.js')).write(folder, options), `${server.url}made/`, { worker });
            assert.deepEqual(found, expected);
          });
          it(`stops while a long prompt is read, with the model ${where}`, async () => {
            const found = await page.evaluate(async (options) => (await import('/tests/browser/generation.js')).stopReading(options), { worker });
            assert.deepEqual([found.error?.message, found.position, found.same], ['while reading', 0, true]);
          });
        }
        it("is Node's in a worker of the page's own", async () => {
          const found = await page.evaluate(async (folder) => {
            const program = `import { write } from '${location.origin}/tests/browser/generation.js';
              write('${folder}', { threads: 1 }).then((answers) => postMessage({ answers }), (error) => postMessage({ error: String(error) }));`;
            const worker = new Worker(URL.createObjectURL(new Blob([program], { type: 'text/javascript' })), { type: 'module' });
            const answer = await new Promise((resolve, reject) => {
              worker.onmessage = ({ data }) => (data.error ? reject(new Error(data.error)) : resolve(data.answers));
              worker.onerror = (event) => reject(new Error(event.message));
            });
            worker.terminate();
            return answer;
          }, `${server.url}made/`);
          assert.deepEqual(found, expected);
        });
        it('reports nothing wrong', async () => {
          assert.deepEqual([...await page.evaluate(() => globalThis.recorded.errors), ...page.errors()], []);
        });
      });
    }
  });
}
