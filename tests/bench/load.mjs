/**
 * From a checkpoint in memory to packed weights: node tests/bench/load.mjs [--build relaxed] [--runs N] [--json]
 * CLIP's RN50 tower, 153 MB of f32, on one thread; each run in a process of its own.
 */
import { parseArgs } from 'node:util';
import { fresh, isMain } from './fresh.mjs';
import { median } from './statistics.mjs';

/**
 * @param {{ build?: string, runs?: number }} [options]
 * @returns {{ node: string, build: string, checkpoint: number, packed: number, milliseconds: number, gigabytesPerSecond: number, wasm: number, peak: number, peakOfPacked: number }}
 *   Bytes and medians. milliseconds: from calling compile, the engine being there, to its end. wasm: the engine's memory, which never shrinks, so its
 *   peak. peak: that and what the process held more in array buffers at worst. peakOfPacked: peak / packed.
 */
export function load({ build = 'relaxed', runs = 5 } = {}) {
  const all = Array.from({ length: runs }, () => fresh(import.meta.url, ['--child', '--build', build]));
  const milliseconds = median(all.map(run => run.milliseconds));
  const { node, checkpoint, packed } = all[0];
  const [wasm, peak] = ['wasm', 'peak'].map(name => median(all.map(run => run[name])));
  return { node, build, checkpoint, packed, milliseconds, gigabytesPerSecond: checkpoint / milliseconds / 1e6, wasm, peak, peakOfPacked: peak / packed };
}

async function measure(build) {
  const { load: once } = await import('./runtimes/fresh.mjs');
  const { model, input, ...figures } = await once(build);
  return { node: process.version, ...figures };
}

if (isMain(import.meta.url)) {
  const { values } = parseArgs({
    options: { build: { type: 'string', default: 'relaxed' }, runs: { type: 'string', default: '5' }, json: { type: 'boolean', default: false }, child: { type: 'boolean', default: false } },
  });
  if (values.child) console.log(JSON.stringify(await measure(values.build)));
  else {
    const result = load({ build: values.build, runs: Number(values.runs) });
    const mega = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`;
    if (values.json) console.log(JSON.stringify(result));
    else console.log(`${result.build}, Node ${result.node}: ${mega(result.checkpoint)} in ${result.milliseconds.toFixed(0)} ms, ${result.gigabytesPerSecond.toFixed(2)} GB/s; packed ${mega(result.packed)}, wasm ${mega(result.wasm)}, peak ${mega(result.peak)}: ${result.peakOfPacked.toFixed(3)} x packed`);
  }
}
