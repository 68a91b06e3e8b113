/**
 * npm run bench -- --sparse [--rounds N] [--json FILE] [--quick]
 *
 * Time against length of native sparse attention beside dense attention: both whole layers (norm, projections, rotary embedding, attention,
 * projection) on the same tokens, in turns, one thread, processor time. Writes sparse_attention.svg beside this file. --quick: up to 4096 tokens, no picture.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { compile, F, Module, nn, Tensor } from '../../js/index.js';
import { features } from '../../web/features.js';
import { median } from './statistics.mjs';

const here = dirname(fileURLToPath(import.meta.url));
const { values: options } = parseArgs({ options: { quick: { type: 'boolean', default: false }, rounds: { type: 'string', default: '5' }, json: { type: 'string' } } });
const rounds = Number(options.rounds);
if (!Number.isInteger(rounds) || rounds < 1) throw new Error(`--rounds: expected a positive integer, got ${options.rounds}`);

const LENGTHS = [1024, 2048, 4096, 8192, 16384].slice(0, options.quick ? 3 : 5);
const DIM = 512;
const HEADS = 8;
const KV_HEADS = 4;
const DIM_HEAD = 64;
const BLOCK = 16;
const TOKENS = 64;
/** That of the example in the repository of native-sparse-attention-pytorch (train.py), where the stride is 8. */
const sparse = (stride) => new nn.SparseAttention({
  dim: DIM, dimHead: DIM_HEAD, heads: HEADS, kvHeads: KV_HEADS, slidingWindowSize: 64, compressBlockSize: BLOCK, compressBlockSlidingStride: stride,
  selectionBlockSize: 16, numSelectedBlocks: 4, causal: true, compressMlp: new nn.GroupedMLP(DIM_HEAD, BLOCK, KV_HEADS),
});

/** The same heads, each query seeing all that came before. */
class DenseAttention extends Module {
  constructor() {
    super();
    this.norm = new nn.RMSNorm(DIM);
    this.q_proj = new nn.Linear(DIM, HEADS * DIM_HEAD, { bias: false });
    this.k_proj = new nn.Linear(DIM, KV_HEADS * DIM_HEAD, { bias: false });
    this.v_proj = new nn.Linear(DIM, KV_HEADS * DIM_HEAD, { bias: false });
    this.rotary_emb = new nn.RotaryEmbedding(DIM_HEAD, { interleaved: true });
    this.o_proj = new nn.Linear(HEADS * DIM_HEAD, DIM, { bias: false });
  }

  forward(x) {
    const tokens = this.norm(x);
    const heads = (y) => F.permute(F.unflatten(y, 2, [-1, DIM_HEAD]), [0, 2, 1, 3]);
    const table = this.rotary_emb.table(x, 1);
    const [q, k] = [this.q_proj, this.k_proj].map((layer) => this.rotary_emb(heads(layer(tokens)), table));
    const attended = F.scaledDotProductAttention(q, k, heads(this.v_proj(tokens)), { isCausal: true, enableGqa: true });
    return this.o_proj(F.flatten(F.permute(attended, [0, 2, 1, 3]), 2));
  }
}

let state = 1;
/** Numbers between -size and size. */
function random(shape, size) {
  const data = new Float32Array(shape.reduce((a, b) => a * b, 1));
  for (let i = 0; i < data.length; i++) data[i] = size * ((state = (Math.imul(state, 1664525) + 1013904223) >>> 0) / 2 ** 31 - 1);
  return new Tensor(data, [...shape]);
}

const contestants = [
  { label: 'dense', colour: '#b03030', module: new DenseAttention(), attention: 'attention' },
  { label: 'sparse, stride 8', colour: '#2060a0', module: sparse(8), attention: 'sparse_attention' },
  { label: 'sparse, stride 16', colour: '#208050', module: sparse(16), attention: 'sparse_attention' },
];
const build = features().relaxed ? 'relaxed' : 'simd';

/**
 * Milliseconds of processor time of the whole layer and of its attention alone, [length][round] each. There is one thread, so on a machine
 * that does nothing else it is the time that passes; what others take of the machine is not in it.
 */
