"""DeepSeek-V2's decoder in plain PyTorch, with every branch that its configuration has, under the names of its checkpoints: for what
transformers' DeepSeek-V2, DeepSeek-V3 and Llama lack. deepseek.py compares the two wherever transformers has the branch.

No cache, no mixed precision, one expert after the other: slow and plain on purpose.
"""
import math
from types import SimpleNamespace

import torch
from torch import nn
from torch.nn import functional as F

# What the published configuration class assumes where a file says nothing.
PUBLISHED = dict(
    vocab_size=102400, hidden_size=4096, intermediate_size=11008, moe_intermediate_size=1407, num_hidden_layers=30, num_attention_heads=32,
    num_key_value_heads=None, n_shared_experts=None, n_routed_experts=None, routed_scaling_factor=1.0, kv_lora_rank=512, q_lora_rank=1536,
    qk_rope_head_dim=64, v_head_dim=128, qk_nope_head_dim=128, topk_method='greedy', n_group=None, topk_group=None, num_experts_per_tok=None,
    moe_layer_freq=1, first_k_dense_replace=0, norm_topk_prob=False, scoring_func='softmax', hidden_act='silu', max_position_embeddings=2048,
    rms_norm_eps=1e-6, tie_word_embeddings=False, rope_theta=10000.0, rope_scaling=None, rope_interleave=True, attention_bias=False, mlp_bias=False, use_mla=True,
)

ACTIVATIONS = {
    'silu': F.silu, 'swish': F.silu, 'gelu': F.gelu, 'relu': F.relu, 'sigmoid': torch.sigmoid, 'tanh': torch.tanh, 'mish': F.mish, 'linear': lambda x: x,
    'quick_gelu': lambda x: x * torch.sigmoid(1.702 * x),
    **{name: lambda x: F.gelu(x, approximate='tanh') for name in ('gelu_new', 'gelu_pytorch_tanh', 'gelu_fast', 'gelu_accurate')},
}


def configuration(fields):
    config = SimpleNamespace(**{**PUBLISHED, **fields})
    if config.num_key_value_heads is None:
        config.num_key_value_heads = config.num_attention_heads
    return config


class RMSNorm(nn.Module):
    def __init__(self, size, eps=1e-6):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x):
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps) * self.weight


def yarn_get_mscale(factor, mscale):
    return 1.0 if factor <= 1 else 0.1 * mscale * math.log(factor) + 1.0


