import { badArgument, boolean, divides, finite, integer, show } from '../arguments.js';
import { LamellaError } from '../errors.js';
import { rotaryFrequencies } from '../nn/rotary.js';
import { readJson } from '../weights/whole.js';

/** @import { Activation } from '../functional/activations.js' */
/** @import { SourceLike, SourceOptions } from '../weights/source.js' */

/** What the class behind DeepSeek's published files assumes where one says nothing, and differs from here. */
const PUBLISHED = { hidden_act: 'silu' };

/** What transformers' DeepSeek-V3 assumes, and the routing that its files do not mention because it is the only one there. */
const PUBLISHED_V3 = {
  hidden_act: 'silu', vocab_size: 129280, hidden_size: 7168, intermediate_size: 18432, moe_intermediate_size: 2048, num_hidden_layers: 61,
  num_attention_heads: 128, num_key_value_heads: 128, n_shared_experts: 1, n_routed_experts: 256, routed_scaling_factor: 2.5, topk_method: 'noaux_tc',
  n_group: 8, topk_group: 4, num_experts_per_tok: 8, first_k_dense_replace: 3, norm_topk_prob: true, scoring_func: 'sigmoid', max_position_embeddings: 4096,
  bos_token_id: 0, eos_token_id: 1,
};

/** `hidden_act`, a name in transformers' ACT2FN -> the function as the engine calls it. @type {Record<string, Activation>} */
const ACT2FN = {
  silu: 'silu', swish: 'silu', gelu: 'gelu', gelu_python: 'gelu', gelu_new: 'gelu_tanh', gelu_fast: 'gelu_tanh', gelu_accurate: 'gelu_tanh', gelu_python_tanh: 'gelu_tanh',
  gelu_pytorch_tanh: 'gelu_tanh', quick_gelu: 'quick_gelu', relu: 'relu', sigmoid: 'sigmoid', tanh: 'tanh', mish: 'mish', linear: 'identity',
};

const TOPK_METHODS = ['greedy', 'gready', 'group_limited_greedy', 'noaux_tc'];
const SCORING = ['softmax', 'sigmoid'];

/**
 * The configuration of a DeepSeek-V2 decoder, under the names of its config.json.
 *
 *     new DeepseekV2Config({ hidden_size: 2048, num_hidden_layers: 27, ... })
 *     await DeepseekV2Config.fromPretrained('DeepSeek-V2-Lite/config.json')
 *
 * `new` takes what is left out from the list below, with `hidden_act` 'gelu'. Files omit what their writer's class had as default, and that class
 * says 'silu': `fromPretrained` knows. Fields that are not listed are kept, and do nothing; so do those that only training reads.
 * Source: configuration_deepseek.py of DeepSeek-VL2, whose defaults but that of hidden_act these are; modeling_deepseek.py for what they mean.
 */
