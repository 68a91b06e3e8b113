"""Fixtures of combinations that layers.py has not: masks together, in three dimensions and without a batch; long sums; padding of one axis."""
import torch
from torch import nn

from fixture import Fixture, randomise


def attention(f):
    def add(name, options, args, q, k, masks, seed):
        module = randomise(nn.MultiheadAttention(24, 4, **options), seed)
        names = {'attnMask': 'attn_mask', 'keyPaddingMask': 'key_padding_mask'}
        given = {js: 3 + i for i, js in enumerate(masks)}
        f.add(name, 'nn.MultiheadAttention', [24, 4, args], module, q, k, k, *masks.values(), options=given, tolerance=2e-5,
              call=lambda q, k, v, *m: module(q, k, v, **{names[js]: mask for js, mask in zip(masks, m)}))

    additive, hidden = torch.randn(6, 8), torch.rand(6, 8) < 0.3
    hidden[:, 0] = False   # a row that hides everything is NaN in PyTorch
    padding = torch.zeros(3, 8, dtype=torch.bool)
    padding[0, 6:] = padding[2, 3:] = True
    q, k = torch.randn(3, 6, 24), torch.randn(3, 8, 24)
    first = {'batch_first': True}, {'batchFirst': True}
    add('both masks, bool', *first, q, k, {'attnMask': hidden, 'keyPaddingMask': padding}, 1)
    add('mask per head', *first, q, k, {'attnMask': torch.randn(12, 6, 8)}, 2)
    add('bool mask per head', *first, q, k, {'attnMask': torch.cat([hidden[None]] * 6 + [~hidden[None] & (torch.arange(8) > 0)] * 6)}, 3)
    add('sequence first, float mask', {}, {}, q.transpose(0, 1).contiguous(), k.transpose(0, 1).contiguous(), {'attnMask': additive}, 4)
    add('sequence first, padding', {}, {}, q.transpose(0, 1).contiguous(), k.transpose(0, 1).contiguous(), {'keyPaddingMask': padding}, 5)
    add('one sequence', *first, q[0].clone(), k[0].clone(), {'attnMask': additive, }, 6)
    add('learned and zero keys with padding', {'batch_first': True, 'add_bias_kv': True, 'add_zero_attn': True},
        {'batchFirst': True, 'addBiasKv': True, 'addZeroAttn': True}, q, k, {'keyPaddingMask': padding}, 7)


def sums(f):
    f.add('4096->5, one row', 'nn.Linear', [4096, 5], randomise(nn.Linear(4096, 5), 1), torch.randn(1, 4096))
    f.add('4096->3, no bias', 'nn.Linear', [4096, 3, {'bias': False}], randomise(nn.Linear(4096, 3, bias=False), 2), torch.randn(2, 3, 4096) + 0.5)
    for i, (c, out, kernel, options, shape) in enumerate([
            (33, 20, 1, {'stride': (3, 2)}, (2, 33, 10, 9)), (6, 7, 5, {'padding': (0, 2)}, (2, 6, 9, 4)), (32, 36, 3, {'padding': (0, 1)}, (2, 32, 15, 14)),
            (32, 32, 3, {'padding': (2, 1), 'bias': False}, (1, 32, 17, 16)), (64, 64, 3, {'padding': 1, 'groups': 2}, (2, 64, 14, 17)), (5, 10, 3, {'groups': 5, 'padding': (1, 0), 'stride': (1, 3)}, (3, 5, 8, 11)), (16, 8, 7, {'padding': 3}, (1, 16, 3, 2))]):
        js = {k: list(v) if isinstance(v, tuple) else v for k, v in options.items()}
        f.add(f'{c}->{out} {kernel} {options}', 'nn.Conv2d', [c, out, kernel, js], randomise(nn.Conv2d(c, out, kernel, **options), 10 + i), torch.randn(shape))
    f.add('no affine, eps', 'nn.BatchNorm2d', [9, {'eps': 0.1, 'affine': False}], randomise(nn.BatchNorm2d(9, eps=0.1, affine=False), 20), torch.randn(2, 9, 5, 3))


if __name__ == '__main__':
    torch.manual_seed(40)
    torch.set_num_threads(1)
    fixture = Fixture('edge_cases')
    attention(fixture)
    sums(fixture)
    fixture.write()
