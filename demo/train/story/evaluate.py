"""Figures and samples of a saved story-teller, by PyTorch in float32.

    python evaluate.py [FOLDER]                     loss on the held-out text; default ../../models/story
    python evaluate.py --samples 3 --prompt "..."   stories
    python evaluate.py --transformers               how far transformers' DeepseekV2ForCausalLM is from it (needs transformers)
"""

import argparse
import json
import math
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from model import StoryTeller, load
from tokenizer import Tokenizer, documents, tokens

LENGTH, STRIDE = 512, 256
FOLDER = Path(__file__).parent / "../../models/story"


@torch.no_grad()
def nats(model, ids):
    """What each token but the first costs, with the 256 to 511 tokens before it known, or as many as there are."""
    ids = torch.from_numpy(ids)
    costs = []
    first = 0
    while first + 1 < len(ids):
        start, end = max(0, first - STRIDE), min(len(ids) - 1, first + (STRIDE if first else LENGTH))
        logits = model(ids[None, start:end])[0, first - start :]
        costs.append(F.cross_entropy(logits, ids[first + 1 : end + 1], reduction="none"))
        first = end
    return torch.cat(costs)


@torch.no_grad()
def sample(model, tokenizer, prompt, count=200, temperature=0.8, top_p=0.9):
    ids = tokenizer.encode(prompt).ids
    while count and (len(ids) == 1 or ids[-1] != 0):
        probabilities = (model(torch.tensor([ids[-LENGTH:]]))[0, -1] / temperature).softmax(0)
        ordered, index = probabilities.sort(descending=True)
        kept = ordered * (ordered.cumsum(0) - ordered < top_p)
        ids.append(index[torch.multinomial(kept, 1)].item())
        count -= 1
    return tokenizer.decode(ids)


def difference(folder, model, ids):
    """Largest difference of the logits, and the largest logit."""
    from transformers import DeepseekV2ForCausalLM

    other = DeepseekV2ForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    batch = torch.from_numpy(ids[:LENGTH])[None]
    with torch.no_grad():
        expected = other(batch).logits
        return (model(batch) - expected).abs().max().item(), expected.abs().max().item()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path, nargs="?", default=FOLDER)
    parser.add_argument("--samples", type=int, default=0)
    parser.add_argument("--prompt", default="Once upon a time")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--transformers", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(arguments.seed)
    tokenizer = Tokenizer.from_file(str(arguments.folder / "tokenizer.json"))
    config = json.loads((arguments.folder / "config.json").read_text())
    model = load(StoryTeller(config), load_file(arguments.folder / "model.safetensors")).eval()
    if arguments.transformers:
        print("transformers: logits differ by at most %.2g of %.3g" % difference(arguments.folder, model, tokens("chapters", tokenizer)))
    for _ in range(arguments.samples):
        print(sample(model, tokenizer, arguments.prompt), end="\n\n----\n\n")
    if arguments.transformers or arguments.samples:
        return
    for name in ("chapters", "book"):
        cost = nats(model, tokens(name, tokenizer))
        size = sum(len(document.encode()) for document in documents(name))
        print("%s: %.4f nats per token, perplexity %.3f, %.4f bits per byte" % (name, cost.mean(), cost.mean().exp(), cost.sum() / math.log(2) / size))


if __name__ == "__main__":
    main()
