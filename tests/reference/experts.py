"""Fixtures of mixtures of experts: gates in every branch, written from the facts and compared here with transformers' own, and experts by index_add."""
import itertools

import torch
from torch import nn
from transformers import DeepseekV2Config, DeepseekV3Config
from transformers.models.deepseek_v2.modeling_deepseek_v2 import DeepseekV2TopkRouter
from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3TopkRouter

from fixture import Fixture

ACTIVATIONS = {'silu': nn.functional.silu, 'gelu': nn.functional.gelu, 'gelu_tanh': lambda x: nn.functional.gelu(x, approximate='tanh'), 'relu': torch.relu}


def gate(logits, bias, top_k, scoring, method, n_group, topk_group, masked, norm, scale):
    """Dense weights [tokens, experts], 0 where an expert is not chosen."""
    scores = logits.softmax(-1) if scoring == 'softmax' else logits.sigmoid()
    choice = scores if bias is None else scores + bias
    if method != 'greedy':
        grouped = choice.unflatten(-1, (n_group, -1))
        group_scores = grouped.amax(-1) if method == 'group_limited_greedy' else grouped.topk(2, -1).values.sum(-1)
        kept = torch.zeros_like(group_scores, dtype=torch.bool).scatter(-1, group_scores.topk(topk_group, -1).indices, True)
        choice = grouped.masked_fill(~kept[..., None], masked).flatten(-2)
    chosen = choice.sort(dim=-1, descending=True, stable=True).indices[..., :top_k]   # of equals the first; topk's order is undefined
    weights = (choice if method == 'group_limited_greedy' else scores).gather(-1, chosen)
    if norm:
        weights = weights / (weights.sum(-1, keepdim=True) + 1e-20)
    return torch.zeros_like(scores).scatter(-1, chosen, weights * scale)


def dense(indices, weights, experts):
    return torch.zeros(len(indices), experts).scatter(-1, indices, weights)


def compare_with_transformers():
    """transformers' gates are special cases of the one above: V2's is softmax without norm, V3's sigmoid with a bias and masked with -inf."""
    for method, k, groups, kept, seed in itertools.product(['greedy', 'group_limited_greedy'], [1, 3], [4, 2], [1, 2], range(3)):
        torch.manual_seed(seed)
        router = DeepseekV2TopkRouter(DeepseekV2Config(hidden_size=24, num_attention_heads=2, n_routed_experts=16, num_experts_per_tok=k, n_group=groups, topk_group=kept, topk_method=method, routed_scaling_factor=1.7))
        router.weight.data.normal_()
        x = torch.randn(40, 24)
        logits, weights, indices = router(x)
        torch.testing.assert_close(dense(indices, weights, 16), gate(logits, None, k, 'softmax', method, groups, kept, 0.0, False, 1.7))
    for k, groups, kept, norm, seed in itertools.product([2, 3], [4, 2], [1, 2], [False, True], range(3)):
        torch.manual_seed(seed)
        router = DeepseekV3TopkRouter(DeepseekV3Config(hidden_size=24, num_attention_heads=2, n_routed_experts=16, num_experts_per_tok=k, n_group=groups, topk_group=kept, norm_topk_prob=norm, routed_scaling_factor=2.5))
        router.weight.data.normal_()
        router.e_score_correction_bias.normal_()
        x = torch.randn(40, 24)
        logits, weights, indices = router(x)
        torch.testing.assert_close(dense(indices, weights, 16), gate(logits, router.e_score_correction_bias, k, 'sigmoid', 'noaux_tc', groups, kept, float('-inf'), norm, 2.5))


def mix(x, routing, experts, act):
    y = torch.zeros(len(x), experts[0][2].shape[0])
    for e, (gate_proj, up_proj, down_proj) in enumerate(experts):
        tokens = routing[:, e].nonzero()[:, 0]
        hidden = ACTIVATIONS[act](x[tokens] @ gate_proj.T) * (x[tokens] @ up_proj.T)
        y.index_add_(0, tokens, hidden @ down_proj.T * routing[tokens, e, None])
    return y


