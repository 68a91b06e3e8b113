"""Functions of F that PyTorch has too. In the arguments of a case {'input': i} is an input and {'weight': name, 'shape': [...]} a Parameter."""
import torch
from torch.nn import functional as F

from fixture import Fixture


def given(i):
    return {'input': i}


class Weights:
    """Random weights of a call, and what stands for them among its arguments."""

    def __init__(self):
        self.tensors = {}

    def __call__(self, name, tensor):
        self.tensors[name] = tensor
        return {'weight': name, 'shape': list(tensor.shape)}


def pointwise(f):
    x = torch.randn(3, 5, 7) * 4
    for name, function in {'relu': F.relu, 'sigmoid': torch.sigmoid, 'silu': F.silu, 'tanh': torch.tanh, 'mish': F.mish, 'softplus': F.softplus,
                           'quickGelu': lambda v: v * torch.sigmoid(1.702 * v), 'gelu': F.gelu}.items():
        f.add('three axes', f'F.{name}', [given(0)], None, x, call=function)
        f.add('one number', f'F.{name}', [given(0)], None, torch.tensor(1.3), call=function)
    f.add('tanh', 'F.gelu', [given(0), {'approximate': 'tanh'}], None, x, call=lambda v: F.gelu(v, approximate='tanh'))
    for dim in (0, 1, -1):
        f.add(f'axis {dim}', 'F.softmax', [given(0), dim], None, x, call=lambda v, dim=dim: F.softmax(v, dim))


def arithmetic(f):
    pairs = [('equal', (3, 5, 7), (3, 5, 7)), ('a row', (3, 5, 7), (7,)), ('both ways', (5, 1), (3, 1, 7)), ('numbers', (), (1, 9))]
    for name, function in {'add': torch.add, 'sub': torch.sub, 'mul': torch.mul, 'div': torch.div}.items():
        for label, a, b in pairs:
            f.add(label, f'F.{name}', [given(0), given(1)], None, torch.randn(a), torch.randn(b).abs() + 0.3, call=function)
        f.add('a number', f'F.{name}', [given(0), 2.5], None, torch.randn(4, 3), call=lambda v, function=function: function(v, 2.5))
    for label, a, b in [('vectors of a batch', (2, 3, 1, 67), (2, 3, 67, 1)), ('a matrix for all', (4, 5, 37), (37, 13)), ('broadcast', (2, 1, 5, 29), (3, 29, 6))]:
        f.add(label, 'F.matmul', [given(0), given(1)], None, torch.randn(a), torch.randn(b), call=torch.matmul)
    f.add('transposed', 'F.matmul', [given(0), given(1), {'transposeB': True}], None, torch.randn(2, 5, 41), torch.randn(2, 4, 41), call=lambda a, b: a @ b.mT)
    x = torch.randn(3, 5, 7)
    for dim, keep in [(0, False), (-1, True), ([0, 2], False), (None, False)]:
        f.add(f'axis {dim}', 'F.mean', [given(0), dim, {'keepdim': keep}], None, x, call=lambda v, dim=dim, keep=keep: v.mean() if dim is None else v.mean(dim, keep))
    for shape in [(3, 1, 7), (7,), ()]:
        f.add(f'{list(shape)}', 'F.expandAs', [given(0), given(1)], None, torch.randn(shape), x, call=lambda a, b: a.expand_as(b))


def shapes(f):
    x = torch.randn(2, 3, 4, 5)
    cases = {
        'reshape': [([[2, -1, 10]], lambda v: v.reshape(2, -1, 10)), ([[None, 4, -1, 5]], lambda v: v.reshape(2, 4, -1, 5))],
        'view': [([[6, 20]], lambda v: v.view(6, 20))],
        'flatten': [([], torch.flatten), ([1, 2], lambda v: v.flatten(1, 2)), ([-2], lambda v: v.flatten(-2))],
        'unflatten': [([2, [2, -1]], lambda v: v.unflatten(2, (2, -1)))],
        'unsqueeze': [([0], lambda v: v.unsqueeze(0)), ([-1], lambda v: v.unsqueeze(-1)), ([2], lambda v: v.unsqueeze(2))],
        'permute': [([[3, 0, 2, 1]], lambda v: v.permute(3, 0, 2, 1)), ([[0, -1, 1, 2]], lambda v: v.permute(0, -1, 1, 2))],
        'transpose': [([1, 2], lambda v: v.transpose(1, 2)), ([-1, 0], lambda v: v.transpose(-1, 0))],
        'narrow': [([1, 1, 2], lambda v: v.narrow(1, 1, 2)), ([-1, -3, 2], lambda v: v.narrow(-1, -3, 2))],
        'split': [([2, 1], lambda v: v.split(2, 1)), ([[1, 4], -1], lambda v: v.split([1, 4], -1))],
        'chunk': [([2, 1], lambda v: v.chunk(2, 1)), ([3, 3], lambda v: v.chunk(3, 3))],
        'argmax': [([1], lambda v: v.argmax(1)), ([-1], lambda v: v.argmax(-1))],
    }
    for name, calls in cases.items():
        for args, call in calls:
            f.add(str(args), f'F.{name}', [given(0), *args], None, x, call=call)
    f.add('axis 1', 'F.squeeze', [given(0), 1], None, torch.randn(3, 1, 4), call=lambda v: v.squeeze(1))
    f.add('last axis', 'F.squeeze', [given(0), -1], None, torch.randn(3, 4, 1), call=lambda v: v.squeeze(-1))
    for dim in (0, -1):
        parts = [torch.randn([n if axis == dim % 3 else 3 for axis in range(3)]) for n in (1, 4, 2)]
        f.add(f'axis {dim}', 'F.cat', [[given(0), given(1), given(2)], dim], None, *parts, call=lambda *t, dim=dim: torch.cat(t, dim))
    index = torch.tensor([4, 0, 2])
    f.add('a row each', 'F.select', [given(0), given(1)], None, torch.randn(3, 5, 7), index, call=lambda v, i: v[torch.arange(3), i])


