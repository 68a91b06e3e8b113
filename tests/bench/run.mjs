/**
 * npm run bench [-- --quick] [--node | --browser] [--sparse] [--decode] [--rounds N] [--json FILE] [--only TEXT,TEXT] [--picture]
 *
 * The figures that were promised, beside what peers need for the same work and beside the roofs of this core, all measured in one run and in
 * turns, after checking that all of them give the same numbers. First in the newest Node, then in Chromium; --node and --browser choose one.
 * --quick takes two minutes: Node, three rounds, fewer peers. --only keeps the rows whose text contains one of these. --picture draws.
 * --sparse and --decode measure something else: sparse.mjs and generation.mjs.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { newestNode } from '../newest-node/index.mjs';
import { ProcessContestant } from './contestant.mjs';
import { ASSETS, CONTESTANTS, FRESH, FRESH_RUNS, ROOF, versionOf } from './contestants.mjs';
import { buildRoof } from './emscripten.mjs';
import { compareOutputs, measure, startAll } from './measure.mjs';
import { report } from './report.mjs';
import { TABLE } from './rows.mjs';
import { sizes } from './size.mjs';
import { median } from './statistics.mjs';
import { ROOFS } from './work.mjs';

const here = dirname(fileURLToPath(import.meta.url));
const root = join(here, '../..');
const output = join(root, 'build/bench');
/** Of how many runs the layers' times are the medians. */
const PROFILES = 9;

const { values: options } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    node: { type: 'boolean', default: false },
    browser: { type: 'boolean', default: false },
    sparse: { type: 'boolean', default: false },
    decode: { type: 'boolean', default: false },
    picture: { type: 'boolean', default: false },
    rounds: { type: 'string' },
    json: { type: 'string' },
    only: { type: 'string' },
  },
});
const rounds = Number(options.rounds ?? (options.quick ? 3 : 8));
if (!Number.isInteger(rounds) || rounds < 1) throw new Error(`--rounds: expected a positive integer, got ${options.rounds}`);
const places = options.browser ? ['browser'] : options.node || options.quick ? ['node'] : ['node', 'browser'];
const parts = options.only?.toLowerCase().split(',');
const rows = TABLE.filter(({ work, bar }) => !parts || parts.some(part => `${work} ${bar}`.toLowerCase().includes(part)));
if (!rows.length) throw new Error(`--only: expected part of a row's name, got ${options.only}; there are ${[...new Set(TABLE.map(({ work }) => work))].join('; ')}`);
const wanted = rows.flatMap(({ ours, beside }) => [ours, ...beside]);

/** Whether `file` was written after `source`. */
const isNewer = (file, source) => existsSync(file) && statSync(file).mtimeMs > statSync(source).mtimeMs;

function installPeers() {
  if (isNewer(join(here, 'node_modules/.package-lock.json'), join(here, 'package-lock.json'))) return;
  console.log('Installing the peers (tests/bench/package.json) ...');
  execFileSync('npm', ['ci', '--no-audit', '--no-fund'], { cwd: here, stdio: 'inherit' });
}

function openNode() {
  const node = newestNode(); // Node 20 has no relaxed SIMD
  const version = `Node ${execFileSync(node, ['--version'], { encoding: 'utf8' }).trim()}`;
  return { version, contestant: (label, name, settings) => new ProcessContestant(label, name, settings, node), close: async () => {} };
}

/** Jobs of a contestant in this run: with --only what its rows need, and what others have to set beside that. */
const jobsOf = ({ label, jobs }) => jobs.filter(job => !parts || wanted.some(([who, what]) => who === label && what === job)
  || rows.some(({ ours: [, what] }) => !label.startsWith('lamella') && what.replace(', layer', '') === job));

/** The layers of the tower with the medians of their times. */
async function layerTimes(contestant) {
  const runs = [];
  for (let i = 0; i < PROFILES; i++) runs.push(await contestant.layers('tower'));
  return runs[0].map((layer, i) => {
    const milliseconds = median(runs.map(layers => layers[i].milliseconds));
    return { ...layer, milliseconds, gflops: milliseconds && layer.flops / milliseconds / 1e6 };
  });
}

/** @param {'node' | 'browser'} name */
async function runIn(name, { wasm, bytes }) {
  const place = name === 'browser' ? await (await import('./browser.mjs')).openBrowser(ASSETS) : openNode();
  const node = openNode();
  const chosen = CONTESTANTS.filter(entry => (!options.quick || entry.quick) && jobsOf(entry).length);
  const absent = chosen.filter(entry => entry.place && entry.place !== name);
  const enter = ({ label, runtime, options: settings, versionOf: named, silent }, jobs) => ({
    contestant: place.contestant(label, runtime, { ...settings, ...named && { version: versionOf(named) } }), jobs, silent,
  });
  const entrants = chosen.filter(entry => !absent.includes(entry)).map(entry => enter(entry, jobsOf(entry)));
  entrants.push(enter({ label: ROOF, runtime: 'roof', options: { wasm } }, [...ROOFS]));
  const fresh = Object.keys(FRESH_RUNS).filter(run => wanted.some(([who, figure]) => who === FRESH && FRESH_RUNS[run].includes(figure)));
  const stop = () => entrants.forEach(({ contestant }) => contestant.stop());
  process.once('exit', stop);
  try {
    const reasons = await startAll(entrants);
    const errors = await compareOutputs(entrants);
    const measured = await measure(entrants, { rounds, fresh, reasons, open: run => (run === 'cosine' ? node : place).contestant(`fresh ${run}`, 'fresh', { run }) });
    const tower = entrants.find(({ contestant, jobs }) => contestant.name === 'lamella' && jobs.includes('tower'));
    return report({
      date: new Date().toISOString(),
      cpu: `${cpus()[0].model}, ${cpus().length} cores`,
      place: { kind: name, version: place.version },
      rounds,
      contestants: entrants.map(({ contestant: { label, threads, version } }) => ({ label, threads, version, note: CONTESTANTS.find(entry => entry.label === label)?.note })),
      absent: absent.map(({ label, why }) => ({ label, why })),
      reasons, errors, ...measured,
      layers: tower && await layerTimes(tower.contestant),
      sizes: bytes,
    }, rows);
  } finally {
    process.off('exit', stop);
    stop();
    await place.close();
  }
}

if (options.sparse || options.decode) {
  installPeers(); // what draws is among them, and llama.cpp
  const [own, file] = options.sparse ? ['--sparse', 'sparse.mjs'] : ['--decode', 'generation.mjs'];
  const { status } = spawnSync(newestNode(), [join(here, file), ...process.argv.slice(2).filter(argument => argument !== own)], { stdio: 'inherit' });
  process.exit(status ?? 1);
}
process.once('SIGINT', () => process.exit(130)).once('SIGTERM', () => process.exit(143));
mkdirSync(output, { recursive: true });
installPeers();
const common = { wasm: readFileSync(buildRoof(), 'base64'), bytes: await sizes(root) };
const results = [];
for (const name of places) {
  const { text, json } = await runIn(name, common);
  console.log(`\n${text}\n`);
  results.push(json);
}
const file = options.json ?? join(output, `${results[0].date.replace(/[:.]/g, '-')}.json`);
writeFileSync(file, JSON.stringify(results, null, 1));
console.log(`Saved as ${file}`);
if (options.picture) {
  const picture = join(here, 'figures.svg');
  writeFileSync(picture, (await import('./picture.mjs')).draw(results));
  console.log(`Drawn as ${picture}`);
}
