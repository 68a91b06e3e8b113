/** A small DeepSeek-V2 whose tokens are bytes, as the files of a checkpoint. */
import { models, safetensors, Tensor } from '../../js/index.js';

export const VOCAB = 264;   // 256 bytes, 2 special tokens, 6 rows that no token has
export const [START, END] = [256, 257];

/** A byte as GPT-2's tokenizers spell it. */
export const spelt = (() => {
  let next = 256;
  return Array.from({ length: 256 }, (_, byte) => String.fromCodePoint((byte > 32 && byte < 127) || (byte > 160 && byte !== 173) ? byte : next++));
})();
export const special = (/** @type {number} */ id, /** @type {string} */ content) => ({ id, content, special: true, single_word: false, lstrip: false, rstrip: false, normalized: false });
export const TOKENIZER = {
  version: '1.0', added_tokens: [special(START, '<s>'), special(END, '</s>')], normalizer: null, pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true },
  post_processor: null, decoder: { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true },
  model: { type: 'BPE', vocab: Object.fromEntries(spelt.map((character, byte) => [character, byte])), merges: [] },
};
export const TEMPLATE = "{{ bos_token }}{% for m in messages %}{% if m.role not in ['user', 'assistant'] %}{{ raise_exception('no role ' + m.role) }}{% endif %}[{{ m.role }}]{{ m.content }}{% if m.role == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}";
/** tokenizer_config.json */
export const TEXT_CONFIG = { chat_template: TEMPLATE, bos_token: '<s>', eos_token: { content: '</s>' } };
/** config.json */
export const FIELDS = {
  model_type: 'deepseek_v2', vocab_size: VOCAB, hidden_size: 8, intermediate_size: 8, num_hidden_layers: 1, num_attention_heads: 1, num_key_value_heads: null, kv_lora_rank: 4, q_lora_rank: null,
  qk_rope_head_dim: 2, qk_nope_head_dim: 2, v_head_dim: 4, max_position_embeddings: 256,
};

export const module = () => new models.DeepseekV2ForCausalLM(FIELDS);

/** model.safetensors */
export function weights() {
  const list = [...module().stateDict()].map(([name, { shape }], n) => [name, new Tensor(Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => Math.sin(n + i * 1.3)), [...shape])]);
  return safetensors.write(Object.fromEntries(list));
}

/** All files of the checkpoint. @returns {Record<string, string | Uint8Array>} */
export const files = () => ({
  'model.safetensors': weights(), 'config.json': JSON.stringify(FIELDS), 'tokenizer.json': JSON.stringify(TOKENIZER), 'tokenizer_config.json': JSON.stringify(TEXT_CONFIG),
});
