/** The promise of the README: what every page fetches, with the largest engine, in so many bytes. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { sizes, WIRE_LIMIT } from '../bench/size.mjs';

test('what every page downloads is within the limit', async (t) => {
  const { scripts, builds, wire, onDemand } = await sizes(fileURLToPath(new URL('../..', import.meta.url)));
  t.diagnostic(`${wire} bytes, ${scripts} of them scripts; on demand ${Object.entries(onDemand).map(([name, bytes]) => `${name} ${bytes}`).join(', ')}`);
  // What is imported statically somewhere is not on demand, and would be missing here.
  for (const name of ['apart', 'checkpoint', 'coded', 'downloads', 'fit', 'generation', 'gguf', 'gguf_weights', 'host', 'jinja', 'paging', 'picture-host', 'pictures', 'tokenizers', 'worker']) assert.ok(onDemand[name] > 500, `${name} is not a chunk of its own`);
  for (const { name, embedded, wasm } of builds) assert.ok(embedded <= 1.02 * wasm, `${name}: ${embedded} bytes in JavaScript, ${wasm} as a file`);
  assert.ok(wire <= WIRE_LIMIT, `${wire} bytes over the wire, of ${WIRE_LIMIT}`);
});
