/**
 * The package in three browsers: PyTorch's fixtures on every build that the browser can run, and every kind of picture.
 */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { image } from '../../js/index.js';
import { BROWSERS, launch } from './browsers.mjs';
import { expectedBuilds } from './engines.mjs';
import { ROOT, startServer } from './server.mjs';
import { until } from './until.mjs';

/** A convolution, a pool, a norm, functions, attention, blocks and a whole model. */
const FIXTURES = ['conv2d', 'max_pool2d', 'layer_norm', 'pointwise', 'multihead_attention', 'attention_pool2d', 'bottleneck', 'modified_resnet', 'clip'];
const PICTURE = 'demo/samples/rocket.png';
/** What every browser gives, and what some do. */
const SOURCES = ['Blob', 'HTMLImageElement', 'HTMLCanvasElement', 'ImageData', 'ImageBitmap', 'OffscreenCanvas', 'VideoFrame'];
/** Colours of a stream went through 4:2:0 and limited range: a tenth of the range on average would be wrong, a few steps are not. */
const VIDEO_TOLERANCE = 0.05;

const distance = (a, b) => a.reduce((max, value, i) => Math.max(max, Math.abs(value - b[i])), 0);
const meanDistance = (a, b) => a.reduce((sum, value, i) => sum + Math.abs(value - b[i]), 0) / a.length;

for (const name of BROWSERS) {
  describe(`the package in ${name}`, () => {
    /** @type {import('./browsers.mjs').Browser} */
    let browser;
    before(async () => { browser = await launch(name); });
    after(() => browser?.close());

    for (const isolation of [true, false]) {
      describe(isolation ? 'with isolation headers' : 'without isolation headers', () => {
        const builds = expectedBuilds(name, isolation);
        /** @type {Awaited<ReturnType<typeof startServer>>} */
        let server;
        /** @type {import('./browsers.mjs').Page} */
        let page;
        before(async () => {
          server = await startServer({ isolation });
          page = await browser.open(`${server.url}tests/browser/fixture.html`);
          await until(page, 'the fixture page is ready', () => Boolean(globalThis.fixture));
        });
        after(() => server?.close());

        it(`chooses ${builds[0]}`, async () => {
          const { build } = await page.evaluate(() => globalThis.fixture.engine());
          assert.equal(build, builds[0]);
          assert.equal(await page.evaluate(() => crossOriginIsolated), isolation);
          assert.deepEqual((await page.evaluate(() => globalThis.fixture.buildsHere())).sort(), [...builds].sort());
        });

        it('is one import that fetches the rest: a text by CLIP, with the tokenizer beside the checkpoint, and a picture', async () => {
          const shape = await page.evaluate(async root => {
            const { compile, image, models } = await import(`${root}dist/lamella.js`);
            const config = await (await fetch(`${root}demo/model/config.json`)).json();
            const clip = await compile(new models.CLIP(config), { weights: `${root}demo/model/model.safetensors`, methods: ['encodeText'] });
            const ids = (await clip.tokenizer()).encode('a happy cat');
            const texts = (await clip.encodeText('a happy cat')).toArray();
            const same = (await clip.encodeText(ids)).toArray();
            clip.dispose();
            const picture = await image.toTensor({ data: new Uint8Array(12), width: 2, height: 2 });
            return [texts.length, texts[0].length, JSON.stringify(texts) === JSON.stringify(same), ...picture.shape];
          }, server.url);
          assert.deepEqual(shape, [1, 256, true, 1, 3, 224, 224]);
        });

        for (const build of builds) {
          for (const fixture of FIXTURES) {
            it(`agrees with PyTorch: ${fixture} on ${build}`, async () => {
              const url = `${server.url}tests/reference/fixtures/${fixture}.safetensors`;
              const results = await page.evaluate((...args) => globalThis.fixture.runFixture(...args), url, { build });
              assert.ok(results.length > 0);
              for (const { name: what, ratio } of results) assert.ok(ratio <= 1, `${what}: ${ratio} times the allowed error`);
            });
          }
        }

        it('agrees with PyTorch in a worker', async () => {
          const url = `${server.url}tests/reference/fixtures/${FIXTURES.at(-1)}.safetensors`;
          for (const { name: what, ratio } of await page.evaluate(address => globalThis.fixture.runFixture(address, { worker: true }), url)) {
            assert.ok(ratio <= 1, `${what}: ${ratio} times the allowed error`);
          }
        });

        it('makes the same tensor of a picture whatever holds it', async () => {
          const options = { size: 48 };
          const { shape, data } = await image.toTensor(await readFile(path.join(ROOT, PICTURE)), options);
          const tensors = await page.evaluate((...args) => globalThis.fixture.tensorsOf(...args), server.url + PICTURE, options);
          for (const source of SOURCES) {
            assert.ok(tensors[source], `${name} has no ${source}`);
            assert.deepEqual(tensors[source][0], shape, source);
            assert.equal(distance(tensors[source][1], data), 0, source);
          }
        });

        it('makes a tensor of a video', async () => {
          const options = { size: 48, mean: [0, 0, 0], std: [1, 1, 1] };
          const { shape, data } = await image.toTensor(await readFile(path.join(ROOT, PICTURE)), options);
          const [videoShape, numbers] = await page.evaluate((...args) => globalThis.fixture.tensorOfVideo(...args), server.url + PICTURE, options);
          assert.deepEqual(videoShape, shape);
          assert.ok(meanDistance(numbers, data) < VIDEO_TOLERANCE, String(meanDistance(numbers, data)));
        });

        it('reports nothing wrong', async () => {
          assert.deepEqual([...await page.evaluate(() => globalThis.recorded.errors), ...page.errors()], []);
        });
      });
    }
  });
}
