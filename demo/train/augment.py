"""Batched augmentation of RGBA pictures.

It makes the drawing styles of the training sets less alike: geometry, colour, outline,
shading, sharpness, and what is behind the drawing.
"""

import math
import re

import torch
import torch.nn.functional as F

SYMBOL_GROUP = 8
# Mirroring these changes what they mean, or turns them into another class.
DIRECTED = re.compile(
    r"left|right|arrow|clock|thirty|moon|quarter|crescent|north|south|east|west|back"
    r"|button|flag|globe|map|chart|abc|1234|calendar|100|hundred|input|slash|currency"
)


def may_flip(classes):
    """Which classes may be mirrored, bool [classes]."""
    names = {entry["name"] for entry in classes}
    return torch.tensor(
        [
            entry["group"] != SYMBOL_GROUP
            and not DIRECTED.search(entry["name"])
            and f"{entry['name']} facing right" not in names
            for entry in classes
        ]
    )


def uniform(count, low, high):
    """Random values [count, 1, 1, 1]."""
    return torch.empty(count, 1, 1, 1).uniform_(low, high)


def chance(count, probability):
    """Random zeros and ones [count, 1, 1, 1]."""
    return (torch.rand(count, 1, 1, 1) < probability).float()


def warp(rgba, flippable, size):
    """Random affine map with a smooth random displacement; resamples to `size`."""
    count = len(rgba)
    # Mostly slight rotations: many emoji are told apart by their direction.
    angle = torch.randn(count) * math.radians(7)
    scale = torch.empty(count).uniform_(math.log(0.7), math.log(1.12)).exp()
    stretch = torch.empty(count).uniform_(-0.12, 0.12).exp()
    shear = torch.empty(count).uniform_(-0.15, 0.15)
    mirror = 1 - 2 * ((torch.rand(count) < 0.5) & flippable).float()
    cos, sin = angle.cos(), angle.sin()
    # Output to input coordinates, hence the division by the scale.
    rows = torch.stack(
        [
            torch.stack([cos / (scale * stretch) * mirror, (sin + shear) / scale * mirror], 1),
            torch.stack([-sin / scale, cos / scale * stretch], 1),
        ],
        1,
    )
    room = (1 - scale).abs() * 0.5 + 0.06
    shift = (torch.rand(count, 2, 1) * 2 - 1) * room[:, None, None]
    theta = torch.cat([rows, rows @ shift], 2)
    grid = F.affine_grid(theta, (count, 4, size, size), align_corners=False)
    strength = uniform(count, 0, 0.06) * chance(count, 0.4)
    bumps = torch.randn(count, 2, 5, 5) * strength
    bumps = F.interpolate(bumps, size=(size, size), mode="bilinear", align_corners=True)
    grid = grid + bumps.permute(0, 2, 3, 1)
    return F.grid_sample(rgba, grid, mode="bilinear", align_corners=False)


def hue_matrices(count):
    """Colour matrices [count, 3, 3]: hue, saturation, channel gains, grey at times."""
    to_yiq = torch.tensor(
        [[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]]
    )
    strong = (torch.rand(count) < 0.08).float()
    hue = torch.randn(count) * (0.15 + strong)
    saturation = torch.empty(count).uniform_(0.55, 1.5) * (torch.rand(count) > 0.07)
    turn = torch.zeros(count, 3, 3)
    turn[:, 0, 0] = 1
    turn[:, 1, 1] = turn[:, 2, 2] = hue.cos() * saturation
    turn[:, 1, 2] = -hue.sin() * saturation
    turn[:, 2, 1] = hue.sin() * saturation
    gains = torch.diag_embed(torch.empty(count, 3).uniform_(0.85, 1.15))
    return gains @ to_yiq.inverse() @ turn @ to_yiq


