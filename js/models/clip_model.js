import { badArgument, boolean, show } from '../arguments.js';
import { LamellaError } from '../errors.js';
import { Model } from '../model.js';
import { Tensor } from '../tensor.js';
import { loadTokenizer } from '../text/tokenizer.js';
import { idRows, tokenize, untilEnd } from './clip_tokens.js';

/** @import { ModelInput } from '../inputs.js' */
/** @import { Tokenizer } from '../text/tokenizer.js' */
/** @typedef {{ normalize?: boolean, signal?: AbortSignal | null }} EncodeOptions `normalize` (false): embeddings of length 1. */
/** @typedef {string | ((label: string) => string)} Template 'a photo of a {}.', or a function of the label. */
/** @typedef {{ label: string, probability: number }} Ranked */
/**
 * Texts, or token ids: sequences of at most the context length, each ending with the largest id (what follows that does not matter).
 * @typedef {string | readonly string[] | import('./clip_tokens.js').TokenIds} TextInput
 */

/** Pictures that are computed at once; more need more memory and are no faster. */
const PICTURES = 8;
/** Tokens that are computed at once. */
const TOKENS = 1024;

/** A compiled CLIP. Made by `compile(new models.CLIP(...))`. */
export class CLIPModel extends Model {
  #source;
  #neighbour;
  #cache;
  /** @type {Promise<Tokenizer> | null} */
  #tokenizer = null;
  /** Label embeddings that the last zeroShot compared with. @type {{ key: string, rows: Float32Array[] } | null} */
  #labels = null;

  /**
   * @param {import('../model.js').AnyRunner} runner
   * @param {any} description Of Model; `tokenizer` of compile; `neighbour`, where a file beside the checkpoint lies; `cache`, how such files are kept.
   */
  constructor(runner, description) {
    super(runner, description);
    this.#source = description.tokenizer;
    this.#neighbour = description.neighbour;
    this.#cache = description.cache;
  }

