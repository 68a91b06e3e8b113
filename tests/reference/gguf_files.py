"""GGUF files for tests/node/gguf.test.js: every kind of block beside what gguf-py makes of it, and tiny models of llama and deepseek2, whose logits are those
of transformers on the dequantised weights. Permuted as llama.cpp's converter permutes, split and stacked as it splits and stacks."""
import os

os.environ['HF_HUB_OFFLINE'] = '1'

import json

import gguf
import numpy as np
import sentencepiece
import torch
from gguf import GGMLQuantizationType as T
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import DeepseekV2Config, DeepseekV2ForCausalLM, LlamaConfig, LlamaForCausalLM, logging

from fixture import FOLDER, randomise

logging.set_verbosity_error()
HERE = os.path.join(FOLDER, 'gguf')
BLOCK = {T.Q4_K: 144, T.Q6_K: 210}
RANDOM = np.random.default_rng(7)


def k_blocks(shape, kind, size):
    """gguf-py reads K blocks but does not write them: any bytes are a block, if its scales are of a sensible size."""
    count = int(np.prod(shape)) // 256
    raw = RANDOM.integers(0, 256, (count, BLOCK[kind]), dtype=np.uint8)
    half = lambda values: np.asarray(values, dtype=np.float16).reshape(-1, 1).view(np.uint8)
    if kind == T.Q4_K:   # scale * 0..63 * 0..15 less minimum * 0..63
        d = size * RANDOM.uniform(0.5, 1, count) / 300
        raw[:, 0:2], raw[:, 2:4] = half(d), half(d * 7)
    else:                # scale * -128..127 * -32..31
        raw[:, 208:210] = half(size * RANDOM.uniform(0.5, 1, count) / 1500)
    return raw.reshape(*shape[:-1], -1)


def encode(tensor, kind):
    """The bytes of a weight, and the numbers that these are."""
    values = tensor.detach().numpy().astype(np.float32)
    if kind in BLOCK:
        raw = k_blocks(values.shape, kind, float(np.abs(values).mean()))
    else:
        raw = gguf.quants.quantize(values, kind)
    return raw, gguf.quants.dequantize(raw, kind).astype(np.float32).reshape(values.shape)


class File:
    def __init__(self, name, arch, **parts):
        self.path = os.path.join(HERE, name)
        self.writer = gguf.GGUFWriter(self.path, arch, **parts)

    def add(self, name, tensor, kind=T.F32):
        raw, values = encode(tensor, kind)
        self.writer.add_tensor(name, np.ascontiguousarray(raw), raw_dtype=kind)
        return torch.from_numpy(values)

    def close(self):
        w = self.writer
        w.write_header_to_file()
        paths = [file.name for file in w.fout]
        w.write_kv_data_to_file()
        w.write_tensors_to_file()
        w.close()
        for path in paths:
            os.chmod(path, 0o644)
            print(os.path.basename(path), os.path.getsize(path) // 1024, 'kB')


def save(name, tensors, metadata=None):
    path = os.path.join(HERE, name)
    save_file({key: value.contiguous() for key, value in tensors.items()}, path, metadata=metadata)
    os.chmod(path, 0o644)


def types():
    file, expected = File('types.gguf', 'llama'), {}
    for kind in (T.F32, T.F16, T.BF16, T.Q4_0, T.Q8_0, T.Q4_K, T.Q6_K):
        expected[kind.name] = file.add(kind.name, torch.randn(5, 512, generator=torch.Generator().manual_seed(int(kind))), kind)
    file.writer.add_tensor('Q5_K', np.zeros((2, 176), np.uint8), raw_dtype=T.Q5_K)   # of a kind that lamella does not read
    file.close()
    save('types.safetensors', expected)


def permute(weight, heads):
    """llama.cpp turns neighbouring columns of a head where transformers turns halves: rows of q and k are moved accordingly."""
    return weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape)


