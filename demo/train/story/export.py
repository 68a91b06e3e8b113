"""Writes what is shipped: demo/models/story, and the test fixture story.json with what PyTorch and the n-grams say of a little text.

    python export.py [--run runs/main]

The weights are a mean of those at the end and, counting BEFORE_SHARE, those from when the learning rate began to fall:
the end alone knows the texts that it read most often too well.
"""

import argparse
import json
import shutil
from pathlib import Path

from safetensors.torch import load_file, save_file

from evaluate import FOLDER, nats
from model import StoryTeller, load
from ngram import ORDERS, KneserNey
from tokenizer import RUNS, documents, ids_of, load as load_tokenizer, tokens

FIXTURE = Path(__file__).parent / "../../../tests/reference/fixtures/story.json"
# Beginnings of held-out chapters by Chesterton, Melville and Austen.
EXCERPTS = [4, 7, 14]
CHARACTERS = 2500
BEFORE_SHARE = 0.3

TOKENIZER_CONFIG = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "bos_token": "<|endoftext|>",
    "eos_token": "<|endoftext|>",
    "model_max_length": 512,
    "clean_up_tokenization_spaces": False,
    # It continues texts and knows no roles: a conversation is one text.
    "chat_template": "{{ bos_token }}{% for message in messages %}{{ message['content'] }}{% endfor %}",
}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--run", type=Path, default=RUNS / "main")
    run = parser.parse_args().run
    FOLDER.mkdir(parents=True, exist_ok=True)
    end, before = (load_file(run / f"{name}.safetensors") for name in ("model", "before"))
    mean = {name: (end[name].float().lerp(before[name].float(), BEFORE_SHARE)).half() for name in end}
    save_file(mean, FOLDER / "model.safetensors", metadata={"format": "pt"})
    shutil.copyfile(run / "config.json", FOLDER / "config.json")
    shutil.copyfile(RUNS / "tokenizer.json", FOLDER / "tokenizer.json")
    (FOLDER / "tokenizer_config.json").write_text(json.dumps(TOKENIZER_CONFIG, indent=2) + "\n")

    tokenizer = load_tokenizer()
    model = load(StoryTeller(json.loads((FOLDER / "config.json").read_text())), load_file(FOLDER / "model.safetensors")).eval()
    baseline = KneserNey(tokens("train", tokenizer), ORDERS[-1])
    excerpts = []
    for index in EXCERPTS:
        document = documents("chapters")[index]
        text = document[: document.rindex("\n\n", 0, CHARACTERS)]
        ids = ids_of([text], tokenizer)
        excerpts.append({"text": text, "tokens": len(ids), "pytorch": round(nats(model, ids).mean().item(), 6), "ngram": round(baseline.nats(ids).mean().item(), 6)})
    FIXTURE.write_text(json.dumps(excerpts, indent=1) + "\n")
    for excerpt in excerpts:
        print("%(tokens)d tokens: %(pytorch).4f nats, n-grams %(ngram).4f" % excerpt)


if __name__ == "__main__":
    main()
