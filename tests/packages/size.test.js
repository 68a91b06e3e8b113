/** The promise of the README: everything, with the largest engine, in so many bytes. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { sizes, WIRE_LIMIT } from '../bench/size.mjs';

test('what a page downloads is within the limit', async (t) => {
  const { scripts, builds, wire } = await sizes(fileURLToPath(new URL('../..', import.meta.url)));
  t.diagnostic(`${wire} bytes, ${scripts} of them scripts`);
  for (const { name, embedded, wasm } of builds) assert.ok(embedded <= 1.02 * wasm, `${name}: ${embedded} bytes in JavaScript, ${wasm} as a file`);
  assert.ok(wire <= WIRE_LIMIT, `${wire} bytes over the wire, of ${WIRE_LIMIT}`);
});
