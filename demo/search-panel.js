/**
 * The search field and the emoji it finds, while one types.
 */
import { formatTime } from './format.js';
import { Progress, showError } from './notices.js';
import { EmojiSearch } from './search.js';

const SUGGESTIONS = ['a happy cat', 'hot drink', 'space travel', 'birthday party', 'broken heart', 'sea animal'];
const TYPING_PAUSE = 120; // milliseconds without a key before the network runs
const CLOSE = 0.42; // cosine; nonsense words have their nearest emoji below it, and most of what is in the vocabulary above
const $ = id => document.getElementById(id);

function element(tag, className, text = '') {
  return Object.assign(document.createElement(tag), { className, textContent: text });
}

export class SearchPanel {
  constructor() {
    this.input = $('search-input');
    this.results = $('search-results');
    this.progress = new Progress($('search-loading'), $('search-progress'), $('search-progress-text'));
    /** @type {import('./classify.js').Classifier | null} */
    this.classifier = null;
    /** @type {Promise<EmojiSearch> | null} */
    this.engine = null;
    /** Number of the newest query; answers to older ones are dropped. */
    this.newest = 0;
    let timer = 0;
    this.input.addEventListener('input', event => {
      clearTimeout(timer);
      if (!event.isComposing) timer = setTimeout(() => this.search(), TYPING_PAUSE);
    });
    this.input.addEventListener('compositionend', () => this.search());
    this.input.addEventListener('focus', () => this.load()?.catch(() => {})); // the words typed meanwhile will say what is wrong
    this.input.addEventListener('keydown', event => {
      if (event.key === 'Escape') this.ask('');
    });
    $('search-form').addEventListener('submit', event => {
      event.preventDefault();
      clearTimeout(timer);
      this.search();
    });
    $('search-suggestions').append(...SUGGESTIONS.map(text => {
      const button = Object.assign(element('button', '', text), { type: 'button' });
      button.addEventListener('click', () => this.ask(text));
      const item = element('li', '');
      item.append(button);
      return item;
    }));
  }

  /** The labels and their embeddings are there. @param {import('./classify.js').Classifier} classifier */
  use(classifier) {
    this.classifier = classifier;
    this.search();
  }

  /** @param {string} text */
  ask(text) {
    this.input.value = text;
    this.search();
  }

  /** The text tower is fetched when somebody first wants to search. @returns {Promise<EmojiSearch> | null} null until the labels are there */
  load() {
    if (!this.classifier || this.engine) return this.engine;
    this.progress.start();
    const { config, labels, embeddings } = this.classifier;
    this.engine = EmojiSearch.load(new URL('model/', import.meta.url), { config, labels, embeddings, onProgress: p => this.progress.update(p) });
    this.engine.catch(() => { this.engine = null; }).finally(() => this.progress.end());
    return this.engine;
  }

  async search() {
    const query = this.input.value.trim();
    const number = ++this.newest;
    showError($('search-error'));
    if (!query) return this.show([], '');
    if (!this.classifier) return this.show([], 'The search begins when the model is loaded.');
    try {
      const engine = await this.load();
      if (number !== this.newest) return;
      if (!engine.knows(query)) return this.show([], 'The model was taught English words; it knows none of these.');
      const { found, milliseconds } = await engine.search(query);
      if (number !== this.newest) return;
      const [best] = found;
      const verdict = best.cosine < CLOSE ? `Nothing comes close; the nearest is ${best.emoji} ${best.name}` : `Best: ${best.emoji} ${best.name}`;
      this.show(found, `${verdict}. ${formatTime(milliseconds)}.`);
    } catch (error) {
      if (number !== this.newest) return;
      this.show([], '');
      showError($('search-error'), error, { intro: 'The search did not work.', retry: () => this.search() });
    }
  }

  /** @param {import('./search.js').Found[]} found @param {string} status */
  show(found, status) {
    $('search-status').textContent = status;
    this.results.hidden = !found.length;
    this.results.replaceChildren(...found.map(({ emoji, name, cosine }) => {
      const button = Object.assign(element('button', 'find'), { type: 'button', title: `Copy ${emoji}` });
      const glyph = element('span', 'find-glyph', emoji);
      glyph.setAttribute('aria-hidden', 'true');
      button.append(glyph, element('span', 'find-name', name), element('span', 'find-cosine', cosine.toFixed(2)));
      button.addEventListener('click', () => this.copy(emoji));
      const item = element('li', '');
      item.append(button);
      return item;
    }));
  }

  /** @param {string} emoji */
  async copy(emoji) {
    try {
      await navigator.clipboard.writeText(emoji);
      $('search-status').textContent = `${emoji} is in the clipboard.`;
    } catch {
      $('search-status').textContent = `The browser does not let this page copy: ${emoji}`;
    }
  }
}
