import * as F from '../functional.js';
import { integer } from '../arguments.js';
import { Module } from '../module.js';
import { Embedding, Linear } from '../nn/layers.js';
import { RMSNorm } from '../nn/norm.js';
import { DeepseekV2Attention, LlamaAttention, rotaryTable } from './deepseek_v2_attention.js';
import { configuration, contextLength, hasExperts } from './deepseek_v2_config.js';
import { DeepseekV2MLP, DeepseekV2MoE } from './deepseek_v2_moe.js';

/** @import { Operand, SymbolicTensor } from '../tensor.js' */
/** @import { DeepseekV2Config } from './deepseek_v2_config.js' */

/**
 * One layer: x = x + self_attn(input_layernorm(x)), then x + mlp(post_attention_layernorm(x)).  x [b, t, hidden_size] -> the same.
 */
export class DeepseekV2DecoderLayer extends Module {
  /**
   * @param {DeepseekV2Config | Record<string, any>} fields A configuration, or its fields.
   * @param {number} layer Its number, which decides whether it has experts.
   */
  constructor(fields, layer) {
    super();
    const config = configuration(fields);
    integer('DeepseekV2DecoderLayer: layer', layer, 0);
    const eps = config.rms_norm_eps;
    this.self_attn = config.use_mla ? new DeepseekV2Attention(config) : new LlamaAttention(config);
    this.mlp = hasExperts(config, layer) ? new DeepseekV2MoE(config) : new DeepseekV2MLP(config);
    this.input_layernorm = new RMSNorm(config.hidden_size, { eps });
    this.post_attention_layernorm = new RMSNorm(config.hidden_size, { eps });
  }

  /**
   * @param {Operand} x [b, t, hidden_size]
   * @param {Operand} [table] Cosines and sines, where they are there already.
   */
  forward(x, table) {
    const y = F.add(x, this.self_attn(this.input_layernorm(x), table));
    return F.add(y, this.mlp(this.post_attention_layernorm(y)));
  }
}

/** The decoder without its head: ids [b, t] -> hidden states [b, t, hidden_size]. */
export class DeepseekV2Model extends Module {
  /** @param {DeepseekV2Config | Record<string, any>} fields A configuration, or its fields. */
  constructor(fields) {
    super();
    const config = configuration(fields);
    this.config = config;
    this.embed_tokens = new Embedding(config.vocab_size, config.hidden_size);
    this.layers = Array.from({ length: config.num_hidden_layers }, (_, i) => new DeepseekV2DecoderLayer(config, i));
    this.norm = new RMSNorm(config.hidden_size, { eps: config.rms_norm_eps });
    /** Shapes of forward's arguments, for compile. */
    this.inputs = tokenInputs(config);
  }

  /**
   * @param {SymbolicTensor} ids [b, t]
   * @param {SymbolicTensor} [rows] [b, r] which of the b t rows are wanted.
   */
  forward(ids, rows) {
    const x = this.embed_tokens(ids);
    const table = rotaryTable(x, this.config);
    const y = this.layers.reduce((z, layer) => layer(z, table), x);
    return this.norm(rows ? F.embedding(rows, F.flatten(y, 0, 1)) : y);
  }

  /**
   * Weights of a checkpoint that are no part of the network: layers behind the last one (DeepSeek-V3's that predicts several tokens), and frequencies that
   * older versions of transformers saved.
   * @param {string} name
   */
  ignoresWeight(name) {
    const layer = /^layers\.(\d+)\./.exec(name);
    return (layer !== null && Number(layer[1]) >= this.layers.length) || /(^|\.)rotary_emb\.inv_freq$/.test(name);
  }
}

/**
 * DeepSeek-V2's language model (also DeepSeek-V3's, and those inside DeepSeek-VL2): token ids [b, t] -> logits [b, t, vocab_size] for the token after each.
 *
 *     const config = await models.DeepseekV2Config.fromPretrained('config.json');
 *     const model = await compile(new models.DeepseekV2ForCausalLM(config), { weights: 'model.safetensors.index.json' });
 *     const session = await model.session({ context: 4096 });
 *     const logits = await session.forward(prompt);       // then one token at a time: session.forward([next])
 *
 * A session keeps keys as they were rotated when they came: with rope_scaling 'dynamic' and more than max_position_embeddings tokens its logits differ from those of
 * the whole sequence at once, in which all are rotated for its length, as they do in transformers.
 *
 * The weights of a whole checkpoint of DeepSeek-VL2 are under the prefix 'language.'.
 */
export class DeepseekV2ForCausalLM extends Module {
  /** @param {DeepseekV2Config | Record<string, any>} fields A configuration, or its fields. */
  constructor(fields) {
    super();
    const config = configuration(fields);
    this.config = config;
    this.model = new DeepseekV2Model(config);
    this.lm_head = new Linear(config.hidden_size, config.vocab_size, { bias: false });
    if (config.tie_word_embeddings) this.lm_head.weight = this.model.embed_tokens.weight;
    /** Shapes of forward's arguments, for compile. */
    this.inputs = tokenInputs(config);
  }

  /**
   * @param {SymbolicTensor} ids [b, t]
   * @param {SymbolicTensor} [rows] [b, r] which of the b t rows are wanted, so that only those meet the vocabulary.
   */
  forward(ids, rows) {
    return this.lm_head(this.model(ids, rows));
  }
}

/** @param {DeepseekV2Config} config */
const tokenInputs = (config) => [
  { shape: [null, null], dtype: 'i32', limit: { axis: 1, size: contextLength(config), name: 'max_position_embeddings' } },
  { shape: [null, null], dtype: 'i32', rows: true },
];
