"""Fixtures of RMSNorm."""
import torch
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


if __name__ == '__main__':
    torch.manual_seed(30)
    torch.set_num_threads(1)
    for make in (rms_norm,):
        make()
