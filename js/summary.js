/** A compiled model layer by layer, as data and as a table. */
import { badArgument, show, showShape, sizes } from './arguments.js';
import { LamellaError } from './errors.js';
import { Buffer, className } from './module.js';
import { thousands } from './repr.js';

/** @typedef {import('./inputs.js').InputSpec} InputSpec */
/** @typedef {import('./module.js').Module} Module */
/** @typedef {import('../web/runner.js').LayerProfile & { weights: string[] }} PlannedLayer */
/**
 * One layer.
 * @typedef {object} SummaryRow
 * @property {string} path The module that it belongs to: 'layer1.0.conv1'.
 * @property {string} layer What is computed, layers that were fused as one: 'conv2d+batch_norm+relu'.
 * @property {number[]} shape Of its output.
 * @property {number} parameters Of the weights it reads, without buffers; a weight that several layers read counts at the first.
 * @property {number} flops Multiplications and additions of the textbook formula.
 * @property {number} bytes Inputs, weights (as they are packed) and outputs, each touched once.
 */

/** Made by `model.summary`. */
export class Summary {
  /**
   * @param {Module} module
   * @param {string} method
   * @param {number[][]} inputs
   * @param {PlannedLayer[]} layers
   */
  constructor(module, method, inputs, layers) {
    /** What was compiled: the class's name. */
    this.name = className(module);
    /** 'forward', or another of `model.methods`. */
    this.method = method;
    /** The sizes that this is for. */
    this.inputs = inputs;
    const known = module.stateDict();
    const counted = new Set();
    /** Those that only give the same numbers another shape are left out. @type {SummaryRow[]} */
    this.rows = layers.map(({ path, name, shape, flops, bytes, weights }) => {
      let parameters = 0;
      for (const weight of weights) {
        const parameter = known.get(weight);
        if (!parameter || parameter instanceof Buffer || counted.has(parameter)) continue;
        counted.add(parameter);
        parameters += parameter.shape.reduce((product, size) => product * size, 1);
      }
      return { path, layer: name, shape, parameters, flops, bytes };
    }).filter(({ parameters, flops, bytes }) => parameters || flops || bytes);
    /** Sums over the rows. @type {{ parameters: number, flops: number, bytes: number }} */
    this.totals = { parameters: 0, flops: 0, bytes: 0 };
    for (const row of this.rows) {
      for (const key of /** @type {const} */ (['parameters', 'flops', 'bytes'])) this.totals[key] += row[key];
    }
  }

  /** The table. @returns {string} */
  toString() {
    /** @param {{ parameters: number, flops: number, bytes: number }} numbers */
    const cells = ({ parameters, flops, bytes }) => [thousands(parameters), scaled(flops), `${scaled(bytes)}B`];
    const table = [
      ['path', 'layer', 'output', 'parameters', 'FLOPs', 'bytes'],
      ...this.rows.map((row) => [row.path, row.layer, showShape(row.shape), ...cells(row)]),
      ['total', '', '', ...cells(this.totals)],
    ];
    const widths = table[0].map((_, column) => Math.max(...table.map((row) => row[column].length)));
    const lines = table.map((row) => row.map((cell, column) => (column < 3 ? cell.padEnd(widths[column]) : cell.padStart(widths[column]))).join('  ').trimEnd());
    const rule = '-'.repeat(Math.max(...lines.map((line) => line.length)));
    return [`${this.name}: ${this.method}(${this.inputs.map(showShape).join(', ')})`, lines[0], rule, ...lines.slice(1, -1), rule, lines.at(-1)].join('\n');
  }

  /** Node's console.log shows the table. @returns {string} */
  [Symbol.for('nodejs.util.inspect.custom')]() {
    return this.toString();
  }
}

/**
 * What `summary` was asked for, checked.
 * @param {readonly unknown[]} given Shapes, and an object of options.
 * @param {(method: string) => InputSpec[]} specsOf
 * @returns {{ name: string, sizes: number[][] }}
 */
export function planned(given, specsOf) {
  const last = given.at(-1);
  const options = last !== null && typeof last === 'object' && !Array.isArray(last) ? /** @type {Record<string, unknown>} */ (last) : null;
  const unknown = Object.keys(options ?? {}).find((key) => key !== 'method');
  if (unknown) throw new LamellaError('argument', `summary: there is no option ${show(unknown)}; known: method`);
  const { method = 'forward' } = options ?? {};
  if (typeof method !== 'string') throw badArgument('summary: method', 'the name of a method', method);
  const shapes = options ? given.slice(0, -1) : [...given];
  const specs = specsOf(method);
  if (specs.at(-1)?.rows && shapes.length === specs.length - 1) shapes.push(shapes[0]);
  if (shapes.length && shapes.length !== specs.length) {
    throw new LamellaError('argument', `summary: expected the sizes of ${specs.length} input${specs.length === 1 ? '' : 's'} ${specs.map(({ shape }) => showShape(shape)).join(', ')}, got ${shapes.length}`);
  }
  return { name: method, sizes: specs.map(({ shape }, i) => (shapes.length ? checked(i, shape, shapes[i]) : shape.map((size) => size ?? 1))) };
}

/**
 * @param {number} index
 * @param {readonly (number | null)[]} declared
 * @param {unknown} given
 * @returns {number[]}
 */
function checked(index, declared, given) {
  if (!Array.isArray(given)) throw badArgument(`summary: input ${index}`, `sizes, ${showShape(declared)}`, given);
  const shape = sizes(`summary: input ${index}`, given);
  if (shape.length === declared.length && declared.every((size, i) => size === null || size === shape[i])) return shape;
  throw new LamellaError('shape', `summary: input ${index}: expected ${showShape(declared)}, got ${showShape(shape)}`);
}

/** 12345678 as '12.3 M', with a place for the unit behind. @param {number} n */
function scaled(n) {
  const power = Math.min(4, Math.max(0, Math.floor(Math.log10(Math.max(n, 1)) / 3 + 1e-9)));
  if (!power) return `${n} `;
  const value = n / 1000 ** power;
  return `${value.toFixed(value < 9.995 ? 2 : value < 99.95 ? 1 : 0)} ${' kMGT'[power]}`;
}
