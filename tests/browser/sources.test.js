/** Pictures and checkpoints in a page, from places that package.test.js does not know: files, SVG, other sites, workers, cameras' EXIF. */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import sharp from 'sharp';
import { image, safetensors } from '../../js/index.js';
import { BROWSERS } from './browsers.mjs';
import { rangeOf, startSite, visit } from './visit.mjs';

const SIZE = 16;
const from = { data: Uint8Array.from({ length: 40 * 30 * 4 }, (_, i) => (i % 4 === 3 ? [0, 255, 90][(i >> 2) % 3] : Math.imul(i, 2654435761) >>> 24)), width: 40, height: 30 };
const raw = { width: 40, height: 30, channels: 4 };
const SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="20" height="20"><rect width="20" height="20" fill="#0a141e"/></svg>';
/** 700 kB, so that it does not come with the first request. */
const weights = { a: { data: Float32Array.from({ length: 100_000 }, (_, i) => i), shape: [100_000] }, b: { data: Float32Array.from({ length: 75_000 }, (_, i) => -i), shape: [75_000] } };
const checkpoint = Buffer.from(safetensors.write(weights));

/** Another site: what it has, and whether pages of other sites may read it. */
async function startOther() {
  const png = await sharp(from.data, { raw }).png().toBuffer();
  const jpeg = await sharp(from.data, { raw }).flatten().jpeg().withMetadata({ orientation: 6 }).toBuffer();
  const large = sharp(Uint8Array.from({ length: 420 * 310 * 4 }, (_, i) => (i % 4 === 3 ? [255, 255, 90, 255, 0][(i >> 2) % 5] : Math.imul(i >> 5, 2654435761) >>> 24)), { raw: { width: 420, height: 310, channels: 4 } });
  const files = {
    '/open/large.png': [await large.clone().png().toBuffer(), 'image/png'], '/open/turned-large.jpg': [await large.clone().flatten().jpeg().withMetadata({ orientation: 6 }).toBuffer(), 'image/jpeg'],
    '/open/a.png': [png, 'image/png'], '/closed/a.png': [png, 'image/png'], '/open/turned.jpg': [jpeg, 'image/jpeg'], '/open/a.svg': [Buffer.from(SVG), 'image/svg+xml'],
    '/open/w.safetensors': [checkpoint, 'application/octet-stream'], '/closed/w.safetensors': [checkpoint, 'application/octet-stream'],
  };
  const site = await startSite((request, response) => {
    const [body, type] = files[request.url] ?? [null, 'text/html'];
    const headers = { 'content-type': type, ...(request.url.startsWith('/open/') && { 'access-control-allow-origin': '*' }) };
    const asked = body && rangeOf(request, body.length);
    if (!body) response.writeHead(404, headers).end('<!doctype html>');
    else if (!asked) response.writeHead(200, headers).end(body);
    else response.writeHead(206, { ...headers, ...asked.headers }).end(body.subarray(asked.begin, asked.end));
  });
  return { ...site, png, jpeg };
}

/** Runs in the page: what an error says, or the value. */
function defineInPage() {
  globalThis.tell = async (promise) => promise.then(({ shape, data }) => ({ shape: [...shape], data: [...data] }), ({ name, code, message }) => ({ name, code, message }));
}

