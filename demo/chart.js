/**
 * Time of each layer: a strip that shows the stages of the network in proportion, and a table with a bar in each row, which is
 * both the chart and its text.
 */
import { formatPercent, formatTime } from './format.js';

/** @typedef {{ path: string, name: string, shape: number[], milliseconds: number, gflops: number }} Layer one row of `model.profile` */

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

/** @param {HTMLTableElement} table @param {Layer[]} layers @param {number} slowest milliseconds */
function renderTable(table, layers, slowest) {
  const head = element('tr', '');
  for (const [title, className] of [['Layer', ''], ['Output', 'shape'], ['Time', 'number'], ['GFLOP/s', 'number flops']]) {
    const cell = element('th', className, title);
    cell.scope = 'col';
    head.append(cell);
  }
  const rows = layers.map(({ path, name, shape, milliseconds, gflops }) => {
    const row = element('tr', `stage-${stageOf(path)}`);
    const title = element('th', 'layer', element('span', 'layer-path', path || 'model'), ' ', element('span', 'layer-name', name.replaceAll('_', ' ').replaceAll('+', ' + ')));
    title.scope = 'row';
    const bar = element('span', 'layer-bar');
    bar.setAttribute('aria-hidden', 'true');
    bar.style.setProperty('--part', String(slowest > 0 ? milliseconds / slowest : 0));
    title.append(bar);
    row.append(title, element('td', 'shape', shape.join(' × ')), element('td', 'number', formatTime(milliseconds)),
      element('td', 'number flops', gflops > 0 ? gflops.toFixed(1) : '–'));
    return row;
  });
  const caption = element('caption', 'visually-hidden', 'Time of each layer, with the shape of its output and its rate');
  table.replaceChildren(caption, element('thead', '', head), element('tbody', '', ...rows));
}

/** The chart of one profile; `show` draws it, `order` sorts its rows. */
export class LayerChart {
  /** @param {HTMLElement} strip @param {HTMLTableElement} table @param {HTMLElement} summary */
  constructor(strip, table, summary) {
    Object.assign(this, { strip, table, summary });
    /** @type {Layer[]} */
    this.layers = [];
    this.slowestFirst = false;
  }

  /** @param {Layer[]} layers in the order of the network */
  show(layers) {
    this.layers = layers;
    const total = layers.reduce((sum, layer) => sum + layer.milliseconds, 0);
    this.summary.textContent = `${layers.length} layers took ${formatTime(total)}. Batch norms and activations are fused into the layer before them.`;
    renderStrip(this.strip, layers, total);
    this.draw();
  }

  /** @param {boolean} slowestFirst */
  order(slowestFirst) {
    this.slowestFirst = slowestFirst;
    this.draw();
  }

  draw() {
    const slowest = this.layers.reduce((max, layer) => Math.max(max, layer.milliseconds), 0);
    const rows = this.slowestFirst ? [...this.layers].sort((a, b) => b.milliseconds - a.milliseconds) : this.layers;
    renderTable(this.table, rows, slowest);
  }
}
