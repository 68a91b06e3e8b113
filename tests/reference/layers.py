"""Fixtures of PyTorch's own layers."""
import torch
from torch import nn

from fixture import Fixture, randomise


def conv2d():
    f = Fixture('conv2d')
    cases = [  # in, out, kernel, options, n, h, w
        (3, 8, 3, dict(stride=2, padding=1), 2, 15, 13), (5, 7, 1, dict(), 2, 6, 9), (16, 33, 1, dict(stride=2, bias=False), 1, 9, 7),
        (1, 4, 5, dict(padding=2), 3, 8, 11), (4, 6, 7, dict(padding=3, stride=3), 1, 20, 17), (6, 4, (3, 5), dict(padding=(1, 2)), 2, 9, 10),
        (4, 4, (1, 7), dict(padding=(0, 3), stride=(2, 1)), 1, 7, 12), (8, 8, 3, dict(dilation=2, padding=2), 2, 11, 9),
        (5, 6, 3, dict(dilation=(2, 3), padding=(4, 1), stride=(1, 2)), 1, 13, 14), (8, 8, 3, dict(groups=8, padding=1), 2, 10, 9),
        (8, 16, 3, dict(groups=8, padding=1, stride=2), 1, 9, 12), (12, 18, 3, dict(groups=3, padding=1), 2, 7, 8),
        (32, 32, 5, dict(groups=32, padding=2, stride=2), 1, 13, 15), (16, 16, 3, dict(groups=16, dilation=2, padding=2, bias=False), 2, 9, 9),
        (33, 16, 3, dict(), 1, 5, 5), (3, 5, 3, dict(padding=1), 2, 1, 1), (2, 3, 5, dict(padding=2), 1, 2, 3), (4, 9, 3, dict(padding=2), 2, 6, 5),
        (32, 40, 3, dict(padding=1), 1, 14, 14), (48, 32, 3, dict(padding=1, bias=False), 2, 17, 19), (64, 64, 3, dict(padding=1), 1, 7, 7),
        (32, 32, 3, dict(), 1, 16, 15), (32, 64, 3, dict(padding=1, groups=2), 1, 18, 16), (8, 8, 2, dict(stride=2), 1, 8, 9),
        (6, 5, 4, dict(padding='same'), 2, 9, 8), (6, 5, 3, dict(padding='valid'), 1, 9, 8),
    ]
    for i, (c, out, kernel, options, n, h, w) in enumerate(cases):
        module = randomise(nn.Conv2d(c, out, kernel, **options), i)
        js = {k: list(v) if isinstance(v, tuple) else v for k, v in options.items()}
        f.add(f'{c}->{out} {kernel} {options}', 'nn.Conv2d', [c, out, list(kernel) if isinstance(kernel, tuple) else kernel, js],
              module, torch.randn(n, c, h, w))
    module = randomise(nn.Conv2d(16, 24, 3, padding=1), 99)
    f.add('sizes that change', 'nn.Conv2d', [16, 24, 3, {'padding': 1}], module, inputs=[[None, 16, None, None]],
          runs=[(torch.randn(n, 16, h, w),) for n, h, w in [(1, 9, 9), (3, 24, 7), (1, 3, 40), (2, 9, 9)]])
    f.write()


def norms():
    f = Fixture('batch_norm2d')
    for i, (c, options, shape) in enumerate([(5, {}, (3, 5, 4, 7)), (16, {'eps': 1e-3}, (2, 16, 1, 1)), (7, {'affine': False}, (2, 7, 9, 3))]):
        f.add(str(options), 'nn.BatchNorm2d', [c, options], randomise(nn.BatchNorm2d(c, **options), i), torch.randn(shape) * 3 + 1)
    f.write()
    f = Fixture('layer_norm')
    cases = [(7, {}, (3, 7)), (64, {}, (2, 5, 64)), ([4, 6], {'eps': 1e-3}, (3, 4, 6)), (33, {'elementwise_affine': False}, (2, 3, 4, 33)), (10, {'bias': False}, (9, 10)), ([3, 5, 7], {}, (2, 3, 5, 7))]
    for i, (shape, options, x) in enumerate(cases):
        js = {{'elementwise_affine': 'elementwiseAffine'}.get(k, k): v for k, v in options.items()}
        f.add(f'{shape} {options}', 'nn.LayerNorm', [shape, js], randomise(nn.LayerNorm(shape, **options), i), torch.randn(x) * 4 + 2)
    f.add('a large mean', 'nn.LayerNorm', [64], randomise(nn.LayerNorm(64), 9), torch.randn(3, 64) * 0.5 + 30)
    f.write()


