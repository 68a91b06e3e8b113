/**
 * The demo page in three browsers, with and without the headers that allow threads.
 */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { image, compile, models, safetensors } from '../../js/index.js';
import { cosineSimilarity, inferResNet } from '../../demo/checkpoint.js';
import { Classifier } from '../../demo/classify.js';
import { formatBuild } from '../../demo/format.js';
import { EmojiSearch } from '../../demo/search.js';
import { BROWSERS, launch } from './browsers.mjs';
import { expectedBuilds } from './engines.mjs';
import { ROOT, startServer } from './server.mjs';
import { until } from './until.mjs';

const LONGEST_PAUSE = 2500; // milliseconds in which a page may keep the user waiting, on a machine that is shared with other tests
const CHECKPOINT = 'reference/fixtures/open_clip_tiny.safetensors';
const sample = name => path.join(ROOT, `demo/samples/${name}.png`);

/** What Node says about the samples with the same weights. @type {Record<string, string>} */
const labels = {};
/** What Node finds for some words, best first. @type {Record<string, string[]>} */
const finds = {};
/** The similarity of dog-face and pizza by the tiny checkpoint, and its sizes. */
const tiny = { similarity: 0, dimension: 0, first: 0 };

before(async () => {
  const folder = new URL('../../demo/model/', import.meta.url);
  const classifier = await Classifier.load(folder);
  for (const name of ['dog-face', 'pizza', 'rocket', 'guitar', 'cactus']) {
    const result = await classifier.classify(await readFile(sample(name)));
    labels[name] = result.labels[0].name;
  }
  const search = await EmojiSearch.load(folder, classifier);
  for (const query of ['a happy cat', 'hot drink', 'kubernetes']) finds[query] = (await search.search(query)).found.map(found => found.name);
  search.model.dispose();
  classifier.model.dispose();

  const weights = await safetensors.open(path.join(ROOT, 'tests', CHECKPOINT));
  const { prefix, options } = inferResNet(weights);
  const model = await compile(new models.ModifiedResNet(options), { weights, prefix });
  const embed = async name => {
    const input = await image.toTensor(await readFile(sample(name)), { size: options.imageSize });
    return (await model.forward(input)).data;
  };
  const [a, b] = [await embed('dog-face'), await embed('pizza')];
  Object.assign(tiny, { similarity: cosineSimilarity(a, b), dimension: a.length, first: a[0] });
  model.dispose();
  await weights.close();
});

const text = (page, selector) => page.evaluate(s => document.querySelector(s).textContent, selector);
const answered = (page, name) => until(page, `the answer is "${name}"`, wanted => document.querySelector('#answer').textContent.includes(` ${wanted}, `), name);

/** A file as a page can make it: [name, type, bytes in base64]. */
const asData = async file => [path.basename(file), 'image/png', (await readFile(file)).toString('base64')];

