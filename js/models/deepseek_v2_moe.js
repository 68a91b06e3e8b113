/** The feed-forward networks of DeepSeek-V2's decoder: dense, or a mixture of experts. */
import { integer } from '../arguments.js';
import * as F from '../functional.js';
import { ACTIVATIONS } from '../functional/activations.js';
import { record, value } from '../functional/record.js';
import { Buffer, Module, Parameter } from '../module.js';
import { Linear } from '../nn/layers.js';
import { activation, configuration } from './deepseek_v2_config.js';

/** @import { Activation } from '../functional/activations.js' */
/** @import { Operand, SymbolicTensor } from '../tensor.js' */
/** @import { DeepseekV2Config } from './deepseek_v2_config.js' */

/** @param {Activation} kind @param {SymbolicTensor} x */
const activate = (kind, x) => record('activate', [value(x, kind), ACTIVATIONS.indexOf(kind)]);

/**
 * y = down_proj(act(gate_proj x) * up_proj x) with `hidden_act`; SwiGLU where that is 'silu'.  x [..., hidden_size] -> the same.
 */
export class DeepseekV2MLP extends Module {
  /**
   * @param {DeepseekV2Config | Record<string, any>} fields A configuration, or its fields.
   * @param {{ width?: number, bias?: boolean }} [options] `width`: in place of intermediate_size; `bias`: in place of mlp_bias.
   */
  constructor(fields, { width, bias } = {}) {
    super();
    const config = configuration(fields);
    const inner = width ?? config.intermediate_size;
    const options = { bias: bias ?? config.mlp_bias };
    this.act = activation(config);
    this.gate_proj = new Linear(config.hidden_size, inner, options);
    this.up_proj = new Linear(config.hidden_size, inner, options);
    this.down_proj = new Linear(inner, config.hidden_size, options);
  }

  /** @param {Operand} x [..., hidden_size] */
  forward(x) {
    return this.down_proj(F.mul(activate(this.act, this.gate_proj(x)), this.up_proj(x)));
  }

  extraRepr() {
    return `act=${this.act}`;
  }
}

/**
 * Which experts a token passes through, and how much each counts: x [..., hidden_size] -> weights [..., n_routed_experts], 0 for those not chosen.
 * Scores are the softmax or the sigmoid (`scoring_func`) of weight x; `num_experts_per_tok` are chosen by
 *
 *     greedy                the score
 *     group_limited_greedy  the score, within the topk_group of n_group groups whose best score is highest
 *     noaux_tc              score + e_score_correction_bias, within the groups whose two best add up to most
 *
 * and count with their score, divided by the sum of these with norm_topk_prob (where several are chosen), times routed_scaling_factor.
 * Weights: `weight` [n_routed_experts, hidden_size]; of noaux_tc `e_score_correction_bias` [n_routed_experts].
 */
export class MoEGate extends Module {
  /** @param {DeepseekV2Config | Record<string, any>} fields A configuration, or its fields. */
  constructor(fields) {
    super();
    const config = configuration(fields);
    const experts = integer('MoEGate: n_routed_experts', config.n_routed_experts, 1);
    this.config = config;
    this.weight = new Parameter([experts, config.hidden_size]);
    this.e_score_correction_bias = config.topk_method === 'noaux_tc' ? new Buffer([experts]) : null;
  }

  /** @param {Operand} x [..., hidden_size] */
  forward(x) {
    const { config } = this;
    const { topk_method: method, n_group: nGroup, topk_group: topkGroup, routed_scaling_factor: scale } = config;
    const topK = Number(config.num_experts_per_tok);
    const groups = method === 'noaux_tc' || method === 'group_limited_greedy' ? { nGroup, topkGroup } : {};
    return F.route(F.linear(x, this.weight), this.e_score_correction_bias, /** @type {any} */ ({
      topK, scoring: config.scoring_func, method: method === 'gready' ? 'greedy' : method, ...groups, norm: config.norm_topk_prob && topK > 1, scale,
      // V3's own code; scores with a bias may be below 0, and V2's mask.
      masked: method === 'noaux_tc' ? -Infinity : 0,
    }));
  }

  extraRepr() {
    return `${this.config.n_routed_experts} experts, ${this.config.num_experts_per_tok} of a token`;
  }
}

/**
 * A mixture of experts: y = sum over the chosen experts of weight * expert(x), plus shared_experts(x), which every token passes through.
 * x [..., hidden_size] -> the same.
 */
export class DeepseekV2MoE extends Module {
  /** @param {DeepseekV2Config | Record<string, any>} fields A configuration, or its fields. */
  constructor(fields) {
    super();
    const config = configuration(fields);
    const { moe_intermediate_size: width, n_shared_experts: shared } = config;
    this.gate = new MoEGate(config);
    this.experts = Array.from({ length: Number(config.n_routed_experts) }, () => new DeepseekV2MLP(config, { width, bias: false }));
    this.shared_experts = shared ? new DeepseekV2MLP(config, { width: width * shared }) : null;
    this.act = activation(config);
  }

  /** @param {SymbolicTensor} x [..., hidden_size] */
  forward(x) {
    const weights = this.experts.map(({ gate_proj: gate, up_proj: up, down_proj: down }) => /** @type {const} */ ([gate.weight, up.weight, down.weight]));
    const y = F.experts(x, this.gate(x), weights, this.act);
    return this.shared_experts ? F.add(y, this.shared_experts(x)) : y;
  }
}
