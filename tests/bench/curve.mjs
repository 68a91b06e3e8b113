/** A picture of times against sizes, both on logarithmic axes, as SVG. */
import { heading, placed, plot, Plot, sheet } from './drawing.mjs';

const HEIGHT = 420;

/** 1, 2 and 5 times powers of ten. */
const TICKS = [-1, 0, 1, 2, 3, 4].flatMap(power => [1, 2, 5].map(digit => digit * 10 ** power));
const time = milliseconds => milliseconds >= 1000 ? `${milliseconds / 1000} s` : `${milliseconds} ms`;

/**
 * @param {object} picture
 * @param {string} picture.title
 * @param {string} picture.subtitle
 * @param {string} picture.xLabel
 * @param {number[]} picture.sizes
 * @param {{ label: string, colour: string, milliseconds: number[] }[]} picture.lines
 * @returns {string}
 */
export function curve({ title, subtitle, xLabel, sizes, lines }) {
  const points = lines.flatMap(({ label, colour, milliseconds }) => milliseconds.map((ms, i) => ({ label, colour, size: sizes[i], ms })));
  const [least, most] = [Math.min, Math.max].map(of => of(...points.map(({ ms }) => ms)));
  const element = plot({
    height: HEIGHT, marginLeft: 62, marginRight: 152, marginBottom: 44, grid: true,
    x: { type: 'log', base: 2, label: xLabel, labelAnchor: 'center', labelArrow: 'none', ticks: sizes, tickFormat: size => size.toLocaleString('en'), domain: [sizes[0], sizes.at(-1)] },
    y: { type: 'log', label: null, ticks: TICKS.filter(tick => tick > least / 1.3 && tick < most * 1.3), tickFormat: time, domain: [least / 1.3, most * 1.3] },
    marks: [
      Plot.line(points, { x: 'size', y: 'ms', stroke: 'colour', strokeWidth: 2.5 }),
      Plot.dot(points, { x: 'size', y: 'ms', fill: 'colour', r: 4.5 }),
      Plot.text(points.filter(({ size }) => size === sizes.at(-1)), { x: 'size', y: 'ms', text: 'label', fill: 'colour', fontWeight: 700, textAnchor: 'start', dx: 10 }),
    ],
  });
  return sheet(title, HEIGHT + 84, heading(40, title, subtitle), placed(element, 72));
}
