/**
 * A language model that writes: the page's panel and the Node job in serve.mjs share this file.
 */
import { cache as downloads, chat, compile, complete, models, text } from '../js/index.js';
import { readText } from './language-checkpoint.js';

/** @typedef {import('./language-checkpoint.js').LanguageCheckpoint} LanguageCheckpoint */
/** @typedef {import('./language-checkpoint.js').GgufCheckpoint} GgufCheckpoint */

/** By a config.json's model_type: its classes, and what people call it. */
const KINDS = {
  deepseek_v2: [models.DeepseekV2Config, models.DeepseekV2ForCausalLM, 'DeepSeek-V2'],
  deepseek_v3: [models.DeepseekV2Config, models.DeepseekV2ForCausalLM, 'DeepSeek-V3'],
  llama: [models.LlamaConfig, models.LlamaForCausalLM, 'Llama'],
  mistral: [models.LlamaConfig, models.LlamaForCausalLM, 'Mistral'],
};
/** Tokens of context where a model would take more: caches take memory for all of them at once. */
const MOST_CONTEXT = 4096;

/** @typedef {import('./language-checkpoint.js').Access} Access */

/** @param {string | URL | File} source @param {Access} access */
async function readJson(source, access) {
  const text = await readText(source, access);
  try {
    return JSON.parse(text);
  } catch {
    if (access.cache) await downloads.remove(source);
    throw new Error(`${source instanceof Blob ? source.name : source} is not JSON, so no config.json of a model`);
  }
}

/** @param {LanguageCheckpoint} checkpoint @param {Access} access */
async function openFolder({ config: file, weights, tokenizer, template }, access) {
  const json = await readJson(file, access);
  const type = json.model_type ?? 'llama';
  if (!Object.hasOwn(KINDS, type)) throw new Error(`config.json describes a "${type}"; what can be run here: ${Object.keys(KINDS).join(', ')}.`);
  const [Config, Class, kind] = KINDS[type];
  const config = await Config.fromPretrained(json);
  return { kind, module: new Class(config), config, weights, tokenizer, template: await template(access) };
}

/** @param {GgufCheckpoint} checkpoint @param {Access} access */
async function openGguf({ gguf }, access) {
  const { module, config, weights } = await models.fromGGUF(gguf, access);
  const kind = config instanceof models.LlamaConfig ? 'Llama, GGUF' : 'DeepSeek-V2, GGUF';
  const found = JSON.parse(await weights.neighbour('tokenizer_config.json').text());
  return { kind, module, config, weights, tokenizer: weights.neighbour('tokenizer.json'), template: found.chat_template ? found : null };
}

/** A model with its tokenizer and one sequence that it continues. `Writer.load` makes one. */
export class Writer {
  /**
   * @param {LanguageCheckpoint | GgufCheckpoint} checkpoint
   * @param {object} [options]
   * @param {'f32' | 'f16' | 'q8' | 'q4'} [options.precision] default: as the checkpoint has them
   * @param {any} [options.cache] what compile takes as cache, for all files that have an address
   * @param {boolean} [options.worker] run the engine in a worker; default false
   * @param {(progress: { loaded: number, total: number }) => void} [options.onProgress] bytes of weights so far and in all
   * @param {AbortSignal} [options.signal] stops the loading
   * @returns {Promise<Writer>}
   */
  static async load(checkpoint, { precision, cache = false, worker = false, onProgress, signal } = {}) {
    const { name } = checkpoint;
    const access = { signal, cache };
    const { kind, module, config, weights, tokenizer: tokenizerFile, template } = await ('gguf' in checkpoint ? openGguf(checkpoint, access) : openFolder(checkpoint, access));
    const tokenizer = await text.loadTokenizer(tokenizerFile, access);
    const model = await compile(module, { weights, precision, worker, onProgress, signal, tokenizer, cache });
    const writer = new Writer({ name, kind, config, model, tokenizer, template, precision });
    try {
      writer.session = await model.session({ context: writer.context });
      return writer;
    } catch (error) {
      model.dispose();
      throw error;
    }
  }

  constructor({ name, kind, config, model, tokenizer, template, precision }) {
    Object.assign(this, { name, kind, config, model, tokenizer, template, precision });
    /** @type {import('../js/index.js').Session | null} */
    this.session = null;
    this.context = Math.min(config.max_position_embeddings, MOST_CONTEXT);
    /** Of the weights, each once. */
    this.parameters = [...new Set(model.module.stateDict().values())].reduce((sum, { shape }) => sum + shape.reduce((product, size) => product * size, 1), 0);
    /** What texts begin with for the model, where the tokenizer does not put it there itself. */
    this.begin = tokenizer.encode('').length || !(config.bos_token_id < tokenizer.vocabSize) ? '' : tokenizer.decode([config.bos_token_id ?? []].flat(), { skipSpecialTokens: false });
    /** Tokens that end a text. */
    this.ends = [config.eos_token_id ?? []].flat().filter(id => id >= 0 && id < tokenizer.vocabSize);
  }

  /**
   * Goes on from a text. What the session has seen of its beginning is not computed again.
   * @param {string} prompt
   * @param {import('../js/generation.js').CompleteOptions} options
   */
  continue(prompt, options) {
    return complete(this.session, this.begin + prompt, { ...options, stop: this.ends });
  }

  /**
   * Answers in a conversation; for models with a template.
   * @param {{ role: string, content: string }[]} messages
   * @param {import('../js/generation.js').ChatOptions} options
   */
  answer(messages, options) {
    return chat(this.session, messages, { ...options, template: this.template, stop: this.ends });
  }

  dispose() {
    this.model.dispose();
  }
}
