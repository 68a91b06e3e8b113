/** Downloads that browsers keep: in the origin's private files or the Cache API, after the page was closed, in two pages at once, where no more is allowed. */
import assert from 'node:assert/strict';
import { after, afterEach, before, describe, it } from 'node:test';
import { safetensors } from '../../js/index.js';
import { files as textFiles } from '../node/byte-model.js';
import { BROWSERS } from './browsers.mjs';
import { until } from './until.mjs';
import { rangeOf, startSite, visit } from './visit.mjs';

const MB = 1 << 20;
const SIZE = 11 * MB;
const file = Buffer.from(safetensors.write({ a: { data: Uint8Array.from({ length: SIZE }, (_, i) => (i * 7 + (i >> 8) * 3 + (i >> 16)) & 255), shape: [SIZE] } }));

/** Another site, which tells its pages' visitors the headers that are needed. Of /slow/... the first 9 MB come, and then nothing; under /text/ lies a model that talks. */
async function startFiles() {
  const asked = [];
  const talking = Object.fromEntries(Object.entries(textFiles()).map(([path, content]) => [`/text/${path}`, Buffer.from(content)]));
  let slow = true;
  let down = false;
  const site = await startSite((request, response) => {
    asked.push(`${request.url} ${request.headers.range}`);
    if (down) return response.destroy();
    const body = talking[request.url] ?? file;
    const { begin, end, headers } = rangeOf(request, body.length);
    response.writeHead(206, { ...headers, etag: '"1"', 'access-control-allow-origin': '*', 'access-control-expose-headers': 'etag, content-range' });
    if (slow && request.url.startsWith('/slow') && end > 9 * MB) response.write(body.subarray(begin, 9 * MB));
    else response.end(body.subarray(begin, end));
  });
  return { ...site, asked, heal: () => { slow = false; }, break: (broken) => { down = broken; } };
}

/** Runs in the page: loads a file and says where its bytes came from, whether they are right, and what was warned of. */
function defineInPage() {
  globalThis.load = async (url, options = {}) => {
    const { safetensors } = await import('/js/index.js');
    const warnings = [];
    globalThis.loaded = 0;
    try {
      const weights = await safetensors.open(url, { cache: { warn: (error) => warnings.push(error.message), ...options } });
      const from = new Set();
      let right = true;
      for await (const { offset, data, from: origin } of weights.chunks()) {
        from.add(origin);
        for (let i = 0; i < data.length; i += 997) right &&= data[i] === (((offset + i) * 7 + ((offset + i) >> 8) * 3 + ((offset + i) >> 16)) & 255);
        globalThis.loaded = offset + data.length;
      }
      await weights.close();
      return { from: [...from], right, warnings };
    } catch (error) {
      return { code: error.code, message: error.message, warnings };
    }
  };
}

