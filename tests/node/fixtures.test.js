/** Every fixture of tests/reference through every build that this Node runs, or the one that LAMELLA_BUILD names. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { files, folder } from './fixture-files.js';
import { buildsHere, error, runFile } from './fixtures.js';
import { Parity } from './parity.js';

const builds = process.env.LAMELLA_BUILD ? [process.env.LAMELLA_BUILD] : buildsHere();

test('the comparison sees NaN, another shape and a wrong number', () => {
  const y = { data: [1, 2], shape: [2] };
  assert.equal(error(y, y), 0);
  assert.equal(error({ data: [1, NaN], shape: [2] }, y), Infinity);
  assert.equal(error({ data: [1, 2], shape: [1, 2] }, y), Infinity);
  assert.equal(error({ data: [1, 2.5], shape: [2] }, y), 0.25);
});

for (const build of builds) {
  const parity = new Parity('fixtures', build);
  const table = {};
  const threads = build.endsWith('threads') ? 3 : 1;
  for (const file of files) {
    test(`${build}: ${file.replace('.safetensors', '')}`, async () => {
      const failed = [];
      let cases = 0;
      for await (const { test: { name, class: path, tolerance }, ratio } of runFile(join(folder, file), (other) => join(folder, other), { build, threads })) {
        parity.add(path, ratio * tolerance, tolerance);
        cases++;
        if (!(ratio <= 1)) failed.push(`${path} ${name}: ${ratio.toFixed(2)} x the tolerance ${tolerance}`);
      }
      assert.deepEqual(failed, []);
      assert.ok(cases, 'the fixture has no cases');
    });
  }
  after(() => parity.write());
}
