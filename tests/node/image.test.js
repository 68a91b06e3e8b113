/** Pictures: Pillow's bytes, open_clip's preparation, every source that Node has, what is said of bad ones. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { copyFile, cp, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { fileURLToPath, pathToFileURL } from 'node:url';
import sharp from 'sharp';
import { image, LamellaError, safetensors } from '../../js/index.js';
import { findOrientation, withoutOrientation } from '../../js/image/exif.js';
import { resize } from '../../js/image/resample.js';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const CHANNELS = { L: 1, LA: 2, RGB: 3, RGBA: 4 };

/** The formulas of tests/reference/image.py. */
function picture({ mode, width, height, kind }) {
  const channels = CHANNELS[mode];
  const data = new Uint8Array(width * height * channels);
  for (let i = 0; i < data.length; i++) {
    const noise = Math.imul(i, 2654435761) >>> 24;
    const c = i % channels;
    const x = Math.floor(i / channels) % width;
    const y = Math.floor(i / channels / width);
    const value = { noise, waves: ((x * x + 3 * y * y + 40 * c) >> 4) % 256, stripes: ((x >> 1) + Math.floor(y / 3)) % 2 * 255 }[kind];
    data[i] = channels % 2 === 0 && c === channels - 1 ? [0, 255, noise][(Math.floor(x / 3) + (y >> 1)) % 3] : value;
  }
  return { data, width, height, channels };
}

const rejected = (promise, code, pattern) => assert.rejects(promise, (error) => {
  assert.ok(error instanceof LamellaError, error.stack);
  assert.equal(error.code, code, error.message);
  assert.match(error.message, pattern);
  return true;
});

/** The bytes that a tensor was made of, where mean is 0 and std 1. */
const PLAIN = { mean: [0, 0, 0], std: [1, 1, 1] };
const bytesOf = ({ data }) => Array.from(data, (value) => Math.round(value * 255));
const planes = ({ data, width, height, channels }) => [0, 1, 2].flatMap((c) => Array.from({ length: width * height }, (_, i) => data[i * channels + (channels < 3 ? 0 : c)]));

describe('Pillow', async () => {
  const file = await safetensors.open(fileURLToPath(new URL('../reference/fixtures/image/pillow.safetensors', import.meta.url)));
  const cases = JSON.parse(file.metadata.cases).map((one, i) => ({ ...one, tensor: String(i) }));

  it('resizes to the same bytes', async () => {
    let compared = 0;
    for (const { tensor, to, filter, ...from } of cases.filter((one) => one.to)) {
      const expected = (await file.tensor(tensor)).data;
      const channels = CHANNELS[from.mode];
      const y = resize(picture(from), to[0], to[1], filter);
      // RGB and, where a pixel is not opaque, alpha come out; Pillow keeps the mode.
      const wanted = new Uint8Array(y.data.length);
      for (let i = 0, at = 0; i < to[0] * to[1]; i++, at += channels) {
        for (let c = 0; c < 3; c++) wanted[i * y.channels + c] = expected[at + (channels < 3 ? 0 : c)];
        if (y.channels === 4) wanted[i * 4 + 3] = expected[at + channels - 1];
        else if (channels % 2 === 0) assert.equal(expected[at + channels - 1], 255);
      }
      assert.equal(y.data.reduce((count, value, i) => count + Number(value !== wanted[i]), 0), 0, `bytes differ: ${JSON.stringify({ ...from, to, filter })}`);
      compared += expected.length;
    }
    assert.ok(compared > 100_000);
  });

  it('and open_clip\'s crop prepare to the same bytes', async () => {
    const prepared = cases.filter((one) => one.size);
    assert.equal(prepared.length, 9);
    for (const { tensor, size, ...from } of prepared) {
      const y = await image.toTensor(picture(from), { size, ...PLAIN });
      assert.deepEqual(y.shape, [1, 3, size, size]);
      assert.deepEqual(bytesOf(y), planes({ data: (await file.tensor(tensor)).data, width: size, height: size, channels: 3 }), JSON.stringify(from));
    }
  });

  it('and CLIP\'s normalisation give the same f32', async () => {
    const y = await image.toTensor(picture({ mode: 'RGB', width: 16, height: 16, kind: 'noise' }), { size: 16 });
    assert.deepEqual(y.data, (await file.tensor('normalised')).data);
  });
});

