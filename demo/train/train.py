"""Trains the emoji CLIP.

    python train.py --minutes 80

The image tower learns by classification against one prototype per class. The text
tower learns to map captions to the same prototypes. In the course of training the
prototypes give way to the text tower's own label embeddings, so that in the end the
image tower is trained for the zero-shot use that is measured.
"""

import argparse
import json
import math
import os
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import nn

from augment import augment, may_flip
from captions import CaptionSampler, encode, label_embeddings, train_tokenizer
from data import FOLDER, MEAN, STD, load_index, load_pictures, load_training_pictures
from evaluate import image_embeddings, top_k
from model import CLIP, add_centre, count_parameters
from threads import ThreadChooser

CONTEXT_LENGTH = 24
VOCAB_SIZE = 2048
EMBED_DIM = 256
LABEL_SMOOTHING = 0.1
EMA_DECAY = 0.999
# Share of the training time after which the text tower's embeddings start to
# replace the prototypes, and when they have.
TEXT_FROM, TEXT_FULL = 0.25, 0.75
MOST_TEXT_WEIGHT = 0.9
REFRESH_STEPS = 100
WARMUP_STEPS = 150


def model_config(vocab_size):
    """The shape of the model, in open_clip's terms."""
    return {
        "embed_dim": EMBED_DIM,
        "vision_cfg": {
            "layers": [1, 1, 1, 1],
            "width": 24,
            "heads": 12,
            "image_size": 64,
            "use_se": True,
            "layer_norm": True,
        },
        "text_cfg": {
            "context_length": CONTEXT_LENGTH,
            "vocab_size": vocab_size,
            "width": 128,
            "heads": 4,
            "layers": 2,
        },
        "preprocess_cfg": {"mean": [MEAN] * 3, "std": [STD] * 3, "size": 64},
    }


class Prototypes(nn.Module):
    """One learned direction per class, and the temperature of the captions' loss."""

    def __init__(self, classes):
        super().__init__()
        # Small values: only the direction counts, and short vectors turn faster.
        self.weight = nn.Parameter(torch.randn(classes, EMBED_DIM) * 0.1)
        self.text_scale = nn.Parameter(torch.tensor(20.0).log())

    def forward(self):
        return F.normalize(self.weight, dim=1)


class PictureSampler:
    """Draws a class first and then one of its pictures, so that all classes count alike."""

    def __init__(self, pictures, labels, classes):
        self.pictures = pictures
        order = labels.argsort()
        self.order = order
        self.count = torch.bincount(labels, minlength=classes)
        self.first = self.count.cumsum(0) - self.count
        self.queue = torch.empty(0, dtype=torch.long)
        self.classes = classes

    def sample(self, batch):
        if len(self.queue) < batch:
            self.queue = torch.cat([self.queue, torch.randperm(self.classes)])
        labels, self.queue = self.queue[:batch], self.queue[batch:]
        offset = (torch.rand(batch) * self.count[labels]).long()
        return self.pictures[self.order[self.first[labels] + offset]], labels


class Average:
    """Exponential moving average of a model's parameters and buffers."""

    def __init__(self, model, averaged):
        self.model, self.averaged, self.steps = model, averaged.eval(), 0
        averaged.load_state_dict(model.state_dict())

    @torch.no_grad()
    def update(self):
        self.steps += 1
        decay = min(EMA_DECAY, (1 + self.steps) / (10 + self.steps))
        pairs = zip(self.averaged.state_dict().values(), self.model.state_dict().values())
        for target, value in pairs:
            if target.is_floating_point():
                target.lerp_(value, 1 - decay)


