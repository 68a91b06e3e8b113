/** Experts outside of the engine's memory in browsers: in the origin's private files, or in memory where they cannot be written. */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { BROWSERS } from './browsers.mjs';
import { until } from './until.mjs';
import { visit } from './visit.mjs';

/** Runs in the page: the same mixture with all experts in the engine, and with two of eight. */
async function compare(worker) {
  const { compile, F, Module, Parameter } = await import('/js/index.js');
  class Mixture extends Module {
    inputs = [[null, 64], [null, 8]];

    constructor() {
      super();
      for (let i = 0; i < 8; i++) Object.assign(this, { [`gate${i}`]: new Parameter([32, 64]), [`up${i}`]: new Parameter([32, 64]), [`down${i}`]: new Parameter([64, 32]) });
    }

    forward(x, routing) { return F.experts(x, routing, Array.from({ length: 8 }, (_, i) => [this[`gate${i}`], this[`up${i}`], this[`down${i}`]])); }
  }
  const module = new Mixture();
  const numbers = (length, seed) => Float32Array.from({ length }, (_, i) => Math.sin(i * 12.9 + seed * 3.7));
  const weights = Object.fromEntries([...module.namedParameters()].map(([name, { shape }], i) => [name, { data: numbers(2048, i), shape: [...shape] }]));
  const x = { data: numbers(640, 100), shape: [10, 64] };
  const routing = Float32Array.from({ length: 80 }, (_, i) => ((i * 7) % 3 ? 0 : 0.5));
  const inputs = [Array.from({ length: 10 }, (_, i) => [...x.data.subarray(i * 64, i * 64 + 64)]), Array.from({ length: 10 }, (_, i) => [...routing.subarray(i * 8, i * 8 + 8)])];
  const warnings = [];
  const found = [];
  for (const experts of [undefined, { memory: 13_000, warn: (error) => warnings.push(error.message) }]) {
    const model = await compile(module, { weights, precision: 'q8', worker, threads: 1, experts });
    found.push([[...(await model.forward(...inputs)).data], [...(await model.forward(...inputs)).data]]);
    if (experts) found.push(model.experts);
    model.dispose();
  }
  return { resident: found[0], paged: found[1], experts: found[2], warnings };
}

for (const name of BROWSERS) {
  describe(`experts outside in ${name}`, () => {
    let [page, close] = [];
    before(async () => { ({ page, close } = await visit(name)); });
    after(() => close?.());

    for (const worker of [false, true]) {
      it(`give the same numbers${worker ? ' in a worker' : ''}`, async () => {
        const { resident, paged, experts, warnings } = await page.evaluate(compare, worker);
        assert.deepEqual(paged, resident);
        assert.ok(resident[0].some((value) => value !== 0));
        assert.ok(experts.slots < experts.count && experts.misses > experts.slots && experts.bytesRead > 0, JSON.stringify(experts));
        const hasFiles = await page.evaluate(() => Boolean(navigator.storage?.getDirectory) && typeof FileSystemFileHandle.prototype.createWritable === 'function');
        assert.equal(warnings.length, hasFiles ? 0 : 1, warnings.join());
        if (hasFiles) {
          await until(page, 'the file is gone', async () => {
            const folder = await (await navigator.storage.getDirectory()).getDirectoryHandle('lamella-experts');
            for await (const left of folder.keys()) return !left;
            return true;
          });
        }
      });
    }
  });
}