describe('toTensor', () => {
  const wide = picture({ mode: 'RGB', width: 30, height: 20, kind: 'noise' });

  it('resizes and crops in several ways', async () => {
    const shapes = [
      [{}, [1, 3, 224, 224]], [{ size: 10 }, [1, 3, 10, 10]], [{ size: 10, crop: false }, [1, 3, 10, 15]], [{ size: 10, crop: 8 }, [1, 3, 8, 8]],
      [{ size: 10, resize: 'squash' }, [1, 3, 10, 10]], [{ size: [7, 9], resize: 'squash' }, [1, 3, 7, 9]], [{ resize: 'none' }, [1, 3, 20, 30]],
      [{ size: [10, 5] }, [1, 3, 10, 5]], [{ size: [10, 40] }, [1, 3, 10, 40]], [{ size: [10, 40], crop: false }, [1, 3, 26, 40]], [{ size: [10, 5], crop: false }, [1, 3, 10, 15]],
    ];
    for (const [options, shape] of shapes) assert.deepEqual((await image.toTensor(wide, options)).shape, shape);
    assert.deepEqual(bytesOf(await image.toTensor(wide, { resize: 'none', ...PLAIN })), planes(wide));
    const whole = resize(wide, 15, 10, 'lanczos');
    const box = { left: 2, top: 0, width: 10, height: 10 };
    assert.deepEqual(bytesOf(await image.toTensor(wide, { size: 10, interpolation: 'lanczos', ...PLAIN })), planes(resize(wide, 15, 10, 'lanczos', box)));
    for (let row = 0; row < 10; row++) {
      assert.deepEqual(resize(wide, 15, 10, 'lanczos', box).data.slice(row * 30, row * 30 + 30), whole.data.slice((row * 15 + 2) * 3, (row * 15 + 12) * 3));
    }
  });

  it('takes a list as a batch', async () => {
    const other = picture({ mode: 'L', width: 9, height: 40, kind: 'waves' });
    const batch = await image.toTensor([wide, other], { size: 8 });
    assert.deepEqual(batch.shape, [2, 3, 8, 8]);
    assert.deepEqual(batch.data.subarray(192), (await image.toTensor(other, { size: 8 })).data);
    await rejected(image.toTensor([wide, other], { resize: 'none' }), 'image', /number 0 is 30 x 20, number 1 9 x 40/);
    await rejected(image.toTensor([]), 'argument', /a picture or a list/);
  });

  it('takes raw pixels in any array of bytes', async () => {
    const expected = (await image.toTensor(wide, { size: 8 })).data;
    const rgba = new Uint8ClampedArray(30 * 20 * 4).map((_, i) => (i % 4 === 3 ? 255 : wide.data[Math.floor(i / 4) * 3 + i % 4]));
    const shifted = new Uint8Array(rgba.length + 1);
    shifted.set(rgba, 1);
    for (const data of [rgba, Buffer.from(rgba), shifted.subarray(1)]) assert.deepEqual((await image.toTensor({ data, width: 30, height: 20 }, { size: 8 })).data, expected);
  });

  it('says what is wrong with its options and its source', async () => {
    const wrong = [
      [{ size: 0 }, /size: expected an integer of at least 1, got 0/], [{ size: [1, 2, 3] }, /size/], [{ resize: 'longest' }, /'shortest', 'squash' or 'none'/], [{ crop: 'no' }, /crop/],
      [{ crop: 300 }, /at most 224, got 300/], [{ mean: [1] }, /mean: expected three numbers/], [{ std: [1, 0, 1] }, /std: expected numbers other than 0/],
      [{ interpolation: 'cubic' }, /nearest, box, bilinear, hamming, bicubic, lanczos, got cubic/], [{ orientation: 6 }, /orientation/], [{ sise: 5 }, /no option "sise"; known: size/],
    ];
    for (const [options, pattern] of wrong) await rejected(image.toTensor(wide, options), 'argument', pattern);
    await rejected(image.toTensor({ data: new Uint8Array(11), width: 2, height: 2 }), 'image', /2 x 2 pixels with 1, 2, 3 or 4 channels do not take 11 bytes/);
    await rejected(image.toTensor({ data: new Uint8Array(16), width: 2, height: 2, channels: 3 }), 'image', /3 channels do not take 16/);
    await rejected(image.toTensor({ data: new Uint8Array(0), width: 0, height: 2 }), 'image', /above 0, got 0 x 2/);
    await rejected(image.toTensor({ data: new Float32Array(4), width: 2, height: 2 }), 'image', /expected bytes.*got Float32Array\(4\)/);
    for (const nothing of [null, undefined, 5, {}, () => {}]) await rejected(image.toTensor(nothing), 'image', /expected a URL, a path, encoded bytes, or \{ data, width, height \}, got/);
    await assert.rejects(image.toTensor(wide, { signal: AbortSignal.abort() }), { name: 'AbortError' });
    await assert.rejects(image.toTensor(wide, { signal: /** @type {any} */ ('stop') }), { code: 'argument', message: 'image.toTensor: signal: expected an AbortSignal, got "stop"' });
  });
});

