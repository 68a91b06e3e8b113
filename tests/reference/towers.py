"""Fixtures of the blocks of CLIP's ResNet and their variants, and of open_clip's own models."""
import json
import os

import torch
from safetensors.torch import save_file

from fixture import FOLDER, Fixture, randomise
import open_clip_import  # noqa: F401: before open_clip
from open_clip.model import CLIP
from open_clip.modified_resnet import AttentionPool2d as ClipAttentionPool2d
from open_clip.modified_resnet import ModifiedResNet as ClipModifiedResNet
import seed_modules as seed


def settle(module, *shape, passes=30):
    """Batch norm statistics of real activations, so that a deep random network neither dies nor explodes; then some noise on top."""
    module.train()
    for layer in module.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = 0.5 if passes < 30 else 0.1
    with torch.no_grad():
        for _ in range(passes):
            module(torch.randn(4, *shape))
        for name, tensor in module.named_buffers():
            if name.endswith('running_var'):
                tensor.mul_(torch.rand_like(tensor) * 0.8 + 0.6)
            elif name.endswith('running_mean'):
                tensor.add_(torch.randn_like(tensor) * 0.1)
    return module.eval()


def blocks():
    f = Fixture('se_block', tolerance=2e-5)
    for i, (c, reduction, shape) in enumerate([(32, 16, (2, 32, 7, 5)), (20, 4, (3, 20, 1, 3)), (33, 8, (1, 33, 6, 6))]):
        f.add(f'{c} / {reduction}', 'nn.SEBlock', [c, {'reduction': reduction}], randomise(seed.SEBlock(c, reduction), i), torch.randn(shape) + 0.5)
    f.write()
    f = Fixture('bottleneck', tolerance=2e-5)
    cases = [(64, 16, {}), (64, 16, {'use_se': True}), (24, 8, {}), (24, 8, {'stride': 2}), (32, 8, {'stride': 2, 'use_se': True}), (16, 8, {'use_se': True}), (32, 8, {'stride': 3})]
    for i, (inplanes, planes, options) in enumerate(cases):
        js = {'useSe' if k == 'use_se' else k: v for k, v in options.items()}
        f.add(f'{inplanes} {planes} {options}', 'nn.Bottleneck', [inplanes, planes, js], randomise(seed.Bottleneck(inplanes, planes, **options), i),
              inputs=[[None, inplanes, None, None]], runs=[(torch.randn(2, inplanes, 12, 9),), (torch.randn(1, inplanes, 7, 15),)])
    f.write()
    f = Fixture('residual_block', tolerance=2e-5)
    for i, (c, out, stride) in enumerate([(16, 16, 1), (16, 24, 1), (16, 16, 2), (3, 32, 2), (32, 32, 1)]):
        f.add(f'{c}->{out} / {stride}', 'nn.ResidualBlock', [c, out, {'stride': stride}], randomise(seed.ResidualBlock(c, out, stride), i), torch.randn(2, c, 15, 13))
    f.write()


def attention_pools():
    f = Fixture('attention_pool2d', tolerance=2e-5)
    number = 0
    for side, c, heads, out in [(3, 24, 4, 10), (5, 64, 2, None), (2, 36, 3, 7)]:
        for layer_norm in (False, True):
            for twice in (False, True):
                module = randomise(seed.AttentionPool2d(side, c, heads, out, layer_norm, twice), number)
                f.add(f'{side} {c} {heads} {out} {layer_norm} {twice}', 'nn.AttentionPool2d',
                      [side, c, heads, {'outputDim': out, 'layerNorm': layer_norm, 'projectTwice': twice}], module, torch.randn(3, c, side, side))
                number += 1
    f.add("open_clip's", 'nn.AttentionPool2d', [3, 32, 4, {'outputDim': 12}], randomise(ClipAttentionPool2d(3, 32, 4, 12), 50), torch.randn(2, 32, 3, 3))
    f.write()


def modified_resnets():
    f = Fixture('modified_resnet', tolerance=1e-4)
    clip = settle(randomise(ClipModifiedResNet([1, 2, 1, 1], 12, 4, image_size=64, width=8), 1), 3, 64, 64)
    f.add("open_clip's", 'models.ModifiedResNet', [{'layers': [1, 2, 1, 1], 'outputDim': 12, 'heads': 4, 'imageSize': 64, 'width': 8}], clip,
          runs=[(torch.randn(n, 3, 64, 64),) for n in (1, 3)])
    for i, (se, ln, twice, size) in enumerate([(True, True, True, 64), (True, True, False, 96), (False, True, True, 64), (True, False, False, 64)]):
        module = settle(randomise(seed.ModifiedResNet([1, 1, 2, 1], 10, 4, size, 4, se, ln, twice), 2 + i), 3, size, size)
        args = {'layers': [1, 1, 2, 1], 'outputDim': 10, 'heads': 4, 'imageSize': size, 'width': 4, 'useSe': se, 'layerNorm': ln, 'projectTwice': twice}
        f.add(f'{se} {ln} {twice} {size}', 'models.ModifiedResNet', [args], module, torch.randn(2, 3, size, size))
    f.write()