def recolour(rgb):
    """Random colours, contrast, brightness and a linear shading."""
    count, _, height, width = rgb.shape
    rgb = torch.einsum("bij,bjhw->bihw", hue_matrices(count), rgb)
    contrast = uniform(count, 0.75, 1.25)
    rgb = (rgb - 0.5) * contrast + 0.5 + uniform(count, -0.1, 0.1)
    x = torch.linspace(-1, 1, width).view(1, 1, 1, width)
    y = torch.linspace(-1, 1, height).view(1, 1, height, 1)
    slope = 0.25 * chance(count, 0.4)
    shade = 1 + slope * (uniform(count, -1, 1) * x + uniform(count, -1, 1) * y)
    return (rgb * shade).clamp(0, 1)


def backgrounds(count, size):
    """What is behind the drawing: mostly white, else colours, gradients, blotches."""
    white = uniform(count, 0.93, 1).expand(count, 3, 1, 1)
    colour = torch.rand(count, 3, 1, 1)
    kind = torch.rand(count, 1, 1, 1)
    flat = torch.where(kind < 0.6, white, colour)
    # A coarse random grid gives gradients (2 cells) and blotches (6 cells).
    cells = 2 if torch.rand(()) < 0.5 else 6
    blotches = F.interpolate(
        torch.rand(count, 3, cells, cells), size=(size, size), mode="bilinear", align_corners=True
    )
    return torch.where(kind < 0.82, flat.expand(-1, -1, size, size), blotches)


def outline(rgb, alpha):
    """Draws a dark or light rim around some of the drawings."""
    count = len(rgb)
    rim = F.max_pool2d(alpha, 3, stride=1, padding=1)
    rim = torch.maximum(alpha, rim * chance(count, 0.2))
    ink = torch.where(torch.rand(count, 1, 1, 1) < 0.75, 0.1, 0.95)
    # `rgb` is premultiplied: the rim only fills what the drawing leaves open.
    return rgb + ink * (rim - alpha), rim


def sharpness(rgb):
    """Blurs some pictures, sharpens others."""
    count, _, height, width = rgb.shape
    padded = F.pad(rgb, (1, 1, 1, 1), mode="replicate")
    blurred = F.avg_pool2d(padded, 3, stride=1)
    amount = uniform(count, -0.8, 1.1) * chance(count, 0.5)
    return rgb + amount * (blurred - rgb)


def erase(rgb):
    """Covers a random rectangle of some pictures with one colour."""
    count, _, height, width = rgb.shape
    x = torch.arange(width).view(1, 1, 1, width) / width
    y = torch.arange(height).view(1, 1, height, 1) / height
    left, top = uniform(count, -0.1, 0.9), uniform(count, -0.1, 0.9)
    inside = (x > left) & (x < left + uniform(count, 0.1, 0.4))
    inside = inside & (y > top) & (y < top + uniform(count, 0.1, 0.4))
    inside = inside & (torch.rand(count, 1, 1, 1) < 0.1)
    return torch.where(inside, torch.rand(count, 3, 1, 1), rgb)


def augment(pictures, flippable, size):
    """uint8 RGBA [batch, 4, s, s] to float RGB [batch, 3, size, size] within 0 to 1."""
    count = len(pictures)
    rgba = pictures.float() / 255
    # Interpolating premultiplied colours keeps edges free of dark fringes.
    rgba = torch.cat([rgba[:, :3] * rgba[:, 3:], rgba[:, 3:]], 1)
    rgba = warp(rgba, flippable, size)
    alpha = rgba[:, 3:].clamp(0, 1)
    straight = (rgba[:, :3] / alpha.clamp(min=1e-3)).clamp(0, 1)
    rgb, alpha = outline(recolour(straight) * alpha, alpha)
    rgb = rgb + backgrounds(count, size) * (1 - alpha)
    rgb = erase(sharpness(rgb))
    noise = torch.randn_like(rgb) * (uniform(count, 0, 0.07) * chance(count, 0.25))
    return (rgb + noise).clamp(0, 1)
