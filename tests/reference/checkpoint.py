"""A file of the safetensors library itself with every type that PyTorch has, and what its numbers are as f32.

    python checkpoint.py      # writes fixtures/checkpoint/dtypes.safetensors and expected.safetensors
"""
import os

import torch
from safetensors.torch import save_file

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'fixtures', 'checkpoint')


def floats():
    """Every magnitude that f16 and bf16 know, ties between two neighbours, and what is no number."""
    generator = torch.Generator().manual_seed(0)
    spread = torch.randn(500, generator=generator) * 2.0 ** torch.randint(-30, 20, (500,), generator=generator)
    ties = (torch.randint(0, 2048, (100,), generator=generator) + 0.5) * 2.0 ** torch.randint(-26, 6, (100,), generator=generator)
    special = torch.tensor([0.0, -0.0, 1.0, 65504.0, 65519.9, 65520.0, 1e30, 2.0 ** -24, 2.0 ** -25, 2.0 ** -14, float('inf'), -float('inf'), float('nan')])
    return torch.cat([spread, ties, special])


def main():
    x = floats()
    whole = torch.tensor([-3, 0, 1, 100])
    tensors = {
        'f64': torch.tensor([0.1, -1e300, 3.0], dtype=torch.float64), 'f32': x, 'f16': x.half(), 'bf16': x.bfloat16(),
        'i64': torch.tensor([2 ** 40, -1]), 'i32': whole.int(), 'i16': whole.short(), 'i8': whole.to(torch.int8),
        'u8': whole.abs().to(torch.uint8), 'u16': whole.abs().to(torch.uint16), 'u32': whole.abs().to(torch.uint32), 'u64': whole.abs().to(torch.uint64),
        'bool': torch.tensor([[True], [False], [True]]), 'f8_e4m3': torch.tensor([0.5, 448.0]).to(torch.float8_e4m3fn),
        'scalar': torch.tensor(2.5), 'empty': torch.zeros(0, 4), '😀 ümlaut': torch.ones(1), 'ﬀ': torch.ones(1), '1': torch.ones(1),
    }
    os.makedirs(FOLDER, exist_ok=True)
    save_file(tensors, os.path.join(FOLDER, 'dtypes.safetensors'), {'format': 'pt'})
    readable = {name: tensor.to(torch.float32) for name, tensor in tensors.items() if name != 'f8_e4m3'}
    save_file(readable, os.path.join(FOLDER, 'expected.safetensors'))


if __name__ == '__main__':
    main()
