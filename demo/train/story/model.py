"""The story-teller: DeepSeek-V2's decoder, small, with the names that its checkpoints have.

Latent attention (MLA) and a mixture of experts after a first dense layer, as transformers'
DeepseekV2ForCausalLM computes them. An MoE's routed experts are kept in two stacked tensors,
which are quicker to train; `export` splits them into experts.N.gate_proj and so on.
"""

import torch
import torch.nn.functional as F
from torch import nn

CONFIG = {
    "architectures": ["DeepseekV2ForCausalLM"],
    "model_type": "deepseek_v2",
    "vocab_size": 3072,
    "hidden_size": 192,
    "intermediate_size": 512,
    "moe_intermediate_size": 128,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "kv_lora_rank": 64,
    "q_lora_rank": None,
    "qk_nope_head_dim": 32,
    "qk_rope_head_dim": 16,
    "v_head_dim": 48,
    "n_routed_experts": 8,
    "n_shared_experts": 1,
    "num_experts_per_tok": 2,
    "first_k_dense_replace": 1,
    "moe_layer_freq": 1,
    "routed_scaling_factor": 4.0,
    "topk_method": "greedy",
    "scoring_func": "softmax",
    "norm_topk_prob": False,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "rope_scaling": None,
    "max_position_embeddings": 512,
    "attention_bias": False,
    "attention_dropout": 0.0,
    "initializer_range": 0.02,
    "tie_word_embeddings": True,
    "use_cache": True,
    "bos_token_id": 0,
    "eos_token_id": 0,
}


class RMSNorm(nn.Module):
    def __init__(self, width, eps):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x):
        return F.rms_norm(x, x.shape[-1:], self.weight.to(x.dtype), self.eps)


def linear(inputs, outputs, zero=False):
    layer = nn.Linear(inputs, outputs, bias=False)
    if zero:
        nn.init.zeros_(layer.weight)
    else:
        nn.init.normal_(layer.weight, std=0.5 * inputs**-0.5)
    return layer


def rotate(x, table):
    """Columns 2j and 2j + 1 of x [b, t, heads, width] by the angle of their token and pair."""
    cos, sin = table
    a, b = x[..., 0::2], x[..., 1::2]
    return torch.stack((a * cos - b * sin, a * sin + b * cos), dim=-1).flatten(-2)


class Attention(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.heads, self.nope, self.rope = c["num_attention_heads"], c["qk_nope_head_dim"], c["qk_rope_head_dim"]
        self.v, self.latent = c["v_head_dim"], c["kv_lora_rank"]
        width = c["hidden_size"]
        self.q_proj = linear(width, self.heads * (self.nope + self.rope))
        self.kv_a_proj_with_mqa = linear(width, self.latent + self.rope)
        self.kv_a_layernorm = RMSNorm(self.latent, 1e-6)
        self.kv_b_proj = linear(self.latent, self.heads * (self.nope + self.v))
        self.o_proj = linear(self.heads * self.v, width, zero=True)

    def forward(self, x, table):
        b, t, _ = x.shape
        q = self.q_proj(x).view(b, t, self.heads, -1)
        q = torch.cat((q[..., : self.nope], rotate(q[..., self.nope :], table)), dim=-1)
        latent, key = self.kv_a_proj_with_mqa(x).split([self.latent, self.rope], dim=-1)
        kv = self.kv_b_proj(self.kv_a_layernorm(latent)).view(b, t, self.heads, -1)
        key = rotate(key.view(b, t, 1, -1), table).expand(b, t, self.heads, self.rope)
        k = torch.cat((kv[..., : self.nope], key), dim=-1)
        q, k, v = (part.transpose(1, 2) for part in (q, k, kv[..., self.nope :]))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.o_proj(y.transpose(1, 2).reshape(b, t, -1))


class MLP(nn.Module):
    def __init__(self, width, inner):
        super().__init__()
        self.gate_proj = linear(width, inner)
        self.up_proj = linear(width, inner)
        self.down_proj = linear(inner, width, zero=True)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Gate(nn.Module):
    def __init__(self, experts, width):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(experts, width) * 0.02)

    def forward(self, x):
        return F.linear(x.float(), self.weight).softmax(dim=-1)


