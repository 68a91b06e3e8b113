/** Which weight of a module is which tensor of a GGUF file: what llama.cpp's converter does, undone. One list of rules for both architectures. */

/**
 * Where a weight's rows lie.
 * @typedef {object} Part
 * @property {string} tensor
 * @property {number} [slice] Which of the slices of its first axis: an expert.
 * @property {number} [head] Rows of a head, whose two halves are to be taken apart again.
 * @property {string} [values] attn_v_b, where `tensor` is attn_k_b.
 */

const PLAIN = {
  attn_norm: 'input_layernorm', ffn_norm: 'post_attention_layernorm', attn_v: 'self_attn.v_proj', attn_output: 'self_attn.o_proj', attn_q: 'self_attn.q_proj', attn_k: 'self_attn.k_proj',
  ffn_gate: 'mlp.gate_proj', ffn_up: 'mlp.up_proj', ffn_down: 'mlp.down_proj',
  attn_q_a: 'self_attn.q_a_proj', attn_q_a_norm: 'self_attn.q_a_layernorm', attn_q_b: 'self_attn.q_b_proj', attn_kv_a_mqa: 'self_attn.kv_a_proj_with_mqa',
  attn_kv_a_norm: 'self_attn.kv_a_layernorm', attn_kv_b: 'self_attn.kv_b_proj', ffn_gate_inp: 'mlp.gate',
  ffn_gate_shexp: 'mlp.shared_experts.gate_proj', ffn_up_shexp: 'mlp.shared_experts.up_proj', ffn_down_shexp: 'mlp.shared_experts.down_proj',
};
const OUTSIDE = { 'token_embd.weight': 'model.embed_tokens.weight', 'output_norm.weight': 'model.norm.weight', 'output.weight': 'lm_head.weight' };
/** Not weights: factors of the frequencies, which the configuration has. */
const IGNORED = /^rope_freqs\.weight$|\.attn_rot_embd\.weight$/;

/**
 * The weights that a tensor holds, by the names of the modules. One that has no rule keeps its name.
 * @param {string} name 'blk.3.attn_q.weight'
 * @param {readonly number[]} shape
 * @param {{ architecture: string, heads: number, keyHeads: number, has: (name: string) => boolean }} model
 * @returns {[string, Part][]}
 */
export function weightsIn(name, shape, { architecture, heads, keyHeads, has }) {
  if (IGNORED.test(name)) return [];
  const outside = /** @type {Record<string, string>} */ (OUTSIDE)[name];
  if (outside) return [[outside, { tensor: name }]];
  const [, layer, own, kind] = /^blk\.(\d+)\.(\w+)\.(weight|bias)$/.exec(name) ?? [];
  const here = `model.layers.${layer}.`;
  const values = `blk.${layer}.attn_v_b.weight`;
  if (own === 'attn_v_b') return [];   // with attn_k_b
  if (own === 'attn_k_b' && has(values)) return [[`${here}self_attn.kv_b_proj.weight`, { tensor: name, values }]];
  if (own === 'exp_probs_b') return [[`${here}mlp.gate.e_score_correction_bias`, { tensor: name }]];
  const [, part] = /^ffn_(gate|up|down)_exps$/.exec(own) ?? [];
  if (part) return Array.from({ length: shape[0] }, (_, i) => [`${here}mlp.experts.${i}.${part}_proj.weight`, { tensor: name, slice: i }]);
  const plain = /** @type {Record<string, string>} */ (PLAIN)[own];
  if (!plain) return [[name, { tensor: name }]];
  const turned = architecture === 'llama' ? { attn_q: heads, attn_k: keyHeads }[own] : undefined;
  return [[`${here}${plain}.${kind}`, turned ? { tensor: name, head: shape[0] / turned } : { tensor: name }]];
}
