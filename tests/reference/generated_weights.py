"""open_clip's RN50 image tower at full size, without a file of its weights: they are numbers that this script and
tests/node/generated-weights.js make alike, so the fixture holds no more than PyTorch's embeddings.

    python generated_weights.py

Arithmetic: integers modulo 2^32, then doubles, each operation rounded on its own; one rounding to float32 at the end.

    key(name)  = FNV-1a of the ASCII characters: h = 2166136261; for each c: h = (h xor c) * 16777619
    u(name, i) = (mix(key + i * 0x9E3779B9) >> 8) / 2^24, in [0, 1)
    mix(h)     : h ^= h >> 16; h *= 0x85EBCA6B; h ^= h >> 13; h *= 0xC2B2AE35; h ^= h >> 16
    value      = float32(low + (high - low) * u)

i counts the tensor's elements in row-major order. low and high follow from the name and the fan-in, see `interval`.
"""
import os

import numpy
import torch
from safetensors.torch import save_file

import open_clip_import  # noqa: F401: before open_clip
from open_clip.modified_resnet import ModifiedResNet
from fixture import FOLDER

LAYERS, OUTPUT_DIM, HEADS = [3, 4, 6, 3], 1024, 32
CHECKED = ['conv1.weight', 'bn1.running_var', 'layer1.0.bn3.weight', 'layer3.5.conv2.weight', 'attnpool.positional_embedding', 'attnpool.q_proj.weight', 'attnpool.c_proj.bias']
IMAGES, SIZE, CELL = 2, 224, 28


def uniform(name, count):
    key = 2166136261
    for character in name.encode('ascii'):
        key = (key ^ character) * 16777619 & 0xFFFFFFFF
    h = numpy.arange(count, dtype=numpy.uint32) * numpy.uint32(0x9E3779B9) + numpy.uint32(key)
    h ^= h >> numpy.uint32(16)
    h *= numpy.uint32(0x85EBCA6B)
    h ^= h >> numpy.uint32(13)
    h *= numpy.uint32(0xC2B2AE35)
    h ^= h >> numpy.uint32(16)
    return (h >> numpy.uint32(8)).astype(numpy.float64) / 16777216.0


def interval(name, shape):
    """Where a tensor's numbers lie. Convolutions keep the mean square through a ReLU; the last norm of a block adds less than its input."""
    part = name.split('.')[-1]
    if part == 'running_mean':
        return -0.2, 0.2
    if part == 'running_var':
        return 0.5, 1.5
    if len(shape) == 4:
        limit = (6.0 / (shape[1] * shape[2] * shape[3])) ** 0.5
        return -limit, limit
    if name.endswith('proj.weight'):
        limit = (3.0 / shape[1]) ** 0.5
        if name.endswith(('q_proj.weight', 'k_proj.weight')):
            limit *= 0.25   # else one token takes all the attention, and a wrong score would not show
        return -limit, limit
    if part == 'positional_embedding':
        return -0.3, 0.3
    if part == 'weight':
        return (0.2, 0.6) if name.endswith('bn3.weight') else (0.6, 1.4)
    return -0.2, 0.2


def tensor(name, shape):
    low, high = interval(name, shape)
    count = int(numpy.prod(shape))
    return torch.from_numpy((low + (high - low) * uniform(name, count)).astype(numpy.float32).reshape(shape))


def pictures():
    """Squares of one colour with noise on them, so that two pictures differ in more than their noise."""
    cells = SIZE // CELL
    coarse = uniform('picture.cells', IMAGES * 3 * cells * cells).reshape(IMAGES, 3, cells, cells)
    fine = uniform('picture.noise', IMAGES * 3 * SIZE * SIZE).reshape(IMAGES, 3, SIZE, SIZE)
    coarse = coarse.repeat(CELL, axis=2).repeat(CELL, axis=3)
    return torch.from_numpy(((4.0 * coarse - 2.0) + (fine - 0.5)).astype(numpy.float32))


def main():
    torch.set_num_threads(1)
    model = ModifiedResNet(LAYERS, OUTPUT_DIM, HEADS, SIZE).eval()
    state = {name: value if name.endswith('num_batches_tracked') else tensor(name, tuple(value.shape)) for name, value in model.state_dict().items()}
    model.load_state_dict(state)
    for name in ('conv1', 'layer1', 'layer2', 'layer3', 'layer4'):
        getattr(model, name).register_forward_hook(lambda _, __, y, name=name: print(f'{name}: standard deviation {y.std():.3f}, largest {y.abs().max():.2f}'))
    images = pictures()
    with torch.no_grad():
        output = model(images)
        exact = model.double()(images.double())
    print(f'embedding {tuple(output.shape)}: standard deviation {output.std():.3f}, cosine of the two {torch.cosine_similarity(output[0], output[1], dim=0):.4f}')
    print(f'float32 against float64: {(output - exact).abs().max() / exact.abs().max():.2e}')
    tensors = {'output': output, 'picture': images.flatten()[:16].clone()}
    for name in CHECKED:
        flat = state[name].flatten()
        tensors[f'check.{name}'] = torch.cat([flat[:8], flat[-8:]])
    path = os.path.join(FOLDER, 'rn50_generated.safetensors')
    # No cases: what this holds is checked by tests/node/generated-weights.test.js.
    save_file(tensors, path, metadata={'cases': '[]'})
    os.chmod(path, 0o644)
    print(f'{os.path.getsize(path)} bytes')


if __name__ == '__main__':
    main()
