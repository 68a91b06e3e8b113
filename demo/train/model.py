"""The model: CLIP with a ModifiedResNet image tower and a small text transformer.

Parameter names are those of CLIP checkpoints, so the exported file needs no renaming.
"""

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import nn


class SEBlock(nn.Module):
    """Squeeze-and-excitation: scales channels by a gate computed from their means."""

    def __init__(self, channels, reduction=16):
        super().__init__()
        self.fc = nn.Sequential(
            nn.Linear(channels, channels // reduction, bias=False),
            nn.ReLU(inplace=True),
            nn.Linear(channels // reduction, channels, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, x):
        gate = self.fc(x.mean(dim=(2, 3)))
        return x * gate[:, :, None, None].to(x.dtype)


class Bottleneck(nn.Module):
    """CLIP's bottleneck: average pooling does the striding; SE follows the last ReLU."""

    expansion = 4

    def __init__(self, inplanes, planes, stride=1, use_se=False):
        super().__init__()
        outplanes = planes * self.expansion
        self.conv1 = nn.Conv2d(inplanes, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.avgpool = nn.AvgPool2d(stride) if stride > 1 else nn.Identity()
        self.conv3 = nn.Conv2d(planes, outplanes, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outplanes)
        self.se = SEBlock(outplanes) if use_se else nn.Identity()
        self.downsample = None
        if stride > 1 or inplanes != outplanes:
            self.downsample = nn.Sequential(
                OrderedDict(
                    [
                        ("-1", nn.AvgPool2d(stride)),
                        ("0", nn.Conv2d(inplanes, outplanes, 1, bias=False)),
                        ("1", nn.BatchNorm2d(outplanes)),
                    ]
                )
            )

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = F.relu(self.bn2(self.conv2(out)), inplace=True)
        out = self.bn3(self.conv3(self.avgpool(out)))
        identity = x if self.downsample is None else self.downsample(x)
        return self.se(F.relu(out + identity, inplace=True))


class AttentionPool2d(nn.Module):
    """Attention pooling with CLIP's projections, after a LayerNorm of the tokens."""

    def __init__(self, spatial_size, width, heads, output_dim):
        super().__init__()
        self.heads = heads
        self.positional_embedding = nn.Parameter(
            torch.randn(spatial_size**2 + 1, width) / width**0.5
        )
        self.ln = nn.LayerNorm(width)
        self.k_proj = nn.Linear(width, width)
        self.q_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.c_proj = nn.Linear(width, output_dim)
        # Only in training: spreads the embeddings; `fold_centre` merges it into c_proj.
        self.centre = nn.Identity()
        for layer in (self.k_proj, self.q_proj, self.v_proj, self.c_proj):
            nn.init.normal_(layer.weight, std=width**-0.5)

    def forward(self, x):
        tokens = x.flatten(2).transpose(1, 2)  # [batch, positions, width]
        tokens = torch.cat([tokens.mean(dim=1, keepdim=True), tokens], dim=1)
        tokens = self.ln(tokens + self.positional_embedding)
        # Only the mean token's output is used, so only its query is computed.
        query = self._split(self.q_proj(tokens[:, :1]))
        key = self._split(self.k_proj(tokens))
        value = self._split(self.v_proj(tokens))
        pooled = F.scaled_dot_product_attention(query, key, value)
        return self.centre(self.c_proj(pooled.transpose(1, 2).flatten(1)))

    def _split(self, x):
        """[batch, tokens, width] to [batch, heads, tokens, head width]."""
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)


class ModifiedResNet(nn.Module):
    """CLIP's ResNet: three stem convolutions, average pool striding, attention pool."""

    def __init__(self, layers, width, heads, image_size, output_dim, use_se=True):
        super().__init__()
        half = width // 2
        self.conv1 = nn.Conv2d(3, half, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(half)
        self.conv2 = nn.Conv2d(half, half, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(half)
        self.conv3 = nn.Conv2d(half, width, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        self.avgpool = nn.AvgPool2d(2)
        self._inplanes = width
        self.layer1 = self._make_layer(width, layers[0], 1, use_se)
        self.layer2 = self._make_layer(width * 2, layers[1], 2, use_se)
        self.layer3 = self._make_layer(width * 4, layers[2], 2, use_se)
        self.layer4 = self._make_layer(width * 8, layers[3], 2, use_se)
        self.attnpool = AttentionPool2d(image_size // 32, width * 32, heads, output_dim)
        for name, parameter in self.named_parameters():
            if "layer" in name and name.endswith("bn3.weight"):
                nn.init.zeros_(parameter)

    def _make_layer(self, planes, blocks, stride, use_se):
        layers = [Bottleneck(self._inplanes, planes, stride, use_se)]
        self._inplanes = planes * Bottleneck.expansion
        layers += [Bottleneck(self._inplanes, planes, 1, use_se) for _ in range(1, blocks)]
        return nn.Sequential(*layers)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        x = F.relu(self.bn2(self.conv2(x)), inplace=True)
        x = self.avgpool(F.relu(self.bn3(self.conv3(x)), inplace=True))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.attnpool(x)


class ResidualAttentionBlock(nn.Module):
    """A pre-norm transformer block."""

    def __init__(self, width, heads):
        super().__init__()
        self.ln_1 = nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            OrderedDict(
                [
                    ("c_fc", nn.Linear(width, width * 4)),
                    ("gelu", nn.GELU()),
                    ("c_proj", nn.Linear(width * 4, width)),
                ]
            )
        )

    def forward(self, x, mask):
        normed = self.ln_1(x)
        x = x + self.attn(normed, normed, normed, need_weights=False, attn_mask=mask)[0]
        return x + self.mlp(self.ln_2(x))


class Transformer(nn.Module):
    """A stack of blocks, named as in CLIP."""

    def __init__(self, width, layers, heads):
        super().__init__()
        self.resblocks = nn.ModuleList(
            ResidualAttentionBlock(width, heads) for _ in range(layers)
        )

    def forward(self, x, mask):
        for block in self.resblocks:
            x = block(x, mask)
        return x


class CLIP(nn.Module):
    """Image and text tower with a shared embedding space."""

    def __init__(self, embed_dim, vision_cfg, text_cfg):
        super().__init__()
        self.visual = ModifiedResNet(
            layers=vision_cfg["layers"],
            width=vision_cfg["width"],
            heads=vision_cfg["heads"],
            image_size=vision_cfg["image_size"],
            output_dim=embed_dim,
            use_se=vision_cfg["use_se"],
        )
        width = text_cfg["width"]
        self.transformer = Transformer(width, text_cfg["layers"], text_cfg["heads"])
        self.token_embedding = nn.Embedding(text_cfg["vocab_size"], width)
        self.positional_embedding = nn.Parameter(
            torch.randn(text_cfg["context_length"], width) * 0.01
        )
        self.ln_final = nn.LayerNorm(width)
        self.text_projection = nn.Parameter(torch.randn(width, embed_dim) * width**-0.5)
        self.logit_scale = nn.Parameter(torch.tensor(20.0).log())
        nn.init.normal_(self.token_embedding.weight, std=0.02)

    def encode_image(self, images):
        """[batch, 3, size, size] to [batch, embed], not normalised."""
        return self.visual(images)

    def encode_text(self, tokens):
        """[batch, tokens <= context length] to [batch, embed], not normalised."""
        length = tokens.shape[1]
        mask = torch.full((length, length), float("-inf"), device=tokens.device).triu(1)
        x = self.token_embedding(tokens) + self.positional_embedding[:length]
        x = self.ln_final(self.transformer(x, mask))
        # The end token has the largest id, as in CLIP.
        pooled = x[torch.arange(len(x)), tokens.argmax(dim=1)]
        return pooled @ self.text_projection


def add_centre(model):
    """Normalises each embedding dimension over the batch while training.

    Fresh networks map all pictures to nearly the same direction, and a loss on cosines
    takes long to leave that state.
    """
    model.visual.attnpool.centre = nn.BatchNorm1d(model.text_projection.shape[1], affine=False)
    return model


def fold_centre(state):
    """Merges the training-time normalisation of the embedding into the last projection."""
    prefix = "visual.attnpool."
    state = dict(state)
    mean = state.pop(prefix + "centre.running_mean")
    variance = state.pop(prefix + "centre.running_var")
    state.pop(prefix + "centre.num_batches_tracked")
    gain = (variance + nn.BatchNorm1d(1).eps).rsqrt()
    state[prefix + "c_proj.weight"] = state[prefix + "c_proj.weight"] * gain[:, None]
    state[prefix + "c_proj.bias"] = (state[prefix + "c_proj.bias"] - mean) * gain
    return state


def count_parameters(module):
    """Number of trained values in a module."""
    return sum(parameter.numel() for parameter in module.parameters())
