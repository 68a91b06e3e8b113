/** Checkpoints from servers of every temper: with and without ranges, cut connections, pages in place of weights. */
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { after, before, beforeEach, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { gzipSync } from 'node:zlib';
import { LamellaError, safetensors } from '../../js/index.js';

const KB = 1024;
/** About 3.7 MB: larger than the first request, with gaps worth skipping and others that are not. */
const SIZES = { a: 400 * KB, b: 10 * KB, c: 1200 * KB, d: 5, e: 2000 * KB, f: 100 * KB };
const tensors = Object.fromEntries(Object.entries(SIZES).map(([name, size], i) => [name, { data: Uint8Array.from({ length: size }, (_, k) => (k * 7 + (k >> 8) + i) & 255), shape: [size] }]));
const file = Buffer.from(safetensors.write(tensors));

describe('a server', () => {
  /** What the server was asked: method, path and range. */
  let asked = [];
  /** Connections that are open. */
  const sockets = new Set();
  let base;
  /** What the server does at a path. @type {Record<string, (request: import('node:http').IncomingMessage, response: import('node:http').ServerResponse) => void>} */
  const paths = {};
  const server = createServer((request, response) => {
    const { pathname } = new URL(request.url, 'http://x');
    asked.push({ path: pathname, range: request.headers.range, headers: request.headers });
    const handler = paths[pathname];
    if (handler) handler(request, response);
    else response.writeHead(404, { 'content-type': 'text/html' }).end('<html>not found</html>');
  });
  server.on('connection', (socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
  });

  before(() => new Promise((resolve) => { server.listen(0, '127.0.0.1', () => { base = `http://127.0.0.1:${server.address().port}`; resolve(); }); }));
  after(() => { server.closeAllConnections(); server.close(); });
  beforeEach(() => { asked = []; });

  const rangeOf = (request, length = file.length) => {
    const [, begin, end] = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range) ?? [];
    return begin === undefined ? null : [Number(begin), Math.min(length - 1, end ? Number(end) : length - 1)];
  };
  /** Answers a range request, up to `cut` bytes of the body. */
  const partial = (request, response, { body = file, cut = Infinity, headers = {} } = {}) => {
    const [begin, end] = rangeOf(request, body.length);
    response.writeHead(206, { 'content-range': `bytes ${begin}-${end}/${body.length}`, 'content-length': end - begin + 1, ...headers });
    const bytes = body.subarray(begin, end + 1);
    if (cut >= bytes.length) response.end(bytes);
    else response.write(bytes.subarray(0, cut), () => setImmediate(() => response.destroy()));
  };
  const whole = (response, body = file, headers = {}) => response.writeHead(200, { 'content-length': body.length, ...headers }).end(body);

  async function read(weights, names, options) {
    const found = {};
    for await (const { name, offset, data } of weights.chunks(names, options)) {
      found[name] ??= new Uint8Array(weights.get(name).bytes);
      found[name].set(data, offset);
    }
    for (const [name, bytes] of Object.entries(found)) assert.ok(Buffer.from(bytes).equals(Buffer.from(tensors[name].data)), name);
    return Object.keys(found);
  }

  const rejected = (promise, code, pattern) => assert.rejects(promise, (error) => {
    assert.ok(error instanceof LamellaError, error.stack);
    assert.equal(error.code, code, error.message);
    assert.match(error.message, pattern);
    return true;
  });

  it('with ranges: just what is wanted, neighbours in one request', async () => {
    paths['/range'] = (request, response) => partial(request, response);
    const weights = await safetensors.open(`${base}/range`);
    assert.deepEqual(asked.map(({ range }) => range), ['bytes=0-262143']);
    assert.equal(weights.get('e').bytes, SIZES.e);
    assert.deepEqual(await read(weights, ['f', 'a', 'c']), ['a', 'c', 'f']);
    const begin = 262144;
    const head = file.length - Object.values(SIZES).reduce((a, b) => a + b);
    const first = head + SIZES.a + SIZES.b + SIZES.c;
    const second = first + SIZES.d + SIZES.e;
    // a begins in what came with the header, b lies in a gap too small to skip, d and e in one that is worth it.
    assert.deepEqual(asked.slice(1).map(({ range }) => range).sort(), [`bytes=${begin}-${first - 1}`, `bytes=${second}-${second + SIZES.f - 1}`]);
    assert.ok(asked.every(({ headers }) => headers['accept-encoding'] === 'identity'));
    asked = [];
    assert.equal((await weights.tensor('d')).data.length, 5);
    assert.equal(asked.length, 1);
    assert.deepEqual(await read(weights), ['a', 'b', 'c', 'd', 'e', 'f']);
  });

  it('with ranges: a small file comes with the first request', async () => {
    const small = Buffer.from(safetensors.write({ d: tensors.d }));
    paths['/small'] = (request, response) => partial(request, response, { body: small });
    const weights = await safetensors.open(new URL(`${base}/small`));
    await read(weights);
    assert.equal(asked.length, 1);
  });

  it('without ranges: one stream, no second download', async () => {
    paths['/stream'] = (request, response) => whole(response);
    const weights = await safetensors.open(`${base}/stream`);
    assert.deepEqual(await read(weights, ['c', 'e']), ['c', 'e']);
    assert.equal(asked.length, 1);
    assert.deepEqual(await read(weights, ['f']), ['f']);
    assert.equal(asked.length, 1);
    // What has gone by is fetched again.
    assert.equal((await weights.tensor('d')).data.length, 5);
    assert.equal(asked.length, 2);
    weights.close();
  });

  it('without ranges: two readers at once', async () => {
    paths['/stream2'] = (request, response) => whole(response);
    const weights = await safetensors.open(`${base}/stream2`);
    const [, d] = await Promise.all([read(weights), weights.tensor('d')]);
    assert.equal(d.data.length, 5);
    assert.equal(asked.length, 2);
  });

  it('that compresses', async () => {
    paths['/gzip'] = (request, response) => whole(response, gzipSync(file), { 'content-encoding': 'gzip' });
    await read(await safetensors.open(`${base}/gzip`));
    assert.equal(asked.length, 1);
    // Ranges of the compressed file are of no use.
    const zipped = gzipSync(file);
    paths['/gzip-range'] = (request, response) => (request.headers.range ? partial(request, response, { body: zipped, headers: { 'content-encoding': 'gzip' } }) : whole(response, zipped, { 'content-encoding': 'gzip' }));
    await read(await safetensors.open(`${base}/gzip-range`));
  });

  it('that does not tell sizes', async () => {
    paths['/chunked'] = (request, response) => { response.writeHead(200); response.end(file); };
    await read(await safetensors.open(`${base}/chunked`));
    // Another site's Content-Range is hidden from pages.
    paths['/hidden'] = (request, response) => {
      const [begin, end] = rangeOf(request);
      response.writeHead(206, { 'content-length': end - begin + 1 }).end(file.subarray(begin, end + 1));
    };
    await read(await safetensors.open(`${base}/hidden`));
    paths['/star'] = (request, response) => partial(request, response, { headers: { 'content-range': `bytes ${rangeOf(request).join('-')}/*` } });
    await read(await safetensors.open(`${base}/star`));
  });

  it('that redirects', async () => {
    paths['/resolve/model'] = (request, response) => response.writeHead(302, { location: '/storage/1234?signed' }).end();
    paths['/storage/1234'] = (request, response) => partial(request, response);
    await read(await safetensors.open(`${base}/resolve/model`), ['c']);
    paths['/loop'] = (request, response) => response.writeHead(302, { location: '/loop' }).end();
    await rejected(safetensors.open(`${base}/loop`), 'http', /cannot be fetched/);
  });

  it('gets the caller\'s headers', async () => {
    paths['/secret'] = (request, response) => (request.headers.authorization === 'Bearer x' ? partial(request, response) : response.writeHead(401).end());
    await rejected(safetensors.open(`${base}/secret`), 'http', /401/);
    await read(await safetensors.open(`${base}/secret`, { request: { headers: { authorization: 'Bearer x' } } }), ['e']);
    assert.ok(asked.slice(1).every(({ headers }) => headers.authorization && headers.range));
  });

  it('that says no', async () => {
    await rejected(safetensors.open(`${base}/missing`), 'http', /\/missing: the server answered 404 Not Found/);
    for (const status of [403, 500, 503, 204]) {
      paths['/no'] = (request, response) => response.writeHead(status).end();
      await rejected(safetensors.open(`${base}/no`), 'http', new RegExp(`answered ${status}`));
    }
    paths['/416'] = (request, response) => response.writeHead(416, { 'content-range': 'bytes */0' }).end();
    await rejected(safetensors.open(`${base}/416`), 'http', /416 Range Not Satisfiable for bytes=0-262143: the file has 0 bytes/);
    await rejected(safetensors.open('http://127.0.0.1:1/x'), 'http', /cannot be fetched: .*(ECONNREFUSED|bad port)/);
  });

  it('that says no in the middle', async () => {
    paths['/later'] = (request, response) => (asked.length === 1 ? partial(request, response) : response.writeHead(416, { 'content-range': 'bytes */10' }).end());
    const weights = await safetensors.open(`${base}/later`);
    await rejected(read(weights), 'http', /416.*the file has 10 bytes/);
    assert.equal(asked.length, 2);
  });

  it('that sends a page', async () => {
    paths['/page'] = (request, response) => response.writeHead(200, { 'content-type': 'text/html; charset=utf-8' }).end('<!doctype html>');
    await rejected(safetensors.open(`${base}/page`), 'html', /expected weights, got an HTML page \(content type text\/html/);
    paths['/page206'] = (request, response) => partial(request, response, { body: Buffer.from('<!DOCTYPE html><title>hello</title>') });
    await rejected(safetensors.open(`${base}/page206`), 'html', /got an HTML page: "<!DOCTYPE html>/);
    paths['/page200'] = (request, response) => whole(response, Buffer.from('<html lang="en"><title>hello</title>'));
    await rejected(safetensors.open(`${base}/page200`), 'html', /got an HTML page: "<html lang/);
  });

  it('that breaks off, and goes on when asked for the rest', async () => {
    let cuts = 2;
    paths['/cut'] = (request, response) => partial(request, response, asked.length > 1 && cuts-- > 0 ? { cut: 700 * KB } : {});
    const weights = await safetensors.open(`${base}/cut`);
    await read(weights, ['c', 'd', 'e']);
    const begins = asked.slice(1).map(({ range }) => Number(/=(\d+)/.exec(range)[1]));
    assert.equal(begins.length, 3);
    assert.ok(begins[1] > begins[0] && begins[1] - begins[0] <= 700 * KB, begins.join());
    assert.ok(begins[2] > begins[1], begins.join());
  });

  it('that breaks off in the header', async () => {
    paths['/cut-head'] = (request, response) => partial(request, response, asked.length === 1 ? { cut: 10 } : {});
    await read(await safetensors.open(`${base}/cut-head`));
  });

  it('that breaks off for good', async () => {
    paths['/dead'] = (request, response) => (asked.length < 3 ? partial(request, response, asked.length === 2 ? { cut: 500 * KB } : {}) : response.destroy());
    const weights = await safetensors.open(`${base}/dead`);
    await rejected(read(weights, ['e']), 'truncated', /\/dead: expected 2048000 bytes from byte \d+ on, got [1-9]\d* \(.*(socket|closed|terminated).*\)/);
    assert.ok(asked.length <= 5, `${asked.length}`);
  });

  it('without ranges that breaks off', async () => {
    paths['/cut200'] = (request, response) => {
      response.writeHead(200, { 'content-length': file.length });
      response.write(file.subarray(0, 1000 * KB), () => setImmediate(() => response.destroy()));
    };
    await rejected((async () => read(await safetensors.open(`${base}/cut200`)))(), 'truncated', /\/cut200: expected \d+ bytes from byte \d+ on, got \d+ \(/);
    paths['/short200'] = (request, response) => whole(response, file.subarray(0, 1000 * KB));
    await rejected(safetensors.open(`${base}/short200`), 'safetensors', /truncated: expected \d+ bytes, got 1024000; tensor "c" ends/);
    paths['/short-chunked'] = (request, response) => { response.writeHead(200); response.end(file.subarray(0, 1000 * KB)); };
    await rejected((async () => read(await safetensors.open(`${base}/short-chunked`)))(), 'truncated', /expected \d+ bytes/);
  });

  it('whose file changes meanwhile, or that sends another part', async () => {
    paths['/changed'] = (request, response) => partial(request, response, { headers: { etag: `"${asked.length}"` } });
    await rejected((async () => read(await safetensors.open(`${base}/changed`)))(), 'http', /has changed on the server/);
    asked = [];
    paths['/resized'] = (request, response) => partial(request, response, asked.length > 1 ? { body: Buffer.concat([file, file]) } : {});
    await rejected((async () => read(await safetensors.open(`${base}/resized`)))(), 'http', /has changed on the server/);
    asked = [];
    paths['/other'] = (request, response) => partial(request, response, asked.length > 1 ? { headers: { 'content-range': `bytes 5-${file.length - 1}/${file.length}`} } : {});
    await rejected((async () => read(await safetensors.open(`${base}/other`)))(), 'http', /asked for bytes from \d+ on, the server sent those from 5/);
  });

  it('that forgets about ranges after the first', async () => {
    paths['/forgets'] = (request, response) => (asked.length === 1 ? partial(request, response) : whole(response));
    await read(await safetensors.open(`${base}/forgets`), ['e', 'f']);
  });

  it('with shards beside their index', async () => {
    const shards = { 'model-00001-of-000002.safetensors': ['a', 'd'], 'model-00002-of-000002.safetensors': ['b', 'c', 'e', 'f'] };
    const weightMap = {};
    for (const [name, list] of Object.entries(shards)) {
      const bytes = Buffer.from(safetensors.write(Object.fromEntries(list.map((tensor) => [tensor, tensors[tensor]]))));
      paths[`/repo/${name}`] = (request, response) => partial(request, response, { body: bytes });
      for (const tensor of list) weightMap[tensor] = name;
    }
    const index = Buffer.from(JSON.stringify({ metadata: { total_size: 1 }, weight_map: weightMap }));
    for (const path of ['/repo/model.safetensors.index.json', '/repo/index-as-stream']) {
      paths[path] = (request, response) => (path.endsWith('json') ? partial(request, response, { body: index, headers: { 'content-type': 'application/json' } }) : whole(response, index));
      const weights = await safetensors.open(`${base}${path}?download=true`);
      assert.deepEqual((await read(weights)).sort(), Object.keys(SIZES));
    }
    delete paths['/repo/model-00002-of-000002.safetensors'];
    await rejected(safetensors.open(`${base}/repo/model.safetensors.index.json`), 'http', /model-00002-of-000002.safetensors: the server answered 404/);
  });

  describe('abort', () => {
    const idle = async () => {
      for (let i = 0; i < 100 && [...sockets].some((socket) => socket.bytesWritten && socket.writableLength); i++) await sleep(20);
      return [...sockets].every((socket) => !socket.writableLength);
    };

    it('before the server answers', async () => {
      paths['/silent'] = () => {};
      const abort = new AbortController();
      const reason = new Error('no patience');
      setTimeout(() => abort.abort(reason), 30);
      await assert.rejects(safetensors.open(`${base}/silent`, { signal: abort.signal }), reason);
      await assert.rejects(safetensors.open(`${base}/silent`, { signal: /** @type {any} */ (5) }), { code: 'argument', message: /signal: expected an AbortSignal, got 5/ });
    });

    it('while the header, the body or the next request comes', async () => {
      for (const stop of ['header', 'body', 'silent body', 'stream']) {
        paths['/slow'] = (request, response) => {
          if (stop === 'stream') {
            response.writeHead(200, { 'content-length': file.length });
            response.write(file.subarray(0, 2000 * KB));
          } else if (stop === 'header' || (stop !== 'body' && asked.length > 1)) {
            const [begin, end] = rangeOf(request);
            response.writeHead(206, { 'content-range': `bytes ${begin}-${end}/${file.length}` });
            response.write(file.subarray(begin, begin + 5));
          } else partial(request, response);
        };
        asked = [];
        const abort = new AbortController();
        const loading = (async () => {
          const weights = await safetensors.open(`${base}/slow`, { signal: abort.signal });
          for await (const { name } of weights.chunks(['a', 'e', 'f'], { signal: abort.signal })) if (stop === 'body' && name === 'e') abort.abort();
        })();
        if (stop !== 'body') setTimeout(() => abort.abort(), 60);
        await assert.rejects(loading, { name: 'AbortError' }, stop);
        assert.ok(await idle(), `${stop}: a connection is still sending`);
      }
    });

    it('between retries', async () => {
      paths['/flaky'] = (request, response) => (asked.length === 1 ? partial(request, response) : response.destroy());
      const weights = await safetensors.open(`${base}/flaky`);
      setTimeout(() => abort.abort(), 100);
      const abort = new AbortController();
      const began = performance.now();
      await assert.rejects(read(weights, ['e'], { signal: abort.signal }), { name: 'AbortError' });
      assert.ok(performance.now() - began < 280);
    });

    it('leaves the checkpoint readable', async () => {
      paths['/again'] = (request, response) => partial(request, response);
      const weights = await safetensors.open(`${base}/again`);
      const abort = new AbortController();
      await assert.rejects(async () => { for await (const { name } of weights.chunks(undefined, { signal: abort.signal })) abort.abort(name); });
      await read(weights);
    });

    it('a loop that is left drops the request', async () => {
      paths['/endless'] = (request, response) => {
        if (asked.length === 1) return partial(request, response);
        const [begin, end] = rangeOf(request);
        response.writeHead(206, { 'content-range': `bytes ${begin}-${end}/${file.length}` });
        return response.write(file.subarray(begin, end));
      };
      const weights = await safetensors.open(`${base}/endless`);
      for await (const { name } of weights.chunks(['e', 'f'])) {
        assert.equal(name, 'e');
        break;
      }
      assert.ok(await idle());
    });
  });
});
