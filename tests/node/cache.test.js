/** Downloads that are kept: resumed, verified, shared, refused; from servers that cut, lie and change their files. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import fsPromises from 'node:fs/promises';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, beforeEach, describe, it } from 'node:test';
import { cache, compile, LamellaError, nn, safetensors } from '../../js/index.js';
import { Sha256 } from '../../js/cache/sha256.js';
import { defaultFolder } from '../../js/cache/folder.js';
import { openSource } from '../../js/weights/source.js';

const MB = 1 << 20;
/** About 14 MB: four segments of the cache. */
const SIZES = { a: 5 * MB, b: 10_000, c: 6 * MB + 123, d: 3 * MB };
const contents = (seed) => Object.fromEntries(Object.entries(SIZES).map(([name, size], i) => [name, { data: Uint8Array.from({ length: size }, (_, k) => (k * 7 + (k >> 8) * 3 + (k >> 16) + i + seed) & 255), shape: [size] }]));
const tensors = contents(0);
const file = Buffer.from(safetensors.write(tensors));
const other = Buffer.from(safetensors.write(contents(1)));
const sum = (bytes) => createHash('sha256').update(bytes).digest('hex');

describe('sha256 in JavaScript', () => {
  it('is that of Node', () => {
    for (let length = 0; length < 200; length++) {
      const bytes = file.subarray(1000, 1000 + length);
      const hash = new Sha256();
      hash.update(bytes.subarray(0, length >> 1));
      hash.update(bytes.subarray(length >> 1));
      assert.equal(hash.hex(), sum(bytes), `${length} bytes`);
    }
  });
});

