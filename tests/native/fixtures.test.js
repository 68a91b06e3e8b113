/** Every fixture of tests/reference through the C library built natively, under AddressSanitizer and UndefinedBehaviorSanitizer. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { files, folder } from '../node/fixture-files.js';
import { runFile } from '../node/fixtures.js';
import { buildReplay, runNatively } from './replay.js';

runNatively(buildReplay());

for (const file of files) {
  test(file.replace('.safetensors', ''), async () => {
    const failed = [];
    let cases = 0;
    for await (const { test: { name, class: path, tolerance }, ratio } of runFile(join(folder, file), (other) => join(folder, other), { build: 'simd' })) {
      cases++;
      if (!(ratio <= 1)) failed.push(`${path} ${name}: ${ratio.toFixed(2)} x the tolerance ${tolerance}`);
    }
    assert.deepEqual(failed, []);
    assert.ok(cases, 'the fixture has no cases');
  });
}