describe('encoded pictures in Node', () => {
  let folder;
  let base;
  const server = createServer((request, response) => {
    if (request.url === '/a.png') response.end(png);
    else response.writeHead(404).end();
  });
  let png;
  const from = picture({ mode: 'RGBA', width: 21, height: 16, kind: 'noise' });
  const raw = { width: 21, height: 16, channels: 4 };

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'lamella-'));
    png = await sharp(from.data, { raw }).png().toBuffer();
    await writeFile(join(folder, 'ä b.png'), png);
    await new Promise((resolve) => { server.listen(0, '127.0.0.1', resolve); });
    base = `http://127.0.0.1:${server.address().port}`;
  });
  after(async () => {
    server.close();
    await rm(folder, { recursive: true });
  });

  it('from every source', async () => {
    const expected = await image.toTensor(from, { size: 12 });
    const path = join(folder, 'ä b.png');
    const sources = [png, new Uint8Array(png), Uint8Array.from(png).buffer, new Blob([png]), new File([png], 'a.png'), path, pathToFileURL(path), pathToFileURL(path).href,
      `${base}/a.png`, new URL(`${base}/a.png`), `data:image/png;base64,${png.toString('base64')}`];
    for (const source of sources) assert.deepEqual(await image.toTensor(source, { size: 12 }), expected, String(source).slice(0, 60));
  });

  it('grey, 16 bits, a palette, CMYK, an ICC profile, SVG', async () => {
    const grey = picture({ mode: 'L', width: 9, height: 8, kind: 'waves' });
    const plain = { size: 8, ...PLAIN };
    const expected = bytesOf(await image.toTensor(grey, plain));
    const greyRaw = { raw: { width: 9, height: 8, channels: 1 } };
    const sharpGrey = () => sharp(grey.data, greyRaw);
    assert.deepEqual(bytesOf(await image.toTensor(await sharpGrey().toColourspace('b-w').png().toBuffer(), plain)), expected);
    assert.deepEqual(bytesOf(await image.toTensor(await sharpGrey().png({ palette: true, dither: 0, colours: 256 }).toBuffer(), plain)), expected);
    const rgb = picture({ mode: 'RGB', width: 9, height: 8, kind: 'noise' });
    const rgbRaw = { raw: { width: 9, height: 8, channels: 3 } };
    const wide16 = Uint16Array.from(rgb.data, (value) => value * 257);
    const png16 = await sharp(wide16, rgbRaw).toColourspace('rgb16').png().toBuffer();
    assert.equal((await sharp(png16).metadata()).depth, 'ushort');
    const rgbExpected = bytesOf(await image.toTensor(rgb, plain));
    assert.deepEqual(bytesOf(await image.toTensor(png16, plain)), rgbExpected);
    const p3 = await sharp(rgb.data, rgbRaw).png().withIccProfile('p3', { attach: true }).toBuffer();
    const stored = await sharp(p3, { ignoreIcc: true }).raw().toBuffer();
    assert.deepEqual(bytesOf(await image.toTensor(p3, { ...plain, resize: 'none' })), planes({ data: stored, width: 9, height: 8, channels: 3 }));
    const cmyk = await sharp({ create: { width: 8, height: 8, channels: 3, background: '#ff0000' } }).toColourspace('cmyk').jpeg().toBuffer();
    const [red, green] = bytesOf(await image.toTensor(cmyk, plain)).filter((_, i) => i % 64 === 0);
    assert.ok(red > 180 && green < 90, `${red} ${green}`);
    const svg = Buffer.from('<svg xmlns="http://www.w3.org/2000/svg" width="8" height="8"><rect width="8" height="8" fill="#0a141e"/></svg>');
    assert.deepEqual(bytesOf(await image.toTensor(svg, plain)).filter((_, i) => i % 64 === 5), [10, 20, 30]);
  });

  it('upright or as stored', async () => {
    const jpeg = await sharp(from.data, { raw }).flatten().jpeg().withMetadata({ orientation: 6 }).toBuffer();
    assert.deepEqual((await image.toTensor(jpeg, { resize: 'none' })).shape, [1, 3, 21, 16]);
    assert.deepEqual((await image.toTensor(jpeg, { resize: 'none', orientation: 'none' })).shape, [1, 3, 16, 21]);
    // What browsers are given to see the same.
    assert.notEqual(findOrientation(jpeg), null);
    const stored = await withoutOrientation(new Blob([jpeg], { type: 'image/jpeg' }));
    assert.equal(stored.size, jpeg.length);
    assert.equal(stored.type, 'image/jpeg');
    assert.deepEqual((await image.toTensor(stored, { resize: 'none' })).shape, [1, 3, 16, 21]);
    for (const other of [png, await sharp(from.data, { raw }).flatten().jpeg().toBuffer(), jpeg.subarray(0, 3), jpeg.subarray(0, 25), Buffer.from([0xff, 0xd8, 0xff, 0xe1, 0, 0, 0x45, 0x78, 0x69, 0x66, 0, 0, 0x49, 0x49])]) {
      assert.equal(findOrientation(other), null);
      const blob = new Blob([other]);
      assert.equal(await withoutOrientation(blob), blob);
    }
  });

  it('that are none', async () => {
    await rejected(image.toTensor(Buffer.from('no picture')), 'image', /the bytes: expected a picture: .*unsupported image format/);
    await rejected(image.toTensor(png.subarray(0, 300)), 'image', /expected a picture/);
    await rejected(image.toTensor(join(folder, 'none.png')), 'image', /none.png: expected a picture: .*missing/);
    await rejected(image.toTensor(`${base}/none.png`), 'image', /none.png: the server answered 404 Not Found/);
    await rejected(image.toTensor('http://127.0.0.1:1/x.png'), 'image', /cannot be fetched/);
    const abort = new AbortController();
    const loading = image.toTensor(`${base}/a.png`, { signal: abort.signal });
    abort.abort();
    await assert.rejects(loading, { name: 'AbortError' });
  });

  it('need sharp, and say so where it is not installed', async () => {
    const alone = join(folder, 'alone');
    await mkdir(join(alone, 'web'), { recursive: true });
    await cp(join(ROOT, 'js'), join(alone, 'js'), { recursive: true });
    await copyFile(join(ROOT, 'package.json'), join(alone, 'package.json'));
    const program = `import { toTensor } from ${JSON.stringify(pathToFileURL(join(alone, 'js/image.js')).href)};
      const raw = await toTensor({ data: new Uint8Array(12), width: 2, height: 2 });
      await toTensor(Buffer.from('x')).catch((error) => console.log(error.code, raw.shape.join(), error.message));`;
    const said = execFileSync(process.execPath, ['--input-type=module', '-e', program], { encoding: 'utf8', cwd: alone });
    assert.match(said, /^sharp-missing 1,3,224,224 .*npm install sharp/);
  });
});
