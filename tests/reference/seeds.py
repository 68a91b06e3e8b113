"""Fixtures of the other modules of seed_modules.py, of the originals they vary, and of the small layers these need."""
import torch
from einops.layers.torch import EinMix
from torch import nn

import seed_modules
from fixture import Fixture, randomise
from sparse_attention_import import compress_networks


class QuickGELU(nn.Module):
    """open_clip's: x sigmoid(1.702 x)."""

    def forward(self, x):
        return x * torch.sigmoid(1.702 * x)


def by_erfc(x):
    return (x.double() * torch.special.erfc(x.double() * -0.5 ** 0.5) / 2).float()


def activations():
    f = Fixture('activations')
    edges = torch.tensor([0.0, -0.0, 1.0, -1.0, 5.0, -5.0, 15.0, -15.0, 19.9, -19.9, 20.1, -20.1, 1e-4, -1e-4, 1e-8, -1e-8, 1e-30])
    near = torch.cat([torch.randn(135) * 3, edges[:10]]).reshape(5, 29)
    images = (torch.randn(2, 3, 5, 7) * 4)
    small = torch.linspace(-1, 1, 121).reshape(11, 11) * 0.03
    tail = -torch.cat([torch.linspace(2, 40, 77), torch.tensor([88.5, 104, 1e3, 1e4])])   # small results, no larger one beside them
    far = torch.cat([edges, -edges, torch.tensor([30.0, -30, 87, -87, 88.5, -88.5, 90, -90, 104, -104, 1e3, -1e3, 1e4, -1e4])]).reshape(2, 1, 24)
    assert far.numel() == 48
    kinds = [
        ('nn.SiLU', [], nn.SiLU()), ('nn.SiLU', [{'inplace': True}], nn.SiLU()), ('nn.Swish', [], seed_modules.Swish()),
        ('nn.Mish', [], seed_modules.Mish()), ('nn.Mish', [True], nn.Mish()), ('nn.GELU', [], nn.GELU()),
        ('nn.GELU', [{'approximate': 'none'}], nn.GELU(approximate='none')), ('nn.GELU', [{'approximate': 'tanh'}], nn.GELU(approximate='tanh')),
        ('nn.QuickGELU', [], QuickGELU()), ('nn.Tanh', [], nn.Tanh()), ('nn.Softplus', [], nn.Softplus()),
        ('nn.Softplus', [{'beta': 1, 'threshold': 20}], nn.Softplus(1, 20)),
    ]
    for kind, args, module in kinds:
        for name, x in [('rows', near), ('images', images), ('near zero', small), ('far from zero', far)]:
            f.add(f'{args} {name}', kind, args, module, x)
        # There 1 + erf(x / sqrt(2)) cancels: PyTorch's own gelu in f32 is off by 2e-5 of the largest result. The same function by erfc does not.
        exact_gelu = kind == 'nn.GELU' and args != [{'approximate': 'tanh'}]
        f.add(f'{args} negative', kind, args, module, tail, call=by_erfc if exact_gelu else None)
    f.add('all below -5', 'nn.GELU', [], nn.GELU(), tail[7:], call=by_erfc)
    for kind, module in [('nn.Mish', seed_modules.Mish()), ('nn.Swish', seed_modules.Swish()), ('nn.GELU', nn.GELU())]:
        f.add('sizes that change', kind, [], module, runs=[(torch.randn(n, 13) * 5,) for n in (3, 1, 6)])
    f.write()


