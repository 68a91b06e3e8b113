/** The loader: which build it takes, where from, with how many threads, and what it says when that cannot be. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { after, before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import workerThreads from 'node:worker_threads';
import { createEngine } from '../../web/engine.js';
import { features } from '../../web/features.js';
import { BUILDS, unpack } from '../../web/wasm.js';

const host = features();
const builds = BUILDS.filter(build => host.relaxed || !build.startsWith('relaxed'));
const file = (/** @type {string} */ build) => new URL(`../../dist/wasm/${build}.wasm`, import.meta.url);

/**
 * A property of a global is another one while `work` runs.
 * @param {any} object
 * @param {string} name
 * @param {any} value
 * @param {() => Promise<any>} work
 */
async function replaced(object, name, value, work) {
  const before = Object.getOwnPropertyDescriptor(object, name);
  Object.defineProperty(object, name, { value, configurable: true, writable: true });
  try {
    return await work();
  } finally {
    if (before) Object.defineProperty(object, name, before);
    else delete object[name];
  }
}

/**
 * Workers may be late on a busy machine.
 * @param {import('../../web/engine.js').Engine} engine
 * @param {number} threads
 */
async function arrived(engine, threads) {
  for (let i = 0; i < 200 && engine.threads < threads; i++) await new Promise(resolve => { setTimeout(resolve, 100); });
  assert.equal(engine.threads, threads);
}

/**
 * y = W x for a matrix large enough to be shared among threads.
 * @param {import('../../web/engine.js').Engine} engine
 */
function product(engine) {
  const { exports: x } = engine;
  const [rows, depth, columns] = [96, 64, 128];
  const ints = (/** @type {number[]} */ ...values) => {
    const at = x.lam_alloc(values.length * 4) >>> 0;
    new Int32Array(engine.memory.buffer, at, values.length).set(values);
    return at;
  };
  const graph = x.lam_graph_new();
  const name = x.lam_alloc(2) >>> 0;
  engine.u8().set([119, 0], name);
  const weight = x.lam_weight(graph, name, 2, ints(columns, depth));
  x.lam_output(graph, x.lam_linear(graph, x.lam_input(graph, 0, 2, ints(rows, depth)), weight, -2, 0, columns));
  assert.equal(x.lam_compile(graph), 0, engine.string(x.lam_graph_error(graph)));
  const values = x.lam_alloc(columns * depth * 4) >>> 0;
  engine.f32().set(Float32Array.from({ length: columns * depth }, (_, i) => Math.sin(i)), values / 4);
  assert.equal(x.lam_load(graph, 0, 0, values, 0, columns), 0);
  const session = x.lam_session_new(graph, engine.pool);
  assert.equal(x.lam_session_resize(session, 0, 2, ints(rows, depth)) || x.lam_session_prepare(session), 0);
  engine.f32().set(Float32Array.from({ length: rows * depth }, (_, i) => Math.cos(i)), (x.lam_session_input(session, 0) >>> 0) / 4);
  for (let i = 0; i < 20; i++) x.lam_session_run(session);
  const at = (x.lam_session_output(session, 0) >>> 0) / 4;
  return engine.f32().slice(at, at + rows * columns);
}

describe('the embedded texts', () => {
  for (const build of BUILDS) {
    it(`${build} unpacks to the bytes of the file`, async () => {
      const { default: text } = await import(`../../dist/wasm/${build}.js`);
      const bytes = await unpack(text);
      assert.equal(Buffer.compare(bytes, await readFile(file(build))), 0);
    });
  }
});

