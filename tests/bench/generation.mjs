/**
 * npm run bench -- --decode [--rounds N] [--json FILE] [--only llama|mla]
 *
 * Writing text: steps and prefill of the two decoders of decoders.mjs in q4, beside llama.cpp in wasm (wllama 2.3.1 and the newest, Q4_0, in Chromium) and beside the
 * roofs of this core, all of one run and in turns. A step's bound is the bytes that it touches at the rate at which memory is read; prefill's the dot products.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { Tensor } from '../../js/index.js';
import { GGUFS, NETS, openDecoder, randomWeights, touchedWeights } from './decoders.mjs';
import { buildRoof } from './emscripten.mjs';
import { start as startRoof } from './runtimes/roof.mjs';
import { median, spread } from './statistics.mjs';
import { openWllama } from './wllama_page.mjs';
import { WORK } from './work.mjs';

const here = dirname(fileURLToPath(import.meta.url));
const { values: options } = parseArgs({ options: { rounds: { type: 'string', default: '3' }, json: { type: 'string' }, only: { type: 'string' } } });
const [PREFILL, BEFORE, STEPS] = [512, 64, 32];
/** The prompt of llama.cpp, whose rate falls with the length: what it is measured with is to its advantage, and does not take minutes. */
const THEIR_PREFILL = 128;
/** Shares of the bound and ratios to the faster llama.cpp that were promised. */
const BARS = { llama: { bound: 0.6, decode: 2.8, prefill: 5, dot: 0.6, threads: 1.6 }, mla: { bound: 0.5, decode: 2.5 } };
const PEERS = ['@wllama/wllama', 'wllama-newest'];

const roof = await startRoof({ wasm: readFileSync(buildRoof(), 'base64') });
/** Work per second of a roof, the best of some runs. */
async function rate(name) {
  const { run } = await roof.jobs[name]();
  const { flops, bytes } = WORK[name];
  let best = 0;
  for (let i = 0; i < 9; i++) {
    const start = performance.now();
    run();
    best = Math.max(best, (flops ?? bytes) / (performance.now() - start) / 1e6);
  }
  return best;
}

/** Operations per second of the products alone, of a prompt in one forward. */
async function products({ model, prompt }) {
  const layers = await model.profile(new Tensor(Int32Array.from(prompt.slice(0, PREFILL)), [1, PREFILL]));
  const chosen = layers.filter(({ name }) => /^(q[48]) /.test(name));
  const sum = (key) => chosen.reduce((total, layer) => total + layer[key], 0);
  return sum('flops') / sum('milliseconds') / 1e6;
}

async function ours(shape, threads, weights) {
  const decoder = await openDecoder(shape, { weights, threads, build: threads > 1 ? 'relaxed-threads' : 'relaxed' });
  await decoder.prefill(PREFILL);
  await decoder.steps(BEFORE, STEPS);
  const { weights: packed, caches } = decoder.model.memory;
  return {
    touched: touchedWeights(shape, packed) + caches * (BEFORE + STEPS / 2) / decoder.session.context,
    label: `lamella, ${threads} thread${threads > 1 ? 's' : ''}`, shape, threads, decode: [], prefill: [], products: [],
    async round() {
      this.prefill.push(1000 * PREFILL / await decoder.prefill(PREFILL));
      this.decode.push(1000 / median(await decoder.steps(BEFORE, STEPS)));
      if (threads === 1) this.products.push(await products(decoder));
    },
    stop: () => decoder.model.dispose(),
  };
}

async function theirs(shape, name, chromium) {
  const page = await chromium.open(name, GGUFS[shape]());
  return {
    label: `wllama ${chromium.version(name)}`, shape, decode: [], prefill: [], peer: true,
    async round() {
      const { prefill, decode } = await page.measure({ prefill: THEIR_PREFILL, before: BEFORE, steps: STEPS });
      this.prefill.push(1000 * THEIR_PREFILL / prefill);
      this.decode.push(1000 / decode);
    },
    stop: () => page.close(),
  };
}

const bar = (value, least) => (least === undefined ? '' : `${value >= least ? 'yes' : 'NO'}, wanted ${least}`);

