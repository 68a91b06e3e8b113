/**
 * What a model that writes costs: tokens a second, its context and its memory.
 */
import { formatBytes, formatPercent } from './format.js';

/** Bytes that WebAssembly can address. */
const ADDRESSABLE = 2 ** 32;
const PARTS = [['weights', 'Weights'], ['caches', 'Cache'], ['activations', 'Work area']];
const $ = id => document.getElementById(id);

/** @param {{ tokens: number, tokensPerSecond: number }} [pace] */
const formatPace = pace => (!pace?.tokens ? '–' : pace.tokensPerSecond >= 100 ? Math.round(pace.tokensPerSecond).toLocaleString('en') : pace.tokensPerSecond.toPrecision(3));

/** A bar with role=meter. @param {HTMLElement} bar @param {number} value @param {number} max @param {string} text */
function fill(bar, value, max, text) {
  for (const [name, number] of Object.entries({ valuemax: max, valuenow: value })) bar.setAttribute(`aria-${name}`, String(number));
  bar.setAttribute('aria-valuetext', text);
  bar.style.setProperty('--filled', String(max && value / max));
}

export class WriterMeters {
  constructor() {
    this.segments = PARTS.map(([name]) => Object.assign(document.createElement('span'), { className: `part-${name}` }));
    this.amounts = PARTS.map(() => document.createElement('span'));
    $('writer-memory').append(...this.segments);
    $('writer-memory-legend').append(...PARTS.map(([name, title], i) => {
      const item = Object.assign(document.createElement('li'), { className: `part-${name}`, textContent: `${title} ` });
      item.append(this.amounts[i]);
      return item;
    }));
  }

  /** @param {import('../js/generation.js').Timing} [timing] Left out: nothing has been written. */
  speed(timing) {
    $('writer-prefill').textContent = formatPace(timing?.prefill);
    $('writer-decode').textContent = formatPace(timing?.decode);
  }

  /** @param {import('./writer.js').Writer | null} writer null: no model is loaded. */
  show(writer) {
    const { position = 0, context = 0 } = writer?.session ?? {};
    const used = context ? `${position.toLocaleString('en')} of ${context.toLocaleString('en')} tokens` : '–';
    $('writer-context-text').textContent = used;
    fill($('writer-context'), position, context, used);
    const memory = writer?.model.memory ?? { weights: 0, caches: 0, activations: 0, total: 0 };
    PARTS.forEach(([name], i) => {
      this.segments[i].style.flexGrow = String(memory[name]);
      this.amounts[i].textContent = memory.total ? formatBytes(memory[name]) : '–';
    });
    $('writer-memory-text').textContent = memory.total ? formatBytes(memory.total) : '–';
    const share = memory.total ? formatPercent(memory.total / ADDRESSABLE) : '–';
    $('writer-limit-text').textContent = share;
    fill($('writer-limit'), memory.total, ADDRESSABLE, share);
  }
}
