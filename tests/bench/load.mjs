/**
 * From a checkpoint in memory to packed weights: node tests/bench/load.mjs [--build relaxed] [--runs N] [--json]
 * CLIP's RN50 tower, 153 MB of f32, on one thread; each run in a process of its own, after two others: one touches as much new memory as the run takes in all, which
 * a virtual machine must fetch from its host once, and one as much as the packed weights take, which is timed. Half of a load is the system's, for memory never used
 * before: where the engine's memory has been used before, because another model was there, the same load takes a third of the time.
 */
import { parseArgs } from 'node:util';
import { fresh, isMain } from './fresh.mjs';
import { load as loadOnce, touch } from './runtimes/fresh.mjs';
import { median } from './statistics.mjs';

/**
 * @param {{ build?: string, runs?: number }} [options]
 * @returns {{ node: string, build: string, checkpoint: number, packed: number, milliseconds: number, gigabytesPerSecond: number, touch: number, again: number, wasm: number, peak: number, peakOfPacked: number }}
 *   Bytes and medians. milliseconds: from calling compile, the engine being there, to its end. touch: milliseconds for a first byte in
 *   each page of new memory as large as packed. again: milliseconds of the next load, in the memory of the first, which is disposed of. wasm: the engine's memory, which never shrinks, so its
 *   peak. peak: that and what the process held more in array buffers at worst. peakOfPacked: peak / packed.
 */
export function load({ build = 'relaxed', runs = 5 } = {}) {
  const all = [];
  for (let i = 0; i < runs; i++) {
    const packed = all[0]?.packed ?? 154e6;
    fresh(import.meta.url, ['--child', '--touch', String(4 * packed)]);   // what a run takes in all, fetched from the host
    const { milliseconds: touch } = fresh(import.meta.url, ['--child', '--touch', String(packed)]);
    all.push({ touch, ...fresh(import.meta.url, ['--child', '--build', build]) });
  }
  const milliseconds = median(all.map(run => run.milliseconds));
  const { node, checkpoint, packed } = all[0];
  const [wasm, peak, touch, again] = ['wasm', 'peak', 'touch', 'again'].map(name => median(all.map(run => run[name])));
  return { node, build, checkpoint, packed, milliseconds, gigabytesPerSecond: checkpoint / milliseconds / 1e6, touch, again, wasm, peak, peakOfPacked: peak / packed };
}

async function measure(build) {
  const { model, input, ...figures } = await loadOnce(build);
  model.dispose();
  const { milliseconds: again } = await loadOnce(build);
  return { node: process.version, ...figures, again };
}

if (isMain(import.meta.url)) {
  const { values } = parseArgs({
    options: { build: { type: 'string', default: 'relaxed' }, runs: { type: 'string', default: '5' }, json: { type: 'boolean', default: false }, child: { type: 'boolean', default: false }, touch: { type: 'string' } },
  });
  if (values.child) console.log(JSON.stringify(values.touch ? { milliseconds: touch(Number(values.touch)) } : await measure(values.build)));
  else {
    const result = load({ build: values.build, runs: Number(values.runs) });
    const mega = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`;
    if (values.json) console.log(JSON.stringify(result));
    else console.log(`${result.build}, Node ${result.node}: ${mega(result.checkpoint)} in ${result.milliseconds.toFixed(0)} ms, ${result.gigabytesPerSecond.toFixed(2)} GB/s (touching as much new memory as is packed takes ${result.touch.toFixed(0)} ms; again, in memory used before: ${result.again.toFixed(0)} ms, ${(result.checkpoint / result.again / 1e6).toFixed(2)} GB/s); packed ${mega(result.packed)}, wasm ${mega(result.wasm)}, peak ${mega(result.peak)}: ${result.peakOfPacked.toFixed(3)} x packed`);
  }
}
