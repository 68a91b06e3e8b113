/**
 * The picture of a run: time of each peer, and our layers under the roofs. Drawn by run.mjs --picture, or again from what a run saved:
 *   node tests/bench/picture.mjs FILE.json ... OUT.svg
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { EDGE, FAINT, heading, INK, placed, plot, Plot, sheet, WIDTH } from './drawing.mjs';
import { RELAXED, ROOF } from './contestants.mjs';
import { isMain } from './fresh.mjs';
import { median, spread } from './statistics.mjs';
import { WORK } from './work.mjs';

const OURS = '#0b7a75';
const THEIRS = '#b9c0c7';
const KINDS = { '3 x 3': '#0b7a75', '1 x 1': '#d9822b', stem: '#7b4fa3', 'attention pool': '#c2185b', 'pooling and layout': '#8a949e' };
/** The bars; `more` stands behind the contestant's name. */
const GROUPS = [
  { name: 'one thread', job: 'tower', threads: 1 }, { name: 'one thread', job: 'tower q8', threads: 1, more: ', q8' },
  { name: 'two threads', job: 'tower', threads: 2 },
  { name: 'without attention pool', job: 'trunk', threads: 1 },
];
/** A group has as many places as it has bars and one between it and the next: facets of a plot would all be equally high. */
function barRows(data) {
  const order = data.toSorted((a, b) => a.median - b.median).map(one => one.row);
  return [...new Set(GROUPS.map(({ name }) => name))].flatMap((group, i) => {
    const rows = [...new Set(order.filter(row => row.startsWith(`${group}|`)))];
    return rows.length && i ? [`gap ${i}`, ...rows] : rows;
  });
}

/** @returns {SVGElement} */
function bars(results) {
  const data = results.flatMap(({ place, contestants, times }) => GROUPS.flatMap(({ name, job, threads, more = '' }) => contestants
    .filter(one => one.threads === threads && times[job]?.[one.label])
    .map(one => {
      const label = one.label.replace(/, 2 threads$/, '') + more;
      return { place: place.version, row: `${name}|${label}`, label, ours: label.startsWith('lamella'), ...spread(times[job][one.label].map(median)) };
    })));
  const rows = barRows(data);
  const labels = rows.map(row => row.split('|')).map(([group, label], i) => ({ row: rows[i], label, group: rows[i - 1]?.includes('|') ? undefined : group }));
  const [first] = results.map(({ place }) => place.version);
  const left = 288;
  return plot({
    height: 40 + rows.length * 23, marginLeft: left, marginRight: 8, marginTop: 34, marginBottom: 6,
    x: { axis: null, domain: [0, Math.max(...data.map(({ q3 }) => q3)) * 1.32] }, y: { axis: null, domain: rows, padding: 0.2 },
    fx: { label: null, axis: null, domain: results.map(({ place }) => place.version) },
    marks: [
      Plot.barX(data, { fx: 'place', x: 'median', y: 'row', fill: one => one.ours ? OURS : THEIRS, rx: 2 }),
      Plot.ruleY(data, { fx: 'place', x1: 'q1', x2: 'q3', y: 'row', stroke: INK, strokeWidth: 1.5 }),
      Plot.text(data, { fx: 'place', x: 'q3', y: 'row', text: one => `${one.median.toFixed(0)} ms`, textAnchor: 'start', dx: 7, fontWeight: one => one.ours ? 700 : 400 }),
      Plot.text(labels, { fx: () => first, x: 0, y: 'row', text: 'label', textAnchor: 'end', dx: -8 }),
      Plot.text(labels, { fx: () => first, x: 0, y: 'row', text: ({ group, label }) => label && group, textAnchor: 'start', dx: -left, fontWeight: 700, fill: FAINT }),
      Plot.text(results.map(({ place }) => place.version), { fx: version => version, frameAnchor: 'top-left', dy: -26, text: version => version, fill: FAINT, fontWeight: 700 }),
    ],
  });
}

function kindOf({ path, name }) {
  if (path.startsWith('attnpool')) return 'attention pool';
  if (!name.startsWith('conv2d')) return 'pooling and layout';
  if (/^conv\d$/.test(path)) return 'stem';
  return path.endsWith('conv2') ? '3 x 3' : '1 x 1';
}

