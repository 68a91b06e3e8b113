/** A picture of times against sizes, both on logarithmic axes, as SVG. */

const WIDTH = 760;
const HEIGHT = 460;
const LEFT = 84;
const RIGHT = 190;
const TOP = 56;
const BOTTOM = 58;

const escape = (text) => text.replace(/&/g, '&amp;').replace(/</g, '&lt;');

/** 1, 2 and 5 times powers of ten from below the least to above the most. */
function ticks(least, most) {
  const all = [];
  for (let power = Math.floor(Math.log10(least)); power <= Math.ceil(Math.log10(most)); power++) all.push(...[1, 2, 5].map((digit) => digit * 10 ** power));
  const from = all.findLastIndex((tick) => tick <= least);
  const to = all.findIndex((tick) => tick >= most);
  return all.slice(from, to + 1);
}

const number = (value) => (value >= 1000 ? `${value / 1000} s` : `${value} ms`);

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
  const marks = ticks(Math.min(...lines.flatMap((line) => line.milliseconds)), Math.max(...lines.flatMap((line) => line.milliseconds)));
  const scale = (value, least, most, from, to) => from + (to - from) * Math.log(value / least) / Math.log(most / least);
  const x = (size) => scale(size, sizes[0], sizes.at(-1), LEFT, WIDTH - RIGHT).toFixed(1);
  const y = (ms) => scale(ms, marks[0], marks.at(-1), HEIGHT - BOTTOM, TOP).toFixed(1);
  const text = (at, anchor, content, more = '') => `<text x="${at[0]}" y="${at[1]}" text-anchor="${anchor}"${more}>${escape(content)}</text>`;
  const grid = [
    ...marks.map((ms) => `<line x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${y(ms)}" y2="${y(ms)}" stroke="#ddd"/>${text([LEFT - 8, Number(y(ms)) + 4], 'end', number(ms))}`),
    ...sizes.map((size) => `<line x1="${x(size)}" x2="${x(size)}" y1="${TOP}" y2="${HEIGHT - BOTTOM}" stroke="#ddd"/>${text([x(size), HEIGHT - BOTTOM + 18], 'middle', size.toLocaleString('en'))}`),
  ];
  const drawn = lines.map(({ label, colour, milliseconds }) => {
    const points = sizes.map((size, i) => [x(size), y(milliseconds[i])]);
    return `<polyline points="${points.map((point) => point.join(',')).join(' ')}" fill="none" stroke="${colour}" stroke-width="2.5"/>`
      + points.map(([cx, cy]) => `<circle cx="${cx}" cy="${cy}" r="4" fill="${colour}"/>`).join('')
      + text([Number(points.at(-1)[0]) + 10, Number(points.at(-1)[1]) + 4], 'start', label, ` fill="${colour}" font-weight="bold"`);
  });
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" font-family="system-ui, sans-serif" font-size="13" fill="#333">`,
    `<title>${escape(title)}</title>`,
    `<rect width="${WIDTH}" height="${HEIGHT}" fill="#fff"/>`,
    text([LEFT, 24], 'start', title, ' font-size="16" font-weight="bold"'),
    text([LEFT, 42], 'start', subtitle),
    ...grid,
    text([(LEFT + WIDTH - RIGHT) / 2, HEIGHT - 14], 'middle', xLabel),
    ...drawn,
    '</svg>',
    '',
  ].join('\n');
}