export class DeepseekV2Config {
  /** The class, as errors name it: a minifier gives it another name. */
  static kind = 'DeepseekV2Config';
  vocab_size = 102400;
  hidden_size = 4096;
  /** Width of a dense layer's MLP. */
  intermediate_size = 11008;
  num_hidden_layers = 30;
  num_attention_heads = 32;
  /** Without MLA only; divides the heads. null: as many. @type {number} */
  num_key_value_heads = 32;
  /** Multi-head latent attention; false: Llama's attention, whose heads have hidden_size / num_attention_heads columns. */
  use_mla = true;
  /** Width of the latent that keys and values are made of. */
  kv_lora_rank = 512;
  /** Width of the latent that queries are made of; null: they are made of the hidden state. @type {number | null} */
  q_lora_rank = 1536;
  /** Columns of a head that are not rotated. */
  qk_nope_head_dim = 128;
  /** Columns of a head that are, even; their keys are shared by all heads. */
  qk_rope_head_dim = 64;
  /** Columns of a head's values. */
  v_head_dim = 128;
  /** Biases of q_a_proj, kv_a_proj_with_mqa and o_proj; without MLA of q_proj, k_proj, v_proj and o_proj. */
  attention_bias = false;
  /** Another name of attention_bias. */
  use_attention_bias = false;
  /** Biases of dense layers and shared experts. */
  mlp_bias = false;
  /** Base of the rotary frequencies. */
  rope_theta = 10000;
  /**
   * { type: 'linear', 'dynamic' or 'yarn', factor }; 'yarn' has also original_max_position_embeddings, beta_fast (32), beta_slow (1), mscale (1), mscale_all_dim (0), which with
   * a value other than 0 scales the softmax too. transformers' `rope_parameters`, with rope_theta in it, is read into these two fields. @type {Record<string, any> | null}
   */
  rope_scaling = null;
  /** MLA rotates columns 2j and 2j + 1 together; false: j and j + half. */
  rope_interleave = true;
  /** The longest sequence. rope_scaling 'linear' and 'dynamic' make it longer by their factor. */
  max_position_embeddings = 2048;
  /** A name in transformers' ACT2FN; the published models have 'silu'. */
  hidden_act = 'gelu';
  rms_norm_eps = 1e-6;
  /** lm_head has the weight of embed_tokens. */
  tie_word_embeddings = false;
  /** null: every layer is dense. @type {number | null} */
  n_routed_experts = null;
  /** Experts that a token passes through. @type {number | null} */
  num_experts_per_tok = null;
  /** Width of an expert. */
  moe_intermediate_size = 1407;
  /** The shared experts are one MLP of so many times moe_intermediate_size, for every token; null: none. @type {number | null} */
  n_shared_experts = null;
  /** So many layers at the front are dense. */
  first_k_dense_replace = 0;
  /** Of the others those whose number is a multiple of this have experts. */
  moe_layer_freq = 1;
  /** 'softmax' or 'sigmoid' */
  scoring_func = 'softmax';
  /** 'greedy' (also spelled 'gready'): the best scores; 'group_limited_greedy': of the groups with the best expert; 'noaux_tc': with e_score_correction_bias, of the groups whose two best add up to most. */
  topk_method = 'gready';
  /** Groups of experts. @type {number | null} */
  n_group = null;
  /** Groups to choose from. @type {number | null} */
  topk_group = null;
  /** Divide the weights of the chosen experts by their sum, where there are several. */
  norm_topk_prob = false;
  /** Multiplies the weights of routed experts. */
  routed_scaling_factor = 1;
  /** @type {number | null} */
  bos_token_id = 100000;
  /** @type {number | number[] | null} */
  eos_token_id = 100001;
  /** @type {number | null} */
  pad_token_id = null;
  // What follows does nothing here.
  attention_dropout = 0;
  ffn_dropout = 0;
  aux_loss_alpha = 0.001;
  seq_aux = true;
  initializer_range = 0.02;
  use_cache = true;
  ep_size = 1;
  pretraining_tp = 1;

  /**
   * @param {Record<string, any>} [fields]
   * @throws {LamellaError} 'argument': a field has no such value, or two contradict each other (both are named).
   */
  constructor(fields = {}) {
    const { kind } = new.target;
    if (typeof fields !== 'object' || fields === null || Array.isArray(fields)) throw badArgument(kind, 'an object of fields, { hidden_size: 2048 }', fields);
    if (fields.language_config) throw new LamellaError('argument', `${kind}: language_config: expected the fields of a language model, got a model that has one; read it with DeepseekV2Config.fromPretrained`);
    const camel = Object.keys(fields).find((name) => /[A-Z]/.test(name) && snake(name) in this);
    if (camel) throw new LamellaError('argument', `${kind}: "${camel}" is spelled ${snake(camel)}, as in config.json`);
    Object.assign(this, Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)));
    this.num_key_value_heads ??= this.num_attention_heads;
    readRopeParameters(this, fields);
    readBias(this, fields);
    checkSizes(this);
    if (this.use_mla) checkMla(this);
    else checkMha(this);
    checkRope(this);
    checkRouting(this);
    if (this.n_routed_experts !== null) checkExperts(this);
  }

  /**
   * The configuration of a published model: its config.json as an object, or where it lies: an address, a path (in Node), a File, bytes; of a folder
   * the config.json in it. What the file omits is as in the class that wrote it: DeepSeek's own (`hidden_act` 'silu', otherwise the list above), or, where
   * `model_type` is 'deepseek_v3', transformers' DeepSeek-V3. Of a model with a `language_config` (DeepSeek-VL2) it is that one.
   * @param {SourceLike | Record<string, any>} source
   * @param {SourceOptions} [options] `signal`, `request`, `cache`: as of text.loadTokenizer.
   * @returns {Promise<DeepseekV2Config>}
   * @throws {LamellaError} 'argument': it is no config.json of DeepSeek's, or lacks vocab_size, hidden_size, num_hidden_layers or num_attention_heads; what the constructor throws; 'http', 'file'.
   */
  static async fromPretrained(source, options = {}) {
    const json = await readConfig(source, options, 'DeepseekV2Config');
    const fields = json.language_config ?? json;
    const type = fields.model_type ?? (/DeepseekV3/.test(fields.architectures?.[0] ?? '') ? 'deepseek_v3' : 'deepseek_v2');
    if (type !== 'deepseek_v2' && type !== 'deepseek_v3') throw badArgument('DeepseekV2Config: model_type', '"deepseek_v2" or "deepseek_v3"', type);
    return new DeepseekV2Config({ ...(type === 'deepseek_v3' ? PUBLISHED_V3 : PUBLISHED), ...complete('DeepseekV2Config', fields) });
  }
}

