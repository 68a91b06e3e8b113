"""One fixture file: several cases of one layer, each with its weights, inputs and PyTorch's outputs.

    fixture = Fixture('linear')
    fixture.add('no bias', 'nn.Linear', [5, 3, {'bias': False}], torch.nn.Linear(5, 3, bias=False), torch.randn(2, 5))
    fixture.write()

`__metadata__.cases` lists name, JavaScript class, arguments of its constructor and tolerance; tensors of case i are `i.weights.KEY`,
`i.input.J` and `i.output.J`, with `@R` behind them where a case runs the same weights on several inputs.
"""
import json
import os

import torch
from safetensors.torch import save_file

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'fixtures')


def randomise(module, seed=0):
    """Values that no wrong formula can hide behind: nothing is 0 or 1, statistics are not normalised."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in list(module.named_parameters()) + list(module.named_buffers()):
            if not tensor.is_floating_point():
                continue
            noise = torch.randn(tensor.shape, generator=generator)
            if name.endswith('running_var'):
                tensor.copy_(noise.abs() + 0.3)
            elif tensor.dim() >= 2:
                fan_in = tensor[0].numel()
                tensor.copy_(noise * (1.5 / fan_in ** 0.5))
            elif name.endswith('weight'):
                tensor.copy_(noise * 0.4 + 1)
            else:
                tensor.copy_(noise * 0.5)
    return module.eval()


def as_list(value):
    return list(value) if isinstance(value, (tuple, list)) else [value]


class Fixture:
    def __init__(self, name, tolerance=1e-5):
        self.name, self.tolerance = name, tolerance
        self.cases, self.tensors = [], {}

    def put(self, key, tensor):
        self.tensors[key] = tensor.detach().clone().contiguous()

    def add(self, name, kind, args, module, *inputs, weights=None, call=None, tolerance=None, runs=None, **extra):
        """`inputs` of one run, or `runs`, a list of tuples of inputs. `call` stands in for module(*inputs)."""
        i = len(self.cases)
        case = {'name': name, 'class': kind, 'args': args, 'tolerance': tolerance or self.tolerance, **extra}
        weights = weights if weights is not None else (module.state_dict() if isinstance(module, torch.nn.Module) else {})
        for key, tensor in weights.items():
            self.put(f'{i}.weights.{key}', tensor)
        every = runs if runs is not None else [inputs]
        if runs is not None:
            case['runs'] = len(runs)
        for r, run in enumerate(every):
            suffix = f'@{r}' if runs is not None else ''
            with torch.no_grad():
                outputs = as_list((call or module)(*run))
            for j, tensor in enumerate(run):
                self.put(f'{i}.input.{j}{suffix}', tensor)
            for j, tensor in enumerate(outputs):
                if tensor is not None:
                    assert tensor.isfinite().all(), (self.name, name)
                    self.put(f'{i}.output.{j}{suffix}', tensor)
        self.cases.append(case)

    def write(self):
        os.makedirs(FOLDER, exist_ok=True)
        path = os.path.join(FOLDER, f'{self.name}.safetensors')
        save_file(self.tensors, path, metadata={'cases': json.dumps(self.cases)})
        os.chmod(path, 0o644)
        print(f'{self.name}: {len(self.cases)} cases, {os.path.getsize(path) // 1024} kB')
