/** Checkpoints that no disk holds: a server that makes their bytes as it sends them. */
import { createServer } from 'node:http';

/** Bytes of a number. */
const BYTES = { BF16: 2, F32: 4 };

/** Noise that repeats, after a number that no row's length divides: bf16 numbers of about a fiftieth. */
const NOISE = new Uint16Array(1_000_003);
{
  let state = 1;
  for (let i = 0; i < NOISE.length; i++) {
    state = Math.imul(state ^ state >>> 15, 0x2c1b3c6d) + 0x9e3779b9 | 0;
    NOISE[i] = 0x3c00 | (state >>> 16 & 0x80ff);   // 0.0078 to 0.031, of either sign
  }
}
const noise = new Uint8Array(NOISE.buffer);
const ones = new Uint8Array(new Uint16Array(1 << 14).fill(0x3f80).buffer);

/**
 * The bytes of a file: its header and then for each tensor the noise from a place of its own on, or ones where it has one axis.
 * @param {[string, number[]][]} tensors All BF16.
 * @param {(name: string) => number} [seed]
 */
export function describeFile(tensors, seed = (name) => [...name].reduce((hash, c) => Math.imul(hash ^ c.charCodeAt(0), 16777619), 2166136261) >>> 1) {
  let at = 0;
  const places = tensors.map(([name, shape]) => {
    const begin = at;
    at += shape.reduce((a, b) => a * b, BYTES.BF16);
    return { name, shape, begin, end: at, from: (seed(name) >>> 1) % NOISE.length * 2 };
  });
  const entries = Object.fromEntries(places.map(({ name, shape, begin, end }) => [name, { dtype: 'BF16', shape, data_offsets: [begin, end] }]));
  const json = Buffer.from(JSON.stringify(entries));
  const header = Buffer.concat([Buffer.alloc(8), json]);
  header.writeBigUInt64LE(BigInt(json.length));
  /** Pieces of [begin, end) of the file. */
  function* bytes(begin, end) {
    if (begin < header.length) yield header.subarray(begin, Math.min(end, header.length));
    let i = 0;
    for (let p = Math.max(begin, header.length) - header.length, last = end - header.length; p < last;) {
      while (places[i].end <= p) i++;
      const place = places[i];
      const count = Math.min(place.end, last) - p;
      const from = place.shape.length > 1 ? noise : ones;
      const start = (place.from + p - place.begin) % from.length;
      const piece = from.subarray(start, Math.min(from.length, start + count, start + (1 << 18)));
      yield piece;
      p += piece.length;
    }
  }
  return { size: header.length + at, dataBegin: header.length, bytes };
}

/**
 * @param {Record<string, ReturnType<typeof describeFile> | object>} files By name; objects without `bytes` are JSON.
 * @returns {Promise<{ url: string, asked: { name: string, begin: number, end: number }[], sent: () => number, close: () => void }>}
 */
export async function serveFiles(files) {
  const asked = [];
  let sent = 0;
  const server = createServer(async (request, response) => {
    const name = request.url.slice(1);
    const found = /** @type {any} */ (files[name]);
    if (!found) return response.writeHead(404).end();
    const text = found.bytes ? null : Buffer.from(JSON.stringify(found));
    const size = text ? text.length : found.size;
    const [, first, last] = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? 'bytes=0-') ?? [];
    const [begin, end] = [Number(first), Math.min(size, last ? Number(last) + 1 : Infinity)];
    asked.push({ name, begin, end });
    let ready = () => {};
    response.on('drain', () => ready());
    response.on('close', () => ready());
    response.writeHead(206, { 'content-range': `bytes ${begin}-${end - 1}/${size}`, 'content-length': end - begin, etag: '"1"' });
    if (text) return response.end(text.subarray(begin, end));
    for (const piece of found.bytes(begin, end)) {
      if (response.destroyed) return undefined;
      sent += piece.length;
      if (!response.write(piece)) await new Promise((resolve) => { ready = resolve; });
    }
    return response.end();
  });
  await new Promise((resolve) => { server.listen(0, '127.0.0.1', () => resolve(null)); });
  return { url: `http://127.0.0.1:${server.address().port}/`, asked, sent: () => sent, close: () => { server.close(); server.closeAllConnections(); } };
}

/**
 * Tensors in shards of about so many bytes.
 * @param {[string, number[]][]} tensors
 * @param {number} shardBytes
 */
export function shardTensors(tensors, shardBytes) {
  /** @type {[string, number[]][][]} */
  const shards = [[]];
  let bytes = 0;
  for (const tensor of tensors) {
    const own = tensor[1].reduce((a, b) => a * b, BYTES.BF16);
    if (bytes && bytes + own > shardBytes) {
      shards.push([]);
      bytes = 0;
    }
    shards.at(-1).push(tensor);
    bytes += own;
  }
  return shards;
}

/**
 * The same as files, with their index.
 * @param {[string, number[]][]} tensors
 * @param {number} shardBytes
 */
export function shardFiles(tensors, shardBytes) {
  const shards = shardTensors(tensors, shardBytes);
  const nameOf = (i) => `model-${String(i + 1).padStart(5, '0')}-of-${String(shards.length).padStart(5, '0')}.safetensors`;
  const map = Object.fromEntries(shards.flatMap((own, i) => own.map(([name]) => [name, nameOf(i)])));
  return { 'model.safetensors.index.json': { weight_map: map }, ...Object.fromEntries(shards.map((own, i) => [nameOf(i), describeFile(own)])) };
}
