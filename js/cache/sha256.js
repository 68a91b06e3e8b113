/** SHA-256 of bytes that come in pieces, which WebCrypto cannot do (FIPS 180-4). */
import { nodeModule } from '../platform.js';

/** @typedef {{ update: (bytes: Uint8Array) => unknown, hex: () => string }} Hash */

/** @returns {Hash} Node's own where there is one. */
export function sha256() {
  const crypto = nodeModule('node:crypto');
  if (!crypto) return new Sha256();
  const hash = crypto.createHash('sha256');
  return { update: (bytes) => hash.update(bytes), hex: () => hash.digest('hex') };
}

/** The first 32 bits of the fractional parts of roots of the first primes. */
const fractions = (/** @type {number} */ count, /** @type {(prime: number) => number} */ root) => {
  const found = [];
  for (let n = 2; found.length < count; n++) {
    let prime = true;
    for (let i = 2; i * i <= n; i++) prime &&= n % i !== 0;
    if (prime) found.push(root(n) % 1 * 2 ** 32 | 0);
  }
  return Int32Array.from(found);
};
const ROUND = fractions(64, Math.cbrt);
const START = fractions(8, Math.sqrt);

/** @implements {Hash} */
export class Sha256 {
  #state = START.slice();
  #block = new Uint8Array(64);
  #words = new Int32Array(64);
  #bytes = 0;

  /** @param {Uint8Array} bytes */
  update(bytes) {
    const filled = this.#bytes % 64;
    this.#bytes += bytes.length;
    let at = 0;
    if (filled) {
      at = Math.min(bytes.length, 64 - filled);
      this.#block.set(bytes.subarray(0, at), filled);
      if (filled + at < 64) return;
      compress(this.#state, this.#words, this.#block, 0);
    }
    for (; at + 64 <= bytes.length; at += 64) compress(this.#state, this.#words, bytes, at);
    this.#block.set(bytes.subarray(at));
  }

  /** Of all bytes so far; nothing may follow. */
  hex() {
    const bits = BigInt(this.#bytes) * 8n;
    this.update(Uint8Array.of(0x80));
    this.update(new Uint8Array((120 - this.#bytes % 64) % 64));
    const length = new Uint8Array(8);
    new DataView(length.buffer).setBigUint64(0, bits);
    this.update(length);
    return [...this.#state].map((word) => (word >>> 0).toString(16).padStart(8, '0')).join('');
  }
}

/**
 * @param {Int32Array} state [8]
 * @param {Int32Array} w [64] Scratch.
 * @param {Uint8Array} bytes
 * @param {number} at Where the block of 64 begins.
 */
function compress(state, w, bytes, at) {
  for (let i = 0; i < 16; i++, at += 4) w[i] = bytes[at] << 24 | bytes[at + 1] << 16 | bytes[at + 2] << 8 | bytes[at + 3];
  for (let i = 16; i < 64; i++) {
    const x = w[i - 15];
    const y = w[i - 2];
    w[i] = ((x >>> 7 | x << 25) ^ (x >>> 18 | x << 14) ^ x >>> 3) + w[i - 7] + ((y >>> 17 | y << 15) ^ (y >>> 19 | y << 13) ^ y >>> 10) + w[i - 16] | 0;
  }
  let a = state[0], b = state[1], c = state[2], d = state[3], e = state[4], f = state[5], g = state[6], h = state[7];
  for (let i = 0; i < 64; i++) {
    const t1 = h + ((e >>> 6 | e << 26) ^ (e >>> 11 | e << 21) ^ (e >>> 25 | e << 7)) + (e & f ^ ~e & g) + ROUND[i] + w[i] | 0;
    const t2 = ((a >>> 2 | a << 30) ^ (a >>> 13 | a << 19) ^ (a >>> 22 | a << 10)) + (a & b ^ a & c ^ b & c) | 0;
    h = g;
    g = f;
    f = e;
    e = d + t1 | 0;
    d = c;
    c = b;
    b = a;
    a = t1 + t2 | 0;
  }
  [a, b, c, d, e, f, g, h].forEach((word, i) => { state[i] += word; });
}
