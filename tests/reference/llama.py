"""Fixtures of Llama and Mistral: whole models of tiny configurations, and a folder as transformers saves it. Outputs are transformers'."""
import os

os.environ['HF_HUB_OFFLINE'] = '1'

import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM, logging

from fixture import FOLDER, Fixture, randomise

logging.set_verbosity_error()

TINY = dict(vocab_size=43, hidden_size=24, intermediate_size=17, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=32,
            bos_token_id=1, eos_token_id=2, rms_norm_eps=1e-5)
LONG = dict(original_max_position_embeddings=16)
MODELS = {
    'grouped heads': {},
    'one key head, tied, biases, gelu, rms_norm_eps': dict(num_key_value_heads=1, tie_word_embeddings=True, attention_bias=True, mlp_bias=True, hidden_act='gelu', rms_norm_eps=0.05),
    'every head its key, rope_theta': dict(num_key_value_heads=4, rope_parameters=dict(rope_type='default', rope_theta=500.0)),
    'llama3': dict(head_dim=16, rope_parameters=dict(rope_type='llama3', rope_theta=20.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, **LONG)),
    'yarn': dict(rope_parameters=dict(rope_type='yarn', rope_theta=10000.0, factor=2.0, beta_fast=4.0, beta_slow=0.5, **LONG)),
    'yarn with one mscale': dict(rope_parameters=dict(rope_type='yarn', rope_theta=100.0, factor=4.0, mscale=0.7, original_max_position_embeddings=8)),
    'linear, head_dim larger': dict(head_dim=10, rope_parameters=dict(rope_type='linear', rope_theta=10000.0, factor=2.5)),
    'dynamic, head_dim smaller': dict(head_dim=4, max_position_embeddings=10, rope_parameters=dict(rope_type='dynamic', rope_theta=10000.0, factor=2.0)),
    'mistral, sliding_window': dict(model_type='mistral', sliding_window=5),
}


def make(changes, seed):
    fields = {**TINY, **changes}
    mistral = fields.pop('model_type', 'llama') == 'mistral'
    config = (MistralConfig if mistral else LlamaConfig)(**fields)
    kind = MistralForCausalLM if mistral else LlamaForCausalLM
    model = kind._from_config(config, attn_implementation='eager')
    frequencies = model.model.rotary_emb.inv_freq.clone()
    randomise(model, seed)
    model.model.rotary_emb.inv_freq.copy_(frequencies)
    return model


def models():
    f = Fixture('llama', tolerance=1e-4)
    for i, (name, changes) in enumerate(MODELS.items()):
        generator = torch.Generator().manual_seed(600 + i)
        runs = [(torch.randint(0, TINY['vocab_size'], shape, generator=generator, dtype=torch.int32),) for shape in ((2, 5), (1, 1), (2, 17))]
        model = make(changes, 700 + i)
        weights = {key: value for key, value in model.state_dict().items() if not (changes.get('tie_word_embeddings') and key == 'lm_head.weight')}
        # A model anew for each run: dynamic frequencies stay with one.
        f.add(name, 'models.LlamaForCausalLM', [{**TINY, **changes}], model, weights=weights, runs=runs, inputs=[{'shape': [None, None], 'dtype': 'i32'}],
              call=lambda ids: make(changes, 700 + i)(ids.long()).logits)
    f.write()


def saved():
    model = make(dict(tie_word_embeddings=True, **MODELS['llama3']), 800)
    ids = torch.randint(0, TINY['vocab_size'], (2, 13), generator=torch.Generator().manual_seed(801), dtype=torch.int32)
    folder = os.path.join(FOLDER, 'llama_saved')
    model.save_pretrained(folder)
    os.remove(os.path.join(folder, 'generation_config.json'))
    with torch.no_grad():
        save_file({'ids': ids, 'logits': model(ids.long()).logits.contiguous()}, os.path.join(folder, 'io.safetensors'))
    for file in os.listdir(folder):
        os.chmod(os.path.join(folder, file), 0o644)


if __name__ == '__main__':
    models()
    saved()