async function measure() {
  const inputs = LENGTHS.map((length) => random([1, length, DIM], 1.7));
  for (const contestant of contestants) {
    const weights = Object.fromEntries([...contestant.module.stateDict()].map(([name, { shape }]) => [name, random(shape, shape.length > 1 ? 1.7 / Math.sqrt(shape.at(-1)) : 1)]));
    contestant.model = await compile(contestant.module, { weights, inputs: [[1, null, DIM]], build, threads: 1 });
    Object.assign(contestant, { whole: LENGTHS.map(() => []), alone: LENGTHS.map(() => []) });
    for (let i = 0; i < 5; i++) await contestant.model.forward(inputs[0]);   // brings V8's optimising tier
  }
  for (let round = 1; round <= rounds; round++) {   // all lengths in each round: a slow spell of the machine is in all of them
    for (const [i, x] of inputs.entries()) {
      for (const { model, attention, whole, alone } of contestants) {
        const start = process.cpuUsage();
        const layers = await model.profile(x);
        const { user, system } = process.cpuUsage(start);
        const milliseconds = (of) => of.reduce((sum, layer) => sum + layer.milliseconds, 0);
        whole[i].push((user + system) / 1000);
        alone[i].push(whole[i].at(-1) * milliseconds(layers.filter(({ name }) => name === attention)) / milliseconds(layers));
      }
    }
    console.log(`round ${round} of ${rounds}: ${LENGTHS.at(-1)} tokens ${contestants.map(({ label, whole }) => `${label} ${whole.at(-1).at(-1).toFixed(0)} ms`).join(', ')}`);
  }
}

/** Milliseconds of processor time for one more token after so many, mean of TOKENS in a row, [length] each; only what has caches. */
async function measureTokens() {
  for (const contestant of contestants.filter(({ module }) => module instanceof nn.SparseAttention)) {
    const session = await contestant.model.session({ context: LENGTHS.at(-1) + TOKENS });
    contestant.token = [];
    for (const length of LENGTHS) {
      await session.forward(random([1, length - session.position, DIM], 1.7));
      const next = random([1, 1, DIM], 1.7);
      await session.forward(next);
      await session.seek(length);
      const start = process.cpuUsage();
      for (let i = 0; i < TOKENS; i++) await session.forward(next);
      const { user, system } = process.cpuUsage(start);
      contestant.token.push((user + system) / 1000 / TOKENS);
      await session.seek(length);
    }
    session.dispose();
  }
}

/** Exponent of the growth between the lengths at two places. */
const exponent = (ms, from, to) => Math.log(ms.at(to) / ms.at(from)) / Math.log(LENGTHS.at(to) / LENGTHS.at(from));

function table() {
  const [dense, ...others] = contestants.map(({ whole }) => whole.map(median));
  const [denseAlone, ...othersAlone] = contestants.map(({ alone }) => alone.map(median));
  const names = contestants.slice(1).map(({ label }) => label);
  const rows = LENGTHS.map((length, i) => [
    length.toLocaleString('en'), `${dense[i].toFixed(0)} ms (${denseAlone[i].toFixed(0)})`,
    ...others.map((ms, j) => `${ms[i].toFixed(0)} ms (${othersAlone[j][i].toFixed(0)}), ${(dense[i] / ms[i]).toFixed(1)} x`),
  ]);
  const growth = [dense, ...others].map((ms) => `length^${exponent(ms, 0, -1).toFixed(2)}, at the end ^${exponent(ms, -2, -1).toFixed(2)}`);
  return [['tokens', 'dense: whole layer (attention alone)', ...names.map((name) => `${name}, times as fast`)], ['---', ...[dense, ...others].map(() => '---')], ...rows, ['growth', ...growth]]
    .map((row) => `| ${row.join(' | ')} |`).join('\n');
}

function tokenTable() {
  const measured = contestants.filter(({ token }) => token);
  const rows = LENGTHS.map((length, i) => [length.toLocaleString('en'), ...measured.map(({ token }) => `${token[i].toFixed(2)} ms`)]);
  return [['one more token after', ...measured.map(({ label }) => label)], ['---', ...measured.map(() => '---')], ...rows].map((row) => `| ${row.join(' | ')} |`).join('\n');
}

await measure();
await measureTokens();
const machine = `${cpus()[0].model}, Node ${process.version}, ${build}, one thread`;
console.log(`\n${machine}, processor time, medians of ${rounds} runs in turns\n\n${table()}\n\n${tokenTable()}`);
const result = {
  date: new Date().toISOString(), machine, rounds, lengths: LENGTHS,
  contestants: contestants.map(({ label, whole, alone, token, model }) => ({ label, tokenMilliseconds: token, milliseconds: whole, attentionMilliseconds: alone, activationBytes: model.memory.activations })),
};
const file = options.json ?? join(here, '../../build/bench', `sparse-${result.date.replace(/[:.]/g, '-')}.json`);
mkdirSync(dirname(file), { recursive: true });
writeFileSync(file, JSON.stringify(result, null, 1));
console.log(`\nSaved as ${file}`);
if (!options.quick) {
  const { curve } = await import('./curve.mjs'); // the library that draws is one of the peers' folder
  const picture = join(here, 'sparse_attention.svg');
  writeFileSync(picture, curve({
    title: 'Native sparse attention beside dense causal attention', subtitle: `${machine}; 8 heads of 64, 4 of keys`, xLabel: 'tokens',
    sizes: LENGTHS, lines: contestants.map(({ label, colour, whole }) => ({ label, colour, milliseconds: whole.map(median) })),
  }));
  console.log(`Drawn as ${picture}`);
}
for (const { model } of contestants) model.dispose();