def layers(f):
    image, sequence, row = torch.randn(2, 6, 11, 9), torch.randn(2, 6, 13), torch.randn(3, 5, 6)

    def add(name, kind, args, call, *inputs):
        weights = Weights()
        args = args(weights)
        f.add(name, kind, [given(0), *args], None, *inputs, weights=weights.tensors, call=lambda *x: call(weights.tensors, *x))

    for bias in (True, False):
        add(f'bias {bias}', 'F.linear', lambda w, bias=bias: [w('weight', torch.randn(7, 6)), w('bias', torch.randn(7)) if bias else None],
            lambda t, x: F.linear(x, t['weight'], t.get('bias')), row)
        add(f'bias {bias}', 'F.conv2d', lambda w, bias=bias: [w('weight', torch.randn(4, 3, 3, 2)), w('bias', torch.randn(4)) if bias else None,
                                                             {'stride': [2, 1], 'padding': [1, 2], 'dilation': [1, 2], 'groups': 2}],
            lambda t, x: F.conv2d(x, t['weight'], t.get('bias'), (2, 1), (1, 2), (1, 2), 2), image)
        add(f'bias {bias}', 'F.conv1d', lambda w, bias=bias: [w('weight', torch.randn(4, 3, 3)), w('bias', torch.randn(4)) if bias else None, 2, 1, 2, 2],
            lambda t, x: F.conv1d(x, t['weight'], t.get('bias'), 2, 1, 2, 2), sequence)
        add(f'affine {bias}', 'F.layerNorm', lambda w, bias=bias: [6, w('weight', torch.randn(6)), w('bias', torch.randn(6)) if bias else None, 1e-3],
            lambda t, x: F.layer_norm(x, (6,), t['weight'], t.get('bias'), 1e-3), row)
        add(f'weight {bias}', 'F.rmsNorm', lambda w, bias=bias: [[5, 6], w('weight', torch.randn(5, 6)) if bias else None, 1e-3],
            lambda t, x: F.rms_norm(x, (5, 6), t.get('weight'), 1e-3), row)
    add('of images', 'F.batchNorm', lambda w: [w('mean', torch.randn(6)), w('var', torch.rand(6) + 0.3), w('weight', torch.randn(6)), w('bias', torch.randn(6)), {'eps': 1e-3}],
        lambda t, x: F.batch_norm(x, t['mean'], t['var'], t['weight'], t['bias'], eps=1e-3), image)
    add('plain', 'F.batchNorm', lambda w: [w('mean', torch.randn(6)), w('var', torch.rand(6) + 0.3)], lambda t, x: F.batch_norm(x, t['mean'], t['var']), sequence)
    add('ids', 'F.embedding', lambda w: [w('weight', torch.randn(9, 5))], lambda t, i: F.embedding(i, t['weight']), torch.tensor([[0, 8, 3], [3, 7, 1]]))
    f.add('odd', 'F.avgPool2d', [given(0), 3, 2, 1], None, image, call=lambda x: F.avg_pool2d(x, 3, 2, 1))
    f.add('odd', 'F.maxPool2d', [given(0), [3, 2], [2, 3], 1], None, image, call=lambda x: F.max_pool2d(x, (3, 2), (2, 3), 1))
    f.add('odd', 'F.adaptiveAvgPool2d', [given(0), [4, 5]], None, image, call=lambda x: F.adaptive_avg_pool2d(x, (4, 5)))
    q, k, v = torch.randn(2, 6, 5, 8), torch.randn(2, 6, 7, 8), torch.randn(2, 6, 7, 3)
    attention = F.scaled_dot_product_attention
    f.add('plain', 'F.scaledDotProductAttention', [given(0), given(1), given(2)], None, q, k, v, call=attention)
    f.add('mask', 'F.scaledDotProductAttention', [given(0), given(1), given(2), {'attnMask': given(3)}], None, q, k, v, torch.randn(5, 7), call=attention)
    mask = torch.randn(2, 1, 5, 7) > -0.5
    f.add('bool mask and scale', 'F.scaledDotProductAttention', [given(0), given(1), given(2), {'attnMask': given(3), 'scale': 0.7}], None, q, k, v, mask,
          call=lambda q, k, v, m: attention(q, k, v, m, scale=0.7))
    f.add('causal, grouped', 'F.scaledDotProductAttention', [given(0), given(1), given(2), {'isCausal': True, 'enableGqa': True}], None, q, k[:, :2, :5], v[:, :2, :5],
          call=lambda q, k, v: attention(q, k, v, is_causal=True, enable_gqa=True))


def main():
    torch.manual_seed(23)
    fixture = Fixture('functional')
    for part in (pointwise, arithmetic, shapes, layers):
        part(fixture)
    fixture.write()


if __name__ == '__main__':
    main()
