/** Plots by Observable Plot on one sheet, as SVG that stands alone. */
import { parseHTML } from 'linkedom';
import * as Plot from '@observablehq/plot';

export { Plot };
export const WIDTH = 880;
/** Left and right of what is on the sheet. */
export const EDGE = 24;
export const INK = '#24292f';
export const FAINT = '#6e7781';
const FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif";

const { document } = parseHTML('<!doctype html><html><body></body></html>');

/** Plot.plot with the sheet's letters, as wide as the sheet allows. @returns {any} the element */
export const plot = options => Plot.plot({ document, width: WIDTH - 2 * EDGE, style: { fontSize: '13px', color: INK, background: 'none' }, ...options });

const escape = text => text.replace(/&/g, '&amp;').replace(/</g, '&lt;');
const line = (y, text, more) => `<text x="${EDGE}" y="${y}" ${more}>${escape(text)}</text>`;

/** A heading whose letters stand on y, and lines below it. */
export const heading = (y, title, ...lines) => [line(y, title, 'font-size="18" font-weight="700"'), ...lines.map((text, i) => line(y + 21 + 18 * i, text, `fill="${FAINT}"`))].join('\n');

/** A plot, its upper edge at y. */
export function placed(element, y) {
  for (const [name, value] of [['x', EDGE], ['y', y], ['fill', INK]]) element.setAttribute(name, String(value));
  return element.outerHTML;
}

/** @param {string} title for who cannot see it @param {number} height @param {...string} parts */
export const sheet = (title, height, ...parts) => [
  `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" font-family="${FONT}" font-size="13" fill="${INK}">`,
  `<title>${escape(title)}</title>`, '<rect width="100%" height="100%" fill="#fff"/>', ...parts, '</svg>', '',
].join('\n');
