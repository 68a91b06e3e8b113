/**
 * The writing panel: a prompt, or a conversation, and what the model makes of it, as it comes.
 */
import { cache } from '../js/index.js';
import { formatBuild, formatBytes, formatTime } from './format.js';
import { checkpointAt, checkpointIn, STORY_TELLER } from './language-checkpoint.js';
import { isAbort, Progress, showError } from './notices.js';
import { Writer } from './writer.js';
import { WriterMeters } from './writer-meters.js';
import { WriterSettings } from './writer-settings.js';

const OPENINGS = ['Once upon a time there was a little', 'The king had three daughters, and the youngest', '"Who are you?" said the', 'It was a dark night, and the old'];
const $ = id => document.getElementById(id);

/** A message, or a whole text: what was given, and what the model adds to it. */
function entry(kind, given = '') {
  const box = Object.assign(document.createElement('div'), { className: `passage ${kind}` });
  const written = Object.assign(document.createElement('span'), { className: 'written' });
  if (given) box.append(Object.assign(document.createElement('span'), { className: 'given', textContent: given }));
  box.append(written);
  return { box, written };
}

export class WriterPanel {
  constructor() {
    this.progress = new Progress($('writer-loading'), $('writer-progress'), $('writer-progress-text'));
    /** What stands where the text will. */
    this.empty = $('writer-empty');
    /** What the panel says of the model that comes with the page. */
    this.lead = $('writer-lead').textContent;
    this.settings = new WriterSettings($('writer-sampling'));
    this.meters = new WriterMeters();
    /** Where the model is to come from: null, the one that comes with the page. @type {(() => Promise<import('./language-checkpoint.js').LanguageCheckpoint | import('./language-checkpoint.js').GgufCheckpoint>) | null} */
    this.source = null;
    /** @type {Writer | null} */
    this.writer = null;
    /** Stops the loading, or the writing, that is going on. @type {AbortController | null} */
    this.abort = null;
    /** The conversation so far. @type {{ role: string, content: string }[]} */
    this.messages = [];
    /** The text so far, where there is no conversation. */
    this.text = '';
    this.#listen();
    this.#offerOpenings();
    this.#enable();
    if (matchMedia('(max-width: 760px)').matches) $('writer-settings').open = false;
  }

  get isChat() {
    return Boolean(this.writer?.template) && document.querySelector('input[name=writer-mode]:checked').value === 'chat';
  }

  #listen() {
    const on = (id, event, then) => $(id).addEventListener(event, then);
    on('writer-form', 'submit', event => {
      event.preventDefault();
      this.write($('writer-prompt').value);
    });
    on('writer-prompt', 'keydown', event => {
      if (event.key !== 'Enter' || !(event.ctrlKey || event.metaKey) || event.isComposing) return;
      event.preventDefault();
      $('writer-form').requestSubmit();
    });
    on('writer', 'keydown', event => {
      if (event.key === 'Escape' && this.abort) this.stop();
    });
    on('writer-stop', 'click', () => this.stop());
    on('writer-cancel', 'click', () => this.stop());
    on('writer-more', 'click', () => this.write(this.text, { further: true }));
    on('writer-clear', 'click', () => this.clear());
    for (const radio of document.querySelectorAll('input[name=writer-mode]')) radio.addEventListener('change', () => this.clear());
    on('writer-own', 'submit', event => {
      event.preventDefault();
      const address = $('writer-url').value;
      this.use(() => checkpointAt(address, { signal: this.abort?.signal }));
    });
    for (const id of ['writer-folder', 'writer-files']) {
      on(id, 'change', ({ target }) => {
        const files = [...target.files];
        target.value = '';
        if (files.length) this.use(async () => checkpointIn(files));
      });
    }
    on('writer-own-box', 'toggle', () => this.#showKept());
    on('writer-forget', 'click', async () => {
      await cache.clear().catch(error => showError($('writer-error'), error));
      this.#showKept();
    });
    on('writer-embedded', 'click', () => this.use(null));
    on('writer-precision', 'change', () => { if (this.writer) this.use(this.source); });
  }

