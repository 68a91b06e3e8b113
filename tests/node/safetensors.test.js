/** Checkpoints: what the Rust library writes is read and written alike, what it refuses is refused in words, pieces stay small. */
import assert from 'node:assert/strict';
import { mkdtemp, open as openFile, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { LamellaError, safetensors, Tensor } from '../../js/index.js';

const fixture = (name) => fileURLToPath(new URL(`../reference/fixtures/${name}`, import.meta.url));
const encode = (text) => new TextEncoder().encode(text);

/** A file with this header text and this much data. */
function fileOf(header, dataBytes, headerBytes) {
  const json = encode(typeof header === 'string' ? header : JSON.stringify(header));
  const file = new Uint8Array(8 + json.length + dataBytes);
  new DataView(file.buffer).setBigUint64(0, BigInt(headerBytes ?? json.length), true);
  file.set(json, 8);
  return file;
}

const one = (extra = {}) => ({ a: { dtype: 'F32', shape: [2], data_offsets: [0, 8], ...extra } });

async function refused(source, pattern, code = 'safetensors') {
  await assert.rejects(safetensors.open(source), (error) => {
    assert.ok(error instanceof LamellaError, String(error));
    assert.match(error.message, pattern);
    assert.equal(error.code, code, error.message);
    return true;
  });
}

/** All chunks of a checkpoint put together again, with the largest piece. */
async function assemble(weights, names, options) {
  const whole = new Map();
  let largest = 0;
  const ended = new Set();
  for await (const { name, offset, data, last } of weights.chunks(names, options)) {
    const info = weights.get(name);
    if (!whole.has(name)) whole.set(name, new Uint8Array(info.bytes));
    assert.ok(!ended.has(name), `${name} goes on after its last piece`);
    whole.get(name).set(data, offset);
    largest = Math.max(largest, data.length);
    if (last) ended.add(name);
    const unit = options?.unit?.(name);
    if (unit && !last) assert.equal(data.length % unit, 0);
    assert.equal(last, offset + data.length === info.bytes);
  }
  assert.deepEqual([...ended].sort(), [...whole.keys()].sort());
  return { whole, largest };
}

describe('a file of the safetensors library', () => {
  it('has its names, types, shapes and metadata', async () => {
    const weights = await safetensors.open(fixture('checkpoint/dtypes.safetensors'));
    assert.deepEqual(weights.metadata, { format: 'pt' });
    assert.equal(weights.names.length, 19);
    assert.deepEqual(weights.get('bool'), { dtype: 'BOOL', shape: [3, 1], bytes: 3, file: fixture('checkpoint/dtypes.safetensors') });
    assert.deepEqual(weights.get('scalar').shape, []);
    assert.ok(weights.has('😀 ümlaut') && !weights.has('none'));
    assert.equal(weights.get('none'), undefined);
  });

  it('gives PyTorch\'s numbers for every type', async () => {
    const weights = await safetensors.open(fixture('checkpoint/dtypes.safetensors'));
    const expected = await safetensors.open(fixture('checkpoint/expected.safetensors'));
    for (const name of expected.names) {
      const tensor = await weights.tensor(name);
      const y = (await expected.tensor(name)).data;
      assert.deepEqual(Array.from(tensor.toFloat32()), Array.from(y), name);
      assert.deepEqual(tensor.shape, expected.get(name).shape);
    }
    assert.deepEqual((await weights.tensor('i64')).data, new BigInt64Array([2n ** 40n, -1n]));
    const f8 = await weights.tensor('f8_e4m3');
    assert.deepEqual(f8.data, new Uint8Array([0x30, 0x7e]));
    assert.throws(() => f8.toFloat32(), { code: 'dtype' });
    await assert.rejects(weights.tensor('none'), { code: 'keys' });
  });

  it('is written again byte for byte', async () => {
    for (const file of ['checkpoint/dtypes.safetensors', 'checkpoint/expected.safetensors']) {
      const bytes = await readFile(fixture(file));
      const weights = await safetensors.open(bytes);
      const tensors = new Map();
      for (const name of [...weights.names].reverse()) tensors.set(name, await weights.tensor(name));
      const written = safetensors.write(tensors, Object.keys(weights.metadata).length ? weights.metadata : undefined);
      assert.ok(Buffer.from(written).equals(bytes), file);
    }
  });

  it('and floats are rounded to f16 and bf16 as PyTorch does', async () => {
    const weights = await safetensors.open(fixture('checkpoint/dtypes.safetensors'));
    const { data, shape } = await weights.tensor('f32');
    const again = await safetensors.open(safetensors.write({ h: { data, shape, dtype: 'f16' }, b: { data: Array.from(data), shape, dtype: 'BF16' } }));
    // But for the sign and payload of NaN.
    const numbers = async (from, name) => Array.from((await from.tensor(name)).toFloat32());
    assert.deepEqual(await numbers(again, 'h'), await numbers(weights, 'f16'));
    assert.deepEqual(await numbers(again, 'b'), await numbers(weights, 'bf16'));
  });

  it('every f16 keeps its bits through f32 and back', async () => {
    const data = Uint16Array.from({ length: 1 << 16 }, (_, i) => i);
    const floats = (await (await safetensors.open(safetensors.write({ x: { data, shape: [1 << 16], dtype: 'F16' } }))).tensor('x')).toFloat32();
    const back = (await (await safetensors.open(safetensors.write({ x: { data: floats, shape: [1 << 16], dtype: 'F16' } }))).tensor('x')).data;
    for (let i = 0; i < data.length; i++) {
      if (Number.isNaN(floats[i])) assert.ok((i & 0x7c00) === 0x7c00 && (i & 0x3ff) && (back[i] & 0x7fff) > 0x7c00);
      else if (back[i] !== i) assert.fail(`${i.toString(16)} became ${floats[i]} became ${back[i].toString(16)}`);
    }
    assert.equal(floats[0x3555], 0.333251953125);
  });
});

describe('write', () => {
  it('takes Tensors, objects and Maps, plain numbers and every typed array', async () => {
    const bytes = safetensors.write({
      t: new Tensor(Float32Array.of(1, 2), [2, 1]), bool: new Tensor(Uint8Array.of(1, 0), [2], { dtype: 'bool' }),
      list: { data: [1, 2, 3], shape: [3] }, ints: { data: [1, 2], shape: [2], dtype: 'i64' }, f64: { data: [0.1], shape: [], dtype: 'F64' },
    });
    const weights = await safetensors.open(bytes);
    assert.deepEqual(weights.names, ['ints', 'f64', 'list', 't', 'bool']);
    assert.deepEqual((await weights.tensor('ints')).data, BigInt64Array.of(1n, 2n));
    assert.deepEqual(weights.get('t').shape, [2, 1]);
    assert.equal((await weights.tensor('f64')).data[0], 0.1);
    assert.equal(safetensors.write({}).length, 16);
    assert.deepEqual((await safetensors.open(safetensors.write(new Map()))).names, []);
  });

  it('says what does not fit', () => {
    assert.throws(() => safetensors.write({ a: { data: Float32Array.of(1), shape: [2] } }), { code: 'shape', message: /"a".*\[2\] of F32 takes 8 bytes, the data has 4/ });
    assert.throws(() => safetensors.write({ a: { data: [1], shape: [1], dtype: 'f17' } }), { code: 'dtype' });
    assert.throws(() => safetensors.write({ a: { data: Float32Array.of(1), shape: [1], dtype: 'I32' } }), { code: 'dtype' });
    assert.throws(() => safetensors.write({ a: 5 }), { code: 'argument' });
    assert.throws(() => safetensors.write({}, { step: 5 }), { code: 'argument', message: /metadata "step"/ });
  });
});

describe('a header that lies', () => {
  const cases = {
    'is empty': [new Uint8Array(0), /got 0 bytes: it is empty/, 'truncated'],
    'ends within its length': [new Uint8Array(5), /got 5 bytes/, 'truncated'],
    'is longer than the file': [fileOf(one(), 8, 5000), /header of 5000 bytes, but the file has \d+/],
    'has 100 MB': [fileOf(one(), 8, 100_000_001), /header of 100000001 bytes, at most 100000000/],
    'has 2^63 bytes': [fileOf(one(), 8, 2n ** 63n), /header of 9223372036854775808 bytes, at most/],
    'is no JSON': [fileOf('{"a":', 8), /not JSON/],
    'is no UTF-8': [(() => { const file = fileOf('{"a?":{}}', 0); file[11] = 0xff; return file; })(), /not JSON in UTF-8/],
    'is no object': [fileOf('[1, 2]', 8), /must begin with "\{", got byte 91/],
    'begins with a blank': [fileOf(' {}', 0), /must begin with "\{"/],
    'is nothing': [fileOf('', 8), /an empty header/],
    'has a tensor twice': [fileOf('{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"\\u0061":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}', 8), /"a" twice/],
    'has a field twice': [fileOf('{"a":{"dtype":"F32","dtype":"F16","shape":[2],"data_offsets":[0,8]}}', 8), /"dtype" twice/],
    'has other metadata': [fileOf({ __metadata__: { a: 1 } }, 0), /__metadata__: expected an object of strings/],
    'has no entry': [fileOf({ a: 7 }, 0), /tensor "a": entry.*got 7/],
    'has an unknown dtype': [fileOf(one({ dtype: 'F33' }), 8), /tensor "a": dtype: expected one of .*F32.*, got "F33"/],
    'has a dtype out of Object': [fileOf(one({ dtype: 'constructor' }), 8), /dtype/],
    'has no shape': [fileOf(one({ shape: undefined }), 8), /tensor "a": shape.*got nothing/],
    'has a negative size': [fileOf(one({ shape: [-2] }), 8), /shape.*\[-2\]/],
    'has a broken size': [fileOf(one({ shape: [1.5] }), 8), /shape.*\[1.5\]/],
    'has a shape beyond 2^53': [fileOf(one({ shape: [2 ** 30, 2 ** 30] }), 8), /less than 2\^53 bits/],
    'has negative offsets': [fileOf(one({ data_offsets: [-8, 0] }), 8), /data_offsets: expected.*got \[-8,0\]/],
    'has offsets backwards': [fileOf(one({ data_offsets: [8, 0] }), 8), /data_offsets: expected.*got \[8,0\]/],
    'has one offset': [fileOf(one({ data_offsets: [8] }), 8), /data_offsets: expected/],
    'has another size than its offsets': [fileOf(one({ shape: [3] }), 8), /\[3\] of F32 takes 12 bytes, but data_offsets \[0, 8\] give 8/],
    'has half a byte': [fileOf({ a: { dtype: 'F4', shape: [3], data_offsets: [0, 2] } }, 2), /whole bytes of F4/],
    'leaves a hole': [fileOf(one({ data_offsets: [4, 12] }), 12), /leave a hole after the header/],
    'overlaps': [fileOf({ ...one(), b: { dtype: 'F32', shape: [2], data_offsets: [4, 12] } }, 12), /tensor "b".*overlap with tensor "a", which ends at 8/],
    'ends after the file': [fileOf(one(), 7), /truncated: expected \d+ bytes, got \d+; tensor "a" ends/],
    'ends before the file': [fileOf(one(), 9), /too long: tensor "a" ends/],
  };
  for (const [what, [file, pattern, code]] of Object.entries(cases)) {
    it(what, () => refused(file, pattern, code));
  }

  it('so does one that comes as a stream, whose size nobody knows', async () => {
    await refused(new Response(fileOf(one(), 8, 5000)), /expected 5000 bytes from byte 8 on, got \d+/, 'truncated');
    const tooLong = await safetensors.open(new Response(fileOf(one(), 9)));
    await assert.rejects(assemble(tooLong), /too long: the last tensor ends at byte/);
    const tooShort = await safetensors.open(new Response(fileOf(one(), 7)));
    await assert.rejects(assemble(tooShort), { code: 'truncated' });
  });

  it('every single wrong byte of a header is refused or read, never a crash', async () => {
    const bytes = safetensors.write({ a: { data: Float32Array.of(1, 2), shape: [2] }, b: { data: Uint8Array.of(1), shape: [] } }, { k: 'v' });
    let failed = 0;
    for (let i = 0; i < bytes.length - 9; i++) {
      for (const flip of [1, 0x80, 0x20]) {
        const file = bytes.slice();
        file[i] ^= flip;
        await safetensors.open(file).then(() => {}, (error) => {
          assert.ok(error instanceof LamellaError, `byte ${i}: ${error.stack}`);
          failed++;
        });
      }
    }
    assert.ok(failed > 200, `${failed} refused`);
  });
});

describe('what is no checkpoint', () => {
  const kinds = {
    'an HTML page': ['\n <!DOCTYPE html><html><body>Sign in</body></html>', /got an HTML page: "<!DOCTYPE html>/, 'html'],
    'a pointer of Git LFS': ['version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 12\n', /pointer of Git LFS/],
    'a zip of PyTorch': ['PK\x03\x04 archive/data.pkl and more bytes', /zip archive.*save_file/],
    'a pickle': [Uint8Array.from([0x80, 2, 0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9]), /pickle.*save_file/],
    'a GGUF file': ['GGUF\x03\x00\x00\x00 and more', /a GGUF file/],
    'JSON of another kind': ['{"model_type": "clip"}', /"weight_map"/],
    'broken JSON': ['{"model_type": ', /not JSON/],
    'something else': ['hello, this is text', /got something else: its first 8 bytes/],
  };
  for (const [what, [content, pattern, code]] of Object.entries(kinds)) {
    it(what, async () => {
      const bytes = typeof content === 'string' ? encode(content) : content;
      await refused(bytes, pattern, code);
      await refused(new Response(bytes, { headers: { 'content-type': 'application/octet-stream' } }), pattern, code);
    });
  }

  it('is refused as what it is', async () => {
    for (const nothing of [null, undefined, 5, {}, []]) await assert.rejects(safetensors.open(nothing), { code: 'argument' });
  });
});

describe('sources', () => {
  const path = fixture('checkpoint/dtypes.safetensors');
  const sources = {
    path: () => path,
    'file: URL': () => pathToFileURL(path),
    'file: URL as text': () => pathToFileURL(path).href,
    Buffer: () => readFile(path),
    ArrayBuffer: async () => Uint8Array.from(await readFile(path)).buffer,
    'misaligned view': async () => {
      const bytes = await readFile(path);
      const shifted = new Uint8Array(bytes.length + 3);
      shifted.set(bytes, 3);
      return shifted.subarray(3);
    },
    DataView: async () => new DataView(Uint8Array.from(await readFile(path)).buffer),
    Blob: async () => new Blob([await readFile(path)]),
    File: async () => new File([await readFile(path)], 'dtypes.safetensors'),
    Response: async () => new Response(await readFile(path)),
    ReadableStream: async () => new Response(await readFile(path)).body,
    'stream of Node': async () => (await openFile(path)).createReadStream({ highWaterMark: 7 }),
    'list of one': () => [path],
  };
  for (const [what, make] of Object.entries(sources)) {
    it(what, async () => {
      const expected = await safetensors.open(await readFile(path));
      const weights = await safetensors.open(await make());
      const { whole } = await assemble(weights);
      assert.deepEqual([...whole.keys()].sort(), [...expected.names].sort());
      for (const [name, bytes] of whole) {
        const { data } = await expected.tensor(name);
        assert.deepEqual(bytes, new Uint8Array(data.buffer), name);
      }
      weights.close();
    });
  }

  it('a stream goes by once', async () => {
    const weights = await safetensors.open(new Response(await readFile(path)));
    const later = await weights.tensor('f32');
    assert.equal(later.data.length, 613);
    await assert.rejects(weights.tensor('i64'), { code: 'file', message: /has gone by/ });
    assert.equal((await weights.tensor('bool')).data.length, 3);
  });

  it('a response that is an error or used up', async () => {
    await assert.rejects(safetensors.open(new Response('no', { status: 403, statusText: 'Forbidden' })), { code: 'http', message: /403 Forbidden/ });
    const used = new Response('x');
    await used.text();
    await assert.rejects(safetensors.open(used), { code: 'http', message: /read already/ });
  });

  it('a path that leads nowhere or to a directory', async () => {
    await assert.rejects(safetensors.open('/no/such/file.safetensors'), { code: 'file', path: '/no/such/file.safetensors', message: /there is no such file/ });
    await assert.rejects(safetensors.open(tmpdir()), { code: 'file', message: /got a directory/ });
  });

  it('under a prefix', async () => {
    const tensors = { 'visual.a': { data: [1], shape: [1] }, 'visual.b.c': { data: [2], shape: [1] }, text: { data: [3], shape: [1] } };
    const inside = (await safetensors.open(safetensors.write(tensors))).under('visual.');
    assert.deepEqual(inside.names, ['a', 'b.c']);
    assert.equal((await inside.tensor('b.c')).data[0], 2);
    const { whole } = await assemble(inside);
    assert.deepEqual([...whole.keys()], ['a', 'b.c']);
    assert.ok(inside instanceof safetensors.Weights);
  });
});

describe('shards', () => {
  const folder = fixture('sharded');
  const index = join(folder, 'model.safetensors.index.json');
  const shard = (i) => join(folder, `model-0000${i}-of-000002.safetensors`);
  const asFile = async (path) => new File([await readFile(path)], path.split('/').pop());

  it('are found beside their index, by path and by file: URL', async () => {
    const map = JSON.parse(await readFile(index, 'utf8')).weight_map;
    for (const from of [index, pathToFileURL(index)]) {
      const weights = await safetensors.open(from);
      assert.deepEqual([...weights.names].sort(), Object.keys(map).sort());
      for (const name of weights.names) assert.ok(weights.get(name).file.endsWith(map[name]));
    }
  });

  it('are found by name in a list of Files, in any order, and beside an index by path', async () => {
    const whole = await safetensors.open(index);
    const files = await Promise.all([shard(2), index, shard(1)].map(asFile));
    const lists = [files, [files[2], files[0]], [shard(2), shard(1)], [index, shard(1)]];
    for (const list of lists) {
      const weights = await safetensors.open(list);
      assert.deepEqual([...weights.names].sort(), [...whole.names].sort());
      const { whole: read } = await assemble(weights);
      for (const name of whole.names) assert.deepEqual(read.get(name), new Uint8Array((await whole.tensor(name)).data.buffer), name);
    }
  });

  it('that are missing, twice, or not where the index says, are named', async () => {
    const files = await Promise.all([index, shard(1), shard(2)].map(asFile));
    await refused([files[0], files[1]], /missing: model-00002-of-000002.safetensors/);
    await refused(files[0], /expected a list of the index and its shards; missing: model-00001/);
    await refused([files[1], files[1]], /is in two shards/);
    await refused([files[0], files[0], files[1], files[2]], /expected a shard, got a JSON file/);
    const swapped = [files[0], new File([files[2]], files[1].name), new File([files[1]], files[2].name)];
    await refused(swapped, /weight_map says that tensor .* but it is in/);
    const wrong = (map) => new File([JSON.stringify({ weight_map: map })], 'index.json');
    await refused([wrong({ nothing: files[1].name }), files[1]], /"nothing" is in model-00001.*has no such tensor/);
    for (const file of ['https://example.org/x', '/etc/passwd', '../x', 'a/../../x', '\\x', '', 7]) {
      await refused([wrong({ a: file }), files[1]], /weight_map: "a": expected the name of a file beside the index/);
    }
  });

  it('beside an index in a folder of one\'s own, one of them gone', async () => {
    const own = await mkdtemp(join(tmpdir(), 'lamella-'));
    try {
      await writeFile(join(own, 'i.json'), JSON.stringify({ weight_map: { a: 'sub/x#1.safetensors', b: 'gone.safetensors' } }));
      await assert.rejects(safetensors.open(join(own, 'i.json')), { code: 'file', message: /no such file/ });
    } finally {
      await rm(own, { recursive: true });
    }
  });
});

describe('chunks', () => {
  const tensors = () => ({
    half: { data: Uint16Array.from({ length: 5001 }, (_, i) => i), shape: [5001], dtype: 'F16' },
    odd: { data: Uint8Array.from({ length: 13 }, (_, i) => i), shape: [13] },
    matrix: { data: Float32Array.from({ length: 7 * 300 }, (_, i) => i), shape: [7, 300] },
    empty: { data: new Float32Array(0), shape: [0, 4] },
    scalar: { data: Float32Array.of(7), shape: [] },
  });
  const file = safetensors.write(tensors());
  /** The same, cut into network packets of 100 bytes. */
  const packets = () => new ReadableStream({
    at: 0,
    pull(controller) {
      if (this.at >= file.length) controller.close();
      else controller.enqueue(file.slice(this.at, this.at += 100));
    },
  });

  it('put together are the tensors, whatever the piece, the unit and the packet', async () => {
    for (const chunkBytes of [1, 17, 1200, 2500, 1 << 20]) {
      for (const rows of [false, true]) {
        for (const source of [file, new Blob([file]), packets()]) {
          const weights = await safetensors.open(source);
          const unit = rows ? (name) => weights.get(name).bytes / (weights.get(name).shape[0] || 1) : undefined;
          const { whole, largest } = await assemble(weights, undefined, { chunkBytes, unit });
          for (const [name, { data }] of Object.entries(tensors())) assert.deepEqual(whole.get(name), new Uint8Array(data.buffer), name);
          assert.ok(largest <= Math.max(chunkBytes, rows ? 1200 : 4), `${largest}`);
        }
      }
    }
  });

  it('come in the order of the file, wanted ones only', async () => {
    const order = [];
    for await (const { name } of (await safetensors.open(packets())).chunks(['odd', 'scalar', 'odd', 'matrix'])) order.push(name);
    assert.deepEqual([...new Set(order)], ['matrix', 'scalar', 'odd']);
  });

  it('a loop that is left early leaves the rest readable', async () => {
    const weights = await safetensors.open(packets());
    for await (const { name } of weights.chunks(['matrix'], { chunkBytes: 1200 })) {
      assert.equal(name, 'matrix');
      break;
    }
    assert.equal((await weights.tensor('odd')).data[12], 12);
  });

  it('say what is wrong with a unit, a size, a name', async () => {
    const weights = await safetensors.open(file);
    assert.throws(() => weights.chunks(['none']), { code: 'keys' });
    assert.throws(() => weights.chunks(['half'], { unit: () => 3 }), { code: 'argument', message: /multiple of the 2 bytes of F16/ });
    assert.throws(() => weights.chunks(['half'], { chunkBytes: 0 }), { code: 'argument' });
  });

  it('stop at once when aborted, with the signal\'s reason', async () => {
    for (const make of [() => file, () => new Blob([file]), packets, () => fixture('checkpoint/dtypes.safetensors')]) {
      const weights = await safetensors.open(make());
      const abort = new AbortController();
      let count = 0;
      await assert.rejects(async () => {
        for await (const chunk of weights.chunks(undefined, { chunkBytes: 16, signal: abort.signal })) {
          assert.ok(chunk);
          if (++count === 3) abort.abort();
        }
      }, { name: 'AbortError' });
      assert.equal(count, 3);
      await assert.rejects(async () => { for await (const chunk of weights.chunks(undefined, { signal: abort.signal })) assert.fail(chunk.name); }, { name: 'AbortError' });
    }
    const reason = new Error('enough');
    await assert.rejects(safetensors.open(file, { signal: AbortSignal.abort(reason) }), reason);
    const never = new ReadableStream({ start() {} });
    const abort = new AbortController();
    const opening = safetensors.open(never, { signal: abort.signal });
    setTimeout(() => abort.abort(reason), 20);
    await assert.rejects(opening, reason);
  });
});

describe('a file of 300 MB', () => {
  const MB = 1 << 20;
  let folder;
  let path;

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'lamella-'));
    path = join(folder, 'large.safetensors');
    const header = {};
    for (let i = 0; i < 3; i++) header[`t${i}`] = { dtype: 'F16', shape: [5000, 10486], data_offsets: [i * 5000 * 10486 * 2, (i + 1) * 5000 * 10486 * 2] };
    const handle = await openFile(path, 'w');
    const json = encode(JSON.stringify(header));
    const length = new Uint8Array(8);
    new DataView(length.buffer).setBigUint64(0, BigInt(json.length), true);
    await handle.write(length);
    await handle.write(json);
    await handle.truncate(8 + json.length + 3 * 5000 * 10486 * 2);
    await handle.close();
  });
  after(() => rm(folder, { recursive: true }));

  const sources = {
    'from a path': () => path,
    'from a stream': async () => (await openFile(path)).createReadStream(),
  };
  for (const [what, make] of Object.entries(sources)) {
    it(`takes a few MB of memory to go through, ${what}`, async () => {
      setFlagsFromString('--expose-gc');
      const gc = runInNewContext('gc');
      const weights = await safetensors.open(await make());
      gc();
      const used = () => {
        const { heapUsed, external } = process.memoryUsage();
        return (heapUsed + external) / MB;
      };
      const start = used();
      let peak = 0;
      let bytes = 0;
      for await (const { data } of weights.chunks(undefined, { unit: () => 10486 * 2 })) {
        bytes += data.length;
        peak = Math.max(peak, used() - start);
      }
      assert.equal(bytes, 3 * 5000 * 10486 * 2);
      console.log(`300 MB ${what}: ${peak.toFixed(1)} MB at most`);
      // What waits for the garbage collector counts too.
      assert.ok(peak < 48, `${peak.toFixed(1)} MB`);
    });
  }
});
