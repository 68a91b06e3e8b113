/**
 * npm run bench [-- --quick] [--browser] [--sparse] [--rounds N] [--json FILE] [--only NAME,NAME]
 *
 * Times lamella's builds, onnxruntime-web and tfjs-wasm on CLIP's RN50 image tower and on GEMM 1024^3, and the roofs of
 * this core, in one run and in turns, after checking that all of them give the same numbers. Two minutes with --quick.
 * --browser runs them in Chromium instead of Node. --only keeps the contestants whose label contains a NAME.
 * --sparse measures something else: sparse.mjs.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { newestNode } from '../newest-node/index.mjs';
import { ProcessContestant } from './contestant.mjs';
import { report } from './report.mjs';
import { sizes } from './size.mjs';
import { relativeError } from './statistics.mjs';

const here = dirname(fileURLToPath(import.meta.url));
const root = join(here, '../..');
const output = join(root, 'build/bench');
/** Runs per turn: untimed ones bring caches and clock back, then timed ones. */
const JOBS = { tower: { warm: 1, runs: 2 }, gemm: { warm: 2, runs: 5 } };
const ROOFS = { fma: { warm: 5, runs: 25 }, mulAdd: { warm: 5, runs: 25 }, read: { warm: 1, runs: 10 } };
const ORT = join(here, 'node_modules/onnxruntime-web/dist/');
const TFJS = join(here, 'node_modules/@tensorflow/tfjs-backend-wasm/dist/');
const TOLERANCE = 1e-3;

const { values: options } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    browser: { type: 'boolean', default: false },
    sparse: { type: 'boolean', default: false },
    rounds: { type: 'string' },
    json: { type: 'string' },
    only: { type: 'string', default: '' },
  },
});
if (options.sparse) {
  const { status } = spawnSync(newestNode(), [join(here, 'sparse.mjs'), ...process.argv.slice(2).filter(argument => argument !== '--sparse')], { stdio: 'inherit' });
  process.exit(status ?? 1);
}
const rounds = Number(options.rounds ?? (options.quick ? 3 : 10));
if (!Number.isInteger(rounds) || rounds < 1) throw new Error(`--rounds: expected a positive integer, got ${options.rounds}`);

/** Whether `file` was written after `source`. */
const isNewer = (file, source) => existsSync(file) && statSync(file).mtimeMs > statSync(source).mtimeMs;

function installPeers() {
  if (isNewer(join(here, 'node_modules/.package-lock.json'), join(here, 'package-lock.json'))) return;
  console.log('Installing the peers (tests/bench/package.json) ...');
  execFileSync('npm', ['ci', '--no-audit', '--no-fund'], { cwd: here, stdio: 'inherit' });
}

function compileRoof() {
  const source = join(here, 'roof.c');
  const wasm = join(output, 'roof.wasm');
  if (isNewer(wasm, source)) return wasm;
  execFileSync(join(root, 'web/emcc'), ['-O3', '-msimd128', '-mrelaxed-simd', '--no-entry', '-sSTANDALONE_WASM', '-sINITIAL_MEMORY=192MB',
    source, '-o', wasm], { stdio: 'inherit' });
  return wasm;
}

/**
 * Where the contestants run.
 * @returns {Promise<{ version: string, contestant: (label: string, name: string, options: any) => any, close?: () => Promise<void> }>}
 */
async function openPlace() {
  if (options.browser) return (await import('./browser.mjs')).openBrowser([TFJS, ORT]);
  const node = newestNode(); // Node 20 has no relaxed SIMD
  const version = `Node ${execFileSync(node, ['--version'], { encoding: 'utf8' }).trim()}`;
  return { version, contestant: (label, name, settings) => new ProcessContestant(label, name, settings, node) };
}

