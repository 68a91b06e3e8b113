"""The tokenizer: byte-level BPE of 3,072 tokens, learned from the training text; writes runs/tokenizer.json."""

import json
from pathlib import Path

import numpy as np
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from text import FOLDER, SEPARATOR

RUNS = Path(__file__).parent / "runs"
SIZE = 3072
# Words with the space before them, runs of punctuation, line breaks, other space.
PIECES = r"'(?:s|t|re|ve|m|ll|d)\b| ?\p{L}+| ?\p{N}| ?[^\s\p{L}\p{N}]+|\n+|\s+"


def train():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=SIZE,
        special_tokens=[SEPARATOR],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(documents("train"), trainer)
    # A text begins where another one ended.
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{SEPARATOR} $A", special_tokens=[(SEPARATOR, 0)])
    return tokenizer


def documents(name):
    """The texts of data/NAME.txt."""
    return [part.strip("\n") for part in (FOLDER / f"{name}.txt").read_text().split(f"{SEPARATOR}\n") if part]


def load():
    return Tokenizer.from_file(str(RUNS / "tokenizer.json"))


def ids_of(texts, tokenizer):
    """All texts' tokens in a row, each after the separator (id 0)."""
    return np.concatenate([np.array(encoding.ids, dtype=np.int64) for encoding in tokenizer.encode_batch(texts)])


def tokens(name, tokenizer):
    """Those of data/NAME.txt."""
    return ids_of(documents(name), tokenizer)


if __name__ == "__main__":
    RUNS.mkdir(exist_ok=True)
    tokenizer = train()
    tokenizer.save(str(RUNS / "tokenizer.json"))
    for name in ["train", "chapters", "book"]:
        ids = tokens(name, tokenizer)
        size = sum(len(document.encode()) for document in documents(name))
        print(json.dumps({"name": name, "tokens": len(ids), "bytes": size, "bytes/token": round(size / len(ids), 3)}))
