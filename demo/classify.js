/**
 * The embedded model: a small CLIP whose labels are emoji. The page and the Node job in serve.mjs share this file.
 */
import { compile, image, models, safetensors } from '../js/index.js';

/** @typedef {{ emoji: string, name: string, score: number }} Ranked a label and its probability, 0 to 1 */

/** Reads a JSON file next to the model, in the page by HTTP and in Node from the disk. */
async function readJson(url, signal) {
  if (url.protocol === 'file:') {
    const { readFile } = await import('node:fs/promises');
    return JSON.parse(await readFile(url, 'utf8'));
  }
  const response = await fetch(url, { signal });
  if (!response.ok) throw new Error(`${url.pathname} could not be read: HTTP ${response.status} ${response.statusText}`);
  return response.json();
}

/** x / |x|, in place. */
function normalise(x) {
  const length = Math.hypot(...x);
  for (let i = 0; i < x.length; i++) x[i] /= length;
  return x;
}

/**
 * softmax(scale * <embedding, row>) over the rows of a matrix.
 * @param {Float32Array} embedding [d], any length
 * @param {Float32Array} rows [n, d], each of length 1
 * @param {number} scale exp(logit_scale) of the checkpoint
 * @returns {Float32Array} [n], sums to 1
 */
export function probabilities(embedding, rows, scale) {
  const query = normalise(Float32Array.from(embedding));
  const d = query.length;
  const scores = new Float32Array(rows.length / d);
  for (let i = 0; i < scores.length; i++) {
    let dot = 0;
    for (let j = 0; j < d; j++) dot += query[j] * rows[i * d + j];
    scores[i] = scale * dot;
  }
  const max = scores.reduce((a, b) => Math.max(a, b), -Infinity);
  let sum = 0;
  for (let i = 0; i < scores.length; i++) sum += scores[i] = Math.exp(scores[i] - max);
  return scores.map(score => score / sum);
}

/** An image tower with its labels. `Classifier.load` makes one. */
export class Classifier {
  /**
   * @param {URL} folder holds model.safetensors, config.json, labels.safetensors and labels.json
   * @param {object} [options]
   * @param {boolean} [options.worker] run the engine in a worker; default false
   * @param {(progress: { loaded: number, total: number }) => void} [options.onProgress] bytes of weights so far and in all
   * @param {AbortSignal} [options.signal] stops the loading
   * @returns {Promise<Classifier>}
   */
  static async load(folder, { worker = false, onProgress, signal } = {}) {
    const at = name => new URL(name, folder);
    const [config, labels, weights, labelWeights] = await Promise.all([
      readJson(at('config.json'), signal),
      readJson(at('labels.json'), signal),
      safetensors.open(at('model.safetensors'), { signal }),
      safetensors.open(at('labels.safetensors'), { signal }),
    ]);
    const { layers, width, heads, image_size: imageSize, use_se: useSe, layer_norm: layerNorm } = config.vision_cfg;
    const tower = new models.ModifiedResNet({ layers, outputDim: config.embed_dim, heads, imageSize, width, useSe, layerNorm });
    // In the order of the file, so that a server without byte ranges can send it as one stream.
    const logitScale = await weights.tensor('logit_scale');
    const model = await compile(tower, { weights, prefix: 'visual.', worker, onProgress, signal });
    const embeddings = await labelWeights.tensor('embedding');
    await Promise.all([weights.close(), labelWeights.close()]);
    return new Classifier({ config, labels, build: model.engine, model, worker, embeddings: embeddings.toFloat32(), scale: Math.exp(logitScale.toFloat32()[0]) });
  }

  constructor({ config, labels, build, model, worker, embeddings, scale }) {
    this.worker = worker;
    this.config = config;
    this.labels = labels;
    this.build = build;
    this.model = model;
    this.embeddings = embeddings;
    this.scale = scale;
  }

  /**
   * Ranks the labels for a picture.
   * @param {*} source any image source of `image.toTensor`; in Node encoded bytes
   * @param {{ count?: number }} [options] count: how many labels, default 10
   * @returns {Promise<{ labels: Ranked[], tensor: object, times: { preprocess: number, forward: number, rank: number } }>}
   *   best first; times in milliseconds; the tensor is the network's input, for `profile`
   */
  async classify(source, { count = 10 } = {}) {
    const started = performance.now();
    const { size, mean, std } = this.config.preprocess_cfg;
    const tensor = await image.toTensor(source, { size, mean, std, worker: this.worker });
    const prepared = performance.now();
    const embedding = await this.model.forward(tensor);
    const computed = performance.now();
    const scores = probabilities(embedding.data, this.embeddings, this.scale);
    const order = Array.from(scores.keys()).sort((a, b) => scores[b] - scores[a]).slice(0, count);
    const labels = order.map(i => ({ emoji: this.labels[i].emoji, name: this.labels[i].name, score: scores[i] }));
    const times = { preprocess: prepared - started, forward: computed - prepared, rank: performance.now() - computed };
    return { labels, tensor, times };
  }
}
