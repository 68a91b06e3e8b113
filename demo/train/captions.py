"""Captions of the classes: templates, sampling with soft targets, and the tokenizer."""

import random
from collections import defaultdict

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers import trainers

PAD, UNKNOWN, START, END = "<pad>", "<unk>", "<sot>", "<eot>"

# The label embeddings of the shipped model are the mean over these.
LABEL_TEMPLATES = ["{}", "{} emoji", "an emoji of {}", "a picture of {}"]
TEMPLATES = LABEL_TEMPLATES + [
    "the {} emoji",
    "a drawing of {}",
    "an icon of {}",
    "a photo of {}",
    "this is {}",
    "emoji: {}",
]


def train_tokenizer(classes, vocab_size):
    """A lower-casing WordPiece tokenizer whose end token has the largest id."""
    corpus = [entry["name"] for entry in classes] * 2
    corpus += [word for entry in classes for word in entry["keywords"]]
    corpus += [template.format("") for template in TEMPLATES] * 20
    normalizer = normalizers.BertNormalizer(lowercase=True)
    splitter = pre_tokenizers.BertPreTokenizer()
    draft = Tokenizer(models.WordPiece(unk_token=UNKNOWN))
    draft.normalizer, draft.pre_tokenizer = normalizer, splitter
    # Two ids are kept free: start and end token must come last, in this order.
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size - 2, special_tokens=[PAD, UNKNOWN], show_progress=False
    )
    draft.train_from_iterator(corpus, trainer)
    words = sorted(draft.get_vocab().items(), key=lambda item: item[1])
    vocab = {word: number for number, (word, _) in enumerate(words)}
    vocab[START], vocab[END] = len(vocab), len(vocab) + 1
    tokenizer = Tokenizer(models.WordPiece(vocab, unk_token=UNKNOWN))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, splitter
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens([PAD, UNKNOWN, START, END])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}",
        special_tokens=[(START, vocab[START]), (END, vocab[END])],
    )
    return tokenizer


def encode(tokenizer, texts, context_length):
    """Token ids [texts, longest text], padded with 0; long texts keep their end token."""
    rows = [tokenizer.encode(text).ids for text in texts]
    rows = [
        ids if len(ids) <= context_length else ids[: context_length - 1] + ids[-1:]
        for ids in rows
    ]
    length = max(len(ids) for ids in rows)
    return torch.tensor([ids + [0] * (length - len(ids)) for ids in rows])


def label_embeddings(model, tokenizer, classes, context_length):
    """Normalised text embeddings of the classes, the mean over LABEL_TEMPLATES."""
    total = 0
    for template in LABEL_TEMPLATES:
        texts = [template.format(entry["name"]) for entry in classes]
        tokens = encode(tokenizer, texts, context_length)
        parts = [model.encode_text(part) for part in tokens.split(400)]
        total = total + torch.nn.functional.normalize(torch.cat(parts).float(), dim=1)
    return torch.nn.functional.normalize(total, dim=1)


class CaptionSampler:
    """Draws captions and the distribution over classes that each of them describes."""

    def __init__(self, classes, seed=0):
        self.names = [entry["name"] for entry in classes]
        self.keywords = [entry["keywords"] for entry in classes]
        self.random = random.Random(seed)
        self.owners = defaultdict(set)
        for label, words in enumerate(self.keywords):
            for word in words:
                self.owners[word].add(label)
            self.owners[self.names[label]].add(label)

    def _keywords(self, label, most):
        words = self.keywords[label]
        count = min(len(words), self.random.randint(1, most))
        return self.random.sample(words, count)

    def _draw(self, label):
        """One caption of a class and the classes that it fits."""
        kind = self.random.random()
        if kind < 0.55 or not self.keywords[label]:
            return self.random.choice(TEMPLATES).format(self.names[label]), [label]
        if kind < 0.75:
            parts = [self.names[label], *self._keywords(label, 3)]
            return self.random.choice([" ", ", "]).join(parts), [label]
        words = self._keywords(label, 3)
        fits = set.intersection(*(self.owners[word] for word in words))
        text = self.random.choice([" ", ", "]).join(words)
        if self.random.random() < 0.5:
            text = self.random.choice(TEMPLATES).format(text)
        return text, sorted(fits | {label})

    def sample(self, labels):
        """Captions of the classes and target probabilities [captions, classes]."""
        targets = torch.zeros(len(labels), len(self.names))
        texts = []
        for row, label in enumerate(labels):
            text, fits = self._draw(label)
            texts.append(text)
            targets[row, fits] = 1 / len(fits)
        return texts, targets
