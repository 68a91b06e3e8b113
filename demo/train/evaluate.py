"""Zero-shot figures of the shipped files on the held-out icon set.

    python evaluate.py

Uses demo/model only: pictures go through the image tower, and the classes are the
label embeddings that the text tower made. Needs data/ from render.mjs.
"""

import argparse
import json
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from data import FOLDER, load_index, load_pictures, normalise, on_background
from model import CLIP

BACKGROUNDS = {"white": 255, "grey": 128, "dark": 32}
IMAGE_SIZE = 64


@torch.no_grad()
def image_embeddings(model, pictures, background, batch=128):
    """Normalised embeddings of RGBA pictures on one grey level."""
    parts = []
    for part in pictures.split(batch):
        pixels = on_background(part, background, IMAGE_SIZE)
        images = normalise(pixels).contiguous(memory_format=torch.channels_last)
        parts.append(F.normalize(model.encode_image(images).float(), dim=1))
    return torch.cat(parts)


def top_k(embeddings, label_embeddings, labels):
    """Per cent of pictures whose class comes first, and is among the first five."""
    ranked = (embeddings @ label_embeddings.T).topk(5, dim=1).indices
    hits = ranked == labels[:, None]
    return (
        100 * hits[:, 0].float().mean().item(),
        100 * hits.any(dim=1).float().mean().item(),
    )


def load_model(folder):
    """The shipped model in float32, with its configuration."""
    folder = Path(folder)
    config = json.loads((folder / "config.json").read_text())
    model = CLIP(config["embed_dim"], config["vision_cfg"], config["text_cfg"])
    weights = load_file(folder / "model.safetensors")
    missing, unexpected = model.load_state_dict(
        {name: value.float() for name, value in weights.items()}, strict=False
    )
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    if missing or unexpected:
        raise ValueError(f"missing {missing}, unexpected {unexpected}")
    return model.eval(), config


def evaluate(model, label_embeddings, sets, backgrounds=BACKGROUNDS):
    """Top-1 and top-5 in per cent for every set and background."""
    index = load_index()
    figures = {}
    for name in sets:
        pictures, labels = load_pictures(index, name)
        for background, level in backgrounds.items():
            embeddings = image_embeddings(model, pictures, level)
            top1, top5 = top_k(embeddings, label_embeddings, labels)
            figures[f"{name} {background}"] = {
                "pictures": len(labels),
                "top1": round(top1, 2),
                "top5": round(top5, 2),
            }
    return figures


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default=str(FOLDER.parent / "model"))
    parser.add_argument("--all-sets", action="store_true", help="also the training sets")
    arguments = parser.parse_args()
    model, _ = load_model(arguments.model)
    labels = load_file(Path(arguments.model) / "labels.safetensors")["embedding"].float()
    index = load_index()
    sets = list(index["sets"]) if arguments.all_sets else [index["held_out"]]
    for name, figure in evaluate(model, labels, sets).items():
        print(f"{name}: {figure['pictures']} pictures, "
              f"top-1 {figure['top1']:.1f} %, top-5 {figure['top5']:.1f} %")


if __name__ == "__main__":
    main()