def conv1d():
    f = Fixture('conv1d')
    cases = [  # in, out, kernel, options, n, l
        (3, 8, 3, dict(stride=2, padding=1), 2, 15), (5, 7, 1, dict(), 3, 6), (16, 33, 1, dict(stride=2, bias=False), 1, 9), (1, 4, 5, dict(padding=2), 3, 11),
        (4, 6, 7, dict(padding=3, stride=3), 2, 20), (8, 8, 3, dict(dilation=2, padding=2), 2, 11), (5, 6, 3, dict(dilation=3, padding=4, stride=2), 1, 13),
        (8, 8, 3, dict(groups=8, padding=1), 2, 10), (8, 16, 3, dict(groups=8, padding=1, stride=2), 1, 9), (12, 18, 4, dict(groups=3, stride=4), 2, 17),
        (33, 16, 3, dict(), 2, 5), (3, 5, 3, dict(padding=1), 2, 1), (2, 3, 5, dict(padding='same'), 3, 8), (6, 5, 4, dict(padding='same', dilation=2), 2, 9),
        (6, 5, 3, dict(padding='valid', bias=False), 1, 9), (40, 24, 9, dict(padding=4), 2, 37), (32, 48, 3, dict(padding=1, groups=2), 2, 64),
    ]
    for i, (c, out, kernel, options, n, l) in enumerate(cases):
        f.add(f'{c}->{out} {kernel} {options}', 'nn.Conv1d', [c, out, kernel, options], randomise(nn.Conv1d(c, out, kernel, **options), i), torch.randn(n, c, l))
    f.add('lengths that change', 'nn.Conv1d', [6, 9, 4, {'stride': 2, 'padding': 1}], randomise(nn.Conv1d(6, 9, 4, stride=2, padding=1), 99), inputs=[[None, 6, None]],
          runs=[(torch.randn(n, 6, l),) for n, l in [(1, 9), (3, 24), (1, 4), (2, 31)]])
    f.write()


def batch_norm1d():
    f = Fixture('batch_norm1d')
    cases = [(5, {}, (4, 5)), (16, {'eps': 1e-3}, (3, 16, 7)), (7, {'affine': False}, (2, 7)), (33, {'affine': False, 'eps': 0.1}, (2, 33, 5)), (9, {}, (2, 9, 1)), (12, {}, (1, 12, 20)), (1, {}, (6, 1))]
    for i, (c, options, shape) in enumerate(cases):
        f.add(f'{options} {shape}', 'nn.BatchNorm1d', [c, options], randomise(nn.BatchNorm1d(c, **options), i), torch.randn(shape) * 3 + 1)
    f.add('batches that change', 'nn.BatchNorm1d', [10], randomise(nn.BatchNorm1d(10), 20), runs=[(torch.randn(n, 10),) for n in (3, 1, 8)])
    f.add('lengths that change', 'nn.BatchNorm1d', [10], randomise(nn.BatchNorm1d(10), 21), inputs=[[None, 10, None]], runs=[(torch.randn(n, 10, l),) for n, l in [(3, 4), (1, 17)]])
    layer = lambda kind, *args: {'class': f'nn.{kind}', 'args': list(args)}
    module = randomise(nn.Sequential(nn.Conv1d(5, 8, 3, padding=1, bias=False), nn.BatchNorm1d(8), nn.ReLU(), nn.Conv1d(8, 6, 1), nn.Flatten(), nn.Linear(66, 9), nn.BatchNorm1d(9), nn.SiLU()), 22)
    f.add('after a convolution and a linear layer', 'nn.Sequential', [layer('Conv1d', 5, 8, 3, {'padding': 1, 'bias': False}), layer('BatchNorm1d', 8), layer('ReLU'), layer('Conv1d', 8, 6, 1),
          layer('Flatten'), layer('Linear', 66, 9), layer('BatchNorm1d', 9), layer('SiLU')], module, torch.randn(3, 5, 11), tolerance=2e-5)
    f.write()


def self_attention():
    f = Fixture('self_attention', tolerance=2e-5)
    for i, (c, gamma, shape) in enumerate([(8, 0.7, (2, 5, 7)), (16, -1.3, (3, 4, 4)), (37, 2.5, (1, 9, 6)), (64, 0.35, (2, 8, 9)), (20, 1.8, (2, 1, 1)), (24, 0.9, (1, 1, 13)), (9, 3.0, (2, 11, 1))]):
        module = randomise(seed_modules.SelfAttention(c), i)
        module.gamma.data.fill_(gamma)
        f.add(f'{c} channels, {shape}', 'nn.SelfAttention', [c], module, torch.randn(shape[0], c, *shape[1:]))
    module = randomise(seed_modules.SelfAttention(18), 30)
    module.gamma.data.fill_(1.4)
    f.add('sizes that change', 'nn.SelfAttention', [18], module, inputs=[[None, 18, None, None]], runs=[(torch.randn(n, 18, h, w),) for n, h, w in [(1, 6, 5), (3, 3, 9), (2, 10, 10), (1, 1, 2)]])
    f.write()