describe('builds', () => {
  for (const build of builds) {
    it(`${build} runs, from text and from its file`, async () => {
      const results = await Promise.all([undefined, file(build), readFile(file(build)), name => file(name)].map(async wasm => {
        const engine = await createEngine({ build, wasm, threads: 3 });
        assert.equal(engine.build, build);
        await arrived(engine, build.endsWith('threads') ? 3 : 1);
        const result = product(engine);
        engine.dispose();
        assert.equal(engine.threads, 1);
        return result;
      }));
      const expected = Array.from({ length: 64 }, (_, k) => Math.fround(Math.sin(128 * 64 - 64 + k)) * Math.fround(Math.cos(96 * 64 - 64 + k))).reduce((a, b) => a + b);
      for (const result of results) {
        assert.ok(Math.abs(result[96 * 128 - 1] - expected) < 1e-4, `${result[96 * 128 - 1]} for ${expected}`);
        assert.deepEqual(result, results[0]);
      }
    });
  }

  it('the best one is taken', async () => {
    const flavour = host.relaxed ? 'relaxed' : 'simd';
    const engine = await createEngine({ threads: 2 });
    assert.equal(engine.build, `${flavour}-threads`);
    engine.dispose();
    assert.equal((await createEngine({ threads: 1 })).build, flavour);
  });

  it('a page that is not isolated gets one thread, whatever it asks for', () => replaced(globalThis, 'crossOriginIsolated', false, async () => {
    const engine = await createEngine({ threads: 4 });
    assert.ok(!engine.build.includes('threads'));
    assert.equal(engine.threads, 1);
    assert.equal(engine.pool, 0);
    await assert.rejects(createEngine({ build: 'simd-threads' }), { code: 'unsupported', message: /isolated/ });
    await assert.rejects(createEngine({ wasm: file('simd-threads') }), { code: 'unsupported', message: /isolated/ });
  }));

  it('a compiled module can be handed on', async () => {
    const { module } = await createEngine({ build: 'simd' });
    assert.equal((await createEngine({ wasm: module })).build, 'simd');
    assert.equal((await createEngine({ wasm: Promise.resolve(module), threads: 2 })).module, module);
  });

  it('without SIMD there is one clear error', () => replaced(WebAssembly, 'validate', () => false, () =>
    assert.rejects(createEngine(), { name: 'LamellaError', code: 'no-simd', message: /SIMD/ })));

  it('without relaxed SIMD the plain build is taken', async () => {
    const relaxed = (/** @type {Uint8Array} */ bytes) => bytes.includes(0x85);
    const validate = WebAssembly.validate;
    await replaced(WebAssembly, 'validate', bytes => validate(bytes) && !relaxed(bytes), async () => {
      assert.equal((await createEngine({ threads: 1 })).build, 'simd');
      await assert.rejects(createEngine({ build: 'relaxed' }), { code: 'unsupported', message: /relaxed/ });
    });
  });
});

describe('threads', () => {
  it('a process whose work is done exits', () => {
    const code = `import { createEngine } from './web/engine.js';
      const engine = await createEngine({ threads: 3 });
      while (engine.threads < 3) await new Promise(resolve => { setTimeout(resolve, 50); });
      console.log(engine.threads);`;
    const { status, stdout } = spawnSync(process.execPath, ['--input-type=module', '-e', code], { cwd: fileURLToPath(new URL('../..', import.meta.url)), encoding: 'utf8', timeout: 60000 });
    assert.equal(stdout, '3\n');
    assert.equal(status, 0);
  });

  it('refused workers mean fewer threads', () => replaced(workerThreads, 'Worker', class {
    constructor() { throw new Error('refused'); }
  }, async () => {
    const engine = await createEngine({ threads: 3 });
    assert.equal(engine.threads, 1);
    assert.equal(engine.pool, 0);
    product(engine);
  }));

  it('workers that die at the start mean fewer threads', () => {
    const Failing = class extends workerThreads.Worker {
      constructor() { super('throw new Error("no")', { eval: true }); }
    };
    return replaced(workerThreads, 'Worker', Failing, async () => {
      const engine = await createEngine({ threads: 3 });
      assert.equal(engine.threads, 1);
      product(engine);
    });
  });

  it('a shared memory is as large as the host allows', async () => {
    const { Memory } = WebAssembly;
    let asked = [];
    const Small = class extends Memory {
      constructor(/** @type {any} */ limits) {
        asked.push(limits.maximum);
        if (limits.maximum > 16384) throw new RangeError('too large');
        super(limits);
      }
    };
    await replaced(WebAssembly, 'Memory', Small, async () => (await createEngine({ build: 'simd-threads', threads: 2 })).dispose());
    assert.deepEqual(asked, [65536, 32768, 16384]);
    await replaced(WebAssembly, 'Memory', class { constructor() { throw new RangeError('none'); } }, () =>
      assert.rejects(createEngine({ build: 'simd-threads' }), { code: 'memory' }));
  });
});

