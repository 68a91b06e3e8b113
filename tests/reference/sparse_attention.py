"""Fixtures of native-sparse-attention-pytorch's SparseAttention, from the package's whole-sequence forward, and of the two compress networks
that seeds.py leaves out."""
from copy import deepcopy

import torch
from einops.layers.torch import EinMix
from native_sparse_attention_pytorch import SparseAttention
from native_sparse_attention_pytorch.compress_networks import AttentionPool, CompressTransformer, ConvLinearCompress, GroupedMLP, SingleProjection
from torch import nn

import seed_modules
from fixture import Fixture, randomise

SMALL = dict(dim=14, dim_head=6, heads=4, kv_heads=2, sliding_window_size=3, compress_block_size=4, compress_block_sliding_stride=2, selection_block_size=4, num_selected_blocks=2)


def camel(name):
    first, *rest = name.split('_')
    return first + ''.join(part.capitalize() for part in rest)


def prepare(module, seed, sharp=1.0):
    """Weights as they would be after training: attention that is not flat, gates that differ, memory and positions that are not zero."""
    freqs = module.rotary_emb.freqs.detach().clone() if isinstance(module, SparseAttention) else None
    randomise(module, seed)
    for part in module.modules():
        if isinstance(part, EinMix):   # randomise takes [heads, in, out] for [out, in, ...]
            part.weight.data.mul_(part.weight.shape[-1] ** 0.5)
    if freqs is not None:
        generator = torch.Generator().manual_seed(seed)
        module.rotary_emb.freqs.data.copy_(freqs * (1 + 0.2 * torch.rand(freqs.shape, generator=generator)))
        for parameter, size in [(module.compress_mem_kv, 1.0), (module.k_intrablock_positions, 0.7), (module.v_intrablock_positions, 0.7)]:
            parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * size)
        inner, kv, _ = module.qkv_split
        module.to_qkv.weight.data[:inner + kv] *= sharp
    return module


class Cases:
    def __init__(self, name):
        self.fixture = Fixture(name, tolerance=2e-5)
        self.seed = 0

    def add(self, name, lengths, batches=(2, 1), sharp=1.2, described=None, strategy=None, **options):
        """`described`: the compress network as the JavaScript side makes it."""
        self.seed += 1
        options = {**SMALL, **options}
        torch.manual_seed(self.seed)
        module = prepare(SparseAttention(**deepcopy(options)), self.seed, sharp)
        args = {camel(key): value for key, value in options.items() if key not in ('compress_mlp', 'strategy_combine_mlp')}
        if described:
            args['compressMlp'] = described
        if strategy:
            args['strategyCombineMlp'] = strategy
        runs = [(torch.randn(batches[i % len(batches)], length, options['dim']),) for i, length in enumerate(lengths)]
        self.fixture.add(name, 'nn.SparseAttention', [args], module, runs=runs, inputs=[[None, None, options['dim']]])


def forms():
    lengths = (13, 1, 24, 3, 37)   # the weights are the same: less than a block, not a multiple of anything, multiples
    for causal in (True, False):
        form = 'causal' if causal else 'not causal'
        c = Cases('sparse_attention' if causal else 'sparse_attention_not_causal')
        c.add(f'{form}, overlapping', lengths, causal=causal)
        c.add(f'{form}, each head for itself', (22, 8), causal=causal, query_heads_share_selected_kv=False)
        c.add(f'{form}, without groups', (19, 2), causal=causal, kv_heads=None, heads=3)
        c.add(f'{form}, one key head', (21, 16), causal=causal, kv_heads=1, query_heads_share_selected_kv=causal)
        c.add(f'{form}, stride = block = selection', (20, 3, 30), causal=causal, compress_block_size=4, compress_block_sliding_stride=4, selection_block_size=4)
        c.add(f'{form}, stride = block < selection', (26, 12), causal=causal, compress_block_size=3, compress_block_sliding_stride=3, selection_block_size=6, num_selected_blocks=1)
        c.add(f'{form}, selection of three strides', (31, 5), causal=causal, compress_block_size=3, compress_block_sliding_stride=2, selection_block_size=6)
        c.add(f'{form}, none selected', (17, 4), causal=causal, num_selected_blocks=0)
        c.add(f'{form}, more selected than there are', (18, 6, 33), causal=causal, num_selected_blocks=9)
        c.add(f'{form}, one block only', (7, 5), causal=causal, selection_block_size=6, num_selected_blocks=1)
        c.add(f'{form}, no norm', (15,), causal=causal, norm=False)
        c.add(f'{form}, memory of three', (14, 1), causal=causal, num_compressed_mem_kv=3, sliding_window_size=5)
        c.add(f'{form}, blocks too far from the best', (28,), causal=causal, sharp=5.0, num_selected_blocks=4, compress_block_size=2, compress_block_sliding_stride=2, selection_block_size=2)
        c.add(f'{form}, window longer than the sequence', (11, 6), causal=causal, sliding_window_size=50)
        c.add(f'{form}, wider heads', (20, 5), causal=causal, dim_head=10)
        c.add(f'{form}, more than one block of queries', (117,), batches=(1,), causal=causal, heads=2, kv_heads=1, dim=6, dim_head=4, compress_block_size=2,
              compress_block_sliding_stride=1, selection_block_size=2, num_selected_blocks=3)
        c.add(f'{form}, flags that do nothing', (12,), causal=causal, use_diff_topk=True, compress_mlp_expand_factor=0.5)
        c.fixture.write()


