"""Muon: momentum whose matrices are made orthogonal before they are applied (K. Jordan and others, 2024)."""

import torch


def orthogonal(matrices, steps=5):
    """About the nearest matrix with orthonormal rows or columns, of each of [n, rows, columns]; a Newton-Schulz iteration."""
    x = matrices.bfloat16()
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return (x.mT if tall else x).to(matrices.dtype)


class Muon(torch.optim.Optimizer):
    """For parameters [rows, columns] or [n, rows, columns]; those of one shape are taken together."""

    def __init__(self, parameters, lr=0.02, momentum=0.95, weight_decay=0.01):
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            shapes = {}
            for parameter in group["params"]:
                shapes.setdefault(tuple(parameter.shape[-2:]), []).append(parameter)
            for (rows, columns), same in shapes.items():
                self._update(group, same, max(1, rows / columns) ** 0.5)

    def _update(self, group, same, scale):
        stacks = []
        for parameter in same:
            velocity = self.state[parameter].setdefault("velocity", torch.zeros_like(parameter))
            velocity.lerp_(parameter.grad, 1 - group["momentum"])
            nesterov = parameter.grad.lerp(velocity, group["momentum"])
            stacks.append(nesterov.view(-1, *parameter.shape[-2:]))
        sizes = [len(stack) for stack in stacks]
        for parameter, update in zip(same, orthogonal(torch.cat(stacks)).split(sizes)):
            parameter.mul_(1 - group["lr"] * group["weight_decay"])
            parameter.add_(update.view_as(parameter), alpha=-group["lr"] * scale)
