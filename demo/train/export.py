"""Turns a training run into the files that the demo ships.

    python export.py

Writes demo/model (weights, configuration, tokenizer, labels) and the test fixtures
tests/reference/fixtures/emoji.safetensors and emoji_text.safetensors. All figures and expected values come from
the rounded float16 weights.
"""

import argparse
import json
import shutil
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file as write_safetensors
from tokenizers import Tokenizer

from captions import encode, label_embeddings
from data import FOLDER, load_index, load_pictures, normalise, on_background
from evaluate import IMAGE_SIZE, evaluate, load_model
from model import CLIP, fold_centre

MODEL = FOLDER.parent / "model"
FIXTURE = FOLDER.parents[1] / "tests" / "reference" / "fixtures" / "emoji.safetensors"
FIXTURE_PICTURES = 24
TEXT_FIXTURE = FIXTURE.with_name("emoji_text.safetensors")
FIXTURE_TEXTS = [
    "a happy cat", "hot drink", "Space  TRAVEL!", "", "x", "crème brûlée", "日本語", "don't worry, be happy",
    "a very long text that says far more than anybody would about one little picture " * 3,
]


def save_file(tensors, path, metadata=None):
    """Writes a safetensors file that everybody may read (the library's own are private)."""
    write_safetensors(tensors, path, metadata=metadata)
    path.chmod(0o644)


def export_weights(run, config):
    """Writes the checkpoint in float16; returns the float32 model it came from."""
    state = fold_centre(torch.load(run / "checkpoint.pt", weights_only=True))
    original = CLIP(config["embed_dim"], config["vision_cfg"], config["text_cfg"])
    original.load_state_dict(state)
    half = {
        name: value.to(torch.float16).contiguous(memory_format=torch.contiguous_format)
        for name, value in state.items()
        if not name.endswith("num_batches_tracked")
    }
    broken = [name for name, value in half.items() if not value.isfinite().all()]
    if broken:
        raise ValueError(f"out of float16's range: {broken}")
    save_file(half, MODEL / "model.safetensors", metadata={"format": "pt"})
    return original.eval()


def export_labels(model, tokenizer, classes, context_length):
    """Writes the label embeddings and texts; returns the embeddings as shipped."""
    with torch.no_grad():
        embeddings = label_embeddings(model, tokenizer, classes, context_length).half()
    save_file(
        {"embedding": embeddings.contiguous()},
        MODEL / "labels.safetensors",
        metadata={"format": "pt"},
    )
    rows = [
        json.dumps(
            {key: entry[key] for key in ("emoji", "name", "keywords")},
            ensure_ascii=False,
            separators=(",", ":"),
        )
        for entry in classes
    ]
    (MODEL / "labels.json").write_text("[\n" + ",\n".join(rows) + "\n]\n", encoding="utf-8")
    return embeddings.float()


@torch.no_grad()
def export_fixture(model, embeddings, index):
    """Writes evenly spaced held-out pictures with what the model makes of them."""
    pictures, labels = load_pictures(index, index["held_out"])
    chosen = torch.linspace(0, len(labels) - 1, FIXTURE_PICTURES).long()
    pixels = on_background(pictures[chosen], 255, IMAGE_SIZE)
    images = normalise(pixels)
    embedding = model.encode_image(images)
    top5 = (F.normalize(embedding, dim=1) @ embeddings.T).topk(5, dim=1).indices
    FIXTURE.parent.mkdir(parents=True, exist_ok=True)
    save_file(
        {
            "pixels": pixels.permute(0, 2, 3, 1).contiguous(),
            "input": images.contiguous(),
            "embedding": embedding.contiguous(),
            "label": labels[chosen].contiguous(),
            "top5": top5.contiguous(),
        },
        FIXTURE,
    )


@torch.no_grad()
def export_text_fixture(model, tokenizer, context_length):
    """Writes texts with their token ids and what the model makes of them."""
    tokens = encode(tokenizer, FIXTURE_TEXTS, context_length)
    save_file(
        {"tokens": tokens, "embedding": model.encode_text(tokens).contiguous()},
        TEXT_FIXTURE,
        metadata={"texts": json.dumps(FIXTURE_TEXTS)},
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--run", type=Path, default=FOLDER / "runs" / "main")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    MODEL.mkdir(parents=True, exist_ok=True)
    index = load_index()
    classes = index["classes"]
    shutil.copy(arguments.run / "tokenizer.json", MODEL / "tokenizer.json")
    tokenizer = Tokenizer.from_file(str(MODEL / "tokenizer.json"))
    config = json.loads((arguments.run / "config.json").read_text())
    context_length = config["text_cfg"]["context_length"]
    original = export_weights(arguments.run, config)
    config_file = MODEL / "config.json"
    config_file.write_text(json.dumps(config, indent=2) + "\n")
    model, _ = load_model(MODEL)
    embeddings = export_labels(model, tokenizer, classes, context_length)
    export_fixture(model, embeddings, index)
    export_text_fixture(model, tokenizer, context_length)
    with torch.no_grad():
        exact = label_embeddings(original, tokenizer, classes, context_length)
    sets = [index["held_out"]]
    config["metrics"] = {"zero_shot": evaluate(model, embeddings, sets)}
    config_file.write_text(json.dumps(config, indent=2) + "\n")
    print("float32:", json.dumps(evaluate(original, exact, sets)))
    print("float16:", json.dumps(config["metrics"]["zero_shot"]))


if __name__ == "__main__":
    main()