def compressions():
    f = Fixture('compress_networks', tolerance=2e-5)
    seed = 0

    def add(name, kind, args, module, *shapes, inputs=None, scale=None):
        nonlocal seed
        seed += 1
        randomise(module, seed)
        for part in module.modules():
            if isinstance(part, EinMix):   # randomise takes [heads, in, out] for [out, in, ...]
                part.weight.data.mul_(part.weight.shape[2] ** 0.5)
        if scale is not None:
            module.residual_scale.data.fill_(scale)
        x = [(torch.randn(shape),) for shape in shapes]
        extra = {'inputs': inputs} if inputs else {}
        if len(x) == 1:
            f.add(name, f'nn.{kind}', args, module, *x[0], **extra)
        else:
            f.add(name, f'nn.{kind}', args, module, runs=x, **extra)

    convs = [(2, 8, 4, (2, 2, 3, 4, 8)), (3, 5, 3, (2, 3, 4, 3, 5)), (1, 16, 2, (3, 1, 5, 2, 16)), (4, 6, 1, (2, 4, 3, 1, 6)), (2, 9, 4, (2, 2, 3, 5, 9))]
    for heads, d, block, shape in convs:   # the last: windows of another size than the block, with a remainder
        add(f'{heads} heads {shape}', 'ConvLinearCompress', [heads, d, block], compress_networks.ConvLinearCompress(heads, d, block), shape)
    add('windows that change', 'ConvLinearCompress', [2, 6, 3], compress_networks.ConvLinearCompress(2, 6, 3), (2, 2, 4, 3, 6), (1, 2, 9, 3, 6), inputs=[[None, 2, None, 3, 6]])
    for heads, d, block, factor, shape in [(2, 8, 4, 2, (2, 2, 3, 4, 8)), (3, 6, 3, 3, (2, 3, 4, 3, 6)), (1, 10, 2, 1, (3, 1, 5, 2, 10)), (4, 8, 2, 8, (2, 4, 8, 16, 8)), (2, 7, 3, 3, (2, 2, 5, 4, 7)), (2, 6, 4, 2, (2, 2, 3, 3, 6))]:
        args = [heads, d, block] if factor == 2 else [heads, d, block, {'reductionFactor': factor}]
        add(f'{heads} heads, 1 / {factor}, {shape}', 'EfficientConvLinearCompress', args, seed_modules.EfficientConvLinearCompress(heads, d, block, factor), shape)
    add('windows that change', 'EfficientConvLinearCompress', [3, 4, 2, 4], seed_modules.EfficientConvLinearCompress(3, 4, 2, 4), (2, 3, 4, 2, 4), (1, 3, 7, 2, 4), inputs=[[None, 3, None, 2, 4]])
    for kind, make in [('AttentionPool', compress_networks.AttentionPool), ('ScaledAttentionPool', seed_modules.ScaledAttentionPool)]:
        for d, block, shape in [(8, 4, (2, 3, 5, 4, 8)), (5, 3, (3, 2, 4, 3, 5)), (16, 1, (2, 2, 3, 1, 16)), (33, 8, (2, 1, 3, 8, 33)), (7, 2, (2, 2, 3, 9, 7))]:   # the last: n is not the block size
            add(f'{d} {shape}', kind, [d, block], make(d, block), shape)
        add('sizes that change', kind, [6, 4], make(6, 4), (2, 3, 4, 5, 6), (1, 2, 7, 4, 6), (3, 1, 1, 11, 6), inputs=[[None, None, None, None, 6]])
    for d, block, heads, factor, shape in [(8, 4, 2, 1.0, (2, 2, 3, 4, 8)), (5, 3, 3, 2.5, (2, 3, 4, 3, 5)), (16, 2, 1, 0.5, (3, 1, 5, 2, 16)), (7, 1, 4, 1.5, (2, 4, 1, 1, 7)), (6, 4, 2, 0.3, (2, 2, 3, 4, 6))]:
        args = [d, block, heads] if factor == 1 else [d, block, heads, {'expandFactor': factor}]
        add(f'{heads} heads, x {factor}', 'GroupedMLP', args, compress_networks.GroupedMLP(d, block, heads, factor), shape)
        args = [d, block, heads] if factor == 1 else [d, block, heads, {'expandFactor': factor, 'dropout': 0.2}]
        add(f'{heads} heads, x {factor}', 'EnhancedGroupedMLP', args, seed_modules.EnhancedGroupedMLP(d, block, heads, factor, 0.2), shape, scale=factor + 0.35)
    add('windows that change', 'GroupedMLP', [6, 2, 3, 2], compress_networks.GroupedMLP(6, 2, 3, 2), (2, 3, 4, 2, 6), (1, 3, 9, 2, 6), inputs=[[None, 3, None, 2, 6]])
    add('windows that change', 'EnhancedGroupedMLP', [6, 2, 3, 2, 0.1], seed_modules.EnhancedGroupedMLP(6, 2, 3, 2, 0.1), (2, 3, 4, 2, 6), (1, 3, 9, 2, 6), inputs=[[None, 3, None, 2, 6]], scale=-0.8)
    f.write()


