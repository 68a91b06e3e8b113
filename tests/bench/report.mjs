/** Turns the measured times into tables, ratios and verdicts. */
import { FRESH, FRESH_RUNS, ROOF } from './contestants.mjs';
import { WIRE_LIMIT } from './size.mjs';
import { median, pairedRatios, spread } from './statistics.mjs';
import { TABLE } from './rows.mjs';
import { arithmeticLimit, INSTRUCTIONS, ROOFS, WORK } from './work.mjs';

/** Share of the machine's cores that other work may take before the figures are doubtful. */
const QUIET = 0.1;

/** A value and the quartiles, in one unit. */
const SHOW = {
  ratio: { digits: value => value.toFixed(3), unit: '' },
  percent: { digits: value => (100 * value).toFixed(0), unit: ' %' },
  times: { digits: value => value.toPrecision(3), unit: ' x' },
  ms: { digits: value => value.toPrecision(3), unit: ' ms' },
  'GB/s': { digits: value => value.toFixed(2), unit: ' GB/s' },
  cosine: { digits: value => value.toFixed(5), unit: '' },
};
/** Figures of fresh processes that are not times. */
const PURE = ['peak', 'bytes', ...FRESH_RUNS.cosine];
const kB = bytes => `${(bytes / 1000).toFixed(1)} kB`;
const milliseconds = value => `${value.toPrecision(value < 1000 ? 3 : 4)} ms`;

/** Columns of numbers to the right, the first `left` columns to the left. */
function table(rows, left = 1) {
  const widths = rows[0].map((_, i) => Math.max(...rows.map(row => row[i].length)));
  return rows.map(row => row.map((cell, i) => i < left ? cell.padEnd(widths[i]) : cell.padStart(widths[i])).join('  ')).join('\n');
}

/** GFLOP/s, or GB/s, of a time in milliseconds. */
const rate = (job, time) => (WORK[job].flops ?? WORK[job].bytes) / time / 1e6;
const unit = job => WORK[job].flops ? job.startsWith('dot') || job.includes(' q8') ? 'Gop/s' : 'GFLOP/s' : 'GB/s';

/** A time, its rate where there is one; the roofs by their rate alone. */
function figure(times, [label, job]) {
  const values = times[job]?.[label];
  if (!values) return undefined;
  const middle = median(values.map(median));
  if (PURE.includes(job)) return middle.toPrecision(4);
  if (label === ROOF && !job.startsWith('copy')) return `${rate(job, middle).toFixed(1)} ${unit(job)}`;
  return milliseconds(middle) + (job.endsWith(', layer') && (WORK[job].flops || WORK[job].bytes) ? `, ${layerRate(job, middle)}` : '');
}

const layerRate = (job, middle) => job.startsWith('gemv') ? `${(WORK[job].bytes / middle / 1e6).toFixed(1)} GB/s` : `${rate(job, middle).toFixed(1)} ${unit(job)}`;

/** What a row's figure is held against. */
function beside(times, row) {
  if (row.ours[1] in INSTRUCTIONS && times.fma) {
    const [copy, bulk, fma] = ['copy', 'copy, bulk', 'fma'].map(job => median(times[job][ROOF].map(median)));
    return `copy ${milliseconds(Math.min(copy, bulk))}, arithmetic ${milliseconds(arithmeticLimit(row.ours[1], fma))}`;
  }
  const name = ([label, job]) => label === ROOF || label === FRESH ? job : label;
  return row.beside.map(other => [name(other), figure(times, other)]).filter(([, shown]) => shown).map(parts => parts.join(' ')).join(', ');
}

/**
 * The promised figures, each with what this run gave: the median over the rounds of what each round gave decides.
 * @param {import('./rows.mjs').Row[]} rows
 */
export function verdicts({ place, times, reasons }, rows = TABLE) {
  return rows.map(row => {
    const needed = [row.ours, ...row.beside];
    const absent = needed.find(([label, job]) => !times[job]?.[label]);
    const ours = figure(times, row.ours);
    const common = { work: row.work, bar: row.bar, ours, beside: beside(times, row) };
    if (absent) return { ...common, verdict: reasons[absent[1]]?.[absent[0]] ?? 'not run' };
    const rounds = times[row.ours[1]][row.ours[0]].map((_, i) => row.value((label, job) => median(times[job][label][i])));
    const result = spread(rounds);
    const reached = row.most === undefined ? result.median >= row.least : result.median <= row.most;
    const word = reached ? 'pass' : 'MISS';
    return { ...common, ...result, reached, shown: inWords(SHOW[row.show], result), verdict: row.decides && row.decides !== place.kind ? `(${word})` : word };
  });
}

