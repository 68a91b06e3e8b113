/**
 * The first result: node tests/bench/startup.mjs [--build relaxed] [--threads N] [--runs N] [--browser] [--json]
 * - from calling compile to the result of a small linear layer, in a process that has just started (Node only);
 * - the first forward after compile beside the steady one, for CLIP's RN50 tower and small networks, each in a process or page of its own.
 */
import { parseArgs } from 'node:util';
import { newestNode } from '../newest-node/index.mjs';
import { ProcessContestant } from './contestant.mjs';
import { fresh, isMain } from './fresh.mjs';
import { median } from './statistics.mjs';

/** Forwards before the steady ones, and the steady ones. */
const STEADY = { rn50: [15, 15], 'small-0.1ms': [2000, 500], 'small-1ms': [300, 100], 'small-5ms': [100, 30] };

/**
 * @param {{ build?: string, threads?: number, runs?: number, browser?: boolean }} [options]
 * @returns {Promise<{ place: string, build: string, threads: number, layer?: { milliseconds: number, module: number }, nets: { name: string, first: number, steady: number, ratio: number }[] }>}
 *   Medians, in milliseconds. layer.module: of these, until the JavaScript modules were there. ratio: median of the runs' ratios.
 */
export async function startup({ build = 'relaxed', threads = 1, runs = 5, browser = false } = {}) {
  const place = browser ? await (await import('./browser.mjs')).openBrowser([]) : undefined;
  const open = (name) => {
    const options = { build, threads, name };
    return place ? place.contestant(name, 'startup', options) : new ProcessContestant(name, 'startup', options, newestNode());
  };
  try {
    const nets = [];
    for (const [name, counts] of Object.entries(STEADY)) nets.push({ name, ...await firstAndSteady(() => open(name), counts, runs) });
    if (place) return { place: place.version, build, threads, nets };
    const layers = Array.from({ length: runs }, () => fresh(import.meta.url, ['--child', '--build', build, '--threads', String(threads)]));
    return { place: `Node ${layers[0].node}`, build, threads, layer: { milliseconds: median(layers.map(l => l.milliseconds)), module: median(layers.map(l => l.module)) }, nets };
  } finally {
    await place?.close();
  }
}

async function firstAndSteady(open, [warm, count], runs) {
  const all = [];
  for (let i = 0; i < runs; i++) {
    const contestant = open();
    try {
      await contestant.start();
      const [first] = await contestant.time('forward', 0, 1);
      all.push({ first, steady: median(await contestant.time('forward', warm, count)) });
    } finally {
      contestant.stop();
    }
  }
  const [first, steady] = ['first', 'steady'].map(name => median(all.map(run => run[name])));
  return { first, steady, ratio: median(all.map(run => run.first / run.steady)) };
}

/** A linear layer from nothing, with lamella's modules loaded and without. */
async function firstLayer(build, threads) {
  const start = performance.now();
  const { compile, nn, Tensor } = await import('../../js/index.js');
  const from = performance.now();
  const weights = { weight: new Tensor(new Float32Array(32).fill(0.5), [4, 8]), bias: new Tensor(new Float32Array(4), [4]) };
  const model = await compile(new nn.Linear(8, 4), { weights, inputs: [[1, 8]], build, threads });
  const { data } = await model.forward(new Tensor(new Float32Array(8).fill(1), [1, 8]));
  if (data[3] !== 4) throw new Error(`expected 4, got ${data[3]}`);
  return { node: process.version, milliseconds: performance.now() - from, module: from - start };
}

if (isMain(import.meta.url)) {
  const { values } = parseArgs({
    options: {
      build: { type: 'string', default: 'relaxed' }, threads: { type: 'string', default: '1' }, runs: { type: 'string', default: '5' },
      browser: { type: 'boolean', default: false }, json: { type: 'boolean', default: false }, child: { type: 'boolean', default: false },
    },
  });
  const threads = Number(values.threads);
  if (values.child) console.log(JSON.stringify(await firstLayer(values.build, threads)));
  else {
    const result = await startup({ ...values, threads, runs: Number(values.runs) });
    if (values.json) console.log(JSON.stringify(result));
    else {
      console.log(`${result.build}, ${threads} thread${threads > 1 ? 's' : ''}, ${result.place}`);
      if (result.layer) console.log(`from compile to the first linear layer's result: ${result.layer.milliseconds.toFixed(1)} ms (loading the modules before: ${result.layer.module.toFixed(1)} ms)`);
      for (const { name, first, steady, ratio } of result.nets) console.log(`${name.padEnd(12)} first ${first.toFixed(2)} ms, steady ${steady.toFixed(2)} ms: ${ratio.toFixed(2)} x`);
    }
  }
  process.exit();
}
