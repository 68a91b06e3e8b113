/** Half: a file that grows in segments, beside a drawer in memory that holds its callers to what half.js promises. */
import assert from 'node:assert/strict';
import { it } from 'node:test';
import { Half, SEGMENT } from '../../js/cache/half.js';
import { randomNumbers } from '../../js/text/sampling.js';

/** Keeps segments; `puts` counts what is written. */
function drawer() {
  /** @type {Map<number, Uint8Array>} */
  const segments = new Map();
  return {
    puts: 0,
    /** @param {number} at @param {Uint8Array} bytes */
    async put(at, bytes) {
      assert.ok(at % SEGMENT === 0 && bytes.length > 0 && bytes.length <= SEGMENT, `${bytes.length} bytes at ${at}`);
      assert.ok(at === 0 || segments.get(at / SEGMENT - 1)?.length === SEGMENT, 'the segment before is whole');
      this.puts++;
      segments.set(at / SEGMENT, bytes.slice());
      for (const i of segments.keys()) if (i > at / SEGMENT) segments.delete(i);
    },
    /** Of one segment. @param {number} begin @param {number} end */
    async get(begin, end) {
      const i = Math.floor(begin / SEGMENT);
      const bytes = (segments.get(i) ?? new Uint8Array(0)).slice(begin - i * SEGMENT, end - i * SEGMENT);
      assert.ok(bytes.length > 0, `nothing at ${begin}`);
      return bytes;
    },
    stored: () => [...segments.values()].reduce((sum, { length }) => sum + length, 0),
  };
}

it('what was appended is what is read, across segments, flushes and visits', async () => {
  const random = randomNumbers(3);
  const pick = (/** @type {number} */ most) => Math.floor(random() * most);
  const file = Uint8Array.from({ length: 3 * SEGMENT + 1000 }, (_, i) => (i * 7 + (i >> 8) + (i >> 16)) & 255);
  for (let round = 0; round < 8; round++) {
    const kept = drawer();
    let half = await Half.open(/** @type {any} */ (kept), 0);
    while (half.stored < file.length) {
      const at = half.stored;
      await half.append(file.subarray(at, at + 1 + pick([1000, SEGMENT, 2.5 * SEGMENT][round % 3])));
      for (let i = 0; i < 4; i++) {
        const begin = pick(half.stored);
        const end = begin + 1 + pick(half.stored - begin);
        const bytes = await half.read(begin, end);
        assert.ok(bytes.length > 0 && bytes.length <= end - begin && Buffer.from(bytes).equals(file.subarray(begin, begin + bytes.length)), `${begin} to ${end} of ${half.stored}`);
      }
      if (round % 3 === 0) await half.append(file.subarray(half.stored, half.stored + pick(SEGMENT)));
      if (pick(3)) continue;
      await half.flush();
      const { puts } = kept;
      await half.flush();
      assert.equal(kept.puts, puts, 'nothing new is not written');
      assert.equal(kept.stored(), half.stored);
      if (pick(2)) half = await Half.open(/** @type {any} */ (kept), half.stored);
    }
  }
});

it('a segment that cannot be written is an error of its own append only', async () => {
  const kept = drawer();
  const half = await Half.open(/** @type {any} */ (kept), 0);
  const real = kept.put;
  kept.put = async () => { throw new Error('ENOSPC'); };
  await assert.rejects(half.append(new Uint8Array(SEGMENT)), /ENOSPC/);
  kept.put = real;
  await half.flush();
});