function report(shape, entrants, roofs) {
  const bars = BARS[shape];
  const [one, two] = entrants.filter(({ peer }) => !peer);
  const peers = entrants.filter(({ peer }) => peer);
  const best = (key) => Math.max(...peers.map((entrant) => median(entrant[key])));
  const bound = roofs.read * 1e9 / one.touched;
  const rows = [
    ['decode, share of the bound', median(one.decode) / bound, bars.bound, `${median(one.decode).toFixed(0)} of ${bound.toFixed(0)} tokens/s: ${(one.touched / 1e6).toFixed(0)} MB at ${roofs.read.toFixed(1)} GB/s`],
    ['decode / the faster wllama', median(one.decode) / best('decode'), bars.decode, `${best('decode').toFixed(1)} tokens/s`],
    ['prefill / the faster wllama', median(one.prefill) / best('prefill'), bars.prefill, `${median(one.prefill).toFixed(0)} and ${best('prefill').toFixed(1)} tokens/s`],
    ['prefill, share of the dot roof over its products', median(one.products) / roofs.dot, bars.dot, `${median(one.products).toFixed(0)} of ${roofs.dot.toFixed(0)} Gop/s`],
    ['decode, two threads / one', median(two.decode) / median(one.decode), bars.threads, `${median(two.decode).toFixed(0)} tokens/s`],
  ];
  const figures = entrants.map(({ label, decode, prefill }) => `| ${label} | ${[decode, prefill].map((values) => { const { median: m, min, max } = spread(values); return `${m.toFixed(1)} (${min.toFixed(1)} - ${max.toFixed(1)})`; }).join(' | ')} |`);
  return { text: `${shape}\n\n| | decode, tokens/s | prefill of ${PREFILL} (wllama: ${THEIR_PREFILL}), tokens/s |\n| --- | --- | --- |\n${figures.join('\n')}\n\n| | measured | promised | |\n| --- | --- | --- | --- |\n`
    + rows.map(([title, value, least, note]) => `| ${title} | ${value.toFixed(2)} | ${bar(value, least)} | ${note} |`).join('\n'), rows };
}

const chromium = await openWllama();
const machine = `${cpus()[0].model}, Node ${process.version}, ${chromium.browser}`;
const result = { date: new Date().toISOString(), machine, rounds: Number(options.rounds), shapes: {} };
console.log(`${machine}; one thread where nothing else is said, medians of ${options.rounds} rounds in turns (least - most)`);
for (const shape of Object.keys(NETS).filter((name) => !options.only || name === options.only)) {
  const weights = randomWeights(shape);
  const entrants = [await ours(shape, 1, weights), await ours(shape, 2, weights)];
  for (const name of PEERS) entrants.push(await theirs(shape, name, chromium));
  const roofs = { read: [], dot: [] };
  for (let round = 0; round < Number(options.rounds); round++) {
    roofs.read.push(await rate('read'));
    roofs.dot.push(Math.max(await rate('dot'), await rate('dot, pairs')));
    for (const entrant of entrants) {
      await entrant.round();
      console.log(`${shape}, round ${round + 1}: ${entrant.label}: decode ${entrant.decode.at(-1).toFixed(1)}, prefill ${entrant.prefill.at(-1).toFixed(1)} tokens/s`);
    }
  }
  for (const entrant of entrants) await entrant.stop();
  const { text, rows } = report(shape, entrants, { read: median(roofs.read), dot: median(roofs.dot) });
  console.log(`\n${text}`);
  result.shapes[shape] = { roofs, rows, entrants: entrants.map(({ label, decode, prefill, products: gops, touched }) => ({ label, decode, prefill, products: gops, touched })) };
}
await chromium.close();
const file = options.json ?? join(here, '../../build/bench', `decode-${result.date.replace(/[:.]/g, '-')}.json`);
mkdirSync(dirname(file), { recursive: true });
writeFileSync(file, JSON.stringify(result, null, 1));
console.log(`\nSaved as ${file}`);
process.exit();   // the crew of threads would go on
