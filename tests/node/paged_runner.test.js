/** Which experts PagedRunner brings in, which it lets go, and what it counts: beside a runner and a store that are not there. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { PagedRunner, planPaging } from '../../js/experts/paging.js';

const BYTES = 10;

/** @param {number} slots @param {{ read?: (at: number, bytes: number) => Promise<Uint8Array>, written?: () => Promise<void> }} [store] */
function paged(slots, store = {}) {
  /** @type {number[][][]} */
  const fills = [];
  /** @type {number[][]} What the run wants, one after another. */
  let asked = [];
  let closed = 0;
  let disposed = 0;
  const answer = async () => {
    const experts = asked.shift();
    return experts ? { waits: { layer: 0, experts } } : { outputs: [] };
  };
  const runner = {
    forward: answer, compile: async () => ({ places: [] }), loaded: async () => 'loaded', dispose() { disposed++; },
    resume: (/** @type {number} */ id, /** @type {[number, number, number, Uint8Array][]} */ given) => {
      fills.push(given.map(([layer, slot, expert, { length }]) => [layer, slot, expert, length]));
      return answer();
    },
  };
  const kept = { read: async (/** @type {number} */ at, /** @type {number} */ count) => new Uint8Array(count).fill(at), write: async () => {}, written: async () => {}, close: async () => { closed++; }, ...store };
  const layer = { count: 5, bytes: BYTES, begin: 100, slots, here: new Map() };
  const one = new PagedRunner(/** @type {any} */ (runner), [layer], /** @type {any} */ (kept), 50);
  return {
    runner: one, counts: () => ({ closed, disposed }),
    /** @param {number[][]} wanted @param {AbortSignal} [signal] */
    async run(wanted, signal) {
      asked = [...wanted];
      fills.length = 0;
      await one.forward(0, [], { signal });
      return fills.map((list) => list.map(([, slot, expert]) => [slot, expert]));
    },
  };
}

describe('experts are brought in', () => {
  it('and the one that was wanted longest ago goes', async () => {
    const { run } = paged(2);
    assert.deepEqual(await run([[0], [1], [0], [2]]), [[[0, 0]], [[1, 1]], [], [[1, 2]]]);
    assert.deepEqual(await run([[1]]), [[[0, 1]]]);
  });

  it('never in the place of another that is wanted now', async () => {
    const { run } = paged(3);
    await run([[0, 1, 2]]);
    assert.deepEqual(await run([[0, 3]]), [[[1, 3]]]);
    assert.deepEqual(await run([[2, 4]]), [[[0, 4]]]);
  });

  it('no more of them than there are slots for, which are what is counted', async () => {
    const { run, runner } = paged(2);
    assert.deepEqual(await run([[1, 3, 4], [3, 4]]), [[[0, 1], [1, 3]], [[0, 4]]]);
    const { hits, misses, bytesRead, resident, slots, count, memory, rate } = runner.experts;
    assert.deepEqual({ hits, misses, bytesRead, resident, slots, count, memory, rate }, { hits: 1, misses: 3, bytesRead: 30, resident: 2, slots: 2, count: 5, memory: 20, rate: 0.25 });
    await run([[3, 4, 0]]);
    assert.equal(runner.experts.hits, 3);
  });

  it('from where they are kept', async () => {
    /** @type {number[][]} */
    const reads = [];
    const { run } = paged(5, { read: async (at, bytes) => { reads.push([at, bytes]); return new Uint8Array(bytes); } });
    await run([[0, 3], [4]]);
    assert.deepEqual(reads, [[100, 10], [130, 10], [140, 10]]);
  });
});

describe('a run that is given up', () => {
  it('while an expert is read does not wait for it, and forgets nothing', async () => {
    const controller = new AbortController();
    const reason = new Error('enough');
    let hangs = true;
    const { run } = paged(2, { read: (_, bytes) => (hangs ? new Promise(() => {}) : Promise.resolve(new Uint8Array(bytes))) });
    const running = run([[0]], controller.signal);
    await new Promise(setImmediate);
    controller.abort(reason);
    await assert.rejects(running, reason);
    hangs = false;
    assert.deepEqual(await run([[0]]), [[[0, 0]]]);
  });

  it('between two of its parts ends, though nothing is to be read', async () => {
    const controller = new AbortController();
    const { run, runner } = paged(2);
    await run([[0, 1]]);
    let parts = 0;
    const real = runner.runner.resume;
    runner.runner.resume = async (/** @type {any[]} */ ...args) => {
      if (++parts === 2) controller.abort(new Error('enough'));   // a worker that had ended this part when it was told
      return /** @type {any} */ (real)(...args);
    };
    await assert.rejects(run([[0], [1], [0], [1]], controller.signal), /enough/);
    assert.equal(parts, 2);
  });

  it('by dispose says so, and the store is closed once', async () => {
    /** @type {(error: Error) => void} */
    let fail = () => {};
    const { run, runner, counts } = paged(2, { read: () => new Promise((_, reject) => { fail = reject; }) });
    const running = run([[0]]);
    await new Promise(setImmediate);
    runner.dispose();
    runner.dispose();
    fail(new Error('EBADF'));
    await assert.rejects(running, { code: 'disposed' });
    assert.deepEqual(counts(), { closed: 1, disposed: 2 });
  });
});

it('loading ends when everything is written, or with the reason why it cannot be', async () => {
  let written = false;
  const { runner } = paged(1, { written: async () => { await new Promise(setImmediate); written = true; } });
  await runner.loaded();
  assert.ok(written);
  await assert.rejects(paged(1, { written: async () => { throw new Error('ENOSPC'); } }).runner.loaded(), { code: 'file', message: /cannot be written: ENOSPC/ });
});

it('memory is shared out by layers, in whole experts, one at least', async () => {
  const found = [{ count: 8, bytes: 100 }, { count: 4, bytes: 50 }];
  for (const [memory, slots] of /** @type {[number, number[]][]} */ ([[0, [1, 1]], [598, [2, 4]], [398, [1, 3]], [1e9, [8, 4]]])) {
    /** @type {number[]} */
    let told = [];
    const graph = { measure() {}, expertLayers: () => found, setSlots: async (/** @type {number[]} */ given) => { told = given; } };
    const paging = await planPaging(/** @type {any} */ (graph), { memory });
    assert.deepEqual([told, paging?.layers.map(({ begin }) => begin), paging?.options.bytes], [slots, [0, 800], 1000]);
  }
});