class Trainer:
    """Everything that one training step needs."""

    def __init__(self, arguments):
        self.run = Path(arguments.run)
        self.run.mkdir(parents=True, exist_ok=True)
        self.index = load_index()
        self.classes = self.index["classes"]
        self.tokenizer = train_tokenizer(self.classes, VOCAB_SIZE)
        self.tokenizer.save(str(self.run / "tokenizer.json"))
        self.config = model_config(self.tokenizer.get_vocab_size())
        (self.run / "config.json").write_text(json.dumps(self.config))
        self.captions = CaptionSampler(self.classes, arguments.seed)
        self.flippable = may_flip(self.classes)
        pictures, labels = load_training_pictures(self.index)
        self.sampler = PictureSampler(pictures, labels, len(self.classes))
        self.held_out = load_pictures(self.index, self.index["held_out"])
        self.model = add_centre(CLIP(**self._shape())).to(memory_format=torch.channels_last)
        averaged = add_centre(CLIP(**self._shape())).to(memory_format=torch.channels_last)
        self.average = Average(self.model, averaged)
        self.prototypes = Prototypes(len(self.classes))
        self.bank = None
        if arguments.start_from:
            self._start_from(Path(arguments.start_from))
        self.optimizer = self._optimizer(arguments)
        self.batch, self.text_batch = arguments.batch, arguments.text_batch
        self.log = (self.run / "log.txt").open("a")
        self.say(
            f"{len(self.classes)} classes, {len(pictures)} pictures, "
            f"image tower {count_parameters(self.model.visual)} parameters, "
            f"all {count_parameters(self.model)}"
        )

    def _shape(self):
        return {key: self.config[key] for key in ("embed_dim", "vision_cfg", "text_cfg")}

    @torch.no_grad()
    def _start_from(self, run):
        """Continues with another run's averaged weights and its tokenizer."""
        self.tokenizer = Tokenizer.from_file(str(run / "tokenizer.json"))
        self.tokenizer.save(str(self.run / "tokenizer.json"))
        state = torch.load(run / "checkpoint.pt", weights_only=True)
        self.model.load_state_dict(state)
        self.average.averaged.load_state_dict(state)
        self.prototypes.weight.copy_(self.label_bank())

    def _optimizer(self, arguments):
        """AdamW; vectors and scalars are not decayed, the text tower learns slower."""
        groups = {}
        for name, parameter in self.model.named_parameters():
            visual = name.startswith("visual.") or name == "logit_scale"
            key = (arguments.lr if visual else arguments.text_lr, parameter.dim() > 1)
            groups.setdefault(key, []).append(parameter)
        groups.setdefault((arguments.lr, False), []).extend(self.prototypes.parameters())
        return torch.optim.AdamW(
            [
                {"params": params, "base_lr": lr, "weight_decay": 0.05 if decay else 0.0}
                for (lr, decay), params in groups.items()
            ],
            betas=(0.9, 0.98),
            fused=True,
        )

    def say(self, text):
        print(text, flush=True)
        print(text, file=self.log, flush=True)

    def image_loss(self, progress):
        """Cross-entropy of augmented pictures against prototypes and label embeddings."""
        pictures, labels = self.sampler.sample(self.batch)
        size = self.config["vision_cfg"]["image_size"]
        images = augment(pictures, self.flippable[labels], size)
        images = ((images - MEAN) / STD).to(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            embeddings = self.model.encode_image(images)
        embeddings = F.normalize(embeddings.float(), dim=1)
        scale = self.model.logit_scale.exp().clamp(max=100)

        def loss(targets):
            logits = scale * embeddings @ targets.T
            return F.cross_entropy(logits, labels, label_smoothing=LABEL_SMOOTHING)

        share = min(1.0, max(0.0, (progress - TEXT_FROM) / (TEXT_FULL - TEXT_FROM)))
        share *= MOST_TEXT_WEIGHT
        total = (1 - share) * loss(self.prototypes())
        if share > 0:
            total = total + share * loss(self.bank)
        return total

    def text_loss(self):
        """Captions find their class's prototype and come to lie on it."""
        labels = torch.randint(len(self.classes), (self.text_batch,))
        texts, targets = self.captions.sample(labels.tolist())
        tokens = encode(self.tokenizer, texts, CONTEXT_LENGTH)
        with torch.autocast("cpu", torch.bfloat16):
            embeddings = self.model.encode_text(tokens)
        embeddings = F.normalize(embeddings.float(), dim=1)
        prototypes = self.prototypes().detach()
        scale = self.prototypes.text_scale.exp().clamp(max=50)
        choose = F.cross_entropy(scale * embeddings @ prototypes.T, targets)
        centre = F.normalize(targets @ prototypes, dim=1)
        meet = (1 - (embeddings * centre).sum(1)).mean()
        return choose + 2 * meet

    @torch.no_grad()
    def label_bank(self):
        """Label embeddings of the averaged text tower, the image tower's later targets."""
        return label_embeddings(
            self.average.averaged, self.tokenizer, self.classes, CONTEXT_LENGTH
        )

    def step(self, step, progress):
        """One update of both towers; returns the two losses."""
        rate = min(1.0, (step + 1) / WARMUP_STEPS) * (0.5 + 0.5 * math.cos(math.pi * progress))
        for group in self.optimizer.param_groups:
            group["lr"] = group["base_lr"] * rate + 1e-6
        if progress > TEXT_FROM and (self.bank is None or step % REFRESH_STEPS == 0):
            self.bank = self.label_bank()
        image, text = self.image_loss(progress), self.text_loss()
        self.optimizer.zero_grad()
        (image + text).backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 2.0)
        self.optimizer.step()
        self.average.update()
        return image.item(), text.item()

    @torch.no_grad()
    def report(self):
        """Held-out top-1 and top-5, in per cent, through text and through prototypes."""
        pictures, labels = self.held_out
        embeddings = image_embeddings(self.average.averaged, pictures, 255)
        through_text = top_k(embeddings, self.label_bank(), labels)
        through_prototypes = top_k(embeddings, self.prototypes(), labels)
        return (
            f"held out: text {through_text[0]:.1f} / {through_text[1]:.1f}, "
            f"prototypes {through_prototypes[0]:.1f} / {through_prototypes[1]:.1f}"
        )

    def save(self):
        """Writes a checkpoint that export.py can ship; replaces the last one atomically."""
        target = self.run / "checkpoint.pt"
        torch.save(self.average.averaged.state_dict(), target.with_suffix(".tmp"))
        os.replace(target.with_suffix(".tmp"), target)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=80, help="wall time of the training")
    parser.add_argument("--run", default=str(FOLDER / "runs" / "main"))
    parser.add_argument("--start-from", help="folder of an earlier run to continue")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--text-batch", type=int, default=64)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--text-lr", type=float, default=1.5e-3)
    parser.add_argument("--report-minutes", type=float, default=3)
    parser.add_argument("--threads", type=int, default=2, help="most threads to use")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main():
    arguments = parse_arguments()
    threads = ThreadChooser(arguments.threads)
    torch.manual_seed(arguments.seed)
    trainer = Trainer(arguments)
    start = last_report = time.time()
    total = arguments.minutes * 60
    images = texts = steps_since = step = 0
    # The schedule follows the clock, so that the run always ends with its smallest rate.
    while (progress := (time.time() - start) / total) < 1:
        began = time.time()
        threads.before_step()
        image, text = trainer.step(step, progress)
        threads.after_step(time.time() - began)
        images, texts, steps_since, step = images + image, texts + text, steps_since + 1, step + 1
        now = time.time()
        if now - last_report > arguments.report_minutes * 60:
            trainer.say(
                f"{(now - start) / 60:.1f} min, step {step}, "
                f"{(now - last_report) / steps_since:.3f} s/step "
                f"({threads.count} threads), "
                f"image loss {images / steps_since:.3f}, text loss {texts / steps_since:.3f}, "
                + trainer.report()
            )
            trainer.save()
            last_report, images, texts, steps_since = now, 0, 0, 0
    trainer.say(f"done: {step} steps in {(time.time() - start) / 60:.1f} min, {trainer.report()}")
    trainer.save()


if __name__ == "__main__":
    main()
