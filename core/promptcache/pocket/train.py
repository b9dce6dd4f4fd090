"""Training of `pocket` on a CPU; goes on from the last checkpoint.

    python -m promptcache.pocket.train --out runs/pocket
    python -m promptcache.pocket.train --out runs/again --weights runs/first  # over once more

Matrices inside the layers are trained with Muon, which learns look-up and copying in fewer tokens
than AdamW; embeddings and norms with AdamW. One line is logged per 50 steps. Where the run stands
is a pair: the number of the pool of batches and the batch within it (`data.make_pool`).
"""

from __future__ import annotations

import os
import signal
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import nn
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from promptcache.pocket.data import Batch, Encoder, make_pool
from promptcache.pocket.forward import logits_at
from promptcache.pocket.model import new_model, pocket_config
from promptcache.pocket.schedule import AGAIN, DEFAULT, Plan, Position, next_stage, rate_at
from promptcache.pocket.tokenizer import load_tokenizer


class Trainer:
    """A model, its optimisers, and the position in the stream of batches."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerFast, plan: Plan, weights: Path | None = None
    ) -> None:
        self.plan = plan
        self.encoder = Encoder(tokenizer)
        config = pocket_config(
            tokenizer, hidden=plan.hidden, layers=plan.layers, feed_forward=plan.feed_forward
        )
        self.model: LlamaForCausalLM = new_model(config, plan.seed)
        if weights is not None:
            self.model.load_state_dict(LlamaForCausalLM.from_pretrained(weights).state_dict())
        layers = self.model.model.layers.named_parameters()
        matrices = [p for _, p in layers if p.ndim == 2]
        embedding = self.model.model.embed_tokens.weight
        norms = [p for p in self.model.parameters() if p.ndim == 1]
        self.optimizers: list[torch.optim.Optimizer] = [
            torch.optim.Muon(
                matrices, weight_decay=plan.weight_decay, adjust_lr_fn="match_rms_adamw"
            ),
            torch.optim.AdamW([embedding], betas=(0.9, 0.98), weight_decay=0.0),
            torch.optim.AdamW(norms, betas=(0.9, 0.98), weight_decay=0.0),
        ]
        self.peaks = [plan.rate, plan.embedding_rate, plan.norm_rate]
        self.position = Position()
        self._pool: tuple[int, list[Batch]] = (-1, [])

    def next_batch(self) -> Batch:
        """Return the batch at the present position, and step past it."""
        at = self.position
        if self._pool[0] != at.pool:
            stage = self.plan.curriculum[at.stage]
            batches = make_pool(
                self.encoder, self.plan.seed, at.pool, stage, self.plan.batch_tokens
            )
            self._pool = (at.pool, batches)
        batch = self._pool[1][at.batch]
        moved = replace(at, step=at.step + 1, tokens=at.tokens + batch.tokens, batch=at.batch + 1)
        if moved.batch == len(self._pool[1]):
            moved = replace(moved, pool=at.pool + 1, batch=0)
            number = next_stage(self.plan, moved)
            if number != moved.stage:
                moved = replace(moved, stage=number, skill=0.0)
        self.position = moved
        return batch

    def train_step(self) -> dict[str, float]:
        """Take one step and return its measures as sums to be averaged over steps."""
        share = rate_at(self.plan, self.position)
        for optimizer, peak in zip(self.optimizers, self.peaks, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = peak * share
        batch = self.next_batch()
        ids = torch.from_numpy(batch.ids)
        weights = torch.from_numpy(batch.weights)
        rows, columns = weights.nonzero(as_tuple=True)
        logits = logits_at(self.model, ids, rows, columns - 1)
        targets = ids[rows, columns]
        losses = nn.functional.cross_entropy(logits.float(), targets, reduction="none")
        weight = weights[rows, columns]
        loss = (losses * weight).sum() / weight.sum()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        measures = _measure(batch, loss, logits, rows, columns, targets)
        skill = 0.97 * self.position.skill + 0.03 * measures["exact"]
        self.position = replace(self.position, skill=skill)
        return measures

    def save(self, folder: Path) -> None:
        """Write the checkpoint; a broken write leaves the last one whole."""
        folder.mkdir(parents=True, exist_ok=True)
        state = {
            "model": self.model.state_dict(),
            "optimizers": [o.state_dict() for o in self.optimizers],
            "position": asdict(self.position),
            "tokens": self.plan.before + self.position.tokens,
        }
        torch.save(state, folder / "checkpoint.new")
        os.replace(folder / "checkpoint.new", folder / "checkpoint.pt")

    def load(self, folder: Path) -> bool:
        """Go on from the checkpoint in `folder`, if there is one."""
        path = folder / "checkpoint.pt"
        if not path.exists():
            return False
        state = torch.load(path, weights_only=True)
        self.model.load_state_dict(state["model"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=False):
            optimizer.load_state_dict(saved)
        self.position = Position(**state["position"])
        return True


def _measure(
    batch: Batch,
    loss: torch.Tensor,
    logits: torch.Tensor,
    rows: torch.Tensor,
    columns: torch.Tensor,
    targets: torch.Tensor,
) -> dict[str, float]:
    right = logits.argmax(-1) == targets
    answer = torch.from_numpy(batch.answer)[rows, columns]
    first = torch.from_numpy(batch.first)[rows, columns]
    count = int(answer.max())
    whole = torch.ones(count + 1, dtype=torch.bool)
    whole[answer[~right]] = False
    return {
        "loss": float(loss.detach()),
        "first": float(right[first].float().mean()) if count else 1.0,
        "exact": float(whole[1:].float().mean()) if count else 1.0,
    }


def run(trainer: Trainer, out: Path, save_every: int = 200) -> bool:
    """Train to the end of the plan, or until SIGTERM, logging to the screen and `out/log.txt`.

    Returns whether the end was reached.
    """
    out.mkdir(parents=True, exist_ok=True)
    sums: dict[str, float] = {}
    count, seen, began = 0, trainer.position.tokens, time.perf_counter()
    trainer.model.train()
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: stopped.append(number))
    while trainer.position.tokens < trainer.plan.tokens:
        for name, number in trainer.train_step().items():
            sums[name] = sums.get(name, 0.0) + number
        count += 1
        at = trainer.position
        if at.step % 50 == 0:
            speed = (at.tokens - seen) / (time.perf_counter() - began)
            means = "  ".join(f"{name} {total / count:.4f}" for name, total in sums.items())
            line = (
                f"{time.strftime('%H:%M:%S')}  step {at.step}  {at.tokens / 1e6:.2f}M tokens  "
                f"{means}  stage {at.stage}  rate {rate_at(trainer.plan, at):.3f}  "
                f"{speed:.0f} tokens/s"
            )
            print(line, flush=True)
            with (out / "log.txt").open("a") as log:
                log.write(line + "\n")
            sums, count, seen, began = {}, 0, at.tokens, time.perf_counter()
        if at.step % save_every == 0 or stopped:
            trainer.save(out)
        if stopped:
            return False
    trainer.save(out)
    return True


def start(out: Path, plan: Plan, threads: int = 0, weights: Path | None = None) -> bool:
    """Train by `plan` in the folder `out`, from its checkpoint where there is one.

    Where there is none, from the exported `weights`, or from nothing with the tokenizer in `out`.
    Returns whether the end of the plan was reached; else SIGTERM came.
    """
    if threads:
        torch.set_num_threads(threads)
    tokenizer = load_tokenizer(out / "tokenizer" if weights is None else weights)
    tokenizer.save_pretrained(out / "tokenizer")
    trainer = Trainer(tokenizer, plan, weights)
    trainer.load(out)
    return run(trainer, out)


def main(
    out: Annotated[Path, typer.Option(help="Folder of the tokenizer, checkpoint and log.")],
    weights: Annotated[
        Path | None, typer.Option(help="Exported weights to go over it once more with.")
    ] = None,
    tokens: Annotated[
        int | None, typer.Option(help="Tokens to train on, in all. [as the recipe does]")
    ] = None,
    threads: Annotated[int, typer.Option(help="Threads of torch; 0: its own choice.")] = 0,
) -> None:
    """Train, from the checkpoint in OUT where there is one."""
    plan = DEFAULT if weights is None else AGAIN
    start(out, plan if tokens is None else replace(plan, tokens=tokens), threads, weights)


if __name__ == "__main__":
    typer.run(main)