const inWords = ({ digits, unit: of }, { q1, median: middle, q3 }) => `${digits(middle)}${of} (${digits(q1)}..${digits(q3)})`;

function verdictTable(list) {
  const rows = list.map(({ work, bar, ours = '-', beside: other, shown = '-', verdict }) => [work, bar, ours, other, shown, verdict]);
  return table([['Work', 'bar', 'lamella', 'beside it', 'this run (quartiles)', ''], ...rows], 6);
}

/** Everybody's time on one job. */
function jobTable(job, { contestants, times, errors, reasons }) {
  const rows = [['', 'threads', 'median ms', 'min', 'q1', 'q3', 'max', unit(job), 'ours / it', 'difference']];
  const [, ours] = Object.entries(times[job] ?? {}).find(([label]) => label.startsWith('lamella relaxed')) ?? [];
  for (const { label, threads } of contestants) {
    const own = times[job]?.[label];
    const why = reasons[job]?.[label];
    if (why) rows.push([label, String(threads), why, ...Array(7).fill('')]);
    if (!own) continue;
    const { min, q1, median: middle, q3, max } = spread(own.flat());
    const ratio = ours ? median(pairedRatios(ours, own)).toFixed(3) : '-';
    rows.push([label, String(threads), ...[middle, min, q1, q3, max].map(v => v.toFixed(2)), rate(job, middle).toFixed(1), ratio, errors[job]?.[label]?.toExponential(0) ?? '-']);
  }
  return rows.length > 1 ? `${WORK[job].title}\n${table(rows)}` : undefined;
}

function sizeTable({ scripts, builds, onDemand }) {
  const rows = [['Brotli over the wire', 'in JavaScript', 'as .wasm'], ['scripts of every page', kB(scripts), '']];
  for (const { name, embedded, wasm } of builds) rows.push([name, kB(embedded), kB(wasm)]);
  for (const [name, bytes] of Object.entries(onDemand)) rows.push([`on demand: ${name}`, kB(bytes), '']);
  return table(rows);
}

function roofTable(times) {
  const rows = [['Roofs of one core', '', 'median', 'min', 'max']];
  for (const job of ROOFS.filter(name => times[name])) {
    const { median: middle, min, max } = spread(times[job][ROOF].map(round => rate(job, median(round))));
    rows.push([WORK[job].title, unit(job), ...[middle, min, max].map(v => v.toFixed(1))]);
  }
  return table(rows);
}

/** @returns {{ text: string, json: any }} */
export function report(run, rows) {
  const list = verdicts(run, rows);
  const { wire, largest } = run.sizes;
  list.push({ work: `JS of every page + one build (${largest}), brotli`, bar: `<= ${kB(WIRE_LIMIT)}`, ours: kB(wire), beside: '', reached: wire <= WIRE_LIMIT, verdict: wire <= WIRE_LIMIT ? 'pass' : 'MISS' });
  const busy = median(run.othersBusy);
  const settings = run.contestants.filter(({ version }) => version).map(({ label, version, note }) => `  ${label} ${version}${note ? `: ${note}` : ''}`);
  const jobs = Object.keys(WORK).filter(job => WORK[job].title && !ROOFS.includes(job));
  const text = [
    `${run.place.version}, ${run.cpu}, ${run.rounds} rounds in turns; other work took ${(100 * busy).toFixed(0)} % of the machine${busy > QUIET ? ': TIMES ARE TOO LONG AND RATIOS UNCERTAIN' : ''}`,
    verdictTable(list),
    roofTable(run.times),
    ...jobs.map(job => jobTable(job, run)).filter(Boolean),
    sizeTable(run.sizes),
    ['In this run:', ...settings, ...run.absent.map(({ label, why }) => `  ${label}: not run here, ${why}`)].join('\n'),
    'A verdict in brackets is of a bar that the other place decides. Ratios are medians over the rounds, each of the two times of one round; "ours / it" is of lamella relaxed\'s; "difference" is max|y - reference| / max|reference|.',
  ].join('\n\n');
  return { text, json: { ...run, verdicts: list } };
}