def open_clip():
    """A whole CLIP of open_clip, small, saved as open_clip saves it; and the same in two shards with an index."""
    vision = {'layers': [1, 1, 1, 1], 'width': 8, 'head_width': 64, 'image_size': 64}
    text = {'context_length': 8, 'vocab_size': 40, 'width': 16, 'heads': 2, 'layers': 1}
    torch.manual_seed(5)
    model = CLIP(embed_dim=16, vision_cfg=vision, text_cfg=text)
    randomise(model.visual, 7)
    settle(model.visual, 3, 64, 64)
    model.eval()
    weights = {key: tensor.contiguous() for key, tensor in model.state_dict().items()}
    save_file(weights, os.path.join(FOLDER, 'open_clip_tiny.safetensors'), metadata={'format': 'pt'})
    pictures = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        output = model.encode_image(pictures)
    args = [{'layers': vision['layers'], 'outputDim': 16, 'heads': vision['width'] * 32 // 64, 'imageSize': 64, 'width': 8}]
    case = {'name': 'open_clip checkpoint', 'class': 'models.ModifiedResNet', 'args': args, 'tolerance': 1e-4, 'checkpoint': 'open_clip_tiny.safetensors', 'prefix': 'visual.'}
    sharded = {**case, 'name': 'in shards', 'checkpoint': 'sharded/model.safetensors.index.json'}
    tensors = {'0.input.0': pictures, '0.output.0': output, '1.input.0': pictures.clone(), '1.output.0': output.clone()}
    save_file(tensors, os.path.join(FOLDER, 'open_clip_tiny_io.safetensors'), metadata={'cases': json.dumps([case, sharded])})
    shard(weights)
    for file in ('open_clip_tiny.safetensors', 'open_clip_tiny_io.safetensors'):
        os.chmod(os.path.join(FOLDER, file), 0o644)


def shard(weights):
    folder = os.path.join(FOLDER, 'sharded')
    os.makedirs(folder, exist_ok=True)
    visual = {key: tensor for key, tensor in weights.items() if key.startswith('visual.')}
    names = sorted(visual)
    parts = [names[::2], names[1::2]]
    index = {'metadata': {'total_size': sum(t.numel() * 4 for t in visual.values())}, 'weight_map': {}}
    for i, part in enumerate(parts):
        file = f'model-0000{i + 1}-of-000002.safetensors'
        save_file({key: visual[key] for key in part}, os.path.join(folder, file), metadata={'format': 'pt'})
        os.chmod(os.path.join(folder, file), 0o644)
        index['weight_map'].update({key: file for key in part})
    with open(os.path.join(folder, 'model.safetensors.index.json'), 'w') as out:
        json.dump(index, out, indent=1)


def dtypes():
    """One network stored in each number format; the outputs are of the rounded weights."""
    f = Fixture('dtypes', tolerance=2e-5)
    for i, dtype in enumerate([torch.float32, torch.float16, torch.bfloat16, torch.float64]):
        module = randomise(torch.nn.Sequential(torch.nn.Conv2d(3, 9, 3, padding=1), torch.nn.BatchNorm2d(9), torch.nn.Flatten(), torch.nn.Linear(9 * 30, 5)), i)
        stored = {key: tensor.to(dtype) if tensor.is_floating_point() else tensor for key, tensor in module.state_dict().items()}
        module.load_state_dict({key: tensor.float() if tensor.is_floating_point() else tensor for key, tensor in stored.items()})
        layer = lambda kind, *args: {'class': f'nn.{kind}', 'args': list(args)}
        f.add(str(dtype), 'nn.Sequential', [layer('Conv2d', 3, 9, 3, {'padding': 1}), layer('BatchNorm2d', 9), layer('Flatten'), layer('Linear', 270, 5)],
              module, torch.randn(2, 3, 5, 6), weights=stored)
    f.write()


if __name__ == '__main__':
    torch.manual_seed(30)
    torch.set_num_threads(1)
    for make in (blocks, attention_pools, modified_resnets, open_clip, dtypes):
        make()
