/**
 * The second panel: loads any open_clip ResNet checkpoint, embeds two pictures with it and compares them.
 */
import { compile, image, models, safetensors } from '../js/index.js';
import { cosineSimilarity, inferResNet } from './checkpoint.js';
import { formatBuild, formatTime } from './format.js';
import { isAbort, Progress, showError } from './notices.js';
import { PictureInput } from './picture-input.js';

const SHOWN_VALUES = 8;
const $ = id => document.getElementById(id);

/** Fills a dl with pairs of a term and its text. */
function renderFacts(list, facts) {
  list.replaceChildren(...facts.map(([term, text]) => {
    const row = document.createElement('div');
    const dt = Object.assign(document.createElement('dt'), { textContent: term });
    const dd = Object.assign(document.createElement('dd'), { textContent: text });
    row.append(dt, dd);
    return row;
  }));
}

/** One of the two pictures with its embedding. */
class Slot {
  /** @param {string} letter @param {HTMLTemplateElement} template @param {(slot: Slot) => void} onPicture */
  constructor(letter, template, onPicture) {
    this.letter = letter;
    this.element = /** @type {DocumentFragment} */ (template.content.cloneNode(true)).firstElementChild;
    this.element.querySelector('h3').textContent = `Picture ${letter}`;
    this.box = this.element.querySelector('.embedding');
    this.input = new PictureInput(this.element.querySelector('.dropzone'), picture => {
      this.picture = picture;
      onPicture(this);
    });
    this.input.input.setAttribute('aria-label', `Picture ${letter}`);
    this.input.img.alt = `Picture ${letter}`;
    this.element.querySelector('[data-action=copy]').addEventListener('click', event => this.copy(event.currentTarget));
    this.element.querySelector('[data-action=download]').addEventListener('click', () => this.download());
    /** @type {Blob | null} */
    this.picture = null;
    /** @type {Float32Array | null} */
    this.embedding = null;
  }

  /** @param {Float32Array | null} embedding @param {number} [milliseconds] */
  show(embedding, milliseconds = 0) {
    this.embedding = embedding;
    this.box.hidden = !embedding;
    if (!embedding) return;
    renderFacts(this.box.querySelector('.facts'), [
      ['Dimension', String(embedding.length)],
      ['Norm', Math.hypot(...embedding).toFixed(4)],
      ['Time', formatTime(milliseconds)],
    ]);
    const first = Array.from(embedding.subarray(0, SHOWN_VALUES), value => value.toFixed(4)).join(', ');
    this.box.querySelector('.values').textContent = `[${first}${embedding.length > SHOWN_VALUES ? ', …' : ''}]`;
  }

  json() {
    return JSON.stringify(Array.from(this.embedding));
  }

  async copy(button) {
    try {
      await navigator.clipboard.writeText(this.json());
      button.textContent = 'Copied';
    } catch {
      button.textContent = 'Not allowed: use Download';
    }
    setTimeout(() => { button.textContent = 'Copy as JSON'; }, 2000);
  }

  download() {
    const url = URL.createObjectURL(new Blob([this.json()], { type: 'application/json' }));
    Object.assign(document.createElement('a'), { href: url, download: `embedding-${this.letter}.json` }).click();
    setTimeout(() => URL.revokeObjectURL(url), 1000);
  }
}

export class CheckpointPanel {
  constructor() {
    this.progress = new Progress($('checkpoint-loading'), $('checkpoint-progress'), $('checkpoint-progress-text'));
    this.slots = ['A', 'B'].map(letter => new Slot(letter, $('slot-template'), slot => this.embed(slot)));
    $('pair').append(...this.slots.map(slot => slot.element));
    $('checkpoint-form').addEventListener('submit', event => {
      event.preventDefault();
      this.load($('checkpoint-url').value);
    });
    $('checkpoint-file').addEventListener('change', event => {
      const [file] = event.target.files;
      if (file) this.load(file);
      event.target.value = '';
    });
    $('checkpoint-cancel').addEventListener('click', () => this.abort?.abort());
    /** @type {import('../js/index.js').Model | null} */
    this.model = null;
    /** @type {AbortController | null} */
    this.abort = null;
  }

  /** @param {string | File} source the address or the file of a checkpoint */
  async load(source) {
    this.abort?.abort();
    const abort = this.abort = new AbortController();
    const { signal } = abort;
    showError($('checkpoint-error'));
    this.unload();
    this.progress.start('reading the header');
    this.say('Loading the checkpoint.');
    let weights = null;
    try {
      const started = performance.now();
      weights = await safetensors.open(source, { signal });
      const { prefix, options } = inferResNet(weights);
      const model = await compile(new models.ModifiedResNet(options), {
        weights, prefix, worker: true, signal, onProgress: progress => this.progress.update(progress),
      });
      if (signal.aborted) return model.dispose();
      this.model = model;
      this.size = options.imageSize;
      this.showFacts(options, prefix, model.engine, performance.now() - started);
      for (const slot of this.slots) if (slot.picture) this.embed(slot);
    } catch (error) {
      if (abort !== this.abort) return; // a newer load has taken over the panel
      if (isAbort(error)) this.say('Loading was cancelled.');
      else showError($('checkpoint-error'), error, { intro: 'The checkpoint could not be loaded.', retry: () => this.load(source) });
    } finally {
      weights?.close();
      if (abort === this.abort) {
        this.abort = null;
        this.progress.end();
      }
    }
  }

  unload() {
    this.model?.dispose();
    this.model = null;
    $('checkpoint-ready').hidden = true;
    for (const slot of this.slots) slot.show(null);
    this.compare();
  }

  say(text) {
    $('checkpoint-status').textContent = text;
  }

  showFacts({ layers, outputDim, heads, imageSize, width, useSe, layerNorm }, prefix, build, milliseconds) {
    renderFacts($('checkpoint-facts'), [
      ['Layers', layers.join(', ')],
      ['Width', String(width)],
      ['Heads', String(heads)],
      ['Picture', `${imageSize} × ${imageSize}`],
      ['Embedding', String(outputDim)],
      ['Squeeze and excitation', useSe ? 'yes' : 'no'],
      ['LayerNorm in the pool', layerNorm ? 'yes' : 'no'],
      ['Prefix', prefix || 'none'],
      ['Build', formatBuild(build)],
      ['Loaded in', formatTime(milliseconds)],
    ]);
    $('checkpoint-ready').hidden = false;
    this.say(`The checkpoint is loaded: embeddings of ${outputDim} numbers. Choose two pictures.`);
  }

  /** @param {Slot} slot */
  async embed(slot) {
    const { model } = this;
    const { picture } = slot;
    if (!model) return;
    showError($('checkpoint-error'));
    try {
      const tensor = await image.toTensor(picture, { size: this.size, worker: true });
      const started = performance.now();
      const embedding = await model.forward(tensor);
      if (model !== this.model || picture !== slot.picture) return;
      slot.show(embedding.data, performance.now() - started);
      this.compare();
    } catch (error) {
      if (model !== this.model) return;
      slot.show(null);
      this.compare();
      showError($('checkpoint-error'), error, { intro: `Picture ${slot.letter} could not be embedded.`, retry: () => this.embed(slot) });
    }
  }

  compare() {
    const [a, b] = this.slots.map(slot => slot.embedding);
    const similarity = a && b ? cosineSimilarity(a, b) : null;
    $('similarity-meter').value = similarity ?? 0;
    $('similarity-value').textContent = similarity === null ? 'needs two pictures' : similarity.toFixed(4);
  }
}
