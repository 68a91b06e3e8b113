import { DeepseekV2ForCausalLM } from './deepseek_v2.js';
import { DeepseekV2Config } from './deepseek_v2_config.js';
import { LlamaConfig, LlamaForCausalLM } from './llama.js';

/** @import { SourceLike, SourceOptions } from '../weights/source.js' */
/** @import { GgufWeights } from '../gguf/gguf_weights.js' */

/**
 * The model that a GGUF file holds, as llama.cpp's converter writes them, of the architectures `llama` and `deepseek2`: its module, with the configuration from the
 * file's metadata, and its weights, for compile. Tokenizer and chat template are found in the file by `chat` and `complete`.
 *
 *     const { module, weights } = await models.fromGGUF('model-Q4_K_M.gguf');
 *     const model = await compile(module, { weights });
 *     const session = await model.session({ context: 2048 });
 *     for await (const piece of chat(session, [{ role: 'user', content: 'Hello' }])) write(piece);
 *
 * Tensors may be F32, F16, BF16, Q4_0, Q8_0, Q4_K and Q6_K. Without `precision` Q4_0 and Q4_K are kept as q4, Q8_0 and Q6_K as q8, F16 as f16 and the others as f32: js/MODELS.md says how near that is.
 *
 * @param {SourceLike | readonly SourceLike[]} source A URL of a server that answers range requests, a path (in Node), a File or Blob, bytes. A model in several files: a
 *   list of them, or the address or path of one, `model-00001-of-00003.gguf`, beside which the others lie.
 * @param {SourceOptions} [options] `signal`, `request`, `cache`: as of safetensors.open.
 * @returns {Promise<{ module: DeepseekV2ForCausalLM | LlamaForCausalLM, config: DeepseekV2Config | LlamaConfig, weights: GgufWeights }>}
 * @throws {LamellaError} 'gguf': it is none, or of an architecture or with settings that are not supported; 'truncated'; 'argument': its configuration contradicts itself; 'http', 'file'.
 */
export async function fromGGUF(source, options = {}) {
  const { openGguf } = await import('../gguf/gguf_weights.js');
  const weights = await openGguf(source, options);
  try {
    const fields = weights.config;
    const config = weights.architecture === 'llama' ? new LlamaConfig(fields) : new DeepseekV2Config(fields);
    const module = config instanceof LlamaConfig ? new LlamaForCausalLM(config) : new DeepseekV2ForCausalLM(config);
    return { module, config, weights };
  } catch (error) {
    await weights.close();
    throw error;
  }
}