/**
 * What the modules take: a configuration, or the fields of one.
 * @param {DeepseekV2Config | Record<string, any>} given
 * @returns {DeepseekV2Config}
 */
export const configuration = (given) => (given instanceof DeepseekV2Config ? given : new DeepseekV2Config(given));

/** @param {string} name */
const snake = (name) => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);

/** The function that `hidden_act` names. @param {DeepseekV2Config} config */
export const activation = (config) => ACT2FN[config.hidden_act];

/**
 * Has layer number `layer` routed experts?
 * @param {DeepseekV2Config} config
 * @param {number} layer
 */
export const hasExperts = (config, layer) => config.n_routed_experts !== null && layer >= config.first_k_dense_replace && layer % config.moe_layer_freq === 0;

/** Columns of a head without MLA: head_dim where a configuration has it. @param {Record<string, any>} config @returns {number} */
export const headDim = (config) => config.head_dim ?? config.hidden_size / config.num_attention_heads;

/**
 * What rotary embedding needs, over the columns that the kind of attention rotates.
 * @param {DeepseekV2Config} config
 */
export function rope(config) {
  const { use_mla: mla, rope_scaling: scaling, max_position_embeddings } = config;
  const type = scaling?.type ?? scaling?.rope_type;
  const dim = mla ? config.qk_rope_head_dim : headDim(config);
  return rotaryFrequencies(dim, { base: config.rope_theta, scaling: type === 'dynamic' ? { max_position_embeddings, ...scaling } : scaling });
}

/**
 * How many tokens a sequence may have.
 * @param {DeepseekV2Config} config
 */
export function contextLength({ rope_scaling: scaling, max_position_embeddings: length }) {
  const type = scaling?.type ?? scaling?.rope_type;
  return type === 'linear' || type === 'dynamic' ? Math.floor(length * scaling?.factor) : length;
}

/**
 * transformers writes rope_theta and rope_scaling as one, `rope_parameters`.
 * @param {DeepseekV2Config} own
 * @param {Record<string, any>} fields As given.
 */
function readRopeParameters(own, fields) {
  const given = fields.rope_parameters;
  if (given === undefined || given === null) return;
  if (typeof given !== 'object') throw badArgument(named(own, 'rope_parameters'), 'an object', given);
  const { rope_theta: theta, ...scaling } = given;
  if (theta !== undefined) own.rope_theta = agreeing(own, 'rope_theta', fields.rope_theta ?? theta, 'rope_parameters.rope_theta', theta);
  const type = scaling.rope_type ?? scaling.type ?? 'default';
  const other = fields.rope_scaling;
  if (other) agreeing(own, 'rope_scaling.type', other.type ?? other.rope_type, 'rope_parameters.rope_type', type);
  if (type !== 'default') own.rope_scaling = scaling;
}

/**
 * @template T
 * @param {DeepseekV2Config} own
 * @param {string} name
 * @param {T} value
 * @param {string} otherName
 * @param {T} other
 * @returns {T}
 */
function agreeing(own, name, value, otherName, other) {
  if (value === other) return value;
  throw contradiction(own, `${name} ${show(value)} and ${otherName} ${show(other)}`);
}

