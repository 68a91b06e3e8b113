/**
 * What a second thread brings: node tests/bench/threads.mjs [--build relaxed-threads] [--runs N] [--layers] [--busy] [--json]
 * CLIP's RN50 tower and small networks on one thread and on two, in turns, in one process. --layers adds the tower's layers on one and on two
 * threads; --busy keeps a core busy with another process meanwhile, so that a worker is now and then put aside in the middle of its work.
 */
import { spawn } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { fresh, isMain } from './fresh.mjs';
import { median, pairedRatios, quantile } from './statistics.mjs';

/** Forwards of a turn and milliseconds that warming up takes at most. */
const TURN = { rn50: 2, 'small-0.1ms': 200, 'small-1ms': 50, 'small-5ms': 15 };

/**
 * @param {{ build?: string, runs?: number, layers?: boolean, busy?: boolean }} [options] `runs`: turns of each network.
 * @returns {Promise<{ node: string, build: string, busy: boolean, nets: { name: string, one: number, two: number, speedup: number, worst: number }[], layers?: any[] }>}
 *   one, two: median milliseconds; speedup: median of the turns' ratios; worst: the 99th percentile of two threads' milliseconds.
 */
export async function threads({ build = 'relaxed-threads', runs = 15, layers = false, busy = false } = {}) {
  return fresh(import.meta.url, ['--child', '--build', build, '--runs', String(runs), ...(layers ? ['--layers'] : []), ...(busy ? ['--busy'] : [])]);
}

async function measure({ build, runs, layers, busy }) {
  const { compile } = await import('../../js/index.js');
  const { net, NETS } = await import('./nets.mjs');
  const result = { node: process.version, build, busy, nets: [] };
  const hog = busy ? spawn(process.execPath, ['-e', 'for (;;);'], { stdio: 'ignore' }) : undefined;
  try {
    for (const name of NETS) {
      const { module, checkpoint, shape, input } = net(name);
      const models = [];
      for (const count of [1, 2]) models.push(await compile(module, { weights: checkpoint, inputs: [shape], build, threads: count }));
      const time = async (model) => {
        const from = performance.now();
        await model.forward(input);
        return performance.now() - from;
      };
      for (const model of models) for (let i = 0; i < Math.max(12, TURN[name]); i++) await time(model);
      await sleep(200);
      const times = [[], []];
      for (let turn = 0; turn < runs; turn++) {
        for (const [i, model] of models.entries()) {
          const turnTimes = [];
          for (let j = -1; j < TURN[name]; j++) {
            const milliseconds = await time(model);
            if (j >= 0) turnTimes.push(milliseconds);
          }
          times[i].push(turnTimes);
        }
      }
      const [one, two] = times.map(turns => median(turns.flat()));
      result.nets.push({ name, one, two, speedup: median(pairedRatios(...times)), worst: quantile(times[1].flat(), 0.99) });
      if (layers && name === 'rn50') result.layers = await compareLayers(models, input);
      for (const model of models) model.dispose();
    }
  } finally {
    hog?.kill('SIGKILL');
  }
  return result;
}

/** Medians of the milliseconds of each layer. */
async function compareLayers(models, input) {
  const profiles = [[], []];
  for (let i = 0; i < 15; i++) for (const [j, model] of models.entries()) profiles[j].push(await model.profile(input));
  return profiles[0][0].map(({ path, name, shape, flops }, i) => {
    const [one, two] = profiles.map(runs => median(runs.map(layers => layers[i].milliseconds)));
    return { path, name, shape, gflops: flops / one / 1e6, one, two, speedup: one / two };
  });
}

if (isMain(import.meta.url)) {
  const { values } = parseArgs({
    options: {
      build: { type: 'string', default: 'relaxed-threads' }, runs: { type: 'string', default: '15' }, layers: { type: 'boolean', default: false },
      busy: { type: 'boolean', default: false }, json: { type: 'boolean', default: false }, child: { type: 'boolean', default: false },
    },
  });
  const options = { ...values, runs: Number(values.runs) };
  const result = values.child ? await measure(options) : await threads(options);
  if (values.child || values.json) console.log(JSON.stringify(result));
  else {
    console.log(`${result.build}, Node ${result.node}${result.busy ? ', another process keeps a core busy' : ''}`);
    for (const { name, one, two, speedup, worst } of result.nets) {
      console.log(`${name.padEnd(12)} one thread ${one.toFixed(3)} ms, two ${two.toFixed(3)} ms (99 % below ${worst.toFixed(3)}): ${speedup.toFixed(2)} x`);
    }
    for (const { path, name, shape, one, two, speedup, gflops } of result.layers ?? []) {
      console.log(`${`${path} ${name}`.padEnd(58)} ${shape.join('x').padEnd(14)} ${one.toFixed(2).padStart(6)} ms ${gflops.toFixed(0).padStart(4)} GFLOP/s ${two.toFixed(2).padStart(6)} ms ${speedup.toFixed(2)} x  lost ${(two - one / 2).toFixed(2)} ms`);
    }
  }
  process.exit();
}
