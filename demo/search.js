/**
 * Free-text search over the emoji: the text tower's embedding of what is typed, against those of the emoji's names. The page and
 * demo/train/search.mjs, which measures it, share this file.
 */
import { compile, models } from '../js/index.js';

/** @typedef {{ emoji: string, name: string, cosine: number }} Found */

const UNKNOWN = '<unk>';

/** The text tower with the emoji. `EmojiSearch.load` makes one. */
export class EmojiSearch {
  /**
   * Loads the text tower alone, 1.4 MB of the checkpoint's 7.8 where the server answers byte ranges, and its tokenizer.
   * @param {URL} folder holds model.safetensors and tokenizer.json
   * @param {object} options
   * @param {object} options.config of the model: config.json
   * @param {{ emoji: string, name: string }[]} options.labels
   * @param {Float32Array} options.embeddings [labels, embed_dim], each of length 1
   * @param {(progress: { loaded: number, total: number }) => void} [options.onProgress] bytes of weights so far and in all
   * @returns {Promise<EmojiSearch>}
   */
  static async load(folder, { config, labels, embeddings, onProgress }) {
    // So small that neither a worker nor threads would gain anything.
    const model = await compile(new models.CLIP(config), { weights: new URL('model.safetensors', folder), methods: ['encodeText'], threads: 1, onProgress });
    return new EmojiSearch({ model, tokenizer: await model.tokenizer(), labels, embeddings });
  }

  constructor({ model, tokenizer, labels, embeddings }) {
    Object.assign(this, { model, tokenizer, labels, embeddings });
  }

  /**
   * Whether the model was taught any part of a text.
   * @param {string} query
   */
  knows(query) {
    const unknown = this.tokenizer.idOf(UNKNOWN);
    return this.tokenizer.encode(query, { addSpecialTokens: false }).some(id => id !== unknown);
  }

  /**
   * @param {string} query
   * @param {{ count?: number }} [options] count: how many emoji, default 12
   * @returns {Promise<{ found: Found[], milliseconds: number }>} best first
   */
  async search(query, { count = 12 } = {}) {
    const started = performance.now();
    const { data } = await this.model.encodeText(query, { normalize: true });
    const cosines = this.labels.map((_, row) => data.reduce((sum, x, i) => sum + x * this.embeddings[row * data.length + i], 0));
    const best = [...cosines.keys()].sort((a, b) => cosines[b] - cosines[a]).slice(0, count);
    const found = best.map(i => ({ emoji: this.labels[i].emoji, name: this.labels[i].name, cosine: cosines[i] }));
    return { found, milliseconds: performance.now() - started };
  }
}