def unpermute(weight, heads):
    return weight.reshape(heads, weight.shape[0] // heads // 2, 2, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape)


def common(file, config, head_count_kv):
    w = file.writer
    w.add_vocab_size(config.vocab_size)
    w.add_context_length(config.max_position_embeddings)
    w.add_embedding_length(config.hidden_size)
    w.add_block_count(config.num_hidden_layers)
    w.add_feed_forward_length(config.intermediate_size)
    w.add_head_count(config.num_attention_heads)
    w.add_head_count_kv(head_count_kv)
    w.add_layer_norm_rms_eps(config.rms_norm_eps)
    w.add_rope_freq_base(config.rope_parameters['rope_theta'])


TEXT = ('The lantern keeper walked along the shore in the evening and counted the boats that came home. One boat was missing, and she waited until the moon '
        'stood over the water. "They will come," said the old man, "they always come, 12 or 13 of them." In the morning 42 gulls sat on the wall, and the sea was quiet. ')
SAMPLES = ['The boats came home.', 'they always come, 12 or 13 of them', '  two  spaces\nand a line', 'naïve café → 🙂', "I'll say: It's HER'S!", '']
TEMPLATE = "{{ bos_token }}{% for message in messages %}{{ message.role }}: {{ message.content }}{{ eos_token }}{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"


def tokens_gpt2(file, size):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator([TEXT], trainers.BpeTrainer(vocab_size=size, special_tokens=['<s>', '</s>'], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    model = json.loads(tokenizer.to_str())['model']
    tokens = sorted(model['vocab'], key=model['vocab'].get)
    w = file.writer
    w.add_tokenizer_model('gpt2')
    w.add_tokenizer_pre('gpt-2')
    w.add_token_list(tokens)
    w.add_token_types([gguf.TokenType.CONTROL if token in ('<s>', '</s>') else gguf.TokenType.NORMAL for token in tokens])
    w.add_token_merges([' '.join(pair) for pair in model['merges']])
    w.add_bos_token_id(0)
    w.add_eos_token_id(1)
    w.add_add_bos_token(True)
    w.add_chat_template(TEMPLATE)
    return {text: [0, *tokenizer.encode(text).ids] for text in SAMPLES}, len(tokens)


def tokens_spm(file, size):
    corpus = os.path.join(HERE, 'corpus.txt')
    with open(corpus, 'w') as out:
        out.write('\n'.join(TEXT.split('. ')))
    prefix = os.path.join(HERE, 'spm')
    sentencepiece.SentencePieceTrainer.train(input=corpus, model_prefix=prefix, vocab_size=size, model_type='bpe', byte_fallback=True, character_coverage=1.0,
                                             minloglevel=2, normalization_rule_name='identity', remove_extra_whitespaces=False)
    spm = sentencepiece.SentencePieceProcessor(model_file=f'{prefix}.model')
    for path in (corpus, f'{prefix}.model', f'{prefix}.vocab'):
        os.remove(path)
    kind = lambda i: 2 if spm.is_unknown(i) else 3 if spm.is_control(i) else 6 if spm.is_byte(i) else 1
    w = file.writer
    w.add_tokenizer_model('llama')
    w.add_tokenizer_pre('default')
    w.add_token_list([spm.id_to_piece(i).encode() for i in range(size)])
    w.add_token_scores([spm.get_score(i) for i in range(size)])
    w.add_token_types([kind(i) for i in range(size)])
    w.add_bos_token_id(1)
    w.add_eos_token_id(2)
    w.add_add_bos_token(True)
    w.add_chat_template(TEMPLATE)
    return {text: [1, *spm.encode(text)] for text in SAMPLES}


def expected(name, model, weights, encodings, config):
    """Logits of the model on the numbers that the file holds."""
    result = model.load_state_dict(weights, strict=False)
    assert not result.unexpected_keys and all('inv_freq' in key or 'lm_head' in key for key in result.missing_keys), result
    ids = torch.randint(0, config.vocab_size, (2, 17), generator=torch.Generator().manual_seed(5), dtype=torch.int32)
    with torch.no_grad():
        save(name, {'ids': ids, 'logits': model(ids.long()).logits}, {'encodings': json.dumps(encodings)})


def llama():
    config = LlamaConfig(vocab_size=330, hidden_size=256, intermediate_size=256, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64,
                         rms_norm_eps=1e-5, tie_word_embeddings=True, rope_parameters=dict(rope_type='default', rope_theta=500.0))
    model = randomise_but_frequencies(LlamaForCausalLM._from_config(config, attn_implementation='eager'), 1)
    file = File('llama.gguf', 'llama')
    common(file, config, config.num_key_value_heads)
    file.writer.add_rope_dimension_count(64)
    encodings = tokens_spm(file, config.vocab_size)
    state, weights = model.state_dict(), {}
    kinds = [dict(attn_q=T.Q4_0, attn_k=T.Q8_0, attn_v=T.Q6_K, attn_output=T.F16, ffn_gate=T.Q4_0, ffn_up=T.Q8_0, ffn_down=T.BF16),
             dict(attn_q=T.Q4_K, attn_k=T.Q4_K, attn_v=T.Q6_K, attn_output=T.Q4_0, ffn_gate=T.Q4_K, ffn_up=T.Q4_K, ffn_down=T.Q6_K)]
    names = dict(attn_q='self_attn.q_proj', attn_k='self_attn.k_proj', attn_v='self_attn.v_proj', attn_output='self_attn.o_proj', ffn_gate='mlp.gate_proj', ffn_up='mlp.up_proj',
                 ffn_down='mlp.down_proj', attn_norm='input_layernorm', ffn_norm='post_attention_layernorm')
    put = lambda name, key, kind=T.F32: weights.__setitem__(key, file.add(name, state[key], kind))
    put('token_embd.weight', 'model.embed_tokens.weight', T.Q8_0)
    put('output_norm.weight', 'model.norm.weight')
    for i, layer in enumerate(kinds):
        for own, name in names.items():
            key, kind = f'model.layers.{i}.{name}.weight', layer.get(own, T.F32)
            heads = dict(attn_q=config.num_attention_heads, attn_k=config.num_key_value_heads).get(own)
            if not heads:
                put(f'blk.{i}.{own}.weight', key, kind)
                continue
            weights[key] = unpermute(file.add(f'blk.{i}.{own}.weight', permute(state[key], heads), kind), heads)
    file.close()
    expected('llama.safetensors', model, weights, encodings, config)


def randomise_but_frequencies(model, seed):
    frequencies = model.model.rotary_emb.inv_freq.clone()
    randomise(model, seed)
    model.model.rotary_emb.inv_freq.copy_(frequencies)
    return model


def llama3():
    """Frequencies that are stretched as Llama 3's: the file has their factors."""
    scaling = dict(rope_type='llama3', rope_theta=500000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=8192)
    config = LlamaConfig(vocab_size=40, hidden_size=64, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1, head_dim=64, max_position_embeddings=131072,
                         rope_parameters=scaling, attention_bias=True)
    model = randomise_but_frequencies(LlamaForCausalLM._from_config(config, attn_implementation='eager'), 4)
    file = File('llama3.gguf', 'llama')
    common(file, config, 1)
    file.writer.add_rope_dimension_count(64)
    file.writer.add_key_length(64)
    file.writer.add_value_length(64)
    plain = 1 / 500000.0 ** (torch.arange(0, 64, 2).float() / 64)
    state, weights = model.state_dict(), {}
    file.add('rope_freqs.weight', plain / model.model.rotary_emb.inv_freq)
    put = lambda name, key: weights.__setitem__(key, file.add(name, state[key]))
    for name, key in dict(token_embd='model.embed_tokens', output_norm='model.norm', output='lm_head').items():
        put(f'{name}.weight', f'{key}.weight')
    for name, key in dict(attn_output='self_attn.o_proj', attn_v='self_attn.v_proj', ffn_gate='mlp.gate_proj', ffn_up='mlp.up_proj', ffn_down='mlp.down_proj',
                          attn_norm='input_layernorm', ffn_norm='post_attention_layernorm').items():
        put(f'blk.0.{name}.weight', f'model.layers.0.{key}.weight')
    for part in ('weight', 'bias'):
        for name, heads in dict(q=2, k=1).items():
            key = f'model.layers.0.self_attn.{name}_proj.{part}'
            weights[key] = unpermute(file.add(f'blk.0.attn_{name}.{part}', permute(state[key], heads)), heads)
    put('blk.0.attn_v.bias', 'model.layers.0.self_attn.v_proj.bias')
    put('blk.0.attn_output.bias', 'model.layers.0.self_attn.o_proj.bias')
    file.close()
    expected('llama3.safetensors', model, weights, {}, config)


def deepseek(name, split, parts={}, **changes):
    fields = dict(vocab_size=300, hidden_size=256, intermediate_size=96, moe_intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=4, kv_lora_rank=64,
                  q_lora_rank=None, qk_nope_head_dim=32, qk_rope_head_dim=16, v_head_dim=32, n_routed_experts=4, n_shared_experts=2, num_experts_per_tok=2, first_k_dense_replace=1,
                  max_position_embeddings=64, rms_norm_eps=1e-6, routed_scaling_factor=1.5, norm_topk_prob=False, topk_method='greedy', mlp_layer_types=['dense', 'sparse'],
                  rope_parameters=dict(rope_type='default', rope_theta=10000.0), tie_word_embeddings=False)
    config = DeepseekV2Config(**{**fields, **changes})
    model = randomise_but_frequencies(DeepseekV2ForCausalLM._from_config(config, attn_implementation='eager'), 2)
    file = File(f'{name}.gguf', 'deepseek2', **parts)
    w, c = file.writer, config
    common(file, c, 1 if split else c.num_attention_heads)
    nope, rope, v, latent = c.qk_nope_head_dim, c.qk_rope_head_dim, c.v_head_dim, c.kv_lora_rank
    w.add_rope_dimension_count(rope)
    w.add_leading_dense_block_count(c.first_k_dense_replace)
    if c.q_lora_rank:
        w.add_q_lora_rank(c.q_lora_rank)
    w.add_kv_lora_rank(latent)
    w.add_key_length(latent + rope if split else nope + rope)
    w.add_value_length(latent if split else v)
    if split:
        w.add_key_length_mla(nope + rope)
        w.add_value_length_mla(v)
    w.add_expert_feed_forward_length(c.moe_intermediate_size)
    w.add_expert_count(c.n_routed_experts)
    w.add_expert_used_count(c.num_experts_per_tok)
    w.add_expert_shared_count(c.n_shared_experts)
    w.add_expert_weights_scale(c.routed_scaling_factor)
    if c.rope_parameters['rope_type'] == 'yarn':
        w.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        w.add_rope_scaling_factor(c.rope_parameters['factor'])
        w.add_rope_scaling_orig_ctx_len(c.rope_parameters['original_max_position_embeddings'])
        w.add_rope_scaling_yarn_log_mul(0.1 * c.rope_parameters['mscale_all_dim'])
    encodings, count = tokens_gpt2(file, c.vocab_size - 8)
    state, weights = model.state_dict(), {}
    put = lambda name, key, kind=T.F32: weights.__setitem__(key, file.add(name, state[key], kind))
    put('token_embd.weight', 'model.embed_tokens.weight', T.Q4_K if c.hidden_size % 256 == 0 else T.F16)
    put('output_norm.weight', 'model.norm.weight')
    put('output.weight', 'lm_head.weight', T.Q6_K if c.hidden_size % 256 == 0 else T.F16)
    for i in range(c.num_hidden_layers):
        own, here = f'blk.{i}.', f'model.layers.{i}.'
        wide = T.Q4_K if c.hidden_size % 256 == 0 else T.Q8_0
        names = dict(attn_norm=('input_layernorm', T.F32), ffn_norm=('post_attention_layernorm', T.F32), attn_output=('self_attn.o_proj', T.Q4_0),
                     attn_kv_a_mqa=('self_attn.kv_a_proj_with_mqa', wide), attn_kv_a_norm=('self_attn.kv_a_layernorm', T.F32))
        if c.q_lora_rank:
            names |= dict(attn_q_a=('self_attn.q_a_proj', wide), attn_q_a_norm=('self_attn.q_a_layernorm', T.F32), attn_q_b=('self_attn.q_b_proj', T.Q8_0))
        else:
            names |= dict(attn_q=('self_attn.q_proj', wide))
        if i < c.first_k_dense_replace:
            names |= dict(ffn_gate=('mlp.gate_proj', wide), ffn_up=('mlp.up_proj', wide), ffn_down=('mlp.down_proj', T.Q4_0))
        else:
            names |= dict(ffn_gate_inp=('mlp.gate', T.F32), ffn_gate_shexp=('mlp.shared_experts.gate_proj', wide), ffn_up_shexp=('mlp.shared_experts.up_proj', wide),
                          ffn_down_shexp=('mlp.shared_experts.down_proj', T.Q8_0))
        for name_, (key, kind) in names.items():
            put(f'{own}{name_}.weight', f'{here}{key}.weight', kind)
        key = f'{here}self_attn.kv_b_proj.weight'
        if split:
            both = state[key].reshape(c.num_attention_heads, nope + v, latent)
            k = file.add(f'{own}attn_k_b.weight', both[:, :nope].transpose(1, 2), T.Q8_0)
            values = file.add(f'{own}attn_v_b.weight', both[:, nope:], T.Q8_0)
            weights[key] = torch.cat([k.transpose(1, 2), values], 1).reshape(state[key].shape)
        else:
            put(f'{own}attn_kv_b.weight', key, T.Q8_0)
        if i < c.first_k_dense_replace:
            continue
        inter = c.moe_intermediate_size
        gate_up, down = state[f'{here}mlp.experts.gate_up_proj'], state[f'{here}mlp.experts.down_proj']
        gate = file.add(f'{own}ffn_gate_exps.weight', gate_up[:, :inter], wide)
        up = file.add(f'{own}ffn_up_exps.weight', gate_up[:, inter:], wide)
        weights[f'{here}mlp.experts.gate_up_proj'] = torch.cat([gate, up], 1)
        weights[f'{here}mlp.experts.down_proj'] = file.add(f'{own}ffn_down_exps.weight', down, T.Q4_0)
    file.close()
    expected(f'{name}.safetensors', model, weights, encodings, config)


if __name__ == '__main__':
    os.makedirs(HERE, exist_ok=True)
    types()
    llama()
    llama3()
    deepseek('deepseek2', True)
    deepseek('deepseek2_kv_b', False, hidden_size=64, q_lora_rank=32, num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=128,
             rope_parameters=dict(rope_type='yarn', rope_theta=10000.0, factor=4.0, original_max_position_embeddings=32, beta_fast=32, beta_slow=1, mscale=0.707, mscale_all_dim=0.707))
    # In four files: the first without a tensor, k_b and v_b of a layer in two.
    deepseek('deepseek2_parts', True, dict(split_max_tensors=13, small_first_shard=True), vocab_size=290, hidden_size=64, num_attention_heads=2, num_key_value_heads=2)