for (const name of BROWSERS) {
  describe(`sources in ${name}`, () => {
    let [page, other, close] = [];
    before(async () => { ({ page, site: other, close } = await visit(name, { site: startOther, inPage: defineInPage })); });
    after(() => close?.());

    it('half-transparent pictures, by address and as bytes, are resized as in Node', async () => {
      const expected = await image.toTensor(other.png, { size: SIZE });
      const found = await page.evaluate(async (url, size) => {
        const { image } = await import('/js/index.js');
        const bytes = new Uint8Array(await (await fetch(url)).arrayBuffer());
        const [b, c] = [bytes, bytes.buffer];
        const text = `data:image/png;base64,${btoa(String.fromCharCode(...bytes))}`;
        return Promise.all([url, new URL(url), b, c, new File([bytes], 'a.png'), text].map((source) => globalThis.tell(image.toTensor(source, { size }))));
      }, `${other.base}/open/a.png`, SIZE);
      const step = 1 / 255 / 0.26;
      for (const { shape, data, message } of found) {
        assert.equal(message, undefined);
        assert.deepEqual(shape, expected.shape);
        // Canvases differ in how they round colours times alpha; most numbers are the same.
        const apart = data.map((value, i) => Math.abs(value - expected.data[i]));
        assert.ok(Math.max(...apart) < 3.1 * step, `${Math.max(...apart) / step} steps`);
        assert.ok(apart.filter((distance) => distance > 0.5 * step).length < data.length * 0.25, `${apart.filter((distance) => distance > 0.5 * step).length} of ${data.length}`);
      }
    });

    it('photographs are turned upright, or not', async () => {
      const shapes = await page.evaluate(async (url) => {
        const { image } = await import('/js/index.js');
        const element = Object.assign(new Image(), { crossOrigin: 'anonymous', src: url });
        const found = [];
        for (const source of [url, element]) {
          for (const orientation of ['from-image', 'none']) found.push((await image.toTensor(source, { resize: 'none', orientation })).shape);
        }
        return found;
      }, `${other.base}/open/turned.jpg`);
      assert.deepEqual(shapes, [[1, 3, 40, 30], [1, 3, 30, 40], [1, 3, 40, 30], [1, 3, 30, 40]]);
    });

    it('SVG, as a file, in an image element and in an SVG image element', async () => {
      const found = await page.evaluate(async (svg, url) => {
        const { image } = await import('/js/index.js');
        const element = Object.assign(new Image(), { crossOrigin: 'anonymous', src: url });
        const inside = document.createElementNS('http://www.w3.org/2000/svg', 'image');
        inside.setAttribute('href', url);
        const options = { size: 4, mean: [0, 0, 0], std: [1, 1, 1] };
        return Promise.all([new Blob([svg], { type: 'image/svg+xml' }), element, inside].map((source) => globalThis.tell(image.toTensor(source, options))));
      }, SVG, `${other.base}/open/a.svg`);
      for (const { data, message } of found) {
        assert.equal(message, undefined);
        assert.deepEqual([0, 16, 32].map((i) => Math.round(data[i] * 255)), [10, 20, 30]);
      }
    });

    it('pictures larger than any canvas of a phone', async () => {
      const { whole, expected } = await page.evaluate(async () => {
        const { image } = await import('/js/index.js');
        const canvas = Object.assign(document.createElement('canvas'), { width: 4200, height: 4100 });
        const context = canvas.getContext('2d');
        for (let i = 0; i < 41; i++) {
          context.fillStyle = `rgb(${i * 6}, ${255 - i * 6}, ${i % 2 * 255})`;
          context.fillRect(0, i * 100, 4200, 100);
        }
        const bytes = new Uint8Array(4200 * 4100 * 3);
        for (let i = 0; i < 41; i++) {
          for (let at = i * 100 * 4200 * 3; at < (i + 1) * 100 * 4200 * 3; at += 3) bytes.set([i * 6, 255 - i * 6, i % 2 * 255], at);
        }
        const options = { size: 41 };
        return { whole: await globalThis.tell(image.toTensor(canvas, options)), expected: await globalThis.tell(image.toTensor({ data: bytes, width: 4200, height: 4100 }, options)) };
      });
      assert.deepEqual(whole, expected);
    });

    it('in a worker', async () => {
      const expected = await image.toTensor(await sharp(from.data, { raw }).removeAlpha().png().toBuffer(), { size: SIZE });
      const opaque = [...await sharp(from.data, { raw }).removeAlpha().png().toBuffer()];
      const found = await page.evaluate(async (bytes, size) => {
        const program = `import { toTensor } from '${location.origin}/js/image.js';
          onmessage = ({ data }) => toTensor(new Blob([data.bytes]), { size: data.size }).then(({ shape, data }) => postMessage({ shape, data: [...data] }), (error) => postMessage({ message: error.message }));
          postMessage('ready');`;
        const worker = new Worker(URL.createObjectURL(new Blob([program], { type: 'text/javascript' })), { type: 'module' });
        const next = () => new Promise((resolve, reject) => { worker.onmessage = ({ data }) => resolve(data); worker.onerror = (event) => reject(new Error(event.message)); });
        await next();
        worker.postMessage({ bytes: new Uint8Array(bytes), size });
        const answer = await next();
        worker.terminate();
        return answer;
      }, opaque, SIZE);
      assert.deepEqual(found, { shape: expected.shape, data: [...expected.data] });
    });

    it('prepared in a worker, or where there can be none, are the same to the last bit', async () => {
      const compare = () => page.evaluate(async (base) => {
        const { image } = await import('/js/index.js');
        let posted = 0;
        const { postMessage } = Worker.prototype;
        Worker.prototype.postMessage = function (...args) { posted++; return postMessage.apply(this, args); };
        const [png, jpeg] = await Promise.all(['large.png', 'turned-large.jpg'].map(async (file) => (await fetch(`${base}/open/${file}`)).blob()));
        const element = Object.assign(new Image(), { crossOrigin: 'anonymous', src: `${base}/open/turned-large.jpg` });
        await element.decode();
        const canvas = Object.assign(document.createElement('canvas'), { width: 400, height: 300 });
        const context = canvas.getContext('2d');
        context.drawImage(element, 0, 0, 400, 300);
        const sources = {
          png, jpeg, bytes: await png.arrayBuffer(), address: `${base}/open/large.png`, element, canvas, data: context.getImageData(0, 0, 400, 300), bitmap: await createImageBitmap(png),
          svg: new Blob(['<svg xmlns="http://www.w3.org/2000/svg" width="300" height="300"><circle cx="150" cy="150" r="99" fill="red"/></svg>'], { type: 'image/svg+xml' }),
        };
        const different = [];
        for (const [what, source] of Object.entries(sources)) {
          for (const options of [{}, { size: [90, 70], crop: false, orientation: 'none' }]) {
            const [here, there] = [await image.toTensor(source, options), await image.toTensor(source, { ...options, worker: true })];
            if (String(here.shape) !== String(there.shape) || here.data.some((value, i) => value !== there.data[i]) || !here.data.some((value) => value !== here.data[0])) different.push(what);
          }
        }
        Worker.prototype.postMessage = postMessage;
        return { different, posted, pictures: Object.keys(sources).length * 2 };
      }, other.base);
      assert.deepEqual(await compare(), { different: [], posted: 18, pictures: 18 });
      // A browser that draws on canvases of the page only: decoded there, resized in the worker, which a picture in SVG then reaches as well.
      await page.evaluate(() => { [globalThis.Offscreen, globalThis.OffscreenCanvas] = [globalThis.OffscreenCanvas, undefined]; });
      assert.deepEqual(await compare(), { different: [], posted: 18, pictures: 18 });
      await page.evaluate(() => { globalThis.OffscreenCanvas = globalThis.Offscreen; });
    });

    for (const worker of [false, true]) it(`what cannot be read says why${worker ? ', with a worker' : ''}`, async () => {
      const errors = await page.evaluate(async (base, worker) => {
        const { image } = await import('/js/index.js');
        const closed = Object.assign(new Image(), { src: `${base}/closed/a.png` });
        const sources = { closed, 'closed URL': `${base}/closed/a.png`, missing: `${base}/open/none.png`, text: new Blob(['no picture'], { type: 'text/plain' }), 'broken element': Object.assign(new Image(), { src: '/none.png' }), 'empty element': new Image(), 'empty canvas': Object.assign(document.createElement('canvas'), { width: 0 }), 'empty video': document.createElement('video'), body: document.body };
        const told = await Promise.all(Object.entries(sources).map(async ([what, source]) => [what, await globalThis.tell(image.toTensor(source, { worker }))]));
        return Object.fromEntries(told);
      }, other.base, worker);
      const patterns = {
        closed: /crossorigin/, 'closed URL': /cannot be fetched.*CORS/, missing: /answered 404/, text: /10 bytes of type text\/plain are no picture/, 'broken element': /did not load .*none.png/,
        'empty element': /did not load anything/, 'empty canvas': /0 x 150/, 'empty video': /video cannot be played/, body: /expected a URL, an image, canvas or video element.*got HTMLBodyElement/,
      };
      for (const [what, pattern] of Object.entries(patterns)) {
        assert.equal(errors[what].code, 'image', `${what}: ${JSON.stringify(errors[what]).slice(0, 200)}`);
        assert.match(errors[what].message, pattern);
      }
    });

    it('checkpoints of another site that hides its headers, and chosen files', async () => {
      const found = await page.evaluate(async (url, bytes) => {
        const { safetensors } = await import('/js/index.js');
        const file = new File([new Uint8Array(bytes)], 'small.safetensors');
        const sums = {};
        for (const [what, source] of Object.entries({ url, file })) {
          const weights = await safetensors.open(source);
          for await (const { name, offset, data } of weights.chunks()) {
            const numbers = new Float32Array(data.slice().buffer);
            sums[`${what} ${name}`] = (sums[`${what} ${name}`] ?? 0) + numbers.reduce((sum, value) => sum + value, 0);
            sums[`${what} ${name} end`] = offset + data.length;
          }
          weights.close();
        }
        return sums;
      }, `${other.base}/open/w.safetensors`, [...safetensors.write({ c: { data: [1, 2, 3], shape: [3] } })]);
      assert.deepEqual(Object.keys(found).filter((key) => key.endsWith('end')).map((key) => found[key]), [400_000, 300_000, 12]);
      assert.ok(Math.abs(found['url a'] / (100_000 * 99_999 / 2) - 1) < 1e-4 && Math.abs(found['url b'] / (-75_000 * 74_999 / 2) - 1) < 1e-4);
      assert.equal(found['file c'], 6);
    });

    it('checkpoints that are refused, missing or given up', async () => {
      const told = await page.evaluate(async (base) => {
        const { safetensors } = await import('/js/index.js');
        const abort = new AbortController();
        const aborted = globalThis.tell(safetensors.open(`${base}/open/w.safetensors`, { signal: abort.signal }));
        abort.abort();
        return [await globalThis.tell(safetensors.open(`${base}/closed/w.safetensors`)), await globalThis.tell(safetensors.open(`${base}/open/none.safetensors`)), await globalThis.tell(safetensors.open('/demo/index.html')), await aborted];
      }, other.base);
      assert.deepEqual(told.map(({ code, name: kind }) => (kind === 'AbortError' ? kind : code)), ['http', 'http', 'html', 'AbortError']);
      assert.match(told[0].message, /CORS/);
      assert.match(told[1].message, /404/);
      assert.match(told[2].message, /expected weights, got an HTML page/);
    });
  });
}
