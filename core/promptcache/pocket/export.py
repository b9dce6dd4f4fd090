"""From a training checkpoint to a folder that `from_pretrained` loads.

    python -m promptcache.pocket.export --run runs/pocket --to core/promptcache/pocket/weights

Weights are bf16 safetensors. This file knows nothing about how they were trained or measured but
what it is told for the model card.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer
from transformers import GenerationConfig, LlamaForCausalLM

from promptcache.pocket import pocket_path
from promptcache.pocket.model import pocket_config
from promptcache.pocket.tokenizer import load_tokenizer

CARD = """---
license: apache-2.0
library_name: transformers
---
# pocket

A {parameters:.2f} M parameter Llama ({layers} layers, hidden size {hidden}, {vocabulary} tokens) in
bf16, for **demonstrations, tests and measurements** of promptcache. It reads short documents about
invented museums, towns, people, companies, products and the like, and answers questions on them
with words of the documents, or with `The documents do not say.` It knows nothing else, and is of
no use as an assistant.

It is an ordinary causal model, trained from nothing on {tokens:.0f} M tokens of generated prompts
of the kind that LangChain and LlamaIndex chains send: 1 to 16 documents as plain text in the system
or the user message, up to 1,024 tokens. `python -m promptcache.pocket` is the recipe from nothing.
Names and values are split by hash between training and test, so that those of a test are never
part of training.

{figures}
"""


def export(run: Path, to: Path, figures: str = "") -> None:
    """Write the checkpoint in `run` to the folder `to`, with tokenizer and model card."""
    tokenizer = load_tokenizer(run / "tokenizer")
    state = torch.load(run / "checkpoint.pt", weights_only=True)
    weights = state["model"]
    layers = 1 + max(int(name.split(".")[2]) for name in weights if ".layers." in name)
    config = pocket_config(
        tokenizer,
        hidden=weights["model.norm.weight"].shape[0],
        layers=layers,
        feed_forward=weights["model.layers.0.mlp.up_proj.weight"].shape[0],
    )
    model = LlamaForCausalLM(config)
    model.load_state_dict(weights)
    model = model.to(torch.bfloat16)
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        do_sample=False,
        max_new_tokens=32,
    )
    to.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(to)
    tokenizer.save_pretrained(to)
    card = CARD.format(
        parameters=model.num_parameters() / 1e6,
        layers=layers,
        hidden=config.hidden_size,
        vocabulary=config.vocab_size,
        tokens=state["tokens"] / 1e6,
        figures=figures,
    )
    (to / "README.md").write_text(card.rstrip() + "\n")


def main(
    run: Annotated[Path, typer.Option(help="Folder of the training run.")] = Path("runs/pocket"),
    to: Annotated[Path, typer.Option(help="Folder to write.")] = pocket_path(),  # noqa: B008
    figures: Annotated[Path | None, typer.Option(help="Markdown for the model card.")] = None,
) -> None:
    """Export the checkpoint of RUN."""
    export(run, to, figures.read_text() if figures else "")


if __name__ == "__main__":
    typer.run(main)