for (const name of BROWSERS) {
  describe(`downloads kept by ${name}`, () => {
    let [page, files, close] = [];
    before(async () => { ({ page, site: files, close } = await visit(name, { site: startFiles, inPage: defineInPage })); });
    after(() => close?.());
    afterEach(() => page.evaluate(async () => (await import('/js/index.js')).cache.clear()));
    const list = () => page.evaluate(async () => (await (await import('/js/index.js')).cache.list()).map(({ url, bytes, size, complete, sha256 }) => ({ url, bytes, size, complete, ...(sha256 && { sha256 }) })));
    const load = (path, options) => page.evaluate((url, given) => globalThis.load(url, given), files.base + path, options ?? {});

    it('come from the server once', async () => {
      assert.deepEqual(await load('/m'), { from: ['network'], right: true, warnings: [] });
      const asked = files.asked.length;
      assert.deepEqual(await load('/m'), { from: ['cache'], right: true, warnings: [] });
      assert.equal(files.asked.length, asked);
      assert.deepEqual(await list(), [{ url: `${files.base}/m`, bytes: file.length, size: file.length, complete: true }]);
    });

    it('and with them configuration, tokenizer and chat template: a second visit needs no server', async () => {
      const visit = () => page.evaluate(async (folder) => {
        const { chat, compile, models } = await import('/js/index.js');
        const config = await models.DeepseekV2Config.fromPretrained(folder, { cache: true });
        const model = await compile(new models.DeepseekV2ForCausalLM(config), { weights: `${folder}model.safetensors`, cache: true });
        let text = '';
        for await (const piece of chat(await model.session({ context: 64 }), [{ role: 'user', content: 'Hi' }], { maxTokens: 12 })) text += piece;
        model.dispose();
        return text;
      }, `${files.base}/text/`);
      const first = await visit();
      assert.ok(first.length);
      assert.deepEqual((await list()).map(({ url, complete }) => [url.split('/').pop(), complete]).sort(), Object.keys(textFiles()).sort().map((path) => [path, true]));
      files.break(true);
      const asked = files.asked.length;
      assert.equal(await visit(), first);
      assert.equal(files.asked.length, asked);
      files.break(false);
    });

    it('go on where they stopped when the page was closed', async () => {
      await page.evaluate(async (url, define) => {
        const frame = Object.assign(document.createElement('iframe'), { src: '/tests/browser/fixture.html', id: 'other' });
        await new Promise((resolve) => { frame.onload = resolve; document.body.append(frame); });
        frame.contentWindow.eval(`(${define})()`);
        frame.contentWindow.load(url);
      }, `${files.base}/slow/m`, String(defineInPage));
      await until(page, 'some of it is there', () => document.getElementById('other').contentWindow.loaded >= 8 * 1048576);
      await page.evaluate(() => document.getElementById('other').remove());
      assert.deepEqual(await list(), [{ url: `${files.base}/slow/m`, bytes: 8 * MB, size: file.length, complete: false }]);
      files.heal();
      assert.deepEqual(await load('/slow/m'), { from: ['cache', 'network'], right: true, warnings: [] });
      assert.equal(files.asked.at(-1), `/slow/m bytes=${8 * MB}-${file.length - 1}`);
      assert.equal((await list())[0].complete, true);
    });

    it('have the sum that they should', async () => {
      const digest = [...new Uint8Array(await crypto.subtle.digest('SHA-256', file))].map((byte) => byte.toString(16).padStart(2, '0')).join('');
      assert.deepEqual((await load('/m', { sha256: digest })).from, ['network']);
      assert.equal((await list())[0].sha256, digest);
      const { code } = await load('/n', { sha256: digest.replace(/./, (digit) => (digit === '0' ? '1' : '0')) });
      assert.equal(code, 'checksum');
      assert.equal((await list()).length, 1);
    });

    it('by two pages at once: one keeps it', async () => {
      const results = await page.evaluate(async (url, define) => {
        const frames = await Promise.all([0, 1].map(() => new Promise((resolve) => {
          const frame = Object.assign(document.createElement('iframe'), { src: '/tests/browser/fixture.html' });
          frame.onload = () => resolve(frame);
          document.body.append(frame);
        })));
        const loads = frames.map((frame) => {
          frame.contentWindow.eval(`(${define})()`);
          return frame.contentWindow.load(url);
        });
        const found = await Promise.all(loads);
        frames.forEach((frame) => frame.remove());
        return found;
      }, `${files.base}/m`, String(defineInPage));
      assert.deepEqual(results.map(({ right, warnings, message }) => ({ right, warnings, message })), [{ right: true, warnings: [], message: undefined }, { right: true, warnings: [], message: undefined }]);
      assert.deepEqual(await load('/m'), { from: ['cache'], right: true, warnings: [] });
    });

    it('where the browser allows no more, loading goes on and says so', async () => {
      const full = await page.evaluate(async (url) => {
        const refuse = (owner, method, allowed) => {
          const real = owner?.[method];
          let calls = 0;
          if (real) owner[method] = function (...args) { return calls++ < allowed ? real.apply(this, args) : Promise.reject(new DOMException('no more', 'QuotaExceededError')); };
          return () => { if (real) owner[method] = real; };
        };
        const undo = [refuse(globalThis.FileSystemWritableFileStream?.prototype, 'write', 2), refuse(Cache.prototype, 'put', 2)];
        const found = await globalThis.load(url);
        undo.forEach((each) => each());
        return found;
      }, `${files.base}/m`);
      assert.deepEqual([full.from, full.right, full.warnings.length], [['network'], true, 1]);
      assert.match(full.warnings[0], /it is not kept \(.*no more\); loading goes on without/);
      assert.deepEqual(await list(), []);
      if (!await page.evaluate(() => Boolean(navigator.storage?.estimate))) return;   // WebKitGTK does not tell
      const small = await page.evaluate(async (url) => {
        const real = navigator.storage.estimate;
        navigator.storage.estimate = async () => ({ quota: 1_000_000, usage: 400_000 });
        const found = await globalThis.load(url);
        navigator.storage.estimate = real;
        return found;
      }, `${files.base}/m`);
      assert.match(small.warnings[0], /11534\d+ bytes are needed, 600000 are free/);
      assert.equal(small.right, true);
    });

    it('by the Cache API where files cannot be written, and not at all where there is neither', async () => {
      const results = await page.evaluate(async (url) => {
        if (navigator.storage) navigator.storage.getDirectory = async () => { throw new DOMException('not here', 'SecurityError'); };
        const first = await globalThis.load(url);
        const second = await globalThis.load(url);
        const { cache } = await import('/js/index.js');
        const kept = await cache.list();
        await cache.remove(url);
        const left = await cache.list();
        caches.open = async () => { throw new DOMException('nor here', 'SecurityError'); };
        const third = await globalThis.load(url);
        delete navigator.storage?.getDirectory;
        delete caches.open;
        return { first, second, kept: kept.map(({ bytes, complete }) => ({ bytes, complete })), left, third };
      }, `${files.base}/m`);
      assert.deepEqual(results.first, { from: ['network'], right: true, warnings: [] });
      assert.deepEqual(results.second, { from: ['cache'], right: true, warnings: [] });
      assert.deepEqual(results.kept, [{ bytes: file.length, complete: true }]);
      assert.deepEqual(results.left, []);
      assert.deepEqual([results.third.from, results.third.right, results.third.warnings.length], [['network'], true, 1]);
      assert.match(results.third.warnings[0], /nor here/);
    });
  });
}
