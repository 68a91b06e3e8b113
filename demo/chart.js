/**
 * Time, rate and data of each layer: a strip that shows the stages of the network in proportion, and a table with bars in each row, which is
 * both the chart and its text.
 */
import { formatBytes, formatPercent, formatTime } from './format.js';

/** @typedef {{ path: string, name: string, shape: number[], milliseconds: number, flops: number, bytes: number, gflops: number }} Layer one row of `model.profile` */

const sum = (layers, measure) => layers.reduce((total, layer) => total + layer[measure], 0);

const STAGES = ['stem', 'layer1', 'layer2', 'layer3', 'layer4', 'attnpool'];

/** The stage of the network that a module path lies in. */
function stageOf(path) {
  const first = path.split('.')[0];
  return STAGES.includes(first) ? first : 'stem';
}

function element(tag, className, ...children) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  node.append(...children);
  return node;
}

/** @param {HTMLElement} strip @param {Layer[]} layers @param {number} total */
function renderStrip(strip, layers, total) {
  const sums = new Map(STAGES.map(stage => [stage, 0]));
  for (const { path, milliseconds } of layers) sums.set(stageOf(path), sums.get(stageOf(path)) + milliseconds);
  const bar = element('div', 'strip');
  bar.setAttribute('aria-hidden', 'true');
  const legend = element('ul', 'strip-legend');
  for (const [stage, milliseconds] of sums) {
    const part = element('span', `strip-part stage-${stage}`);
    part.style.flexGrow = String(milliseconds / total);
    bar.append(part);
    legend.append(element('li', `stage-${stage}`, element('span', 'strip-name', stage), ` ${formatPercent(milliseconds / total)}`));
  }
  strip.replaceChildren(bar, legend);
}

/** A bar as long as the value is of the largest. */
function bar(layer, measure, layers) {
  const largest = layers.reduce((max, other) => Math.max(max, other[measure]), 0);
  const part = element('span', 'layer-bar');
  part.setAttribute('aria-hidden', 'true');
  part.style.setProperty('--part', String(largest > 0 ? layer[measure] / largest : 0));
  return part;
}

/** @param {HTMLTableElement} table @param {Layer[]} layers */
function renderTable(table, layers) {
  const head = element('tr', '');
  for (const [title, className] of [['Layer', ''], ['Output', 'shape'], ['Time', 'number'], ['GFLOP/s', 'number flops'], ['Data', 'number bytes']]) {
    const cell = element('th', className, title);
    cell.scope = 'col';
    head.append(cell);
  }
  const rows = layers.map(layer => {
    const { path, name, shape, milliseconds, gflops, bytes } = layer;
    const row = element('tr', `stage-${stageOf(path)}`);
    const title = element('th', 'layer', element('span', 'layer-path', path || 'model'), ' ', element('span', 'layer-name', name.replaceAll('_', ' ').replaceAll('+', ' + ')),
      bar(layer, 'milliseconds', layers));
    title.scope = 'row';
    row.append(title, element('td', 'shape', shape.join(' × ')), element('td', 'number', formatTime(milliseconds)),
      element('td', 'number flops', gflops > 0 ? gflops.toFixed(1) : '–', bar(layer, 'gflops', layers)),
      element('td', 'number bytes', bytes > 0 ? formatBytes(bytes) : '–', bar(layer, 'bytes', layers)));
    return row;
  });
  const caption = element('caption', 'visually-hidden', 'Time of each layer, with the shape of its output, its rate, and the data it touches: inputs, weights and outputs');
  table.replaceChildren(caption, element('thead', '', head), element('tbody', '', ...rows));
}

/**
 * The median keeps out what else the machine did. Where a page is not isolated, clocks may tick in whole milliseconds, most layers take none, and
 * only the mean says something.
 * @param {Layer[][]} runs
 * @returns {Layer[]}
 */
function typical(runs) {
  return runs[0].map((layer, i) => {
    const times = runs.map(run => run[i].milliseconds).sort((a, b) => a - b);
    const milliseconds = times[times.length >> 1] || times.reduce((total, time) => total + time, 0) / times.length;
    return { ...layer, milliseconds, gflops: milliseconds > 0 ? layer.flops / milliseconds / 1e6 : 0 };
  });
}

/** The chart of a model's profile; `show` draws it, `order` sorts its rows. */
export class LayerChart {
  /** @param {HTMLElement} strip @param {HTMLTableElement} table @param {HTMLElement} summary */
  constructor(strip, table, summary) {
    Object.assign(this, { strip, table, summary });
    /** @type {Layer[]} */
    this.layers = [];
    this.slowestFirst = false;
  }

  /** @param {Layer[][]} runs of the same picture, each in the order of the network */
  show(runs) {
    const layers = typical(runs);
    this.layers = layers;
    const total = sum(layers, 'milliseconds');
    const rate = total > 0 ? `, ${(sum(layers, 'flops') / total / 1e6).toFixed(1)} GFLOP/s, ${formatBytes(sum(layers, 'bytes'))} of data` : '';
    this.summary.textContent = `${layers.length} layers took ${formatTime(total)}${rate}. Norms and activations are fused into them.`;
    renderStrip(this.strip, layers, total);
    this.draw();
  }

  /** @param {boolean} slowestFirst */
  order(slowestFirst) {
    this.slowestFirst = slowestFirst;
    this.draw();
  }

  draw() {
    const rows = this.slowestFirst ? [...this.layers].sort((a, b) => b.milliseconds - a.milliseconds) : this.layers;
    renderTable(this.table, rows);
  }
}
