"""The PyTorch modules that lamella was asked to run, as they were given: its specification."""
from collections import OrderedDict

import torch
import torch.nn.functional as F
from einops import einsum, rearrange
from einops.layers.torch import EinMix
from torch import nn


class SEBlock(nn.Module):
    def __init__(self, channel, reduction=16):
        super().__init__()
        self.avg_pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Sequential(nn.Linear(channel, channel // reduction, bias=False), nn.ReLU(inplace=True),
                                nn.Linear(channel // reduction, channel, bias=False), nn.Sigmoid())

    def forward(self, x):
        b, c, _, _ = x.size()
        y = self.fc(self.avg_pool(x).view(b, c)).view(b, c, 1, 1)
        return x * y.expand_as(x)


class Bottleneck(nn.Module):
    expansion = 4

    def __init__(self, inplanes, planes, stride=1, use_se=False):
        super().__init__()
        self.conv1 = nn.Conv2d(inplanes, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.act1 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.act2 = nn.ReLU(inplace=True)
        self.avgpool = nn.AvgPool2d(stride) if stride > 1 else nn.Identity()
        self.conv3 = nn.Conv2d(planes, planes * self.expansion, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(planes * self.expansion)
        self.act3 = nn.ReLU(inplace=True)
        self.downsample = None
        self.use_se = use_se
        if use_se:
            self.se = SEBlock(planes * self.expansion)
        if stride > 1 or inplanes != planes * Bottleneck.expansion:
            self.downsample = nn.Sequential(OrderedDict([
                ('-1', nn.AvgPool2d(stride)), ('0', nn.Conv2d(inplanes, planes * self.expansion, 1, stride=1, bias=False)),
                ('1', nn.BatchNorm2d(planes * self.expansion))]))

    def forward(self, x):
        identity = x
        out = self.act1(self.bn1(self.conv1(x)))
        out = self.act2(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(self.avgpool(out)))
        if self.downsample is not None:
            identity = self.downsample(x)
        out = self.act3(out + identity)
        return self.se(out) if self.use_se else out


class AttentionPool2d(nn.Module):
    """`layer_norm` and `project_twice` both true is the module as given; both false is CLIP's."""

    def __init__(self, spacial_dim, embed_dim, num_heads, output_dim=None, layer_norm=True, project_twice=True):
        super().__init__()
        self.positional_embedding = nn.Parameter(torch.randn(spacial_dim ** 2 + 1, embed_dim) / embed_dim ** 0.5)
        self.k_proj = nn.Linear(embed_dim, embed_dim)
        self.q_proj = nn.Linear(embed_dim, embed_dim)
        self.v_proj = nn.Linear(embed_dim, embed_dim)
        self.c_proj = nn.Linear(embed_dim, output_dim or embed_dim)
        self.num_heads = num_heads
        self.project_twice = project_twice
        if layer_norm:
            self.ln = nn.LayerNorm(embed_dim)

    def forward(self, x):
        x = x.reshape(x.shape[0], x.shape[1], x.shape[2] * x.shape[3]).permute(2, 0, 1)
        x = torch.cat([x.mean(dim=0, keepdim=True), x], dim=0)
        x = x + self.positional_embedding[:, None, :]
        if hasattr(self, 'ln'):
            x = self.ln(x)
        q, k, v = (self.q_proj(x), self.k_proj(x), self.v_proj(x)) if self.project_twice else (x, x, x)
        x, _ = F.multi_head_attention_forward(
            query=q, key=k, value=v, embed_dim_to_check=x.shape[-1], num_heads=self.num_heads,
            q_proj_weight=self.q_proj.weight, k_proj_weight=self.k_proj.weight, v_proj_weight=self.v_proj.weight, in_proj_weight=None,
            in_proj_bias=torch.cat([self.q_proj.bias, self.k_proj.bias, self.v_proj.bias]), bias_k=None, bias_v=None, add_zero_attn=False,
            dropout_p=0.0, out_proj_weight=self.c_proj.weight, out_proj_bias=self.c_proj.bias, use_separate_proj_weight=True,
            training=False, need_weights=False)
        return x[0]


class ModifiedResNet(nn.Module):
    def __init__(self, layers, output_dim, heads, image_size=224, width=64, use_se=False, layer_norm=True, project_twice=True):
        super().__init__()
        self.use_se = use_se
        self.conv1 = nn.Conv2d(3, width // 2, kernel_size=3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width // 2)
        self.act1 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width // 2, width // 2, kernel_size=3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width // 2)
        self.act2 = nn.ReLU(inplace=True)
        self.conv3 = nn.Conv2d(width // 2, width, kernel_size=3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        self.act3 = nn.ReLU(inplace=True)
        self.avgpool = nn.AvgPool2d(2)
        self._inplanes = width
        self.layer1 = self._make_layer(width, layers[0])
        self.layer2 = self._make_layer(width * 2, layers[1], stride=2)
        self.layer3 = self._make_layer(width * 4, layers[2], stride=2)
        self.layer4 = self._make_layer(width * 8, layers[3], stride=2)
        self.attnpool = AttentionPool2d(image_size // 32, width * 32, heads, output_dim, layer_norm, project_twice)

    def _make_layer(self, planes, blocks, stride=1):
        layers = [Bottleneck(self._inplanes, planes, stride, use_se=self.use_se)]
        self._inplanes = planes * Bottleneck.expansion
        layers += [Bottleneck(self._inplanes, planes, use_se=self.use_se) for _ in range(1, blocks)]
        return nn.Sequential(*layers)

    def forward(self, x):
        x = self.act1(self.bn1(self.conv1(x)))
        x = self.act2(self.bn2(self.conv2(x)))
        x = self.avgpool(self.act3(self.bn3(self.conv3(x))))
        return self.attnpool(self.layer4(self.layer3(self.layer2(self.layer1(x)))))


class ResidualBlock(nn.Module):
    def __init__(self, in_channels, out_channels, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, kernel_size=3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(out_channels, out_channels, kernel_size=3, stride=1, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.shortcut = nn.Sequential()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(nn.Conv2d(in_channels, out_channels, kernel_size=1, stride=stride, bias=False),
                                          nn.BatchNorm2d(out_channels))

    def forward(self, x):
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return self.relu(out + self.shortcut(x))


class Swish(nn.Module):
    def forward(self, x):
        return x * torch.sigmoid(x)


class Mish(nn.Module):
    def forward(self, x):
        return x * torch.tanh(F.softplus(x))


class SelfAttention(nn.Module):
    def __init__(self, in_channels):
        super().__init__()
        self.query = nn.Conv2d(in_channels, in_channels // 8, kernel_size=1)
        self.key = nn.Conv2d(in_channels, in_channels // 8, kernel_size=1)
        self.value = nn.Conv2d(in_channels, in_channels, kernel_size=1)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        b, c, h, w = x.size()
        query = self.query(x).view(b, -1, h * w).permute(0, 2, 1)
        key = self.key(x).view(b, -1, h * w)
        attention = F.softmax(torch.bmm(query, key), dim=-1)
        value = self.value(x).view(b, -1, h * w)
        out = torch.bmm(value, attention.permute(0, 2, 1)).view(b, c, h, w)
        return self.gamma * out + x


class EfficientConvLinearCompress(nn.Module):
    def __init__(self, heads, dim_head, compress_block_size, reduction_factor=2):
        super().__init__()
        self.heads = heads
        channels, reduced = heads * dim_head, heads * dim_head // reduction_factor
        self.channel_reduction = nn.Conv1d(channels, reduced, kernel_size=1, groups=heads)
        self.grouped_conv = nn.Conv1d(reduced, reduced, compress_block_size, stride=compress_block_size, groups=heads)
        self.channel_expansion = nn.Conv1d(reduced, channels, kernel_size=1, groups=heads)

    def forward(self, kv):
        kv = rearrange(kv, 'b h w n d -> b (h d) (w n)')
        expanded = self.channel_expansion(self.grouped_conv(self.channel_reduction(kv)))
        return rearrange(expanded, 'b (h d) n -> b h n d', h=self.heads)


class ScaledAttentionPool(nn.Module):
    def __init__(self, dim_head, compress_block_size):
        super().__init__()
        self.to_attn_logits = nn.Linear(dim_head, dim_head, bias=False)
        self.scale = dim_head ** -0.5

    def forward(self, kv):
        attn = (self.to_attn_logits(kv) * self.scale).softmax(dim=-2)
        return einsum(kv, attn, 'b h w n d, b h w n d -> b h w d')


class EnhancedGroupedMLP(nn.Module):
    """As given it adds kv [b, h, w, n, d] to an output [b, h, w, d], which cannot run; the residual here is the mean over n, and it is
    the network that residual_scale multiplies, as given."""

    def __init__(self, dim_head, compress_block_size, heads, expand_factor=1.0, dropout=0.0):
        super().__init__()
        dim = dim_head * compress_block_size
        hidden = int(dim * expand_factor)
        self.net = nn.Sequential(
            EinMix('b h w i -> b h w o', weight_shape='h i o', bias_shape='h o', h=heads, i=dim, o=hidden), nn.GELU(), nn.Dropout(dropout),
            EinMix('b h w i -> b h w o', weight_shape='h i o', bias_shape='h o', h=heads, i=hidden, o=dim_head), nn.Dropout(dropout))
        self.residual_scale = nn.Parameter(torch.ones(1))

    def forward(self, kv):
        return kv.mean(dim=3) + self.residual_scale * self.net(rearrange(kv, 'b h w n d -> b h w (n d)'))


class OptimizedAttention(nn.Module):
    def __init__(self, dim, num_heads=8, attention_dropout=0.0, use_bias=False):
        super().__init__()
        self.num_heads = num_heads
        self.scale = (dim // num_heads) ** -0.5
        self.qkv = nn.Linear(dim, dim * 3, bias=use_bias)
        self.attn_drop = nn.Dropout(attention_dropout)
        self.proj = nn.Linear(dim, dim)
        self.proj_drop = nn.Dropout(attention_dropout)

    def forward(self, x):
        B, N, C = x.shape
        q, k, v = self.qkv(x).reshape(B, N, 3, self.num_heads, C // self.num_heads).permute(2, 0, 3, 1, 4).unbind(0)
        attn = self.attn_drop(((q @ k.transpose(-2, -1)) * self.scale).softmax(dim=-1))
        return self.proj_drop(self.proj((attn @ v).transpose(1, 2).reshape(B, N, C)))


class ImprovedFeedForward(nn.Module):
    def __init__(self, dim, hidden_dim, dropout=0.0, use_bias=False):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(dim, hidden_dim, bias=use_bias), nn.GELU(), nn.Dropout(dropout),
                                 nn.Linear(hidden_dim, dim, bias=use_bias), nn.Dropout(dropout))

    def forward(self, x):
        return self.net(x)