for (const name of BROWSERS) {
  describe(`the page in ${name}`, () => {
    /** @type {import('./browsers.mjs').Browser} */
    let browser;
    before(async () => { browser = await launch(name); });
    after(() => browser?.close());

    for (const isolation of [true, false]) {
      describe(isolation ? 'with isolation headers' : 'without isolation headers', () => {
        /** @type {Awaited<ReturnType<typeof startServer>>} */
        let server;
        /** @type {import('./browsers.mjs').Page} */
        let page;
        before(async () => {
          server = await startServer({ isolation });
          page = await browser.open(`${server.url}demo/`);
        });
        after(() => server?.close());

        it('loads the model in a worker and stays responsive', async () => {
          await answered(page, labels['dog-face']);
          const [build] = expectedBuilds(name, isolation);
          const shown = await text(page, '#build');
          const threads = Number(/(\d+) threads?$/.exec(shown)?.[1]);
          assert.equal(shown, formatBuild({ build, threads }));
          assert.equal(threads > 1, build.endsWith('-threads') && os.availableParallelism() > 1);
          const { ticks, longestPause } = await page.evaluate(() => globalThis.recorded);
          assert.ok(ticks > 10, `only ${ticks} ticks of a 10 ms timer while the page loaded`);
          assert.ok(longestPause < LONGEST_PAUSE, `the page did not answer for ${longestPause.toFixed(0)} ms`);
        });

        it('classifies a sample chosen with the keyboard', async () => {
          await page.evaluate(() => /** @type {HTMLElement} */ (document.querySelector('#file')).focus());
          for (let i = 0; i < 30 && await page.evaluate(() => document.activeElement?.dataset.sample) !== 'pizza'; i++) await page.press('Tab');
          assert.equal(await page.evaluate(() => document.activeElement.matches(':focus-visible')), true);
          await page.press('Enter');
          await answered(page, labels.pizza);
        });

        it('classifies a file that is picked, pasted or dropped', async () => {
          await page.setFile('#file', sample('rocket'));
          await answered(page, labels.rocket);
          const transfer = (type, [file, mime, base64]) => {
            const data = new DataTransfer();
            data.items.add(new File([Uint8Array.from(atob(base64), c => c.charCodeAt(0))], file, { type: mime }));
            const event = type === 'paste' ? new Event('paste', { bubbles: true }) : new DragEvent('drop', { dataTransfer: data, bubbles: true, cancelable: true });
            if (type === 'paste') Object.defineProperty(event, 'clipboardData', { value: data }); // Firefox lets no constructor set it
            document.body.dispatchEvent(event);
          };
          await page.evaluate(transfer, 'paste', await asData(sample('guitar')));
          await answered(page, labels.guitar);
          await page.evaluate(transfer, 'drop', await asData(sample('cactus')));
          await answered(page, labels.cactus);
        });

        it('shows the ranking, the times and the time of each layer', async () => {
          assert.equal(await page.evaluate(() => document.querySelectorAll('#ranking li').length), 10);
          for (const id of ['time-preprocess', 'time-forward', 'time-rank']) assert.match(await text(page, `#${id}`), /^[\d.]+ m?s$/);
          await until(page, 'the layers are timed', () => document.querySelectorAll('#layer-table tbody tr').length > 10);
          await page.click('input[name=layer-order][value=slowest]');
          const times = await page.evaluate(() => [...document.querySelectorAll('#layer-table tbody tr td:nth-child(3)')].map(cell => parseFloat(cell.textContent)));
          assert.equal(times[0], Math.max(...times));
          const [rates, data] = await page.evaluate(() => ['flops', 'bytes'].map(name => [...document.querySelectorAll(`#layer-table tbody .${name}`)].map(cell => cell.textContent)));
          assert.ok(rates.some(rate => parseFloat(rate) > 0), `${rates}`); // the clock of a page without isolation may be coarse
          assert.equal(data.length, times.length);
          for (const bytes of data) assert.match(bytes, /^[\d.]+ [kM]B$|^–$/);
          assert.match(await text(page, '#layers-summary'), /[\d.]+ GFLOP\/s, [\d.]+ MB of data/);
          assert.match(await text(page, '#accuracy'), /\d\s% and among the first five for [\d.]+\s%/);
        });

        it('finds emoji by words, while one types', async () => {
          const type = query => page.evaluate(text => {
            const input = document.querySelector('#search-input');
            input.focus();
            input.value = text;
            input.dispatchEvent(new Event('input', { bubbles: true }));
          }, query);
          const status = pattern => until(page, `the search says ${pattern}`, source => new RegExp(source, 'u').test(document.querySelector('#search-status').textContent), pattern);
          const found = () => page.evaluate(() => [...document.querySelectorAll('#search-results .find-name')].map(name => name.textContent));
          await type('a hap');
          await type('a happy cat');   // before the answer to the first
          await status(`${finds['a happy cat'][0]}\\. `);
          assert.deepEqual(await found(), finds['a happy cat']);
          assert.match((await found())[0], /^cat/);

          await page.press('Tab');
          await page.press('Tab');
          assert.equal(await page.evaluate(() => document.activeElement.matches('#search-suggestions button:focus-visible')), true);
          assert.equal(await page.evaluate(() => document.activeElement.textContent), 'hot drink');
          await page.press('Enter');
          await status(`${finds['hot drink'][0]}\\. `);
          assert.deepEqual(await found(), finds['hot drink']);
          assert.equal(finds['hot drink'][0], 'hot beverage');

          await type('kubernetes');
          await status('^Nothing comes close; the nearest is ');
          assert.deepEqual(await found(), finds.kubernetes);
          for (const query of ['日本語', 'Ελληνικά', 'x'.repeat(5000)]) {
            await type('hot drink');
            await status('^Best');
            await type(query);
            await status('^The model was taught English words; it knows none of these\\.$');
            assert.deepEqual(await found(), []);
          }
          await type('hot drink '.repeat(500));
          await status('^Best|^Nothing');
          await type('  \t ');
          await status('^$');
          assert.deepEqual(await found(), []);
          await type('hot drink');
          await status('^Best');
          await page.press('Escape');
          await status('^$');
          assert.equal(await page.evaluate(() => document.querySelector('#search-input').value), '');
        });

        it('classifies a drawing, by pointer and by keyboard', async () => {
          await page.click('input[name=source][value=draw]');
          const before = await text(page, '#answer');
          const { left, top } = await page.evaluate(() => {
            document.querySelector('#pad').scrollIntoView({ block: 'center' });
            return document.querySelector('#pad').getBoundingClientRect().toJSON();
          });
          await page.drag([[left + 60, top + 60], [left + 300, top + 70], [left + 180, top + 280], [left + 60, top + 60]]);
          await until(page, 'the drawing is classified', old => document.querySelector('#answer').textContent !== old, before);
          const ink = () => page.evaluate(() => {
            const { data } = document.querySelector('#pad').getContext('2d').getImageData(0, 0, 384, 384);
            let dark = 0;
            for (let i = 0; i < data.length; i += 4) dark += data[i] < 128 ? 1 : 0;
            return dark;
          });
          const drawn = await ink();
          assert.ok(drawn > 5000, `${drawn} dark pixels`);
          await page.evaluate(() => document.querySelector('#pad').focus());
          for (const key of ['ArrowLeft', 'ArrowDown', 'Space', 'ArrowDown', 'ArrowDown', 'Space']) await page.press(key);
          assert.ok(await ink() > drawn + 200, 'the keyboard drew nothing');
          await page.click('#clear');
          assert.equal(await ink(), 0);
        });

        it('photographs, or says why it cannot', async () => {
          await page.click('input[name=source][value=camera]');
          await page.click('#camera-start');
          const started = await until(page, 'the camera starts or refuses', () => {
            if (!document.querySelector('#camera-take').disabled) return 'started';
            return document.querySelector('#camera-fallback').hidden ? '' : document.querySelector('#camera-note').textContent;
          });
          if (name === 'webkit') return assert.match(started, /No camera was found|not allowed|did not start/);
          assert.equal(started, 'started');
          const before = await text(page, '#answer');
          await page.click('#camera-take');
          await until(page, 'the photograph is classified', old => document.querySelector('#answer').textContent !== old, before);
          assert.equal(await page.evaluate(() => document.querySelector('#source-pick').hidden), false);
        });

        it('loads a checkpoint by its address, and compares two pictures', async () => {
          await page.evaluate(url => { document.querySelector('#checkpoint-url').value = url; }, `${server.url}tests/${CHECKPOINT}`);
          await page.click('#checkpoint-form button');
          await until(page, 'the checkpoint is loaded', () => !document.querySelector('#checkpoint-ready').hidden);
          await page.setFile('.slot:nth-child(1) input', sample('dog-face'));
          await page.setFile('.slot:nth-child(2) input', sample('dog-face'));
          await until(page, 'a picture is like itself', () => document.querySelector('#similarity-value').textContent === '1.0000');
          await page.setFile('.slot:nth-child(2) input', sample('pizza'));
          await until(page, 'the similarity is computed', () => document.querySelector('#similarity-value').textContent !== '1.0000');
          assert.ok(Math.abs(Number(await text(page, '#similarity-value')) - tiny.similarity) < 1e-3);
          assert.match(await text(page, '.slot:nth-child(1) .facts'), new RegExp(`Dimension${tiny.dimension}Norm`));
          assert.ok(Math.abs(parseFloat((await text(page, '.slot:nth-child(1) .values')).slice(1)) - tiny.first) < 1e-3);
        });

        it('loads a checkpoint from a file', async () => {
          await page.setFile('#checkpoint-file', path.join(ROOT, 'tests', CHECKPOINT));
          await until(page, 'the old embeddings are gone', () => document.querySelector('#checkpoint-ready').hidden);
          await until(page, 'the new ones are there', () => /^0\.\d+|^-0\.\d+/.test(document.querySelector('#similarity-value').textContent));
          assert.ok(Math.abs(Number(await text(page, '#similarity-value')) - tiny.similarity) < 1e-3);
        });

        it('cancels a slow load', async () => {
          await page.evaluate(url => { document.querySelector('#checkpoint-url').value = url; }, `${server.url}slow/${CHECKPOINT}`);
          await page.click('#checkpoint-form button');
          await until(page, 'progress shows', () => !document.querySelector('#checkpoint-loading').hidden);
          await page.click('#checkpoint-cancel');
          await until(page, 'it is cancelled', () => document.querySelector('#checkpoint-status').textContent === 'Loading was cancelled.');
          assert.equal(await page.evaluate(() => document.querySelector('#checkpoint-loading').hidden && document.querySelector('#checkpoint-error').hidden), true);
        });

        it('says in words what is wrong with a checkpoint, and with a picture', async () => {
          const message = async (url) => {
            await page.evaluate(value => { document.querySelector('#checkpoint-url').value = value; }, url);
            await page.click('#checkpoint-form button');
            await until(page, 'an error shows', () => !document.querySelector('#checkpoint-error').hidden);
            return text(page, '#checkpoint-error p');
          };
          assert.match(await message(`${server.url}demo/`), /HTML/);
          assert.match(await message(`${server.url}demo/model/labels.safetensors`), /not a checkpoint of an open_clip ResNet/);
          assert.equal(await text(page, '#checkpoint-error button'), 'Try again');
          const errors = await page.evaluate(() => globalThis.recorded.errors);
          assert.deepEqual([...errors, ...page.errors()], [], 'nothing else has gone wrong so far');

          assert.match(await message(`${server.url}demo/nothing.safetensors`), /404/);
          await page.setFile('#file', path.join(ROOT, 'demo/style.css'));
          await until(page, 'the picture is refused', () => !document.querySelector('#model-error').hidden);
        });

        it('fits a screen 360 pixels wide', async () => {
          const narrow = await browser.open(`${server.url}tests/browser/narrow.html`);
          await until(narrow, 'the page in the frame has its answer', () => document.querySelector('iframe').contentDocument.querySelectorAll('#layer-table tbody tr').length > 10);
          const excess = await narrow.evaluate(() => {
            const inner = document.querySelector('iframe').contentDocument;
            inner.querySelector('#checkpoint-ready').hidden = false;
            inner.querySelectorAll('#writer details').forEach(details => { details.open = true; });
            inner.querySelectorAll('#writer [hidden]').forEach(part => { part.hidden = false; });
            inner.querySelector('#search-suggestions button').click();
            return ['pick', 'draw', 'camera'].map(source => {
              inner.querySelector(`input[name=source][value=${source}]`).click();
              return inner.documentElement.scrollWidth - inner.documentElement.clientWidth;
            });
          });
          assert.deepEqual(excess, [0, 0, 0]);
        });
      });
    }
  });
}