def linear():
    f = Fixture('linear')
    cases = [(5, 3, True, (4, 5)), (64, 33, False, (2, 7, 64)), (16, 8, True, (2, 3, 5, 16)), (777, 129, True, (1, 777)), (1, 1, True, (3, 1)), (300, 10, True, (300,)), (96, 100, True, (37, 96)), (12, 7, True, (2, 12))]
    for i, (k, n, bias, x) in enumerate(cases):
        f.add(f'{k}->{n} on {x}', 'nn.Linear', [k, n, {'bias': bias}], randomise(nn.Linear(k, n, bias=bias), i), torch.randn(x))
    f.write()


def pointwise():
    f = Fixture('pointwise')
    x = torch.cat([torch.randn(120) * 3, torch.tensor([0.0, -0.0, 20.0, -20.0, 90.0, -90.0, 1e-8, -1e-8])]).reshape(2, 4, 4, 4)
    f.add('relu', 'nn.ReLU', [], nn.ReLU(), x)
    f.add('sigmoid', 'nn.Sigmoid', [], nn.Sigmoid(), x)
    f.add('identity', 'nn.Identity', [], nn.Identity(), x)
    f.add('dropout', 'nn.Dropout', [0.4], nn.Dropout(0.4).eval(), x)
    for dim, shape in [(-1, (3, 5, 17)), (1, (2, 9, 4, 5)), (0, (6, 7)), (-1, (4, 1)), (2, (2, 3, 40))]:
        f.add(f'softmax {dim} of {shape}', 'nn.Softmax', [dim], nn.Softmax(dim), torch.randn(shape) * 8)
    for first, last, shape in [(1, -1, (2, 3, 4, 5)), (0, 1, (2, 3, 4)), (2, 3, (2, 3, 4, 5)), (0, -1, (3, 4)), (1, 2, (2, 3, 1, 5))]:
        f.add(f'flatten {first} {last}', 'nn.Flatten', [first, last], nn.Flatten(first, last), torch.randn(shape))
    own = torch.Generator().manual_seed(21)   # leaves the numbers of the files that follow as they are
    for shape in [(5,), (3, 7), (2, 3, 9), (2, 5, 3, 7), (2, 1, 3, 5, 7)]:
        x = torch.randn(shape, generator=own) * 4
        f.add(f'relu of {shape}', 'nn.ReLU', [], nn.ReLU(), x)
        f.add(f'sigmoid of {shape}', 'nn.Sigmoid', [], nn.Sigmoid(), x)
        f.add(f'identity of {shape}', 'nn.Identity', [], nn.Identity(), x)
        f.add(f'dropout of {shape}', 'nn.Dropout', [0.1 * len(shape)], nn.Dropout(0.1 * len(shape)).eval(), x)
    f.add('relu in place', 'nn.ReLU', [{'inplace': True}], nn.ReLU(inplace=True), x, call=torch.relu)
    f.add('dropout of everything', 'nn.Dropout', [1.0], nn.Dropout(1.0).eval(), x)
    f.write()


def pools():
    f = Fixture('avg_pool2d')
    names = {'ceil_mode': 'ceilMode', 'count_include_pad': 'countIncludePad', 'divisor_override': 'divisorOverride'}
    as_js = lambda options: {names.get(k, k): list(v) if isinstance(v, tuple) else v for k, v in options.items()}
    x = torch.randn(2, 5, 11, 14)
    cases = [(2, {}), (3, {'stride': 2, 'padding': 1}), ((2, 3), {'stride': (1, 2), 'padding': (0, 1), 'count_include_pad': False}), (3, {'stride': 2, 'ceil_mode': True}),
             (3, {'stride': 3, 'padding': 1, 'ceil_mode': True, 'count_include_pad': True}), (4, {'stride': 3, 'padding': 2, 'ceil_mode': True, 'count_include_pad': False}), (2, {'divisor_override': 3}), (11, {})]
    for kernel, options in cases:
        f.add(f'{kernel} {options}', 'nn.AvgPool2d', [list(kernel) if isinstance(kernel, tuple) else kernel, as_js(options)], nn.AvgPool2d(kernel, **options), x)
    f.write()
    f = Fixture('max_pool2d')
    x = -torch.rand(2, 5, 11, 14) - 1   # padding is -inf, not 0
    cases = [(2, {}), (3, {'stride': 2, 'padding': 1}), ((3, 2), {'stride': (2, 3), 'padding': (1, 0)}), (3, {'dilation': 2, 'stride': 1}), (3, {'stride': 2, 'ceil_mode': True}), (3, {'stride': 2, 'padding': 1, 'dilation': (1, 2), 'ceil_mode': True})]
    for kernel, options in cases:
        f.add(f'{kernel} {options}', 'nn.MaxPool2d', [list(kernel) if isinstance(kernel, tuple) else kernel, as_js(options)], nn.MaxPool2d(kernel, **options), x)
    f.write()
    f = Fixture('adaptive_avg_pool2d')
    for size in [1, 7, (3, 5), (None, 4), (13, 2), 11]:
        f.add(str(size), 'nn.AdaptiveAvgPool2d', [list(size) if isinstance(size, tuple) else size], nn.AdaptiveAvgPool2d(size), torch.randn(2, 6, 11, 14))
    f.write()


