/**
 * The ranked labels: a list with a bar for each score.
 */
import { formatPercent } from './format.js';

/** @param {string} tag @param {string} className @param {string} [text] */
function element(tag, className, text = '') {
  const node = document.createElement(tag);
  node.className = className;
  node.textContent = text;
  return node;
}

/**
 * @param {HTMLOListElement} list replaced content
 * @param {import('./classify.js').Ranked[]} labels best first
 */
export function renderRanking(list, labels) {
  list.replaceChildren(...labels.map(({ emoji, name, score }) => {
    const item = element('li', 'rank');
    const glyph = element('span', 'rank-glyph', emoji);
    glyph.setAttribute('aria-hidden', 'true');
    const bar = element('span', 'rank-bar');
    bar.setAttribute('aria-hidden', 'true');
    bar.style.setProperty('--score', String(score));
    item.append(glyph, element('span', 'rank-name', name), element('span', 'rank-score', formatPercent(score)), bar);
    return item;
  }));
}