  #offerOpenings() {
    $('writer-prompt').value = OPENINGS[0];
    $('writer-openings').append(...OPENINGS.map(text => {
      const button = Object.assign(document.createElement('button'), { type: 'button', textContent: `${text} …` });
      button.addEventListener('click', () => {
        $('writer-prompt').value = text;
        if (!this.abort) $('writer-form').requestSubmit();
      });
      const item = document.createElement('li');
      item.append(button);
      return item;
    }));
  }

  /** What can be done now. */
  #enable() {
    const busy = this.abort !== null;
    $('writer-go').disabled = busy;
    $('writer-stop').disabled = !busy;
    $('writer-more').disabled = busy || this.isChat || !this.text;
    $('writer-more').hidden = this.isChat;
    $('writer-clear').disabled = busy || !(this.text || this.messages.length);
    $('writer-modes').hidden = !this.writer?.template;
    $('writer-modes').disabled = busy;
    $('writer-openings').hidden = this.isChat || this.source !== null;
    $('writer-embedded').hidden = this.source === null;
    $('writer-embedded').disabled = busy;
    $('writer-precision').disabled = busy;
    $('writer-prompt-label').textContent = this.isChat ? 'Your message' : 'The beginning';
    $('writer-go').textContent = this.isChat ? 'Send' : 'Write';
  }

  say(text) {
    $('writer-status').textContent = text;
  }

  /** How much of the disk downloads take. Where the browser keeps nothing there is nothing to show. */
  async #showKept() {
    const kept = await cache.list().catch(() => []);
    const bytes = kept.reduce((sum, file) => sum + file.bytes, 0);
    $('writer-kept').textContent = bytes ? `${formatBytes(bytes)} in ${kept.length === 1 ? 'one file' : `${kept.length} files`}` : '';
    $('writer-forget').hidden = !bytes;
  }

  stop() {
    this.abort?.abort();
  }

  clear() {
    this.messages = [];
    this.text = '';
    $('writer-output').replaceChildren(this.empty);
    showError($('writer-error'));
    this.say('');
    this.meters.speed();
    if (this.isChat) $('writer-prompt').value = '';
    this.#enable();
  }

  /**
   * One thing at a time, which can be stopped: loading, or writing.
   * @param {(signal: AbortSignal) => Promise<void>} task
   * @param {{ intro: string, stopped: string, retry: () => void }} words For what goes wrong.
   */
  async #run(task, { intro, stopped, retry }) {
    const abort = this.abort = new AbortController();
    showError($('writer-error'));
    this.#enable();
    try {
      await task(abort.signal);
    } catch (error) {
      this.say(isAbort(error) ? stopped : '');
      if (!isAbort(error)) showError($('writer-error'), error, { intro, retry });
    } finally {
      if (this.abort === abort) this.abort = null;
      this.#enable();
    }
  }

  /**
   * Loads another model, or the same one in another precision.
   * @param {WriterPanel['source']} source
   */
  async use(source) {
    if (this.abort) return;
    this.source = source;
    this.writer?.dispose();
    this.writer = null;
    this.clear();
    this.meters.show(null);
    $('writer-facts').replaceChildren();
    $('writer-lead').textContent = this.lead;
    await this.#run(signal => this.#load(signal), { intro: 'The model could not be loaded.', stopped: 'Loading was cancelled.', retry: () => this.use(source) });
  }

  /** @param {AbortSignal} signal */
  async #load(signal) {
    this.progress.start('looking at its files');
    this.say('Loading the model.');
    const began = performance.now();
    try {
      const checkpoint = this.source ? await this.source() : STORY_TELLER;
      let note = '';
      const writer = await Writer.load(checkpoint, {
        precision: $('writer-precision').value || undefined, worker: true, signal, onProgress: progress => this.progress.update(progress),
        cache: this.source !== null && $('writer-keep').checked && { warn: error => { note = ` ${error.message}.`; } },
      });
      if (signal.aborted) {
        writer.dispose();
        signal.throwIfAborted();
      }
      this.writer = writer;
      this.meters.show(writer);
      if (this.source) $('writer-lead').textContent = `${writer.name}, a ${writer.kind}, goes on from your words. It stays on this machine, and so does what you write.`;
      this.#showFacts(writer, performance.now() - began);
      this.say(`${writer.name} is loaded.${note}`);
    } finally {
      this.progress.end();
      if (this.source) this.#showKept();
    }
  }

  #showFacts({ name, kind, config, model, parameters, precision }, milliseconds) {
    const facts = [
      ['Model', name], ['Kind', kind], ['Parameters', (parameters / 1e6).toFixed(parameters < 1e7 ? 2 : 0) + ' M'], ['Layers', config.num_hidden_layers], ['Width', config.hidden_size],
      ...(config.n_routed_experts ? [['Experts', `${config.num_experts_per_tok} of ${config.n_routed_experts}`]] : []),
      ['Vocabulary', config.vocab_size.toLocaleString('en')], ['Weights', precision ?? 'as in the file'], ['Build', formatBuild(model.engine)], ['Loaded in', formatTime(milliseconds)],
    ];
    $('writer-facts').replaceChildren(...facts.map(([term, value]) => {
      const row = document.createElement('div');
      row.append(Object.assign(document.createElement('dt'), { textContent: term }), Object.assign(document.createElement('dd'), { textContent: value }));
      return row;
    }));
  }

  /**
   * @param {string} prompt
   * @param {{ further?: boolean }} [options] further: the prompt is the text that stands there; it goes on in its place.
   */
  async write(prompt, { further = false } = {}) {
    const options = this.settings.read();
    if (this.abort || !options || !prompt) return;
    await this.#run(async signal => {
      if (!this.writer) await this.#load(signal);
      $('writer-output').setAttribute('aria-busy', 'true');
      try {
        await this.#stream(prompt, { ...options, signal }, further);
      } finally {
        $('writer-output').removeAttribute('aria-busy');
      }
    }, { intro: this.writer ? 'The model stopped writing.' : 'The model could not be loaded.', stopped: this.writer ? 'Stopped.' : 'Loading was cancelled.', retry: () => this.write(prompt, { further }) });
  }

  /** @param {string} prompt @param {object} options @param {boolean} further */
  async #stream(prompt, options, further) {
    const { writer, isChat } = this;
    const { seed, maxTokens } = options;
    const output = this.#place(prompt, isChat, further);
    let timing;
    let answer = '';
    let shown = 0;
    const show = () => {
      shown = 0;
      const atEnd = output.scroller.scrollHeight - output.scroller.scrollTop - output.scroller.clientHeight < 40;
      output.written.textContent = output.before + answer;
      if (atEnd) output.scroller.scrollTop = output.scroller.scrollHeight;
      this.meters.speed(timing);
      this.meters.show(writer);
    };
    const given = { ...options, onTiming: now => { timing = now; } };
    this.say('Writing …');
    try {
      for await (const piece of isChat ? writer.answer(this.messages, given) : writer.continue(prompt, given)) {
        answer += piece;
        shown ||= requestAnimationFrame(show);   // as often as the screen is painted
      }
      this.say(`${timing && timing.decode.tokens + 1 >= maxTokens ? `${maxTokens} tokens` : 'The end'}. Seed ${seed}.`);
    } finally {
      cancelAnimationFrame(shown);
      show();
      if (!isChat) this.text = prompt + answer;
      else if (answer) this.messages.push({ role: 'assistant', content: answer });
      else this.#takeBack(prompt);
    }
  }

  /** A message that has got no answer goes back to where it was written. @param {string} prompt */
  #takeBack(prompt) {
    this.messages.pop();
    for (const passage of [...$('writer-output').querySelectorAll('.passage')].slice(-2)) passage.remove();
    $('writer-prompt').value ||= prompt;
  }

  /** Where the new words go. @param {string} prompt @param {boolean} isChat @param {boolean} further */
  #place(prompt, isChat, further) {
    const scroller = $('writer-output');
    const last = scroller.querySelector('.passage:last-child .written');
    if (further && last) return { scroller, written: last, before: last.textContent };
    if (!isChat) scroller.replaceChildren();
    this.empty.remove();
    const { box, written } = entry(isChat ? 'assistant' : 'text', isChat ? '' : prompt);
    if (isChat) {
      this.messages.push({ role: 'user', content: prompt });
      scroller.append(entry('user', prompt).box);
      $('writer-prompt').value = '';
    }
    scroller.append(box);
    scroller.scrollTop = scroller.scrollHeight;
    return { scroller, written, before: '' };
  }
}
