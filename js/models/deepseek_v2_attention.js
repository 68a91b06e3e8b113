/** The two attentions of DeepSeek-V2's decoder, `use_mla` true and false, and the rotary embedding they share. */
import * as F from '../functional.js';
import { shaped } from '../functional/record.js';
import { Module } from '../module.js';
import { Linear } from '../nn/layers.js';
import { RMSNorm } from '../nn/norm.js';
import { yarnMscale } from '../nn/rotary.js';
import { Tensor } from '../tensor.js';
import { configuration, headDim, rope } from './deepseek_v2_config.js';

/** @import { Operand, SymbolicTensor } from '../tensor.js' */
/** @import { DeepseekV2Config } from './deepseek_v2_config.js' */

/**
 * Cosines and sines of the tokens of x [b, t, ...], for every layer of a model with this configuration.
 * @param {Operand} x
 * @param {DeepseekV2Config} config
 * @returns {SymbolicTensor}
 */
export function rotaryTable(x, config) {
  const { freqs, scale, dynamic } = rope(config);
  return F.rotaryTable(x, new Tensor(freqs), { dim: 1, scale, dynamic });
}

/**
 * Causal multi-head latent attention: keys and values of all heads are made of one latent of `kv_lora_rank` numbers for each token, beside one rotated key of
 * `qk_rope_head_dim` that all heads share. A session remembers just these.  x [b, t, hidden_size] -> the same.
 *
 *     q = q_proj x, or q_b_proj(q_a_layernorm(q_a_proj x));                   head h: [q_h | rotated part]
 *     [latent | k_pe] = kv_a_proj_with_mqa x;  c = kv_a_layernorm(latent);    kv_b_proj c, head h: [k_h | v_h]
 *     y = o_proj(concat of softmax(scale [q_h | rot q_pe_h] [k_h | rot k_pe]^T) v_h)
 *
 * scale = (qk_nope_head_dim + qk_rope_head_dim)^-1/2, times (0.1 mscale_all_dim ln(factor) + 1)^2 where rope_scaling has them. The two norms have eps 1e-6.
 */
export class DeepseekV2Attention extends Module {
  /** @param {DeepseekV2Config | Record<string, any>} fields A configuration, or its fields. */
  constructor(fields) {
    super();
    const config = configuration(fields);
    const { hidden_size: width, q_lora_rank: rank, kv_lora_rank: latent, qk_rope_head_dim: rotated, attention_bias: bias, rope_scaling: scaling } = config;
    const heads = config.num_attention_heads;
    const head = config.qk_nope_head_dim + rotated;
    this.config = config;
    if (rank === null) {
      this.q_proj = new Linear(width, heads * head, { bias: false });
    } else {
      this.q_a_proj = new Linear(width, rank, { bias });
      this.q_a_layernorm = new RMSNorm(rank, { eps: 1e-6 });
      this.q_b_proj = new Linear(rank, heads * head, { bias: false });
    }
    this.kv_a_proj_with_mqa = new Linear(width, latent + rotated, { bias });
    this.kv_a_layernorm = new RMSNorm(latent, { eps: 1e-6 });
    this.kv_b_proj = new Linear(latent, heads * (config.qk_nope_head_dim + config.v_head_dim), { bias: false });
    this.o_proj = new Linear(heads * config.v_head_dim, width, { bias });
    this.scale = head ** -0.5 * (scaling?.mscale_all_dim ? yarnMscale(scaling.factor, scaling.mscale_all_dim) ** 2 : 1);
  }

  /**
   * @param {Operand} x [b, t, hidden_size]
   * @param {Operand} [table] Cosines and sines, where they are there already.
   */
  forward(x, table = rotaryTable(x, this.config)) {
    const { config, scale } = this;
    const { num_attention_heads: heads, qk_nope_head_dim: nope, qk_rope_head_dim: rotated, kv_lora_rank: latent, v_head_dim: v, rope_interleave: interleaved } = config;
    const tokens = shaped('DeepseekV2Attention', x, ['b', 't', config.hidden_size]);
    const q = F.rotary(F.unflatten(this.query(tokens), 2, [heads, nope + rotated]), table, { dim: 1, first: nope, interleaved });
    const [compressed, key] = F.split(this.kv_a_proj_with_mqa(tokens), [latent, rotated], 2);
    const kv = F.cache(F.cat([this.kv_a_layernorm(compressed), F.rotary(key, table, { dim: 1, interleaved })], 2));
    return this.o_proj(F.mla(F.flatten(q, 2), kv, this.kv_b_proj.weight, { heads, nope, rope: rotated, v, scale }));
  }

  /** @param {SymbolicTensor} x */
  query(x) {
    return this.q_proj ? this.q_proj(x) : this.q_b_proj?.(this.q_a_layernorm?.(this.q_a_proj?.(x)));
  }
}

/**
 * Causal multi-head attention with rotated queries and keys, Llama's: what `use_mla: false` selects. Heads have hidden_size / num_attention_heads columns (or head_dim), of
 * which j and j + half are rotated together; num_key_value_heads of them have keys and values, each for as many neighbouring heads of the queries.
 * x [b, t, hidden_size] -> the same.
 */
export class LlamaAttention extends Module {
  /** @param {DeepseekV2Config | Record<string, any>} fields A configuration, or its fields. */
  constructor(fields) {
    super();
    const config = configuration(fields);
    const { hidden_size: width, num_attention_heads: heads, num_key_value_heads: keyHeads, attention_bias: bias } = config;
    this.config = config;
    this.headDim = headDim(config);
    this.q_proj = new Linear(width, heads * this.headDim, { bias });
    this.k_proj = new Linear(width, keyHeads * this.headDim, { bias });
    this.v_proj = new Linear(width, keyHeads * this.headDim, { bias });
    this.o_proj = new Linear(heads * this.headDim, width, { bias });
  }

  /**
   * @param {Operand} x [b, t, hidden_size]
   * @param {Operand} [table] Cosines and sines, where they are there already.
   */
  forward(x, table = rotaryTable(x, this.config)) {
    const { config, headDim } = this;
    const tokens = shaped('LlamaAttention', x, ['b', 't', config.hidden_size]);
    const inHeads = (/** @type {SymbolicTensor} */ y) => F.unflatten(y, 2, [-1, headDim]);
    const [q, k] = [this.q_proj, this.k_proj].map((project) => F.rotary(inHeads(project(tokens)), table, { dim: 1 }));
    const [keys, values] = [F.flatten(k, 2), this.v_proj(tokens)].map((rows) => F.permute(inHeads(F.cache(rows)), [0, 2, 1, 3]));
    const windowSize = (/** @type {any} */ (config).sliding_window ?? 0) - 1;
    const heads = F.scaledDotProductAttention(F.permute(q, [0, 2, 1, 3]), keys, values, { isCausal: true, align: 'end', enableGqa: true, windowSize });
    return this.o_proj(F.flatten(F.permute(heads, [0, 2, 1, 3]), 2));
  }
}