class MoE(nn.Module):
    def __init__(self, c):
        super().__init__()
        width, inner, self.count = c["hidden_size"], c["moe_intermediate_size"], c["n_routed_experts"]
        self.chosen, self.scale = c["num_experts_per_tok"], c["routed_scaling_factor"]
        self.gate = Gate(self.count, width)
        # [expert, gate's rows then up's, width] and [expert, width, inner].
        self.gate_up = nn.Parameter(torch.randn(self.count, 2 * inner, width) * 0.5 * width**-0.5)
        self.down = nn.Parameter(torch.zeros(self.count, width, inner))
        self.shared_experts = MLP(width, inner * c["n_shared_experts"])
        self.balance = None

    def forward(self, x):
        shape = x.shape
        x = x.reshape(-1, shape[-1])
        with torch.autocast("cpu", enabled=False):
            scores = self.gate(x)
            weights, chosen = scores.topk(self.chosen, dim=-1)
        order = chosen.flatten().argsort(stable=True)
        counts = torch.bincount(chosen.flatten(), minlength=self.count)
        # Even use of the experts: share of the choices times mean score, 1 where all are alike.
        self.balance = self.count * (counts / order.numel() * scores.mean(dim=0)).sum()
        rows = order // self.chosen
        parts = x[rows].split(counts.tolist())
        outputs = []
        for part, gate_up, down in zip(parts, self.gate_up.unbind(0), self.down.unbind(0)):
            gate, up = F.linear(part, gate_up).chunk(2, dim=-1)
            outputs.append(F.linear(F.silu(gate) * up, down))
        weight = (weights.flatten()[order] * self.scale).unsqueeze(1)
        y = self.shared_experts(x)
        return y.index_add(0, rows, (torch.cat(outputs) * weight).to(y.dtype)).view(shape)


class Layer(nn.Module):
    def __init__(self, c, index):
        super().__init__()
        width, eps = c["hidden_size"], c["rms_norm_eps"]
        self.self_attn = Attention(c)
        self.mlp = MLP(width, c["intermediate_size"]) if index < c["first_k_dense_replace"] else MoE(c)
        self.input_layernorm = RMSNorm(width, eps)
        self.post_attention_layernorm = RMSNorm(width, eps)

    def forward(self, x, table):
        x = x + self.self_attn(self.input_layernorm(x), table)
        return x + self.mlp(self.post_attention_layernorm(x))


class Decoder(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.embed_tokens = nn.Embedding(c["vocab_size"], c["hidden_size"])
        nn.init.normal_(self.embed_tokens.weight, std=0.02)
        self.layers = nn.ModuleList(Layer(c, index) for index in range(c["num_hidden_layers"]))
        self.norm = RMSNorm(c["hidden_size"], c["rms_norm_eps"])


class StoryTeller(nn.Module):
    """Token ids [b, t] -> logits [b, t, vocab_size]; the head shares the embedding's weight."""

    def __init__(self, config=CONFIG):
        super().__init__()
        self.config = config
        self.model = Decoder(config)
        self.register_buffer("angles", self._angles(), persistent=False)

    def _angles(self):
        width = self.config["qk_rope_head_dim"]
        frequencies = self.config["rope_theta"] ** (-torch.arange(0, width, 2) / width)
        return torch.arange(self.config["max_position_embeddings"])[:, None, None] * frequencies

    def hidden(self, ids):
        angles = self.angles[: ids.shape[1]]
        table = (angles.cos(), angles.sin())
        x = self.model.embed_tokens(ids)
        for layer in self.model.layers:
            x = layer(x, table)
        return self.model.norm(x)

    def forward(self, ids):
        return F.linear(self.hidden(ids), self.model.embed_tokens.weight)

    def balance(self):
        """How unevenly the experts are used, mean over the layers that have some; 1 is even."""
        values = [layer.mlp.balance for layer in self.model.layers if isinstance(layer.mlp, MoE)]
        return sum(values) / len(values)


def export(model):
    """The weights under the names of a DeepSeek-V2 checkpoint."""
    tensors = {}
    for name, value in model.state_dict().items():
        if name.endswith(".gate_up"):
            for index, expert in enumerate(value):
                gate, up = expert.chunk(2)
                tensors[name.replace("gate_up", f"experts.{index}.gate_proj.weight")] = gate.contiguous()
                tensors[name.replace("gate_up", f"experts.{index}.up_proj.weight")] = up.contiguous()
        elif name.endswith("mlp.down"):
            for index, expert in enumerate(value):
                tensors[name.replace("mlp.down", f"mlp.experts.{index}.down_proj.weight")] = expert.contiguous()
        else:
            tensors[name] = value.contiguous()
    return tensors


def load(model, tensors):
    """What export wrote, back into a model."""
    c = model.config
    state = {name: tensor.float() for name, tensor in tensors.items() if ".experts." not in name}
    for name, parameter in model.state_dict().items():
        if not name.endswith((".gate_up", "mlp.down")):
            continue
        block = name.rpartition(".")[0]
        parts = ("gate_proj", "up_proj") if name.endswith(".gate_up") else ("down_proj",)
        experts = [torch.cat([tensors[f"{block}.experts.{index}.{part}.weight"] for part in parts]) for index in range(c["n_routed_experts"])]
        state[name] = torch.stack(experts).float()
    model.load_state_dict(state)
    return model


def count_parameters(model):
    """(all, those that a token meets)."""
    every = sum(parameter.numel() for parameter in model.parameters())
    routed = sum(p.numel() for name, p in model.named_parameters() if name.endswith((".gate_up", "mlp.down")))
    c = model.config
    return every, every - routed + routed * c["num_experts_per_tok"] // c["n_routed_experts"]
