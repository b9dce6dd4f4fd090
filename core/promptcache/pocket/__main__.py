"""All of it from nothing: tokenizer, training twice over, export, evaluation.

    python -m promptcache.pocket

Run again after a stop, it goes on from the last checkpoint.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from promptcache.pocket import evaluate, pocket_path, train
from promptcache.pocket.chat import messages
from promptcache.pocket.corpus import Shape, make_sample
from promptcache.pocket.export import export
from promptcache.pocket.prompts import WORDINGS
from promptcache.pocket.schedule import AGAIN, DEFAULT, Plan
from promptcache.pocket.tokenizer import train_tokenizer


def training_texts(samples: int = 6000, seed: int = 1) -> list[str]:
    """Return the message contents, of the training side, that the tokenizer is trained on."""
    rng = np.random.default_rng(seed)
    wordings = [wording for wording in WORDINGS if not wording.held_out]
    shape = Shape(documents=(1, 6), turns=(1, 6), two_documents=0.1)
    texts = []
    for place in range(samples):
        sample = make_sample(rng, shape, "train")
        for message in messages(sample, wordings[place % len(wordings)]):
            texts.append((" " if message.role == "assistant" else "") + message.content)
    return texts


def main(
    run: Annotated[
        Path, typer.Option(help="Folder of the run: goes on from what is there.")
    ] = Path("runs/pocket"),
    to: Annotated[Path, typer.Option(help="Folder of the weights.")] = pocket_path(),  # noqa: B008
    tokens: Annotated[int, typer.Option(help="Tokens to train on, in all.")] = DEFAULT.tokens,
    more: Annotated[int, typer.Option(help="Tokens when it is gone over again.")] = AGAIN.tokens,
    threads: Annotated[int, typer.Option(help="Threads of torch; 0: its own choice.")] = 0,
) -> None:
    """Make pocket."""
    if not (run / "tokenizer").exists():
        train_tokenizer(training_texts()).save_pretrained(run / "tokenizer")
    first, again = run / "first", run / "again"
    if not first.exists():
        if not train.start(run, Plan(tokens=tokens), threads):
            raise typer.Exit(1)  # stopped on the way: nothing to export yet
        export(run, first)
    if not train.start(again, replace(AGAIN, tokens=more), threads, first):
        raise typer.Exit(1)
    export(again, to)
    figures = run / "figures.md"
    evaluate.main(to, run / "evaluation.jsonl", 1000, 300, 0, figures)
    export(again, to, figures.read_text())


if __name__ == "__main__":
    typer.run(main)