def rotary_frequencies(config, dim, length):
    """Radians per position of each pair of dimensions, f64, and what cosine and sine are multiplied by."""
    scaling, theta = config.rope_scaling or {}, config.rope_theta
    kind, factor = scaling.get('type', scaling.get('rope_type', 'default')), scaling.get('factor')
    limit = config.max_position_embeddings
    if kind == 'dynamic' and length > limit:
        theta = theta * (factor * length / limit - (factor - 1)) ** (dim / (dim - 2))
    pair = torch.arange(dim // 2, dtype=torch.float64)
    frequencies = theta ** (-2 * pair / dim)
    if kind == 'linear':
        return frequencies / factor, 1.0
    if kind != 'yarn':
        return frequencies, 1.0
    original = scaling['original_max_position_embeddings']
    low, high = (dim * math.log(original / (2 * math.pi * beta)) / (2 * math.log(theta)) for beta in (scaling.get('beta_fast', 32), scaling.get('beta_slow', 1)))
    low, high = max(math.floor(low), 0), min(math.ceil(high), dim - 1)
    if low == high:
        high += 0.001
    slow = ((pair - low) / (high - low)).clamp(0, 1)
    scale = yarn_get_mscale(factor, scaling.get('mscale', 1)) / yarn_get_mscale(factor, scaling.get('mscale_all_dim', 0))
    return frequencies * (1 - slow) + frequencies / factor * slow, scale


def rotate(x, config, interleaved):
    """x [b, t, heads, d]: each pair of dimensions turned by its frequency times the position."""
    t, d = x.shape[1], x.shape[3]
    frequencies, scale = rotary_frequencies(config, d, t)
    angles = torch.arange(t, dtype=torch.float64)[:, None] * frequencies
    cos, sin = ((f(angles) * scale).float()[None, :, None] for f in (torch.cos, torch.sin))
    a, b = (x[..., 0::2], x[..., 1::2]) if interleaved else x.chunk(2, -1)
    turned = a * cos - b * sin, b * cos + a * sin
    return torch.stack(turned, -1).flatten(-2) if interleaved else torch.cat(turned, -1)


def causal_attention(q, k, v, scale):
    """q [b, t, h, d], k [b, t, h, d], v [b, t, h, e] -> [b, t, h e]"""
    scores = torch.einsum('bqhd,bkhd->bhqk', q, k) * scale
    future = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
    return torch.einsum('bhqk,bkhe->bqhe', scores.masked_fill(future, -math.inf).softmax(-1), v).flatten(2)


class MultiheadLatentAttention(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config, bias = config, config.attention_bias
        heads, self.nope, self.rope, self.v = config.num_attention_heads, config.qk_nope_head_dim, config.qk_rope_head_dim, config.v_head_dim
        if config.q_lora_rank is None:
            self.q_proj = nn.Linear(config.hidden_size, heads * (self.nope + self.rope), bias=False)
        else:
            self.q_a_proj = nn.Linear(config.hidden_size, config.q_lora_rank, bias=bias)
            self.q_a_layernorm = RMSNorm(config.q_lora_rank)
            self.q_b_proj = nn.Linear(config.q_lora_rank, heads * (self.nope + self.rope), bias=False)
        self.kv_a_proj_with_mqa = nn.Linear(config.hidden_size, config.kv_lora_rank + self.rope, bias=bias)
        self.kv_a_layernorm = RMSNorm(config.kv_lora_rank)
        self.kv_b_proj = nn.Linear(config.kv_lora_rank, heads * (self.nope + self.v), bias=False)
        self.o_proj = nn.Linear(heads * self.v, config.hidden_size, bias=bias)

    def forward(self, x):
        config, heads = self.config, self.config.num_attention_heads
        q = self.q_proj(x) if config.q_lora_rank is None else self.q_b_proj(self.q_a_layernorm(self.q_a_proj(x)))
        q_nope, q_pe = q.unflatten(-1, (heads, -1)).split([self.nope, self.rope], -1)
        latent, k_pe = self.kv_a_proj_with_mqa(x).split([config.kv_lora_rank, self.rope], -1)
        k_nope, v = self.kv_b_proj(self.kv_a_layernorm(latent)).unflatten(-1, (heads, -1)).split([self.nope, self.v], -1)
        q_pe, k_pe = (rotate(part, config, config.rope_interleave) for part in (q_pe, k_pe[:, :, None]))
        scale = (self.nope + self.rope) ** -0.5
        if config.rope_scaling and config.rope_scaling.get('mscale_all_dim'):
            scale *= yarn_get_mscale(config.rope_scaling['factor'], config.rope_scaling['mscale_all_dim']) ** 2
        k = torch.cat([k_nope, k_pe.expand(-1, -1, heads, -1)], -1)
        return self.o_proj(causal_attention(torch.cat([q_nope, q_pe], -1), k, v, scale))


class LlamaAttention(nn.Module):
    """What use_mla false selects."""

    def __init__(self, config):
        super().__init__()
        self.config, bias = config, config.attention_bias
        self.head = config.hidden_size // config.num_attention_heads
        self.q_proj = nn.Linear(config.hidden_size, config.num_attention_heads * self.head, bias=bias)
        self.k_proj = nn.Linear(config.hidden_size, config.num_key_value_heads * self.head, bias=bias)
        self.v_proj = nn.Linear(config.hidden_size, config.num_key_value_heads * self.head, bias=bias)
        self.o_proj = nn.Linear(config.num_attention_heads * self.head, config.hidden_size, bias=bias)

    def forward(self, x):
        q, k, v = (proj(x).unflatten(-1, (-1, self.head)) for proj in (self.q_proj, self.k_proj, self.v_proj))
        q, k = (rotate(part, self.config, interleaved=False) for part in (q, k))
        k, v = (part.repeat_interleave(q.shape[2] // k.shape[2], 2) for part in (k, v))
        return self.o_proj(causal_attention(q, k, v, self.head ** -0.5))


class MLP(nn.Module):
    def __init__(self, config, width=None, bias=None):
        super().__init__()
        width = width or config.intermediate_size
        bias = config.mlp_bias if bias is None else bias
        self.gate_proj = nn.Linear(config.hidden_size, width, bias=bias)
        self.up_proj = nn.Linear(config.hidden_size, width, bias=bias)
        self.down_proj = nn.Linear(width, config.hidden_size, bias=bias)
        self.act = ACTIVATIONS[config.hidden_act]

    def forward(self, x):
        return self.down_proj(self.act(self.gate_proj(x)) * self.up_proj(x))


class Gate(nn.Module):
    """The weight of every expert for every token, [..., experts]; 0 for those not chosen. `margin`: the smallest difference seen so far that decided a choice."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.weight = nn.Parameter(torch.empty(config.n_routed_experts, config.hidden_size))
        if config.topk_method == 'noaux_tc':
            self.e_score_correction_bias = nn.Parameter(torch.empty(config.n_routed_experts))
        self.margin = math.inf

    def chosen(self, scores, k):
        best = scores.sort(-1, descending=True).values
        if k < scores.shape[-1]:
            self.margin = min(self.margin, (best[..., k - 1] - best[..., k]).min().item())
        return torch.zeros_like(scores, dtype=torch.bool).scatter(-1, scores.topk(k, -1).indices, True)

    def forward(self, x):
        config, k = self.config, self.config.num_experts_per_tok
        logits = F.linear(x, self.weight)
        scores = logits.softmax(-1) if config.scoring_func == 'softmax' else logits.sigmoid()
        choice = scores
        if config.topk_method == 'group_limited_greedy':
            groups = scores.unflatten(-1, (config.n_group, -1))
            choice = (groups * self.chosen(groups.max(-1).values, config.topk_group)[..., None]).flatten(-2)
        elif config.topk_method == 'noaux_tc':
            groups = (scores + self.e_score_correction_bias).unflatten(-1, (config.n_group, -1))
            kept = self.chosen(groups.topk(2, -1).values.sum(-1), config.topk_group)[..., None]
            choice = groups.masked_fill(~kept, -math.inf).flatten(-2)
        weights = scores * self.chosen(choice, k)
        if config.norm_topk_prob and k > 1:
            weights = weights / (weights.sum(-1, keepdim=True) + 1e-20)
        return weights * config.routed_scaling_factor


class MoE(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.gate = Gate(config)
        self.experts = nn.ModuleList(MLP(config, config.moe_intermediate_size, bias=False) for _ in range(config.n_routed_experts))
        self.shared_experts = MLP(config, config.moe_intermediate_size * config.n_shared_experts) if config.n_shared_experts else None

    def forward(self, x):
        weights = self.gate(x)
        y = sum(expert(x) * weights[..., e, None] for e, expert in enumerate(self.experts))
        return y if self.shared_experts is None else y + self.shared_experts(x)


def is_moe(config, layer):
    return config.n_routed_experts is not None and layer >= config.first_k_dense_replace and layer % config.moe_layer_freq == 0


class DecoderLayer(nn.Module):
    def __init__(self, config, layer):
        super().__init__()
        self.self_attn = MultiheadLatentAttention(config) if config.use_mla else LlamaAttention(config)
        self.mlp = MoE(config) if is_moe(config, layer) else MLP(config)
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, x):
        x = x + self.self_attn(self.input_layernorm(x))
        return x + self.mlp(self.post_attention_layernorm(x))


class Model(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(DecoderLayer(config, layer) for layer in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, ids):
        x = self.embed_tokens(ids.long())
        for layer in self.layers:
            x = layer(x)
        return self.norm(x)


class ForCausalLM(nn.Module):
    """ids [b, t] -> logits [b, t, vocab]"""

    def __init__(self, config):
        super().__init__()
        self.model = Model(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        if config.tie_word_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight

    def forward(self, ids):
        return self.lm_head(self.model(ids))