/**
 * attention_bias and use_attention_bias are one field.
 * @param {DeepseekV2Config} own
 * @param {Record<string, any>} fields As given.
 */
function readBias(own, fields) {
  const { attention_bias: bias, use_attention_bias: other } = fields;
  boolean(named(own, 'attention_bias'), own.attention_bias);
  boolean(named(own, 'use_attention_bias'), own.use_attention_bias);
  if (bias !== undefined && other !== undefined) agreeing(own, 'attention_bias', bias, 'use_attention_bias', other);
  own.attention_bias = own.use_attention_bias = own.attention_bias || own.use_attention_bias;
}

/** @param {DeepseekV2Config} own @param {string} both */
const contradiction = (own, both) => new LamellaError('argument', `${kindOf(own)}: ${both} contradict each other`);

/** @param {DeepseekV2Config} own */
const kindOf = (own) => /** @type {typeof DeepseekV2Config} */ (own.constructor).kind;

/** How an error about a field begins. @param {DeepseekV2Config} own @param {string} field */
const named = (own, field) => `${kindOf(own)}: ${field}`;

/**
 * @param {DeepseekV2Config} own
 * @param {(keyof DeepseekV2Config)[]} names
 * @param {number} [least]
 */
function counts(own, names, least = 1) {
  for (const name of names) integer(named(own, name), own[name], least);
}

/** @param {DeepseekV2Config} own */
function checkSizes(own) {
  counts(own, ['vocab_size', 'hidden_size', 'intermediate_size', 'num_hidden_layers', 'num_attention_heads', 'num_key_value_heads', 'max_position_embeddings', 'moe_layer_freq']);
  counts(own, ['first_k_dense_replace'], 0);
  for (const name of /** @type {const} */ (['use_mla', 'mlp_bias', 'tie_word_embeddings', 'norm_topk_prob', 'rope_interleave'])) boolean(named(own, name), own[name]);
  for (const name of /** @type {const} */ (['rms_norm_eps', 'rope_theta', 'routed_scaling_factor', 'attention_dropout', 'ffn_dropout'])) finite(named(own, name), own[name]);
  if (!Object.hasOwn(ACT2FN, own.hidden_act)) throw badArgument(named(own, 'hidden_act'), Object.keys(ACT2FN).join(', '), own.hidden_act);
  if (own.rope_scaling !== null && typeof own.rope_scaling !== 'object') throw badArgument(named(own, 'rope_scaling'), 'null or an object', own.rope_scaling);
}

/** @param {DeepseekV2Config} own */
function checkMla(own) {
  counts(own, ['kv_lora_rank', 'qk_rope_head_dim', 'qk_nope_head_dim', 'v_head_dim']);
  if (own.q_lora_rank !== null) counts(own, ['q_lora_rank']);
  if (own.qk_rope_head_dim % 2) throw badArgument(named(own, 'qk_rope_head_dim'), 'an even number', own.qk_rope_head_dim);
}

/** @param {DeepseekV2Config} own */
function checkMha(own) {
  const { hidden_size: width, num_attention_heads: heads, rope_scaling: scaling } = own;
  if (headDim(own) === width / heads) divides(`${named(own, 'use_mla')} false`, 'hidden_size', width, 'num_attention_heads', heads);
  divides(`${named(own, 'use_mla')} false`, 'num_attention_heads', heads, 'num_key_value_heads', own.num_key_value_heads);
  if (headDim(own) === width / heads && (width / heads) % 2) throw new LamellaError('argument', `${named(own, 'use_mla')} false: hidden_size ${width} / num_attention_heads ${heads} is ${width / heads}: heads must be even to be rotated`);
  if ((scaling?.type ?? scaling?.rope_type) === 'yarn' && !('sliding_window' in own)) throw contradiction(own, 'use_mla false and rope_scaling.type "yarn"');
}

/** A misspelt name is one where nothing reads it, too. @param {DeepseekV2Config} own */
function checkRouting(own) {
  for (const [name, known] of /** @type {const} */ ([['scoring_func', SCORING], ['topk_method', TOPK_METHODS]])) {
    if (!known.includes(own[name])) throw badArgument(named(own, name), known.join(', '), own[name]);
  }
}

