/**
 * A module as text: PyTorch's tree, with the parameters and the weights' shapes behind each line.
 *
 *     Net(                                                              # 1,498 parameters
 *       (conv): Conv2d(3, 16, kernelSize=[3, 3], stride=[1, 1])         # 448: weight [16, 3, 3, 3], bias [16]
 *       (norm): BatchNorm2d(16, eps=0.00001)                            # 32: weight, bias, running_mean, running_var [16], num_batches_tracked []
 *       (blocks): ModuleList(                                           # 1,018
 *         (0-1): 2 x Linear(inFeatures=16, outFeatures=16, bias=true)   # 2 x 272: weight [16, 16], bias [16]
 *     …
 *
 * The number counts what `parameters()` yields, so buffers are not in it and a weight that is reached twice counts once; the names are of the module's
 * own weights and buffers. Equal neighbours whose names count upwards are printed once; an array of modules is printed as a ModuleList.
 */
import { showShape } from './arguments.js';
import { attributes, Buffer, className, members, Module, Parameter } from './module.js';

/** @typedef {{ text: string, times: number, count: number, weights: string }} Line */
/** The note of a line that is longer than this does not stand in the column of the others. */
const COLUMN = 92;

/**
 * @param {Module} module
 * @returns {string}
 */
export function repr(module) {
  [...module.namedModules()];   // refuses a module that contains itself
  const all = lines(module);
  const column = Math.min(COLUMN, Math.max(...all.map(({ text }) => text.length)));
  return all.map((line, i) => {
    const told = note(line, i === 0);
    return told ? `${line.text.padEnd(column)}  # ${told}` : line.text;
  }).join('\n');
}

/**
 * @param {Line} line
 * @param {boolean} first
 * @returns {string} '448: weight [16, 3, 3, 3], bias [16]'; empty where there are no weights.
 */
function note({ times, count, weights }, first) {
  if (!count && !weights) return '';
  const unit = !first ? '' : count === 1 ? ' parameter' : ' parameters';
  return `${times > 1 ? `${times} x ` : ''}${thousands(count)}${unit}${weights ? `: ${weights}` : ''}`;
}

/**
 * @param {Module} module
 * @returns {Line[]}
 */
function lines(module) {
  const extra = module.extraRepr();
  const own = [...members(module)].filter(([, value]) => value instanceof Parameter);
  const children = [...attributes(module)].flatMap(([name, value]) => child(name, value));
  return block(className(module), extra, children, {
    count: countOf([...module.parameters()]), weights: shapes(/** @type {[string, Parameter][]} */ (own)),
  });
}

/**
 * An attribute as the tree shows it: a module, or an array with modules in it.
 * @param {string} name
 * @param {unknown} value
 * @returns {[string, Line[]][]}
 */
function child(name, value) {
  if (value instanceof Module) return [[name, lines(value)]];
  if (!Array.isArray(value) || !modulesIn(value).length) return [];
  const elements = value.flatMap((element, i) => child(String(i), element));
  const count = countOf(modulesIn(value).flatMap((module) => [...module.parameters()]));
  return [[name, block('ModuleList', '', elements, { count, weights: '' })]];
}

/**
 * @param {unknown} value
 * @returns {Module[]}
 */
function modulesIn(value) {
  if (value instanceof Module) return [value];
  return Array.isArray(value) ? value.flatMap(modulesIn) : [];
}

/**
 * @param {string} title
 * @param {string} extra
 * @param {[string, Line[]][]} children
 * @param {{ count: number, weights: string }} weights
 * @returns {Line[]}
 */
function block(title, extra, children, weights) {
  if (!children.length && !extra.includes('\n')) return [{ text: `${title}(${extra})`, times: 1, ...weights }];
  const inner = [
    ...(extra ? extra.split('\n').map((text) => ({ text, times: 1, count: 0, weights: '' })) : []),
    ...runs(children).flatMap(({ first, last, line: [head, ...rest] }) => {
      const times = Number(last) - Number(first) + 1;
      const named = first === last ? `(${first}): ${head.text}` : `(${first}-${last}): ${times} x ${head.text}`;
      return [{ ...head, text: named, times: first === last ? 1 : times }, ...rest];
    }),
  ];
  const indented = inner.map((line) => ({ ...line, text: `  ${line.text}` }));
  return [{ text: `${title}(`, times: 1, ...weights }, ...indented, { text: ')', times: 1, count: 0, weights: '' }];
}

/**
 * Neighbours whose names count upwards and that print alike, as one.
 * @param {[string, Line[]][]} children
 * @returns {{ first: string, last: string, line: Line[] }[]}
 */
function runs(children) {
  /** @type {{ first: string, last: string, line: Line[], key: string }[]} */
  const result = [];
  for (const [name, line] of children) {
    const before = result.at(-1);
    const key = JSON.stringify(line);
    if (before && before.key === key && /^\d+$/.test(name) && String(Number(before.last) + 1) === name) before.last = name;
    else result.push({ first: name, last: name, line, key });
  }
  return result;
}

/** @param {Iterable<Parameter>} parameters */
function countOf(parameters) {
  const trained = [...new Set(parameters)].filter((parameter) => !(parameter instanceof Buffer));
  return trained.reduce((sum, { shape }) => sum + shape.reduce((product, size) => product * size, 1), 0);
}

/**
 * Names and shapes, a shape once for neighbours that share it: 'weight, bias [16], num_batches_tracked []'.
 * @param {[string, Parameter][]} weights
 */
function shapes(weights) {
  const shown = weights.map(([name, { shape }]) => ({ name, shape: showShape(shape) }));
  return shown.map(({ name, shape }, i) => (shown[i + 1]?.shape === shape ? name : `${name} ${shape}`)).join(', ');
}

/** 1234567 as '1,234,567'. @param {number} n */
export const thousands = (n) => String(n).replace(/\B(?=(\d{3})+$)/g, ',');
