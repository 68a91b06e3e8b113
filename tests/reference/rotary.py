"""Fixtures of rotary position embedding: rotary-embedding-torch (neighbours are pairs) and transformers' Llama (halves, scaled variants)."""
import torch
from rotary_embedding_torch import RotaryEmbedding
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb

from fixture import Fixture


def neighbours(f):
    cases = [  # dim, shape, arguments there and here
        (16, (2, 3, 37, 16), {}, {}), (10, (3, 2, 9, 14), {}, {}), (6, (2, 41, 7), {'theta': 500.}, {'base': 500}),
        (24, (2, 2, 30, 24), {'interpolate_factor': 2.5}, {'scaling': {'type': 'linear', 'factor': 2.5}}),
    ]
    for dim, shape, torch_options, options in cases:
        module = RotaryEmbedding(dim, **torch_options)
        f.add(f'neighbours, {dim} of {shape} {options}', 'nn.RotaryEmbedding', [dim, {'interleaved': True, **options}], None, torch.randn(shape),
              call=module.rotate_queries_or_keys, weights={})
    freqs = torch.rand(6) * 2
    f.add('neighbours, learned frequencies', 'nn.RotaryEmbedding', [12, {'interleaved': True, 'learnedFreq': True}], None, torch.randn(2, 3, 25, 12),
          call=RotaryEmbedding(12, custom_freqs=freqs).rotate_queries_or_keys, weights={'freqs': freqs})


def llama(dim, parameters, length):
    config = LlamaConfig(hidden_size=4 * dim, num_attention_heads=4, head_dim=dim, max_position_embeddings=length, rope_parameters=parameters)
    module = LlamaRotaryEmbedding(config)

    def call(x):
        cos, sin = module(x, torch.arange(x.shape[2])[None])
        return apply_rotary_pos_emb(x, x, cos, sin)[0]
    return call


def halves(f):
    yarn = {'rope_type': 'yarn', 'factor': 40., 'original_max_position_embeddings': 64, 'beta_fast': 4., 'beta_slow': 0.5}
    cases = [  # dim, rope_theta, scaling
        (16, 10000., {}), (22, 1e6, {}), (18, 10000., {'rope_type': 'linear', 'factor': 3.}), (20, 5000., {'rope_type': 'dynamic', 'factor': 4.}),
        (2, 10000., {'rope_type': 'linear', 'factor': 1.}),
        (32, 10000., {**yarn, 'mscale': 0.707, 'mscale_all_dim': 0.9}), (24, 10000., yarn), (16, 300., {**yarn, 'factor': 8., 'truncate': False}),
        (16, 10000., {**yarn, 'attention_factor': 1.3}),
    ]
    for dim, theta, scaling in cases:
        length = 24
        call = llama(dim, {'rope_type': 'default', 'rope_theta': theta, **scaling}, length)
        js = {**scaling, **({'max_position_embeddings': length} if scaling.get('rope_type') == 'dynamic' else {})}
        f.add(f'halves, {dim} {theta} {js}', 'nn.RotaryEmbedding', [dim, {'base': theta, 'scaling': js}], None, call=call, weights={},
              inputs=[[None, 3, None, dim]], runs=[(torch.randn(n, 3, t, dim),) for n, t in [(2, 7), (1, 31)]])

    def some_columns(x):
        return torch.cat([x[..., :5], llama(8, {'rope_type': 'default', 'rope_theta': 10000.}, 64)(x[..., 5:13].contiguous()), x[..., 13:]], -1)
    f.add('halves, columns 5 to 13 of 17', 'nn.RotaryEmbedding', [8, {'first': 5}], None, torch.randn(2, 2, 19, 17), call=some_columns, weights={})


if __name__ == '__main__':
    torch.manual_seed(50)
    torch.set_num_threads(1)
    fixture = Fixture('rotary')
    neighbours(fixture)
    halves(fixture)
    fixture.write()