def add(f, name, shape, widths, experts, act='silu', biased=0., **route):
    """x of `shape`, widths (inter, out)."""
    width, (inter, out) = shape[-1], widths
    options = {'scoring': 'softmax', 'method': 'greedy', 'n_group': 1, 'topk_group': 1, 'masked': 0.0, 'norm': False, 'scale': 1.0, **route}
    weights = {'gate': torch.randn(experts, width) * (2 / width ** 0.5)}
    if options['method'] == 'noaux_tc':
        weights['bias'] = torch.randn(experts) * 0.3 + biased
    parts = [[torch.randn(inter, width) * (1.5 / width ** 0.5), torch.randn(inter, width) * (1.5 / width ** 0.5), torch.randn(out, inter) * (1.5 / inter ** 0.5)] for _ in range(experts)]
    for e, p in itertools.product(range(experts), range(3)):
        weights[f'experts.{e}.{p}'] = parts[e][p]

    def call(x):
        rows = x.flatten(0, -2)
        routing = gate(rows @ weights['gate'].T, weights.get('bias'), **options)
        return routing.unflatten(0, x.shape[:-1]), mix(rows, routing, parts, act).unflatten(0, x.shape[:-1])
    js = {{'top_k': 'topK', 'n_group': 'nGroup', 'topk_group': 'topkGroup'}.get(k, k): str(v) if v == float('-inf') else v for k, v in options.items()}
    f.add(name, 'mixture', [{'width': width, 'inter': inter, 'out': out, 'experts': experts, 'act': act, 'route': js}], None, torch.randn(shape), call=call, weights=weights, tolerance=2e-5)


if __name__ == '__main__':
    compare_with_transformers()
    torch.manual_seed(60)
    torch.set_num_threads(1)
    fixture = Fixture('experts')
    add(fixture, 'softmax, greedy', (2, 9, 12), (7, 12), 5, top_k=2)
    add(fixture, 'softmax, greedy, norm, scale', (3, 5, 10), (17, 10), 6, top_k=3, norm=True, scale=2.5, act='gelu')
    add(fixture, 'one expert of each token', (31, 9), (5, 9), 7, top_k=1, scale=0.5, act='relu')
    add(fixture, 'every expert', (1, 4, 8), (6, 11), 3, top_k=3, act='gelu_tanh')
    add(fixture, 'sigmoid, greedy', (2, 7, 12), (9, 12), 5, top_k=2, scoring='sigmoid', norm=True)
    add(fixture, 'groups by their best', (4, 6, 12), (7, 12), 12, top_k=3, method='group_limited_greedy', n_group=4, topk_group=2, scale=16.0)
    add(fixture, 'groups by their best, sigmoid, norm', (2, 6, 12), (7, 12), 12, top_k=2, method='group_limited_greedy', scoring='sigmoid', n_group=6, topk_group=3, norm=True)
    add(fixture, 'groups by their two best, bias', (4, 6, 12), (7, 12), 12, top_k=4, method='noaux_tc', scoring='sigmoid', n_group=3, topk_group=2, norm=True, scale=2.5, biased=1.)
    add(fixture, 'groups by their two best, softmax, no norm', (2, 6, 12), (7, 12), 8, top_k=2, method='noaux_tc', n_group=2, topk_group=1, biased=0.5)
    add(fixture, 'low bias, masked with 0', (3, 6, 12), (7, 12), 8, top_k=2, method='noaux_tc', scoring='sigmoid', n_group=4, topk_group=3, biased=-0.4)
    add(fixture, 'low bias, masked with -infinity', (3, 6, 12), (7, 12), 8, top_k=2, method='noaux_tc', scoring='sigmoid', n_group=4, topk_group=3, masked=float('-inf'), biased=-2.)
    fixture.write()
