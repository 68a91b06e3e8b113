/** Pooling, window by window. */
import { both, count, largest, tensor } from './tensor.js';

/** @import { Reference } from './tensor.js' */

/** A range of rows or columns. @typedef {{ from: number, to: number, step: number }} Span */

/**
 * One number for each channel and window.
 * @param {Reference} x [n, c, h, w]
 * @param {Span[]} rows Of each output row; parts outside the image are passed over.
 * @param {Span[]} columns
 * @param {(numbers: number[], row: Span, column: Span) => number} f
 */
function windows(x, rows, columns, f) {
  const [n, c, h, w] = x.shape;
  const y = new Float64Array(n * c * rows.length * columns.length);
  let at = 0;
  for (let plane = 0; plane < n * c; plane++) {
    for (const row of rows) {
      for (const column of columns) {
        const numbers = [];
        for (let i = row.from; i < row.to; i += row.step) {
          for (let j = column.from; j < column.to; j += column.step) {
            if (i >= 0 && i < h && j >= 0 && j < w) numbers.push(x.data[(plane * h + i) * w + j]);
          }
        }
        y[at++] = f(numbers, row, column);
      }
    }
  }
  return tensor([n, c, rows.length, columns.length], y);
}

const meanOfSizes = (/** @type {Reference} */ x) => largest(x.data) + x.slack;

/** Where windows start and end: as PyTorch, none starts in the padding on the right. @param {number} size @param {number} kernel @param {number} stride @param {number} padding @param {number} dilation @param {boolean} ceil @returns {Span[]} */
function spans(size, kernel, stride, padding, dilation, ceil) {
  const reach = dilation * (kernel - 1) + 1;
  const result = [];
  for (let start = -padding; start < size + padding; start += stride) {
    const fits = start + reach <= size + padding;
    if (!fits && !(ceil && start < size && start - stride + reach < size + padding)) break;
    result.push({ from: start, to: start + reach, step: dilation });
  }
  return result;
}

/** @param {Reference} x @param {any} kernelSize @param {any} [options] */
export function maxPool2d(x, kernelSize, { stride = null, padding = 0, dilation = 1, ceilMode = false } = {}) {
  const [kernel, step, pad, dil] = [kernelSize, stride ?? kernelSize, padding, dilation].map(both);
  const [rows, columns] = [0, 1].map((i) => spans(x.shape[2 + i], kernel[i], step[i], pad[i], dil[i], ceilMode));
  return { ...windows(x, rows, columns, (numbers) => numbers.reduce((a, b) => Math.max(a, b), -Infinity)), slack: x.slack };
}

/** @param {Reference} x @param {any} kernelSize @param {any} [options] */
export function avgPool2d(x, kernelSize, { stride = null, padding = 0, ceilMode = false, countIncludePad = true, divisorOverride = null } = {}) {
  const [kernel, step, pad] = [kernelSize, stride ?? kernelSize, padding].map(both);
  const [rows, columns] = [0, 1].map((i) => spans(x.shape[2 + i], kernel[i], step[i], pad[i], 1, ceilMode));
  const within = (/** @type {Span} */ span, /** @type {number} */ axis) => Math.min(span.to, x.shape[2 + axis] + pad[axis]) - span.from;
  const y = windows(x, rows, columns, (numbers, row, column) => {
    const divisor = divisorOverride ?? (countIncludePad ? within(row, 0) * within(column, 1) : numbers.length);
    return numbers.reduce((sum, v) => sum + v, 0) / divisor;
  });
  return { ...y, slack: meanOfSizes(x) * Math.max(1, count(kernel) / (divisorOverride ?? Infinity)) };
}

/** @param {Reference} x @param {number | (number | null)[]} outputSize */
export function adaptiveAvgPool2d(x, outputSize) {
  const sizes = Array.isArray(outputSize) ? outputSize : [outputSize, outputSize];
  const [rows, columns] = sizes.map((wanted, axis) => {
    const [size, out] = [x.shape[2 + axis], wanted ?? x.shape[2 + axis]];
    return Array.from({ length: out }, (_, i) => ({ from: Math.floor(i * size / out), to: Math.ceil((i + 1) * size / out), step: 1 }));
  });
  return { ...windows(x, rows, columns, (numbers) => numbers.reduce((sum, v) => sum + v, 0) / numbers.length), slack: meanOfSizes(x) };
}