  /** @type {import('./clip.js').CLIP} */
  get #clip() {
    return /** @type {any} */ (this.module);
  }

  /**
   * The tokenizer: compile's, or the `tokenizer.json` beside the checkpoint, loaded when it is first asked for.
   * @param {{ signal?: AbortSignal | null }} [options]
   * @returns {Promise<Tokenizer>}
   * @throws {LamellaError} 'tokenizer' when there is none, or it has another number of tokens than the model.
   */
  async tokenizer({ signal = null } = {}) {
    this.#tokenizer ??= this.#loadTokenizer(signal);
    this.#tokenizer.catch(() => { this.#tokenizer = null; });
    return this.#tokenizer;
  }

  /** @param {AbortSignal | null} signal */
  async #loadTokenizer(signal) {
    const advice = 'pass compile(..., { tokenizer: "tokenizer.json" }), or token ids instead of strings';
    const source = this.#source ?? this.#neighbour?.('tokenizer.json');
    if (source === undefined) throw new LamellaError('tokenizer', `CLIP: strings need a tokenizer: ${advice}`);
    const tokenizer = await loadTokenizer(source, { cache: this.#cache, signal }).catch((error) => {
      if (this.#source !== undefined || !(error instanceof LamellaError)) throw error;
      throw new LamellaError('tokenizer', `CLIP: strings need a tokenizer, and there is none beside the checkpoint (${error.message}): ${advice}`, { path: error.path, cause: error });
    });
    const { vocabSize } = this.#clip.settings.text;
    if (tokenizer.vocabSize !== vocabSize) {
      throw new LamellaError('tokenizer', `CLIP: the tokenizer has ${tokenizer.vocabSize} tokens but text_cfg.vocab_size is ${vocabSize}: they are not of one model`);
    }
    return tokenizer;
  }

  /**
   * Embeddings of pictures.
   * @param {ModelInput} images A picture or a list of pictures (what image.toTensor takes), or a Tensor [n, 3, imageSize, imageSize].
   * @param {EncodeOptions} [options]
   * @returns {Promise<Tensor>} [n, embedDim]
   */
  async encodeImage(images, { normalize = false, signal = null } = {}) {
    boolean('encodeImage: normalize', normalize);
    const list = /** @type {any} */ (images);
    const isMany = Array.isArray(list) && list.length > PICTURES && !Array.isArray(list[0]) && typeof list[0] !== 'number';
    const parts = isMany ? Array.from({ length: Math.ceil(list.length / PICTURES) }, (_, i) => list.slice(i * PICTURES, (i + 1) * PICTURES)) : [images];
    const done = [];
    for (const part of parts) done.push(.../** @type {Float32Array[]} */ (rows(await this.call('encodeImage', part, { signal: signal ?? undefined }))));
    return this.#joined(done, normalize);
  }

  /**
   * Embeddings of texts.
   * @param {TextInput} texts
   * @param {EncodeOptions} [options]
   * @returns {Promise<Tensor>} [n, embedDim]
   * @throws {LamellaError} 'argument': an id outside the vocabulary, a sequence longer than the context; 'tokenizer': strings without one.
   */
  async encodeText(texts, { normalize = false, signal = null } = {}) {
    boolean('encodeText: normalize', normalize);
    const sequences = (await this.#sequences(texts, signal)).map(untilEnd);
    // The longest first, so that sequences computed together are about equally long.
    const order = [...sequences.keys()].sort((a, b) => sequences[b].length - sequences[a].length);
    /** @type {Float32Array[]} */
    const done = [];
    for (let at = 0; at < order.length;) {
      const longest = sequences[order[at]].length;
      const chosen = order.slice(at, at + Math.max(1, Math.floor(TOKENS / longest)));
      at += chosen.length;
      const ids = new Int32Array(chosen.length * longest);
      chosen.forEach((i, row) => ids.set(sequences[i], row * longest));
      const positions = Int32Array.from({ length: longest }, (_, i) => i);
      const features = rows(await this.call('encodeText', new Tensor(ids, [chosen.length, longest]), positions, { signal: signal ?? undefined }));
      chosen.forEach((i, row) => { done[i] = features[row]; });
    }
    return this.#joined(done, normalize);
  }

  /**
   * @param {TextInput} texts
   * @param {AbortSignal | null} signal
   * @returns {Promise<Int32Array[]>}
   */
  async #sequences(texts, signal) {
    const { contextLength, vocabSize } = this.#clip.settings.text;
    const list = typeof texts === 'string' ? [texts] : texts;
    if (Array.isArray(list) && !list.length) throw badArgument('encodeText: texts', 'a text, texts or token ids', texts);
    if (!Array.isArray(list) || typeof list[0] !== 'string') return idRows(/** @type {any} */ (list), contextLength, vocabSize);
    list.forEach((text, i) => { if (typeof text !== 'string') throw badArgument(`encodeText: texts[${i}]`, 'a string, like the first', text); });
    const tokenizer = await this.tokenizer({ signal });
    return list.map((text) => tokenize(tokenizer, text, contextLength));
  }

  /**
   * Both embeddings, of length 1, and what their cosines are multiplied by before a softmax, as open_clip's forward returns them.
   * @param {...any} inputs Pictures as of encodeImage, texts as of encodeText, and options `{ signal }`.
   * @returns {Promise<{ imageFeatures: Tensor, textFeatures: Tensor, logitScale: Tensor }>} [n, embedDim], [m, embedDim], []
   */
  async forward(...inputs) {
    if (this.methods.includes('forward')) return super.forward(...inputs);   // compiled with inputs of its own
    const [images, texts, { signal = null } = {}] = inputs;
    const options = { normalize: true, signal };
    return { imageFeatures: await this.encodeImage(images, options), textFeatures: await this.encodeText(texts, options), logitScale: await this.call('logitScale') };
  }

  /**
   * How likely each label describes each picture: softmax of scale * cosine over the labels.
   *
   *     const [ranking] = await clip.zeroShot(picture, ['cat', 'dog'], { templates: ['a photo of a {}.', 'a drawing of a {}.'] });
   *
   * @param {ModelInput} images As of encodeImage.
   * @param {readonly string[]} labels At least one. Their embeddings are kept for the next call with the same labels and templates.
   * @param {{ templates?: Template | readonly Template[], signal?: AbortSignal | null }} [options] `templates` ('a photo of a {}.'): what a label is put into; of
   *   several the mean embedding counts.
   * @returns {Promise<Ranked[][]>} For each picture every label with its probability, the likeliest first.
   */
  async zeroShot(images, labels, { templates = 'a photo of a {}.', signal = null } = {}) {
    if (!Array.isArray(labels) || !labels.length) throw badArgument('zeroShot: labels', 'a list of texts', labels);
    const pictures = rows(await this.encodeImage(images, { normalize: true, signal }));
    const texts = await this.#labelRows(labels, [templates].flat(), signal);
    const [scale] = (await this.call('logitScale')).data;
    return pictures.map((picture) => {
      const probabilities = softmax(texts.map((text) => scale * dot(picture, text)));
      return labels.map((label, i) => ({ label, probability: probabilities[i] })).sort((a, b) => b.probability - a.probability);
    });
  }

  /**
   * An embedding of length 1 for each label.
   * @param {readonly string[]} labels
   * @param {Template[]} templates
   * @param {AbortSignal | null} signal
   * @returns {Promise<Float32Array[]>}
   */
  async #labelRows(labels, templates, signal) {
    if (!templates.length) throw badArgument('zeroShot: templates', 'at least one', templates);
    const texts = labels.flatMap((label, i) => templates.map((template) => filled(template, label, i)));
    const key = JSON.stringify(texts);
    if (this.#labels?.key === key) return this.#labels.rows;
    const features = rows(await this.encodeText(texts, { normalize: true, signal }));
    const sums = labels.map((_, i) => features.slice(i * templates.length, (i + 1) * templates.length).reduce((sum, row) => sum.map((x, j) => x + row[j])));
    sums.forEach(toUnitLength);
    this.#labels = { key, rows: sums };
    return sums;
  }

  /**
   * @param {Float32Array[]} features
   * @param {boolean} normalize
   */
  #joined(features, normalize) {
    const { embedDim } = this.#clip.settings;
    const data = new Float32Array(features.length * embedDim);
    features.forEach((row, i) => data.set(normalize ? toUnitLength(row) : row, i * embedDim));
    return new Tensor(data, [features.length, embedDim]);
  }
}