describe('a download that is kept', () => {
  let folder;
  let base;
  /** What was asked. */
  let asked = [];
  const paths = {};
  const server = createServer((request, response) => {
    const { pathname } = new URL(request.url, 'http://x');
    asked.push(`${request.method} ${request.headers.range ?? 'whole'}`);
    if (paths[pathname]) paths[pathname](request, response);
    else response.writeHead(404).end();
  });
  before(() => new Promise((resolve) => { server.listen(0, '127.0.0.1', () => { base = `http://127.0.0.1:${server.address().port}`; resolve(); }); }));
  after(() => { server.closeAllConnections(); server.close(); });
  beforeEach(() => {
    asked = [];
    folder = mkdtempSync(join(tmpdir(), 'lamella-cache-'));
    for (const path of Object.keys(paths)) delete paths[path];
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  const whole = (response, body, headers = {}) => response.writeHead(200, { 'content-length': body.length, ...headers }).end(body);
  /** Answers ranges; `cut`: the connection ends after so many bytes of the file. */
  const ranged = ({ body = file, headers = { etag: '"1"' }, cut = Infinity } = {}) => (request, response) => {
    const [, first, last] = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range) ?? [];
    if (first === undefined) return whole(response, body, headers);
    const [begin, end] = [Number(first), Math.min(body.length, last ? Number(last) + 1 : Infinity)];
    response.writeHead(206, { 'content-range': `bytes ${begin}-${end - 1}/${body.length}`, 'content-length': end - begin, ...headers });
    if (cut >= end) return response.end(body.subarray(begin, end));
    return response.write(body.subarray(begin, Math.max(begin, cut)), () => setTimeout(() => response.destroy(), 20));
  };
  const warnings = [];
  const open = (path, options = {}, more = {}) => safetensors.open(`${base}${path}`, { cache: { folder, warn: (error) => warnings.push(error), ...options }, ...more });
  async function read(weights, expected = tensors, names = undefined, options = {}) {
    const found = {};
    const from = new Set();
    for await (const { name, offset, data, from: origin } of weights.chunks(names, options)) {
      found[name] ??= new Uint8Array(weights.get(name).bytes);
      found[name].set(data, offset);
      from.add(origin);
    }
    for (const [name, bytes] of Object.entries(found)) assert.ok(Buffer.from(bytes).equals(Buffer.from(expected[name].data)), name);
    return [...from];
  }
  /** Opens, reads, closes; returns where the bytes came from. */
  async function load(path, options = {}, expected = tensors, more = {}) {
    const weights = await open(path, options, more);
    try {
      return await read(weights, expected, undefined, more);
    } finally {
      await weights.close();
    }
  }
  const rejected = (promise, code, pattern) => assert.rejects(promise, (error) => {
    assert.ok(error instanceof LamellaError, error.stack);
    assert.equal(error.code, code, error.message);
    assert.match(error.message, pattern);
    return true;
  });
  const kept = async () => (await cache.list({ folder })).map(({ bytes, complete }) => ({ bytes, complete }));

  it('comes from the server once', async () => {
    paths['/m.safetensors'] = ranged();
    assert.deepEqual(await load('/m.safetensors'), ['network']);
    assert.deepEqual(asked, ['GET bytes=0-262143', 'GET bytes=262144-' + (file.length - 1)].slice(0, asked.length));
    asked = [];
    assert.deepEqual(await load('/m.safetensors'), ['cache']);
    assert.deepEqual(asked, []);
    const [entry] = await cache.list({ folder });
    assert.deepEqual([entry.url, entry.bytes, entry.size, entry.complete], [`${base}/m.safetensors`, file.length, file.length, true]);
    assert.ok(Date.now() - entry.time < 60_000);
    const names = readdirSync(folder).sort();
    assert.equal(names.length, 2, names.join());
    assert.ok(readFileSync(join(folder, names[0])).equals(file), 'the file itself lies there');
  });

  it('with compile: progress says where it comes from', async () => {
    const module = new nn.Linear(300, 4000);
    const numbers = (length) => Float32Array.from({ length }, (_, i) => Math.sin(i));
    paths['/linear'] = ranged({ body: Buffer.from(safetensors.write({ weight: { data: numbers(1_200_000), shape: [4000, 300] }, bias: { data: numbers(4000), shape: [4000] } })) });
    for (const origin of ['network', 'cache']) {
      const from = new Set();
      const model = await compile(module, { weights: `${base}/linear`, inputs: [[1, 300]], cache: { folder }, onProgress: (progress) => from.add(progress.from) });
      model.dispose();
      assert.deepEqual([...from], [origin]);
    }
    await assert.rejects(compile(module, { weights: `${base}/linear`, inputs: [[1, 300]], cache: { where: folder } }), { code: 'argument', message: /cache: there is no option "where"; known: folder/ });
    await assert.rejects(open('/linear', { sha256: 'abc' }), { code: 'argument', message: /cache: sha256: expected 64 hexadecimal digits/ });
  });

  it('a half goes on where it stopped', async () => {
    paths['/m'] = ranged({ cut: 10 * MB });
    await rejected(load('/m'), 'truncated', /got/);
    const [{ bytes, complete }] = await kept();
    assert.ok(!complete && bytes > 4 * MB && bytes <= 10 * MB, String(bytes));
    paths['/m'] = ranged();
    asked = [];
    assert.deepEqual(await load('/m', { sha256: sum(file) }), ['cache', 'network']);
    assert.deepEqual(asked, ['GET bytes=0-262143', `GET bytes=${bytes}-${file.length - 1}`]);
    assert.deepEqual(await kept(), [{ bytes: file.length, complete: true }]);
    assert.equal((await cache.list({ folder }))[0].sha256, sum(file));
  });

  it('an AbortSignal leaves a half, and nothing open', async () => {
    paths['/m'] = ranged();
    const controller = new AbortController();
    const weights = await open('/m', {}, { signal: controller.signal });
    await assert.rejects(async () => {
      for await (const { name } of weights.chunks(undefined, { signal: controller.signal })) if (name === 'c') controller.abort(new Error('enough'));
    }, /enough/);
    const [{ bytes, complete }] = await kept();
    assert.ok(!complete && bytes > 5 * MB && bytes < file.length);
    await weights.close();
    assert.deepEqual(await load('/m'), ['cache', 'network']);
  });

  it('an index and its shards', async () => {
    const shards = { 'x-1.safetensors': ['a', 'b'], 'x-2.safetensors': ['c', 'd'] };
    const map = Object.fromEntries(Object.entries(shards).flatMap(([name, keys]) => keys.map((key) => [key, name])));
    const bodies = Object.fromEntries(Object.entries(shards).map(([name, keys]) => [name, Buffer.from(safetensors.write(Object.fromEntries(keys.map((key) => [key, tensors[key]]))))]));
    paths['/model.safetensors.index.json'] = ranged({ body: Buffer.from(JSON.stringify({ weight_map: map })) });
    for (const [name, body] of Object.entries(bodies)) paths[`/${name}`] = ranged({ body });
    const sha256 = Object.fromEntries(Object.entries(bodies).map(([name, body]) => [name, sum(body)]));
    assert.deepEqual(await load('/model.safetensors.index.json', { sha256 }), ['network']);
    asked = [];
    assert.deepEqual(await load('/model.safetensors.index.json', { sha256 }), ['cache']);
    assert.deepEqual(asked, []);
    assert.equal((await cache.list({ folder })).length, 3);
    await cache.remove(`${base}/x-1.safetensors`, { folder });
    assert.equal((await cache.list({ folder })).length, 2);
    await cache.clear({ folder });
    assert.deepEqual(readdirSync(folder), []);
  });

  it('a server that ignores ranges, and one that does not tell sizes', async () => {
    paths['/m'] = (request, response) => whole(response, file, { 'last-modified': 'Sat, 01 Jan 2000 00:00:00 GMT' });
    const controller = new AbortController();
    await assert.rejects(load('/m', {}, tensors, { signal: AbortSignal.any([controller.signal, AbortSignal.timeout(1)]) }));
    assert.ok((await load('/m')).includes('network'));
    assert.deepEqual(await load('/m'), ['cache']);
    paths['/n'] = (request, response) => { response.writeHead(200); response.end(file); };
    assert.deepEqual(await load('/n'), ['network']);
    assert.deepEqual(await load('/n'), ['cache']);
  });

  it('a half without ranges is read over', async () => {
    let cut = true;
    paths['/m'] = (request, response) => {
      if (!cut) return whole(response, file, { etag: '"1"' });
      response.writeHead(200, { 'content-length': file.length, etag: '"1"' });
      return response.write(file.subarray(0, 9 * MB), () => setTimeout(() => response.destroy(), 20));
    };
    await rejected(load('/m'), 'truncated', /got/);
    assert.ok((await kept())[0].bytes > 4 * MB);
    cut = false;
    assert.deepEqual(await load('/m'), ['cache', 'network']);
  });

  it('a file that changes: between visits it is fetched anew, midway it is an error', async () => {
    paths['/m'] = ranged({ cut: 10 * MB });
    await rejected(load('/m'), 'truncated', /got/);
    paths['/m'] = ranged({ body: other, headers: { etag: '"2"' } });
    assert.deepEqual(await load('/m', {}, contents(1)), ['network']);

    let answers = 0;
    paths['/n'] = (request, response) => (answers++ ? ranged({ body: other, headers: { etag: '"2"' } }) : ranged())(request, response);
    await rejected(load('/n'), 'http', /the file has changed on the server while it was read/);
    assert.equal((await cache.list({ folder })).length, 1, 'the half is forgotten');
    assert.deepEqual(await load('/n', {}, contents(1)), ['network']);
  });

  it('of a file that changed after it was kept, what came before the connection ended is not taken for the old one', async () => {
    paths['/m'] = ranged();
    await load('/m');
    paths['/m'] = ranged({ body: other, headers: { etag: '"2"' }, cut: 6 * MB });
    await rejected(load('/m', { revalidate: true }, contents(1)), 'truncated', /got/);
    paths['/m'] = ranged({ body: other, headers: { etag: '"2"' } });
    assert.ok((await load('/m', {}, contents(1))).includes('network'));
    assert.deepEqual(await load('/m', {}, contents(1)), ['cache']);
  });

  it('without anything that tells versions apart a half is not continued, with a sum it is', async () => {
    for (const [sha256, from] of [[undefined, ['network']], [sum(file), ['cache', 'network']]]) {
      paths['/m'] = ranged({ headers: {}, cut: 10 * MB });
      await rejected(load('/m'), 'truncated', /got/);
      paths['/m'] = ranged({ headers: {} });
      assert.deepEqual(await load('/m', { sha256 }), from);
      await cache.clear({ folder });
    }
  });

  it('a wrong sum is an error, and nothing of it is kept', async () => {
    paths['/m'] = ranged({ body: other });
    await rejected(load('/m', { sha256: sum(file) }, contents(1)), 'checksum', new RegExp(`expected sha256 ${sum(file)}, got ${sum(other)}`));
    assert.deepEqual(readdirSync(folder), []);
    // Also where the tensors that are wanted end long before the file.
    const weights = await open('/m', { sha256: sum(file) });
    await rejected(read(weights, contents(1), ['a']), 'checksum', /expected sha256/);
    await weights.close();
    // What lies here is not what is wanted now.
    assert.deepEqual(await load('/m', { sha256: sum(other) }, contents(1)), ['network']);
    paths['/m'] = ranged({ headers: { etag: '"2"' } });
    assert.deepEqual(await load('/m', { sha256: sum(file).toUpperCase() }), ['network']);
    assert.deepEqual(await load('/m', { sha256: sum(file) }), ['cache']);
  });

  it("Hugging Face's sum: with the answer, or where it sends on", async () => {
    paths['/direct'] = ranged({ headers: { etag: '"1"', 'x-linked-etag': `"${sum(other)}"` } });
    await rejected(load('/direct'), 'checksum', /expected sha256/);
    paths['/resolve'] = (request, response) => response.writeHead(302, { location: '/storage', 'x-linked-etag': `"${sum(other)}"` }).end();
    paths['/storage'] = ranged();
    await rejected(load('/resolve'), 'checksum', /expected sha256/);
    paths['/resolve'] = (request, response) => response.writeHead(302, { location: '/storage', 'x-linked-etag': `"${sum(file)}"` }).end();
    assert.deepEqual(await load('/resolve'), ['network']);
    assert.equal((await cache.list({ folder }))[0].sha256, sum(file));
  });

  it('a server that lies about the size', async () => {
    for (const claimed of [file.length + 1000, file.length - 1000]) {
      paths['/m'] = (request, response) => {
        const [, begin, end] = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range);
        const bytes = file.subarray(Number(begin), Math.min(file.length, Number(end) + 1, claimed));
        response.writeHead(206, { 'content-range': `bytes ${begin}-${Math.min(end, claimed - 1)}/${claimed}`, etag: '"1"' }).end(bytes);
      };
      await assert.rejects(load('/m'), { name: 'LamellaError', code: 'safetensors' });
      assert.deepEqual(await cache.list({ folder }), []);
    }
  });

  it('revalidate asks; without a server what is there is used', async () => {
    paths['/m'] = ranged();
    await load('/m');
    asked = [];
    assert.deepEqual(await load('/m', { revalidate: true }), ['cache']);
    assert.equal(asked.length, 1);
    paths['/m'] = ranged({ body: other, headers: { etag: '"2"' } });
    assert.deepEqual(await load('/m'), ['cache']);
    assert.deepEqual(await load('/m', { revalidate: true }, contents(1)), ['network']);
    paths['/m'] = (request, response) => response.writeHead(503).end();
    assert.deepEqual(await load('/m', { revalidate: true }, contents(1)), ['cache']);
  });

  it('a part of an address behind # is not of the file; a reader gets what it asked for and no more', async () => {
    paths['/m'] = ranged();
    assert.deepEqual(await load('/m#first'), ['network']);
    assert.deepEqual(await load('/m#second'), ['cache']);
    paths['/n'] = ranged();
    const source = await openSource(`${base}/n`, { cache: { folder } });
    for (const [begin, end] of [[0, 1000], [500, 3 * MB], [2 * MB + 1, 2 * MB + 2], [5 * MB, 5 * MB + 77]]) {
      const pieces = [];
      for await (const piece of source.stream(begin, end)) pieces.push(Buffer.from(piece));
      assert.ok(Buffer.concat(pieces).equals(file.subarray(begin, end)), `${begin} to ${end}`);
    }
    await source.close();
  });

  it('where a program ended after the last byte and before the note of it, the file is whole', async () => {
    paths['/m'] = ranged();
    await load('/m');
    const [path] = readdirSync(folder).filter((name) => !name.endsWith('.json')).map((name) => join(folder, name));
    const note = JSON.parse(readFileSync(`${path}.json`, 'utf8'));
    for (const options of [{}, { sha256: sum(file) }]) {
      renameSync(path, `${path}.part`);
      writeFileSync(`${path}.json`, JSON.stringify({ ...note, complete: false }));
      assert.deepEqual(await load('/m', options), ['cache']);
      assert.deepEqual(await kept(), [{ bytes: file.length, complete: true }]);
    }
  });

  it('a half whose rest has room goes on', async (t) => {
    paths['/m'] = ranged({ cut: 10 * MB });
    await rejected(load('/m'), 'truncated', /got/);
    paths['/m'] = ranged();
    t.mock.method(fsPromises, 'statfs', async () => ({ bavail: 6 * MB / 4096, bsize: 4096 }));
    warnings.length = 0;
    assert.deepEqual((await load('/m')).sort(), ['cache', 'network']);
    assert.deepEqual([warnings, await kept()], [[], [{ bytes: file.length, complete: true }]]);
  });

  it('several readers of one download', async () => {
    paths['/m'] = ranged();
    const weights = await open('/m');
    const [, d, a] = await Promise.all([read(weights), weights.tensor('d'), weights.tensor('a')]);
    assert.ok(Buffer.from(d.data).equals(Buffer.from(tensors.d.data)) && Buffer.from(a.data).equals(Buffer.from(tensors.a.data)));
    await weights.close();
    assert.deepEqual(await kept(), [{ bytes: file.length, complete: true }]);
    assert.ok(asked.length <= 3, asked.join());
  });

  it('two downloads of the same file at once: one is kept', async () => {
    paths['/m'] = ranged();
    const from = await Promise.all([load('/m'), load('/m'), load('/m')]);
    assert.deepEqual(from, [['network'], ['network'], ['network']]);
    assert.deepEqual(await kept(), [{ bytes: file.length, complete: true }]);
    assert.deepEqual(await load('/m', { sha256: undefined }), ['cache']);
    assert.equal(readdirSync(folder).filter((name) => name.endsWith('.lock')).length, 0);
  });

  it('a lock of a program that is gone, and of one that is not', async () => {
    paths['/m'] = ranged();
    await load('/m');
    const lock = join(folder, `${readdirSync(folder).find((name) => !name.endsWith('.json'))}.lock`);
    await cache.clear({ folder });
    writeFileSync(lock, String(spawnSync(process.execPath, ['-e', '']).pid));
    await load('/m');
    assert.equal((await kept()).length, 1);
    await cache.clear({ folder });
    const start = Math.round(Date.now() / 1000 - process.uptime());
    for (const holder of [`${process.pid}`, `${process.pid} ${start}`, `${process.ppid} ${start}`]) {
      writeFileSync(lock, holder);
      await load('/m');
      assert.deepEqual(await kept(), [], holder);
    }
    writeFileSync(lock, `${process.pid} ${start - 1000}`);   // of one that had the same number, as in a container each may have
    await load('/m');
    assert.equal((await kept()).length, 1);
    await cache.clear({ folder });
    writeFileSync(lock, '');   // just made, and made by one that was ended before it wrote
    await load('/m');
    assert.deepEqual(await kept(), []);
    utimesSync(lock, new Date(), new Date(Date.now() - 100_000));
    await load('/m');
    assert.equal((await kept()).length, 1);
  });

  it('sums by name, whatever the name', async () => {
    for (const [path, name] of [['/100%.safetensors', '100%.safetensors'], ['/a%20b', 'a b']]) {
      paths[path] = ranged();
      assert.deepEqual(await load(path, { sha256: { [name]: sum(file), other: sum(other) } }), ['network']);
      await rejected(load(path, { sha256: { [name]: sum(other) } }), 'checksum', /expected sha256/);
    }
  });

  it('a disk that is full: loading goes on, and says so once', async (t) => {
    paths['/m'] = ranged();
    warnings.length = 0;
    const real = fsPromises.open;
    t.mock.method(fsPromises, 'open', async (...args) => {
      const handle = await real(...args);
      const write = handle.write.bind(handle);
      handle.write = async (bytes, offset, length, at) => {
        if (at >= 4 * MB) throw Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC' });
        return write(bytes, offset, length, at);
      };
      return handle;
    });
    assert.deepEqual(await load('/m'), ['network']);
    assert.equal(warnings.length, 1);
    assert.equal(warnings[0].code, 'cache');
    assert.match(warnings[0].message, /it is not kept \(ENOSPC.*\); loading goes on without/);
    assert.deepEqual(readdirSync(folder), []);
    // Also where the server knows no ranges: no second download.
    paths['/n'] = (request, response) => whole(response, file);
    asked = [];
    assert.deepEqual(await load('/n'), ['network']);
    assert.equal(asked.length, 1);
  });

  it('a limit on the size of files, as the system sets it', () => {
    const program = `import { safetensors } from ${JSON.stringify(new URL('../../js/index.js', import.meta.url))};
      import { createServer } from 'node:http';
      process.on('SIGXFSZ', () => {});
      const file = safetensors.write({ a: { data: new Uint8Array(12e6), shape: [12e6] } });
      const server = createServer((request, response) => response.writeHead(200, { 'content-length': file.length }).end(file));
      await new Promise(resolve => server.listen(0, '127.0.0.1', resolve));
      const weights = await safetensors.open('http://127.0.0.1:' + server.address().port + '/m', { cache: { folder: process.argv[1] } });
      let bytes = 0;
      for await (const { data } of weights.chunks()) bytes += data.length;
      console.log(bytes);
      process.exit();`;
    const { stdout, stderr } = spawnSync('bash', ['-c', 'ulimit -f 6000; exec "$0" --input-type=module -e "$1" "$2"', process.execPath, program, folder], { encoding: 'utf8' });
    assert.equal(stdout, '12000000\n', stderr);
    assert.match(stderr, /it is not kept \(EFBIG/);
  });

  it('a folder that cannot be made, a file that does not fit', async (t) => {
    paths['/m'] = ranged();
    warnings.length = 0;
    writeFileSync(join(folder, 'taken'), '');
    assert.deepEqual(await load('/m', { folder: join(folder, 'taken', 'below') }), ['network']);
    assert.match(warnings.pop().message, /it is not kept \(E/);
    t.mock.method(fsPromises, 'statfs', async () => ({ bavail: 3, bsize: 4096 }));
    assert.deepEqual(await load('/m'), ['network']);
    assert.match(warnings.pop().message, new RegExp(`it is not kept \\(${file.length} bytes are needed, 12288 are free\\)`));
    assert.equal(warnings.length, 0);
  });

  it('a sum is compared also where nothing is kept', async (t) => {
    const wrong = sum(other);
    for (const path of ['/m', '/n']) {
      paths[path] = path === '/m' ? ranged() : (request, response) => whole(response, file);
      const taken = join(folder, 'taken');
      writeFileSync(taken, '');
      assert.deepEqual(await load(path, { folder: taken, sha256: sum(file) }), ['network']);
      await rejected(load(path, { folder: taken, sha256: wrong }), 'checksum', /expected sha256/);
      const weights = await open(path, { folder: taken, sha256: wrong });
      await rejected(read(weights, tensors, ['b']), 'checksum', /expected sha256/);
      await weights.close();
      // While another is at it.
      const opened = await open(path);
      assert.deepEqual(await load(path, { sha256: sum(file) }), ['network']);
      await rejected(load(path, { sha256: wrong }), 'checksum', /expected sha256/);
      await opened.close();
      await cache.clear({ folder });
    }
    const real = fsPromises.open;
    t.mock.method(fsPromises, 'open', async (...args) => {
      const handle = await real(...args);
      handle.write = async () => { throw Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC' }); };
      return handle;
    });
    assert.deepEqual(await load('/m', { sha256: sum(file) }), ['network']);
    await rejected(load('/m', { sha256: wrong }), 'checksum', /expected sha256/);
    assert.deepEqual(await cache.list({ folder }), []);
  });

  it('without a warn it is the console that says so', async (t) => {
    paths['/m'] = ranged();
    const warn = t.mock.method(console, 'warn', () => {});
    writeFileSync(join(folder, 'taken'), '');
    await load('/m', { folder: join(folder, 'taken'), warn: undefined });
    assert.equal(warn.mock.callCount(), 1);
    assert.match(warn.mock.calls[0].arguments[0], /it is not kept/);
  });

  it('what is kept and no longer readable is an error once', async () => {
    paths['/m'] = ranged();
    await load('/m');
    const weights = await open('/m');
    const name = readdirSync(folder).find((entry) => !entry.endsWith('.json'));
    writeFileSync(join(folder, name), file.subarray(0, 6 * MB));
    await rejected(read(weights), 'cache', /what was kept of it cannot be read and is forgotten/);
    await weights.close();
    assert.deepEqual(await load('/m'), ['network']);
    // Or it is seen at once.
    writeFileSync(join(folder, name), file.subarray(0, 6 * MB));
    assert.ok((await load('/m')).includes('network'));
    writeFileSync(join(folder, `${name}.json`), '{ "url": ');
    assert.deepEqual(await load('/m'), ['network']);
  });

  it('files that are no checkpoints are not kept', async () => {
    paths['/m'] = ranged({ body: Buffer.from('version https://git-lfs.github.com/spec/v1\n') });
    await rejected(load('/m'), 'safetensors', /Git LFS/);
    assert.deepEqual(await cache.list({ folder }), []);
    paths['/m'] = (request, response) => response.writeHead(404).end();
    await rejected(load('/m'), 'http', /404/);
  });

  it("lies in the user's folder where none is named", () => {
    const before_ = process.env.XDG_CACHE_HOME;
    try {
      process.env.XDG_CACHE_HOME = '/somewhere';
      assert.equal(defaultFolder(), '/somewhere/lamella');
      process.env.XDG_CACHE_HOME = 'relative';
      assert.match(defaultFolder(), /lamella$/);
    } finally {
      if (before_ === undefined) delete process.env.XDG_CACHE_HOME;
      else process.env.XDG_CACHE_HOME = before_;
    }
  });
});
