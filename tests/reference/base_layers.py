"""Fixtures of RMSNorm, GroupNorm, Softplus, normalize, and of scaled dot-product attention in its forms."""
import torch
import torch.nn.functional as F
from torch import nn

from fixture import Fixture, randomise


def rms_norm():
    f = Fixture('rms_norm')
    cases = [(7, {}, (3, 7)), (64, {}, (2, 5, 64)), ([4, 6], {'eps': 1e-3}, (3, 4, 6)), (33, {'elementwise_affine': False}, (2, 3, 4, 33)),
             (10, {'eps': 0.5}, (10,)), ([3, 5, 7], {}, (2, 3, 5, 7))]
    for i, (shape, options, x) in enumerate(cases):
        js = {{'elementwise_affine': 'elementwiseAffine'}.get(k, k): v for k, v in options.items()}
        f.add(f'{shape} {options}', 'nn.RMSNorm', [shape, js], randomise(nn.RMSNorm(shape, **options), i), torch.randn(x) * 4 + 2)
    f.add('numbers so small that eps is what counts', 'nn.RMSNorm', [9], randomise(nn.RMSNorm(9), 9), torch.randn(4, 9) * 1e-4)
    f.add('one row and many', 'nn.RMSNorm', [21], randomise(nn.RMSNorm(21), 8), runs=[(torch.randn(n, 21),) for n in (1, 500, 3)])
    f.write()


def band(queries, keys, window=(-1, -1), causal=False, align='start'):
    """True where flash-attention's window lets a query see a key; queries count from key 0, or up to the last key."""
    at = torch.arange(queries)[:, None] + (keys - queries if align == 'end' else 0)
    left, right = window[0], 0 if causal else window[1]
    key = torch.arange(keys)[None]
    return ((key >= at - left) | (left < 0)) & ((key <= at + right) | (right < 0))


def attention():
    f = Fixture('scaled_dot_product_attention')

    def add(name, options, *inputs, mask=None, runs=None, inputs_=None):
        def call(q, k, v, mask=mask):
            window = options.get('windowSize', -1)
            window = window if isinstance(window, list) else [window, window]
            allowed = band(q.shape[-2], k.shape[-2], window, options.get('isCausal', False), options.get('align', 'start'))
            bias = torch.zeros(allowed.shape).masked_fill(~allowed, -torch.inf)
            if mask is not None:
                bias = bias + (torch.zeros(mask.shape).masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else mask)
            plain = mask is None and set(options) <= {'isCausal', 'scale', 'enableGqa'}
            shared = dict(scale=options.get('scale'), enable_gqa=options.get('enableGqa', False))
            if plain:
                return F.scaled_dot_product_attention(q, k, v, is_causal=options.get('isCausal', False), **shared)
            return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, **shared)
        masked = {'attnMask': {'input': 3}} if len(inputs) == 4 else {}
        declared = {} if inputs_ is None else {'inputs': inputs_}
        f.add(name, 'F.scaledDotProductAttention', [{'input': 0}, {'input': 1}, {'input': 2}, {**options, **masked}], None, *inputs, call=call, runs=runs, **declared)

    def qkv(lead, t, s, d, e=None, kv=None):
        kv = lead if kv is None else kv
        return torch.randn(*lead, t, d), torch.randn(*kv, s, d), torch.randn(*kv, s, e or d)

    add('plain', {}, *qkv((2, 3), 7, 11, 5, 9))
    add('two axes', {}, *qkv((), 5, 3, 8))
    add('causal, square, across tiles', {'isCausal': True}, *qkv((1, 2), 101, 101, 7))
    add('causal, fewer queries', {'isCausal': True}, *qkv((2, 1), 5, 13, 8))
    add('causal at the end, fewer queries', {'isCausal': True, 'align': 'end'}, *qkv((2, 1), 5, 13, 8))
    add('causal at the end, one query', {'isCausal': True, 'align': 'end'}, *qkv((3, 2), 1, 77, 16))
    add('causal at the end, more queries: the first see nothing', {'isCausal': True, 'align': 'end'}, *qkv((2, 2), 9, 4, 6))
    add('scale', {'scale': 0.7}, *qkv((2, 2), 6, 7, 9))
    add('scale 0: the mean', {'scale': 0}, *qkv((2, 2), 6, 7, 9))
    add('scale, causal', {'scale': 2.4, 'isCausal': True}, *qkv((2, 2), 9, 9, 3))
    add('grouped heads, causal', {'enableGqa': True, 'isCausal': True}, *qkv((2, 6), 9, 9, 8, kv=(2, 2)))
    for window in (0, 1, 20, [3, -1], [-1, 2], [2, 5]):
        add(f'window {window}', {'windowSize': window}, *qkv((2, 1), 37, 37, 7))
    add('window over tiles', {'windowSize': [30, 9]}, *qkv((1, 2), 150, 150, 5))
    add('causal window', {'windowSize': 12, 'isCausal': True}, *qkv((1, 2), 121, 121, 5))
    add('causal window at the end, grouped heads', {'windowSize': [5, 9], 'isCausal': True, 'align': 'end', 'enableGqa': True}, *qkv((2, 4), 3, 90, 7, kv=(2, 2)))
    add('window at the end, more queries', {'windowSize': [1, 2], 'align': 'end'}, *qkv((2, 1), 9, 5, 4))
    add('window that leaves nobody', {'windowSize': [2, 1]}, *qkv((2, 1), 40, 5, 4))
    add('added mask, window and scale', {'windowSize': [6, 3], 'scale': 1.3}, *qkv((2, 3), 19, 19, 5), torch.randn(2, 1, 19, 19))
    add('bool mask, causal', {'isCausal': True}, *qkv((2, 3), 19, 19, 5), torch.rand(3, 19, 19) < 0.6)
    add('lengths that change', {'windowSize': [7, 0], 'align': 'end'}, inputs_=[[1, 2, None, 8]] * 3,
        runs=[qkv((1, 2), t, s, 8) for t, s in [(5, 5), (1, 6), (90, 140), (1, 1)]])
    f.write()