/** @returns {SVGElement} */
function roofline({ layers, times }) {
  const rate = (job, unit) => WORK[job][unit] / median(times[job][ROOF].map(median)) / 1e6;
  const [fma, read] = [rate('fma', 'flops'), rate('read', 'bytes')];
  const points = layers.filter(({ flops, milliseconds }) => flops > 0 && milliseconds > 0).map(layer => ({ ...layer, intensity: layer.flops / layer.bytes, kind: kindOf(layer) }));
  const xs = points.map(({ intensity }) => intensity);
  const ys = points.map(({ gflops }) => gflops);
  const [left, right] = [Math.min(...xs) / 1.6, Math.max(...xs) * 1.6];
  const [bottom, top] = [Math.min(...ys, read * left) / 1.3, Math.max(...ys, fma) * 1.5];
  const size = { width: WIDTH - 2 * EDGE, height: 430, marginLeft: 52, marginRight: 14, marginBottom: 44, marginTop: 26 };
  const decade = (pixels, from, to) => pixels / Math.log10(to / from);
  const slope = decade(size.height - size.marginBottom - size.marginTop, bottom, top) / decade(size.width - size.marginLeft - size.marginRight, left, right);
  return plot({
    ...size, grid: true,
    x: { type: 'log', domain: [left, right], label: 'floating-point operations per byte that the layer touches', labelAnchor: 'center', labelArrow: 'none', ticks: 6, tickFormat: String },
    y: { type: 'log', domain: [bottom, top], label: 'GFLOP/s', labelArrow: 'none', ticks: 6, tickFormat: String },
    r: { range: [0, 14] },
    color: { domain: Object.keys(KINDS), range: Object.values(KINDS) },
    marks: [
      Plot.line([[left, read * left], [fma / read, fma], [right, fma]], { stroke: INK, strokeWidth: 1.5 }),
      Plot.text([[fma / read, fma]], { text: () => `multiply-add: ${fma.toFixed(0)} GFLOP/s`, textAnchor: 'start', dx: 12, dy: -10 }),
      Plot.text([[Math.sqrt(left * fma / read), read * Math.sqrt(left * fma / read)]], {
        text: () => `reads from memory: ${read.toFixed(0)} GB/s`, rotate: -Math.atan(slope) * 180 / Math.PI, dx: -7, dy: -9,
      }),
      Plot.dot(points.toSorted((a, b) => b.milliseconds - a.milliseconds), { x: 'intensity', y: 'gflops', r: 'milliseconds', fill: 'kind', fillOpacity: 0.75, stroke: '#fff', strokeWidth: 0.8 }),
    ],
  });
}

/** The colours of the layers, each with its share of the time. */
function legend(layers) {
  const sum = list => list.reduce((total, { milliseconds }) => total + milliseconds, 0);
  let x = 0;
  return Object.entries(KINDS).map(([kind, colour]) => {
    const text = `${kind}: ${(100 * sum(layers.filter(layer => kindOf(layer) === kind)) / sum(layers)).toFixed(0)} %`;
    const entry = `<circle cx="${x + 6}" cy="-4" r="6" fill="${colour}" fill-opacity="0.75"/><text x="${x + 17}">${text}</text>`;
    x += 42 + text.length * 6.6;
    return entry;
  }).join('');
}

/**
 * @param {any[]} results what the places of one run gave, as run.mjs saves them
 * @returns {string} SVG
 */
export function draw(results) {
  const [first] = results;
  if (!first.layers) throw new Error('picture: this run has no times of the layers; leave out --only');
  const chart = bars(results);
  const second = 72 + Number(chart.getAttribute('height')) + 48;
  const plotted = roofline(first);
  return sheet('CLIP RN50: time of each library, and the layers of lamella under the roofs of the core', second + 92 + Number(plotted.getAttribute('height')),
    heading(40, 'CLIP RN50, one picture of 224 x 224', `milliseconds, less is better; medians of ${first.rounds} rounds in turns, lines span the quartiles; ${first.cpu}`),
    placed(chart, 72),
    heading(second, 'Its layers under the roofs of the core', `${RELAXED}, one thread, ${first.place.version}. The larger a dot, the longer the layer takes; shares are of the whole time.`,
      "Operations as in the textbook: Winograd's 3 x 3 and the folded attention pool need fewer, and stand above the roof."),
    `<g transform="translate(${EDGE}, ${second + 68})">${legend(first.layers)}</g>`,
    placed(plotted, second + 80));
}

if (isMain(import.meta.url)) {
  const files = process.argv.slice(2);
  if (files.length < 2) throw new Error('usage: node tests/bench/picture.mjs FILE.json ... OUT.svg');
  const to = files.pop();
  writeFileSync(to, draw(files.flatMap(file => JSON.parse(readFileSync(file, 'utf8')))));
}