def compressors():
    network = lambda kind, *args: {'class': f'nn.{kind}', 'args': list(args)}
    heads, d, block = 2, 6, 4
    networks = [
        (ConvLinearCompress(heads, d, block), network('ConvLinearCompress', heads, d, block)),
        (AttentionPool(d, block), network('AttentionPool', d, block)),
        (GroupedMLP(d, block, heads), network('GroupedMLP', d, block, heads)),
        (SingleProjection(d, block), network('SingleProjection', d, block)),
        (SingleProjection(d, block, heads), network('SingleProjection', d, block, heads)),
        (CompressTransformer(1, heads * d, 3), network('CompressTransformer', 1, heads * d, 3)),
        (CompressTransformer(2, heads * d, 4, 9), network('CompressTransformer', 2, heads * d, 4, 9)),
        (seed_modules.EfficientConvLinearCompress(heads, d, block, 3), network('EfficientConvLinearCompress', heads, d, block, {'reductionFactor': 3})),
        (seed_modules.ScaledAttentionPool(d, block), network('ScaledAttentionPool', d, block)),
        (seed_modules.EnhancedGroupedMLP(d, block, heads, 0.5, 0.1), network('EnhancedGroupedMLP', d, block, heads, 0.5, 0.1)),
    ]
    for causal, name in [(False, 'sparse_attention_compress_not_causal'), (True, 'sparse_attention_compress')]:
        c = Cases(name)
        for module, described in networks:
            if causal:
                c.add(described['class'], (23, 4, 10), causal=True, compress_mlp=module, described=described)
            else:
                c.add(described['class'], (18, 8), causal=False, compress_mlp=module, described=described, compress_block_sliding_stride=4)
        if not causal:
            c.fixture.write()
    mlp = nn.Sequential(nn.Linear(14, 5), nn.SiLU(), nn.Linear(5, 12))
    layers = {'class': 'nn.Sequential', 'args': [network('Linear', 14, 5), network('SiLU'), network('Linear', 5, 12)]}
    c.add('gates from an MLP', (16,), causal=True, strategy_combine_mlp=mlp, strategy=layers)
    f = c.fixture
    for i, (module, described, shape) in enumerate([
            (SingleProjection(5, 3), network('SingleProjection', 5, 3), (2, 4, 3, 3, 5)), (SingleProjection(5, 3, 4), network('SingleProjection', 5, 3, 4), (2, 4, 3, 3, 5)),
            (CompressTransformer(1, 8, 2), network('CompressTransformer', 1, 8, 2), (2, 2, 3, 5, 4)), (CompressTransformer(3, 12, 1, 7), network('CompressTransformer', 3, 12, 1, 7), (1, 3, 2, 1, 4))]):
        f.add(f'alone {i}', described['class'], described['args'], prepare(module, 90 + i), torch.randn(shape))
    f.write()


if __name__ == '__main__':
    torch.manual_seed(60)
    torch.set_num_threads(1)
    forms()
    compressors()