def transformer():
    f = Fixture('transformer_blocks', tolerance=2e-5)
    cases = [(24, {'num_heads': 3}, (2, 7)), (32, {}, (2, 11)), (20, {'num_heads': 5, 'use_bias': True}, (3, 6)), (16, {'num_heads': 1, 'attention_dropout': 0.1}, (2, 1)), (56, {'use_bias': True, 'attention_dropout': 0.3}, (1, 33)), (18, {'num_heads': 6, 'use_bias': False}, (2, 65))]
    names = {'num_heads': 'numHeads', 'use_bias': 'useBias', 'attention_dropout': 'attentionDropout'}
    as_js = lambda options: {names.get(k, k): v for k, v in options.items()}
    for i, (dim, options, (n, t)) in enumerate(cases):
        args = [dim, as_js(options)] if options else [dim]
        f.add(f'{dim} {options} {t} tokens', 'nn.OptimizedAttention', args, randomise(seed_modules.OptimizedAttention(dim, **options), i), torch.randn(n, t, dim) * 2)
    f.add('in order', 'nn.OptimizedAttention', [12, 2, 0.1, True], randomise(seed_modules.OptimizedAttention(12, 2, 0.1, True), 20), torch.randn(2, 5, 12))
    f.add('tokens that change', 'nn.OptimizedAttention', [12, 4], randomise(seed_modules.OptimizedAttention(12, 4), 21), inputs=[[None, None, 12]], runs=[(torch.randn(n, t, 12),) for n, t in [(2, 5), (1, 40), (3, 1)]])
    for i, (dim, hidden, options, shape) in enumerate([(16, 40, {}, (2, 5)), (9, 7, {'use_bias': True}, (3, 4)), (24, 96, {'dropout': 0.1, 'use_bias': True}, (2, 1)), (5, 33, {'dropout': 0.5}, (4,)), (7, 1, {'use_bias': True}, (2, 3, 2))]):
        args = [dim, hidden, as_js(options)] if options else [dim, hidden]
        f.add(f'{dim} {hidden} {options}', 'nn.ImprovedFeedForward', args, randomise(seed_modules.ImprovedFeedForward(dim, hidden, **options), 40 + i), torch.randn(*shape, dim) * 2)
    f.add('in order', 'nn.ImprovedFeedForward', [8, 12, 0.1, True], randomise(seed_modules.ImprovedFeedForward(8, 12, 0.1, True), 60), runs=[(torch.randn(n, 3, 8),) for n in (2, 5)])
    f.write()


if __name__ == '__main__':
    torch.manual_seed(50)
    torch.set_num_threads(1)
    for make in (activations, conv1d, batch_norm1d, self_attention, compressions, transformer):
        make()
