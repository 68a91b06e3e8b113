"""Trains the story-teller.

    python train.py --minutes 75

Half of every batch is from tales.txt, half from all of the text. The learning rate stays where it is until --decay minutes before the end, then falls to 0 in a
straight line; in the second half of that the pieces of text are twice as long. The clock decides, so that a
machine that is shared ends in time. A checkpoint is written every few minutes; --resume goes on
from it.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from model import CONFIG, StoryTeller, count_parameters, export
from muon import Muon
from tokenizer import RUNS, load, tokens

BATCH_TOKENS = 4096
LENGTH, LONG = 256, 512
MUON_LR, ADAM_LR = 0.02, 3e-3
MUON_DECAY = 0.05
WARMUP_STEPS = 60
BALANCE = 0.01
REPORT_STEPS = 100
SAVE_SECONDS = 240


class Pieces:
    """Pieces of a text in random order; every pass begins them elsewhere."""

    def __init__(self, ids):
        self.ids = torch.from_numpy(ids)
        self.passes, self.used, self.length = 0, 0, None

    def take(self, count, length):
        if length != self.length or self.used + count > len(self.starts):
            if self.length is not None:
                self.passes, self.used = self.passes + 1, 0
            self.length = length
            random = np.random.default_rng(self.passes)
            first = random.integers(length)
            self.starts = random.permutation(np.arange(first, len(self.ids) - length - 1, length))
        starts = self.starts[self.used : self.used + count]
        self.used += count
        return [self.ids[start : start + length + 1] for start in starts]


def next_batch(texts, length):
    count = BATCH_TOKENS // length // len(texts)
    return torch.stack([piece for pieces in texts for piece in pieces.take(count, length)])


def loss_of(model, batch):
    """Mean loss of the tokens after the first, in nats."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(batch[:, :-1])
        return F.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())


@torch.no_grad()
def held_out_loss(model, ids, pieces=40, length=LENGTH):
    starts = np.linspace(0, len(ids) - length - 2, pieces).astype(int)
    batch = torch.stack([torch.from_numpy(ids[start : start + length + 1]) for start in starts])
    return sum(loss_of(model, part).item() * len(part) for part in batch.split(8)) / pieces


def is_matrix(name, parameter):
    return parameter.ndim >= 2 and "embed" not in name and not name.endswith("gate.weight")


def write_weights(path, model):
    save_file({name: tensor.half() for name, tensor in export(model).items()}, path.with_suffix(".tmp"))
    path.with_suffix(".tmp").rename(path)


def save(run, model, optimizers, texts, step):
    state = {"model": model.state_dict(), "optimizers": [o.state_dict() for o in optimizers], "passes": [pieces.passes for pieces in texts], "step": step}
    torch.save(state, run / "checkpoint.tmp")
    (run / "checkpoint.tmp").rename(run / "checkpoint.pt")
    write_weights(run / "model.safetensors", model)
    (run / "config.json").write_text(json.dumps({**CONFIG, "torch_dtype": "float16"}, indent=2) + "\n")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=75)
    parser.add_argument("--decay", type=float, default=20, help="minutes in which the learning rate falls")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--run", type=Path, default=RUNS / "main")
    parser.add_argument("--resume", action="store_true")
    arguments = parser.parse_args()
    end = time.time() + 60 * arguments.minutes
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    arguments.run.mkdir(parents=True, exist_ok=True)
    tokenizer = load()
    texts = [Pieces(tokens(name, tokenizer)) for name in ("train", "tales")]
    chapters, book = tokens("chapters", tokenizer), tokens("book", tokenizer)
    model = StoryTeller()
    matrices = [p for name, p in model.named_parameters() if is_matrix(name, p)]
    others = [p for name, p in model.named_parameters() if not is_matrix(name, p)]
    optimizers = [
        Muon(matrices, lr=MUON_LR, weight_decay=MUON_DECAY),
        torch.optim.AdamW(others, lr=ADAM_LR, betas=(0.9, 0.95), weight_decay=0.01),
    ]
    step = 0
    if arguments.resume:
        state = torch.load(arguments.run / "checkpoint.pt")
        model.load_state_dict(state["model"])
        for optimizer, saved in zip(optimizers, state["optimizers"]):
            optimizer.load_state_dict(saved)
        step = state["step"]
        for pieces, passes in zip(texts, state["passes"]):
            pieces.passes = passes + 1
    log = (arguments.run / "log.txt").open("a", buffering=1)
    print("parameters: %d, active: %d; tokens: %d" % (*count_parameters(model), len(texts[0].ids)), file=log)

    kept = arguments.resume and (arguments.run / "before.safetensors").exists()
    began = saved = time.time()
    sums = [0.0, 0.0, 0]
    while (left := end - time.time()) > 0:
        if left < 60 * arguments.decay and not kept:
            write_weights(arguments.run / "before.safetensors", model)
            kept = True
        rate = min(1, (step + 1) / WARMUP_STEPS, left / (60 * arguments.decay))
        for optimizer, lr in zip(optimizers, (MUON_LR, ADAM_LR)):
            optimizer.param_groups[0]["lr"] = lr * rate
        batch = next_batch(texts, LONG if left < 30 * arguments.decay else LENGTH)
        loss = loss_of(model, batch)
        balance = model.balance()
        (loss + BALANCE * balance).backward()
        torch.nn.utils.clip_grad_norm_(others, 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        step += 1
        sums = [sums[0] + loss.item(), sums[1] + balance.item(), sums[2] + 1]
        if step % REPORT_STEPS == 0:
            held = held_out_loss(model, chapters), held_out_loss(model, book, 20)
            line = (step, step * BATCH_TOKENS / 1e6, sums[0] / sums[2], *held, sums[1] / sums[2], rate, (time.time() - began) / 60, time.process_time() / 60)
            print("step %d, %.2f M tokens: loss %.4f, held out chapters %.4f, book %.4f, balance %.3f, rate %.2f; %.1f min, %.1f min of CPU" % line, file=log)
            sums = [0.0, 0.0, 0]
        if time.time() - saved > SAVE_SECONDS:
            save(arguments.run, model, optimizers, texts, step)
            saved = time.time()
    save(arguments.run, model, optimizers, texts, step)
    print("done: step %d, held out chapters %.4f (%d tokens at a time)" % (step, held_out_loss(model, chapters, 40, LONG), LONG), file=log)


if __name__ == "__main__":
    main()