def sequential():
    f = Fixture('sequential', tolerance=2e-5)
    layer = lambda kind, *args: {'class': f'nn.{kind}', 'args': list(args)}
    module = randomise(nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 6, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4), nn.Softmax(-1)))
    args = [layer('Conv2d', 3, 8, 3, {'padding': 1}), layer('BatchNorm2d', 8), layer('ReLU'), layer('MaxPool2d', 2), layer('Conv2d', 8, 6, 1), layer('AdaptiveAvgPool2d', 1), layer('Flatten'), layer('Linear', 6, 4), layer('Softmax', -1)]
    f.add('a small classifier, sizes that change', 'nn.Sequential', args, module, inputs=[[None, 3, None, None]],
          runs=[(torch.randn(n, 3, h, w),) for n, h, w in [(2, 10, 12), (1, 31, 5), (4, 2, 3)]])
    f.add('empty', 'nn.Sequential', [], nn.Sequential(), torch.randn(2, 3))
    module = randomise(nn.Sequential(nn.BatchNorm2d(5), nn.ReLU(), nn.Conv2d(5, 5, 3, padding=1, groups=5), nn.Sigmoid()))
    f.add('norm first', 'nn.Sequential', [layer('BatchNorm2d', 5), layer('ReLU'), layer('Conv2d', 5, 5, 3, {'padding': 1, 'groups': 5}), layer('Sigmoid')], module, torch.randn(2, 5, 7, 6))
    f.write()


def multihead_attention():
    f = Fixture('multihead_attention', tolerance=2e-5)
    names = {'batch_first': 'batchFirst', 'add_bias_kv': 'addBiasKv', 'add_zero_attn': 'addZeroAttn'}
    cases = [({}, 24, 4), ({'batch_first': True}, 24, 3), ({'batch_first': True, 'bias': False}, 16, 2), ({'kdim': 10, 'vdim': 14, 'batch_first': True}, 24, 4),
             ({'batch_first': True, 'add_bias_kv': True}, 24, 4), ({'batch_first': True, 'add_zero_attn': True}, 24, 4)]
    for i, (options, e, heads) in enumerate(cases):
        module = randomise(nn.MultiheadAttention(e, heads, **options), i)
        swap = (lambda t: t) if options.get('batch_first') else (lambda t: t.transpose(0, 1).contiguous())
        q, k, v = swap(torch.randn(2, 5, e)), swap(torch.randn(2, 9, options.get('kdim', e))), swap(torch.randn(2, 9, options.get('vdim', e)))
        f.add(f'{options}', 'nn.MultiheadAttention', [e, heads, {names.get(a, a): b for a, b in options.items()}], module, q, k, v)
    module = randomise(nn.MultiheadAttention(20, 5, batch_first=True), 9)
    args = [20, 5, {'batchFirst': True}]
    q, k = torch.randn(3, 6, 20), torch.randn(3, 8, 20)
    additive = torch.randn(6, 8)
    f.add('float mask', 'nn.MultiheadAttention', args, module, q, k, k, additive, call=lambda q, k, v, m: module(q, k, v, attn_mask=m), options={'attnMask': 3})
    hidden = torch.rand(6, 8) < 0.3
    f.add('bool mask', 'nn.MultiheadAttention', args, module, q, k, k, hidden, call=lambda q, k, v, m: module(q, k, v, attn_mask=m), options={'attnMask': 3})
    padding = torch.zeros(3, 8, dtype=torch.bool)
    padding[0, 6:] = padding[2, 3:] = True
    f.add('padding mask', 'nn.MultiheadAttention', args, module, q, k, k, padding, call=lambda q, k, v, m: module(q, k, v, key_padding_mask=m), options={'keyPaddingMask': 3})
    f.write()


def embedding():
    f = Fixture('embedding')
    module = randomise(nn.Embedding(13, 10), 1)
    ids = [torch.randint(0, 13, (n, t), dtype=torch.int64) for n, t in [(2, 5), (1, 1), (3, 8)]]
    f.add('ids of two axes', 'nn.Embedding', [13, 10], module, inputs=[{'shape': [None, None], 'dtype': 'i32'}], runs=[(i,) for i in ids])
    f.add('padding index', 'nn.Embedding', [7, 3, {'paddingIdx': 2}], randomise(nn.Embedding(7, 3, padding_idx=2), 2), torch.tensor([2, 0, 6, 2], dtype=torch.int32))
    f.write()


if __name__ == '__main__':
    torch.manual_seed(20)
    torch.set_num_threads(1)
    for make in (conv2d, norms, linear, pointwise, pools, sequential, multihead_attention, embedding):
        make()