def group_norm():
    f = Fixture('group_norm')
    cases = [(1, 6, {}, (3, 6, 7, 5)), (2, 6, {'eps': 0.3}, (2, 6, 4, 9)), (6, 6, {}, (2, 6, 11, 3)), (3, 9, {'affine': False}, (2, 9, 6, 5)),
             (4, 20, {}, (3, 20, 13)), (5, 10, {}, (7, 10)), (8, 32, {}, (1, 32, 15, 14)), (2, 34, {}, (2, 34, 5, 5)), (3, 6, {'affine': False}, (2, 6, 3, 4, 5)),
             (7, 7, {}, (1, 7, 9)), (2, 4, {}, (2, 4, 2, 3, 3))]
    for i, (groups, c, options, shape) in enumerate(cases):
        f.add(f'{groups} of {list(shape)} {options}', 'nn.GroupNorm', [groups, c, options], randomise(nn.GroupNorm(groups, c, **options), i), torch.randn(shape) * 3 + 1)
    f.add('a large mean', 'nn.GroupNorm', [2, 8], randomise(nn.GroupNorm(2, 8), 20), torch.randn(2, 8, 9, 8) * 0.5 + 30)
    module = nn.Sequential(nn.Conv2d(3, 12, 3, padding=1), nn.GroupNorm(3, 12), nn.SiLU(), nn.Conv2d(12, 5, 1))
    layers = [{'class': 'nn.Conv2d', 'args': [3, 12, 3, {'padding': 1}]}, {'class': 'nn.GroupNorm', 'args': [3, 12]}, {'class': 'nn.SiLU', 'args': []},
              {'class': 'nn.Conv2d', 'args': [12, 5, 1]}]
    f.add('between convolutions, sizes that change', 'nn.Sequential', layers, randomise(module, 21), inputs=[[None, 3, None, None]],
          runs=[(torch.randn(n, 3, h, w),) for n, h, w in [(1, 9, 7), (3, 5, 12), (2, 1, 1)]])
    weight = torch.randn(6)
    f.add('a weight only', 'F.groupNorm', [{'input': 0}, 3, {'weight': 'weight', 'shape': [6]}, None, 1e-3], None, torch.randn(2, 6, 5),
          weights={'weight': weight}, call=lambda x: F.group_norm(x, 3, weight, eps=1e-3))
    f.write()


def softplus():
    f = Fixture('softplus')
    x = torch.cat([torch.randn(100) * 3, torch.linspace(-120, 120, 41)])
    for args in ([], [2], [0.3, 5], [{'threshold': 1}], [{'beta': -1.5}], [3, -2], [1, 40]):
        options = args[0] if args and isinstance(args[0], dict) else {}
        module = nn.Softplus(**options) if options else nn.Softplus(*args)
        f.add(str(args), 'nn.Softplus', args, module, x)
    f.write()


def normalize():
    f = Fixture('normalize')
    for shape, options in [((3, 7), {}), ((5, 64), {'dim': -1}), ((2, 5, 3), {'dim': 0}), ((2, 6, 4, 5), {}), ((2, 3, 4, 5), {'dim': 2, 'eps': 2.5}), ((11,), {'dim': 0})]:
        x = torch.randn(shape)
        x[0] *= 3e-9
        f.add(f'{list(shape)} {options}', 'F.normalize', [{'input': 0}, options], None, x, call=lambda v, options=options: F.normalize(v, **options))
    f.add('zeros', 'F.normalize', [{'input': 0}, {'dim': 1}], None, torch.zeros(2, 5) + torch.tensor([[0.0], [1.0]]), call=F.normalize)
    f.add('shorter than eps', 'F.normalize', [{'input': 0}, {'dim': 1}], None, torch.randn(2, 5) * 1e-14, call=F.normalize)
    f.write()


if __name__ == '__main__':
    torch.manual_seed(30)
    torch.set_num_threads(1)
    for make in (rms_norm, attention, group_norm, softplus, normalize):
        make()