/** The rows of a matrix. @param {Tensor} matrix @returns {Float32Array[]} */
function rows({ data, shape: [count, width] }) {
  return Array.from({ length: count }, (_, i) => /** @type {Float32Array} */ (data).subarray(i * width, (i + 1) * width));
}

/** @param {Float32Array} a @param {Float32Array} b */
const dot = (a, b) => a.reduce((sum, x, i) => sum + x * b[i], 0);

/** x / max(|x|, 1e-12), in place. @param {Float32Array} x */
function toUnitLength(x) {
  const length = Math.max(Math.sqrt(dot(x, x)), 1e-12);
  for (let i = 0; i < x.length; i++) x[i] /= length;
  return x;
}

/** @param {number[]} x */
function softmax(x) {
  const largest = x.reduce((a, b) => Math.max(a, b));
  const powers = x.map((value) => Math.exp(value - largest));
  const sum = powers.reduce((a, b) => a + b);
  return powers.map((value) => value / sum);
}

/** @param {Template} template @param {unknown} label @param {number} i */
function filled(template, label, i) {
  if (typeof label !== 'string') throw badArgument(`zeroShot: labels[${i}]`, 'a string', label);
  if (typeof template === 'string' && template.includes('{}')) return template.replaceAll('{}', () => label);
  const text = typeof template === 'function' ? template(label) : undefined;
  if (typeof text === 'string') return text;
  throw badArgument('zeroShot: templates', `'a photo of a {}.' or a function from a label to a text`, typeof template === 'function' ? `a function that returned ${show(text)}` : template);
}
