"""Loads what render.mjs wrote and prepares pictures for the model."""

import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

FOLDER = Path(__file__).resolve().parent
DATA = FOLDER / "data"
MEAN = 0.5
STD = 0.5
# Pictures whose mean difference (of 255) at this size is smaller count as copies.
COPY_SIZE = 24
COPY_DIFFERENCE = 6


def load_index():
    """The classes and, for each icon set, the class of every picture."""
    return json.loads((DATA / "index.json").read_text())


def load_pictures(index, name):
    """Pictures of one icon set, uint8 [pictures, 4, size, size] with straight alpha."""
    size = index["size"]
    pixels = np.fromfile(DATA / f"{name}.rgba", dtype=np.uint8)
    pixels = torch.from_numpy(pixels).view(-1, size, size, 4)
    labels = torch.tensor(index["sets"][name]["labels"])
    if len(labels) != len(pixels):
        raise ValueError(f"{name}: {len(pixels)} pictures but {len(labels)} labels")
    return pixels.permute(0, 3, 1, 2).contiguous(), labels


def near_copies(index, pictures, labels):
    """Which pictures look almost exactly like the held-out picture of their class.

    A few drawings are shared between icon sets (clock faces, for one). Training on
    them would be training on the test set.
    """
    held_out, held_out_labels = load_pictures(index, index["held_out"])
    reference = torch.zeros(len(index["classes"]), 3, COPY_SIZE, COPY_SIZE)
    reference[held_out_labels] = on_background(held_out, 255, COPY_SIZE).float()
    small = on_background(pictures, 255, COPY_SIZE).float()
    return (small - reference[labels]).abs().mean((1, 2, 3)) < COPY_DIFFERENCE


def load_training_pictures(index):
    """Pictures of all training sets [n, 4, s, s] and their labels, without near copies."""
    pictures, labels = [], []
    for name in index["sets"]:
        if name == index["held_out"]:
            continue
        set_pictures, set_labels = load_pictures(index, name)
        keep = ~near_copies(index, set_pictures, set_labels)
        pictures.append(set_pictures[keep])
        labels.append(set_labels[keep])
    return torch.cat(pictures), torch.cat(labels)


def on_background(pictures, background, size):
    """Composites RGBA pictures on one grey level (0 to 255) and resizes them.

    Returns uint8 [pictures, 3, size, size].
    """
    rgba = pictures.float()
    alpha = rgba[:, 3:] / 255
    rgb = rgba[:, :3] * alpha + background * (1 - alpha)
    if rgb.shape[-1] != size:
        rgb = F.interpolate(
            rgb, size=(size, size), mode="bilinear", antialias=True, align_corners=False
        )
    return rgb.round().clamp(0, 255).to(torch.uint8)


def normalise(pixels):
    """uint8 [.., 3, size, size] to the model's float input."""
    return (pixels.float() / 255 - MEAN) / STD