/** The rotary embedding's own checks, their errors with the fields' names. @param {DeepseekV2Config} own */
function checkRope(own) {
  try {
    rope(own);
  } catch (cause) {
    if (!(cause instanceof LamellaError)) throw cause;
    const problem = cause.message.replace(/^rope scaling:? /, 'rope_scaling: ').replace(/^rotary embedding: base/, 'rope_theta').replace(/[a-z]+(?:[A-Z][a-z]+)+/g, snake);
    throw new LamellaError('argument', `${kindOf(own)}: ${problem}`, { cause });
  }
}

/** @param {DeepseekV2Config} own */
function checkExperts(own) {
  const { n_routed_experts: experts, num_experts_per_tok: k, topk_method: method } = own;
  counts(own, ['n_routed_experts', 'moe_intermediate_size']);
  if (own.n_shared_experts !== null) counts(own, ['n_shared_experts'], 0);
  if (k === null) throw contradiction(own, `n_routed_experts ${experts} and num_experts_per_tok null`);
  counts(own, ['num_experts_per_tok']);
  if (k > Number(experts)) throw contradiction(own, `num_experts_per_tok ${k} and n_routed_experts ${experts}`);
  if (method === 'group_limited_greedy' || method === 'noaux_tc') checkGroups(own, method, Number(experts), k);
}

/**
 * @param {DeepseekV2Config} own
 * @param {string} method
 * @param {number} experts
 * @param {number} k
 */
function checkGroups(own, method, experts, k) {
  const { n_group: groups, topk_group: kept } = own;
  for (const [name, value] of /** @type {const} */ ([['n_group', groups], ['topk_group', kept]])) {
    if (value === null) throw contradiction(own, `topk_method ${show(method)} and ${name} null`);
    integer(named(own, name), value, 1);
  }
  const [n, top] = [Number(groups), Number(kept)];
  divides(kindOf(own), 'n_routed_experts', experts, 'n_group', n);
  if (top > n) throw contradiction(own, `topk_group ${top} and n_group ${n}`);
  const size = experts / n;
  if (method === 'noaux_tc' && size < 2) throw contradiction(own, `topk_method "noaux_tc", which takes two experts of each group, and n_group ${n} of n_routed_experts ${experts}`);
  if (top * size < k) throw contradiction(own, `num_experts_per_tok ${k} and topk_group ${top}, which leaves ${top * size} experts to choose from,`);
}

/** Sizes that every config.json of a language model has: a file without one of them was cut short, or is of something else. */
const NEEDED = ['vocab_size', 'hidden_size', 'num_hidden_layers', 'num_attention_heads'];

/**
 * A published file's fields, if none is missing that must be there.
 * @param {string} kind The class that reads it, as errors begin.
 * @param {Record<string, any>} fields
 */
export function complete(kind, fields) {
  const missing = NEEDED.find((name) => fields[name] === undefined || fields[name] === null);
  if (missing) throw new LamellaError('argument', `${kind}: ${missing} is missing: a config.json of a language model has ${NEEDED.join(', ')}`);
  return fields;
}

/**
 * A config.json: itself as an object, or from where it lies.
 * @param {SourceLike | Record<string, any>} source
 * @param {SourceOptions} options
 * @param {string} kind The class that reads it, as errors begin.
 * @returns {Promise<Record<string, any>>}
 */
export async function readConfig(source, options, kind) {
  if (typeof source === 'object' && source !== null && Object.getPrototypeOf(source) === Object.prototype) return source;
  const address = typeof source === 'string' || source instanceof URL ? inFolder(String(source)) : /** @type {SourceLike} */ (source);
  return (await readJson(address, options, { file: 'config.json', code: 'argument', check: checkObject, what: kind })).json;
}

/** @param {unknown} json @param {string} name */
function checkObject(json, name) {
  if (typeof json !== 'object' || json === null || Array.isArray(json)) throw new LamellaError('argument', `${name}: expected a config.json, got ${show(json)}`, { path: name });
}

/** @param {string} address */
function inFolder(address) {
  const [path] = address.split(/[?#]/);
  return /\.json$/i.test(path) || /^(data|blob):/i.test(address) ? address : `${path.replace(/[/\\]$/, '')}/config.json${address.slice(path.length)}`;
}