describe('memory', () => {
  it('grows, and the views follow', async () => {
    const engine = await createEngine({ build: 'simd' });
    const early = engine.u8();
    const at = engine.exports.lam_alloc(50e6) >>> 0;
    assert.notEqual(engine.u8(), early);
    engine.u8()[at + 50e6 - 1] = 1;
    assert.equal(engine.f32().buffer, engine.memory.buffer);
    assert.equal(engine.exports.lam_memory_used(), 50e6);
    engine.exports.lam_free(at);
    assert.equal(engine.exports.lam_memory_used(), 0);
    assert.equal(engine.exports.lam_memory_peak(), 50e6);
  });

  it('addresses above 2 GiB and the end of memory', async () => {
    const engine = await createEngine({ build: 'simd' });
    const { lam_alloc: alloc, lam_memory_used: used } = engine.exports;
    const blocks = Array.from({ length: 5 }, () => alloc(1e9) >>> 0);
    assert.deepEqual(blocks.map(Boolean), [true, true, true, true, false]);
    engine.u8().set([104, 105, 0], blocks[3] + 9e8);
    assert.equal(engine.string(blocks[3] + 9e8), 'hi');
    assert.equal(used() >>> 0, 4e9);
  });
});

describe('bad input', () => {
  /** @type {import('node:http').Server} */ let server;
  /** @type {string} */ let address;
  before(async () => {
    server = createServer(async ({ url }, response) => {
      if (url === '/missing') response.writeHead(404).end('no');
      else if (url === '/page') response.writeHead(200, { 'content-type': 'text/html; charset=utf-8' }).end('<!DOCTYPE html><title>App</title>');
      else if (url === '/empty') response.writeHead(200).end();
      else response.writeHead(200, { 'content-type': url === '/typed' ? 'application/wasm' : 'application/octet-stream' }).end(await readFile(file('simd')));
    });
    await new Promise(resolve => { server.listen(0, '127.0.0.1', () => resolve(null)); });
    address = `http://127.0.0.1:${/** @type {any} */ (server.address()).port}`;
  });
  after(() => server.close());

  it('a server may send the file under any type', async () => {
    for (const wasm of [`${address}/typed`, new URL(`${address}/untyped`), fetch(`${address}/typed`), await fetch(`${address}/untyped`)]) {
      assert.equal((await createEngine({ wasm, threads: 1 })).build, 'simd');
    }
  });

  /** @type {[string, () => any, object][]} */
  const cases = [
    ['a page in place of the file', () => `${address}/page`, { code: 'bad-wasm', message: /sent HTML/, path: /page$/ }],
    ['HTTP 404', () => `${address}/missing`, { code: 'fetch', message: /404/, path: /missing$/ }],
    ['an empty file', () => `${address}/empty`, { code: 'bad-wasm', message: /empty/ }],
    ['nobody there', () => 'http://127.0.0.1:9/x.wasm', { code: 'fetch', message: /127.0.0.1:9/ }],
    ['a path that leads nowhere', () => 'no/such.wasm', { code: 'fetch', message: /no\/such.wasm/ }],
    ['other bytes', () => Uint8Array.of(1, 2, 3, 4, 5), { code: 'bad-wasm', message: /starts with/ }],
    ['a file that is cut off', async () => (await readFile(file('simd'))).subarray(0, 5000), { code: 'bad-wasm', message: /does not compile/ }],
    ['another module', () => Uint8Array.of(0, 0x61, 0x73, 0x6d, 1, 0, 0, 0), { code: 'version', message: /build unknown/ }],
    ['a number', () => 5, { code: 'bad-wasm', message: /got number/ }],
  ];
  for (const [what, wasm, { path, ...expected }] of cases) {
    it(what, () => assert.rejects(async () => createEngine({ wasm: await wasm(), threads: 1 }), error => {
      for (const [key, value] of Object.entries(expected)) value instanceof RegExp ? assert.match(error[key], value) : assert.equal(error[key], value);
      if (path) assert.match(error.path, path);
      return error.name === 'LamellaError';
    }));
  }

  it('the file of another version', async () => {
    const bytes = await readFile(file('simd'));
    const { id } = await createEngine({ build: 'simd' });
    bytes.write('0'.repeat(id.length), bytes.indexOf(id));
    await assert.rejects(createEngine({ wasm: bytes, threads: 1 }), error => error.code === 'version' && error.message.includes(id) && error.message.includes('000000'));
  });

  it('arguments', async () => {
    await assert.rejects(createEngine({ threads: 0 }), { code: 'argument', message: /threads.*got 0/ });
    await assert.rejects(createEngine({ threads: 1.5 }), { code: 'argument' });
    await assert.rejects(createEngine(/** @type {any} */ ({ build: 'fast' })), { code: 'argument', message: /simd-threads.*got "fast"/ });
  });
});
