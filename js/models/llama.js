/** Llama, and Mistral, on the blocks of DeepSeek-V2: the same decoder with attention over grouped heads and no experts. */
import { badArgument, integer, show } from '../arguments.js';
import { LamellaError } from '../errors.js';
import { DeepseekV2ForCausalLM } from './deepseek_v2.js';
import { complete, DeepseekV2Config, readConfig } from './deepseek_v2_config.js';

/** @import { SourceLike, SourceOptions } from '../weights/source.js' */

/** What transformers' LlamaConfig assumes where a file says nothing, and MistralConfig where it differs from that. */
const LLAMA = {
  model_type: 'llama', vocab_size: 32000, num_hidden_layers: 32, num_key_value_heads: null, hidden_act: 'silu', head_dim: null, sliding_window: null,
  bos_token_id: 1, eos_token_id: 2,
};
const MISTRAL = { num_key_value_heads: 8, intermediate_size: 14336, max_position_embeddings: 131072, sliding_window: 4096 };

/** transformers scales YaRN's cosines by the two mscales only where both are there and not 0. @param {Record<string, any> | null | undefined} scaling */
function bothScales(scaling) {
  if (typeof scaling !== 'object' || scaling === null || (scaling.mscale && scaling.mscale_all_dim)) return scaling;
  const { mscale, mscale_all_dim, ...rest } = scaling;
  return rest;
}

/** @param {Record<string, any>} fields */
function withDefaults(fields) {
  if (typeof fields !== 'object' || fields === null || Array.isArray(fields)) throw badArgument('LlamaConfig', 'an object of fields, { hidden_size: 2048 }', fields);
  const type = fields.model_type ?? 'llama';
  if (type !== 'llama' && type !== 'mistral') throw badArgument('LlamaConfig: model_type', '"llama" or "mistral"', type);
  const rope = fields.rope_parameters ?? fields.rope_scaling;
  const refused = Object.entries({ use_mla: fields.use_mla, n_routed_experts: fields.n_routed_experts, partial_rotary_factor: (fields.partial_rotary_factor ?? rope?.partial_rotary_factor ?? 1) !== 1,
    layer_types: fields.layer_types?.some((/** @type {string} */ kind) => kind !== fields.layer_types[0]) }).find(([, is]) => is);
  if (refused) throw new LamellaError('argument', `LlamaConfig: ${refused[0]} ${show(fields[refused[0]] ?? rope?.[refused[0]])} is not supported`);
  const given = Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined));
  const { head_dim: head, sliding_window: window } = given;
  if (head != null && integer('LlamaConfig: head_dim', head, 2) % 2) throw badArgument('LlamaConfig: head_dim', 'an even number', head);
  if (window != null) integer('LlamaConfig: sliding_window', window, 1);
  return { ...LLAMA, ...(type === 'mistral' ? MISTRAL : {}), ...given, rope_parameters: bothScales(fields.rope_parameters), rope_scaling: bothScales(fields.rope_scaling) ?? null, use_mla: false };
}

/**
 * The configuration of a Llama under the names of its config.json, where `model_type` is 'llama' or 'mistral'. What is left out is as in transformers.
 *
 *     new LlamaConfig({ hidden_size: 768, num_hidden_layers: 12, num_attention_heads: 12, num_key_value_heads: 4, ... })
 *
 * `head_dim`: columns of a head, hidden_size / num_attention_heads where null; `sliding_window`: a token sees so many, itself among them, null: all.
 * `rope_scaling` or `rope_parameters`: 'default', 'linear', 'dynamic', 'yarn' or 'llama3'.
 * @throws {LamellaError} 'argument': a field has no such value, or one that is not supported (partial_rotary_factor, layers of several layer_types).
 */
export class LlamaConfig extends DeepseekV2Config {
  static kind = 'LlamaConfig';

  /** @param {Record<string, any>} [fields] */
  constructor(fields = {}) {
    super(withDefaults(fields));
  }

  /**
   * The configuration of a published model: its config.json as an object, or where it lies; of a folder the config.json in it.
   * @param {SourceLike | Record<string, any>} source
   * @param {SourceOptions} [options] `signal`, `request`, `cache`: as of text.loadTokenizer.
   * @returns {Promise<LlamaConfig>}
   */
  static async fromPretrained(source, options = {}) {
    const fields = await readConfig(source, options, 'LlamaConfig');
    const config = new LlamaConfig(fields);
    complete('LlamaConfig', fields);
    return config;
  }
}

/**
 * Llama's language model: token ids [b, t] -> logits [b, t, vocab_size] for the token after each. Weights are named as in published checkpoints; where
 * `tie_word_embeddings` is true lm_head.weight may be missing.
 *
 *     const config = await models.LlamaConfig.fromPretrained('folder');
 *     const model = await compile(new models.LlamaForCausalLM(config), { weights: 'folder/model.safetensors' });
 */
export class LlamaForCausalLM extends DeepseekV2ForCausalLM {
  /** @param {LlamaConfig | Record<string, any>} fields A configuration, or its fields. */
  constructor(fields) {
    super(fields instanceof LlamaConfig ? fields : new LlamaConfig(fields));
  }
}
