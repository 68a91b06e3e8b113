/** Turns the measured times into a table, ratios and verdicts. */
import { ROOF_WORK } from './runtimes/roof.mjs';
import { GEMM, towerFlops } from './tower.mjs';
import { median, pairedRatios, spread } from './statistics.mjs';

const TITLES = {
  tower: 'RN50 image tower, 224 x 224, f32',
  gemm: `GEMM ${GEMM} x ${GEMM} x ${GEMM}, f32, through each public interface`,
  fma: 'fused multiply-add',
  mulAdd: 'multiply, then add',
  read: 'read of 128 MiB',
};
const WORK = { tower: towerFlops(), gemm: 2 * GEMM ** 3, ...ROOF_WORK };
const ROOF = 'roof';
const OURS = 'lamella relaxed';
const OURS_THREADS = 'lamella relaxed-threads';
const PEER = 'onnxruntime-web';
const WIRE_LIMIT = 150_000;

/** Share of the machine's cores that other work may take before the figures are doubtful. */
const QUIET = 0.1;

const fixed = (value, digits = 1) => value.toFixed(digits);
const kB = bytes => `${fixed(bytes / 1000)} kB`;
const percent = value => `${fixed(100 * value, 0)} %`;

function table(rows) {
  const widths = rows[0].map((_, i) => Math.max(...rows.map(row => row[i].length)));
  return rows.map(row => row.map((cell, i) => i === 0 ? cell.padEnd(widths[i]) : cell.padStart(widths[i])).join('  ')).join('\n');
}

/** GFLOP/s or GB/s of each round, from the median of its runs. */
const rates = (job, roundTimes) => roundTimes.map(round => WORK[job] / median(round) / 1e6);

function jobTable(job, { contestants, times, errors }) {
  const rows = [['', 'threads', 'median ms', 'min', 'q1', 'q3', 'max', 'GFLOP/s', 'ours / it', 'difference']];
  const ours = times[job][OURS];
  for (const { label, threads } of contestants) {
    const own = times[job][label];
    if (!own) continue;
    const { min, q1, median: middle, q3, max } = spread(own.flat());
    rows.push([label, String(threads), ...[middle, min, q1, q3, max].map(v => fixed(v)), fixed(WORK[job] / middle / 1e6),
      ours ? fixed(median(pairedRatios(ours, own)), 3) : '-', errors[label][job].toExponential(0)]);
  }
  return `${TITLES[job]}\n${table(rows)}`;
}

function sizeTable({ scripts, builds }) {
  const rows = [['Brotli over the wire', 'in JavaScript', 'as .wasm'], ['scripts', kB(scripts), '']];
  for (const { name, embedded, wasm } of builds) rows.push([name, kB(embedded), kB(wasm)]);
  return table(rows);
}

function roofTable(times) {
  const rows = [['Roofs of one core', '', 'median', 'min', 'max']];
  for (const job of Object.keys(ROOF_WORK)) {
    const { median: middle, min, max } = spread(rates(job, times[job][ROOF]));
    rows.push([TITLES[job], job === 'read' ? 'GB/s' : 'GFLOP/s', fixed(middle), fixed(min), fixed(max)]);
  }
  return table(rows);
}

/**
 * The figures that a release has to reach, each with what this run gave: the median over the rounds decides; the ratio of the best runs,
 * which other work on the machine disturbs least, stands beside it.
 */
function bars({ times: { tower, gemm, fma }, sizes }) {
  const list = [];
  const add = (name, rounds, best, show, wanted, passes) => {
    const ratio = spread(rounds);
    const shown = `${show(ratio.median)} (quartiles ${show(ratio.q1)} to ${show(ratio.q3)}; best runs ${show(best)})`;
    list.push({ name, wanted, reached: passes(ratio.median), shown, best, ...ratio });
  };
  const ours = tower[OURS];
  const least = rounds => Math.min(...rounds.flat());
  const compare = (name, a, b, wanted, passes) => {
    if (a && b) add(name, pairedRatios(a, b), least(a) / least(b), v => fixed(v, 3), wanted, passes);
  };
  compare(`tower, one thread: ${OURS} / ${PEER}`, ours, tower[PEER], 'at most 1', ratio => ratio <= 1);
  compare('tower: one thread / two threads', ours, tower[OURS_THREADS], 'at least 1.6', ratio => ratio >= 1.6);
  if (gemm[OURS]) {
    const roof = rates('fma', fma[ROOF]);
    const best = WORK.gemm / least(gemm[OURS]) / (WORK.fma / least(fma[ROOF]));
    add(`GEMM: ${OURS} / FMA roof`, rates('gemm', gemm[OURS]).map((rate, i) => rate / roof[i]), best, percent, 'at least 75 %', share => share >= 0.75);
  }
  list.push({ name: `JS + one build (${sizes.largest}), brotli`, wanted: `at most ${kB(WIRE_LIMIT)}`, reached: sizes.wire <= WIRE_LIMIT, shown: kB(sizes.wire), bytes: sizes.wire });
  return list;
}

/** @returns {{ text: string, json: any }} */
export function report(run) {
  const verdicts = bars(run);
  const barRows = verdicts.map(bar => [bar.name, bar.shown, bar.wanted, bar.reached ? 'reached' : 'MISSED']);
  const versions = run.contestants.filter(c => c.version).map(c => `${c.label} ${c.version}`).join(', ');
  const text = [
    `${run.cpu}; ${run.place}; ${versions}\n${run.rounds} rounds in turns; other work took ${percent(median(run.othersBusy))} of the machine${median(run.othersBusy) > QUIET ? ': TIMES ARE TOO LONG AND RATIOS UNCERTAIN' : ''}`,
    jobTable('tower', run),
    jobTable('gemm', run),
    roofTable(run.times),
    sizeTable(run.sizes),
    table([['Bars', 'this run', 'wanted', ''], ...barRows]),
    '"ours / it" is the median over the rounds of lamella relaxed\'s time over this one\'s; "difference" is max|y - reference| / max|reference|.',
  ].join('\n\n');
  return { text, json: { ...run, bars: verdicts.map(({ shown, ...bar }) => bar) } };
}