function contestants(add) {
  const all = [];
  const enter = (label, name, settings) => {
    if (options.only.split(',').some(part => label.includes(part))) all.push(add(label, name, settings));
  };
  const ours = (build, threads) => enter(`lamella ${build}`, 'lamella', { build, threads });
  ours('simd', 1);
  ours('relaxed', 1);
  if (!options.quick) ours('simd-threads', 2);
  ours('relaxed-threads', 2);
  enter('onnxruntime-web', 'ort', { threads: 1 });
  enter('onnxruntime-web, 2 threads', 'ort', { threads: 2 });
  enter('tfjs-wasm', 'tfjs', { assets: TFJS });
  return all;
}

/** Every contestant's outputs against the first one's; throws on a difference above TOLERANCE. */
async function compareOutputs(competing) {
  const errors = {};
  for (const job of Object.keys(JOBS)) {
    const reference = await (competing.find(c => c.name === 'ort') ?? competing[0]).output(job);
    for (const contestant of competing) {
      const error = relativeError(await contestant.output(job), reference);
      (errors[contestant.label] ??= {})[job] = error;
      if (!(error <= TOLERANCE)) throw new Error(`${contestant.label}, ${job}: differs from the reference by ${error} of its largest value`);
    }
  }
  return errors;
}

/** Share of the cores that is busy while the contestants wait. */
async function busyShare() {
  const ticks = () => cpus().map(({ times }) => [times.idle, Object.values(times).reduce((a, b) => a + b)]);
  const before = ticks();
  await sleep(300);
  const shares = ticks().map(([idle, total], i) => 1 - (idle - before[i][0]) / (total - before[i][1]));
  return shares.reduce((a, b) => a + b) / shares.length;
}

/** @returns {Promise<{ times: Record<string, Record<string, number[][]>>, othersBusy: number[] }>} times: milliseconds [job][label][round][run] */
async function measure(competing, roof) {
  const times = {};
  const othersBusy = [];
  const turn = async (job, contestant, { warm, runs }) => {
    ((times[job] ??= {})[contestant.label] ??= []).push(await contestant.time(job, warm, runs));
  };
  for (let round = 0; round < rounds; round++) {
    console.log(`round ${round + 1} of ${rounds}`);
    othersBusy.push(await busyShare());
    for (const contestant of competing) await turn('tower', contestant, JOBS.tower);
    // The roofs stand beside the GEMM that is compared with them.
    for (const contestant of competing) await turn('gemm', contestant, JOBS.gemm);
    for (const [job, count] of Object.entries(ROOFS)) await turn(job, roof, count);
  }
  return { times, othersBusy };
}

mkdirSync(output, { recursive: true });
installPeers();
const wasm = readFileSync(compileRoof(), 'base64');
const bytes = await sizes(root);
const place = await openPlace();
const competing = contestants(place.contestant);
const roof = place.contestant('roof', 'roof', { wasm });
const all = [...competing, roof];
process.once('SIGINT', () => process.exit(130)).once('SIGTERM', () => process.exit(143)).once('exit', () => all.forEach(c => c.stop()));
try {
  for (const contestant of all) {
    process.stdout.write(`starting ${contestant.label}\n`);
    await contestant.start();
    // Five runs bring V8's optimising tier.
    for (const job of Object.keys(contestant === roof ? ROOFS : JOBS)) await contestant.time(job, 5, 1);
  }
  const errors = await compareOutputs(competing);
  const { times, othersBusy } = await measure(competing, roof);
  const result = report({
    date: new Date().toISOString(),
    cpu: `${cpus()[0].model}, ${cpus().length} cores`,
    othersBusy,
    place: place.version,
    rounds,
    contestants: competing.map(({ label, threads, version }) => ({ label, threads, version })),
    errors,
    times,
    sizes: bytes,
  });
  console.log(`\n${result.text}`);
  const file = options.json ?? join(output, `${result.json.date.replace(/[:.]/g, '-')}.json`);
  writeFileSync(file, JSON.stringify(result.json, null, 1));
  console.log(`\nSaved as ${file}`);
} finally {
  for (const contestant of all) contestant.stop();
  await place.close?.();
}
