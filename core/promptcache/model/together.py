"""Which prompts one forward can serve together, for this model and at their lengths."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from promptcache.model import attention
from promptcache.model.arena import Arena
from promptcache.model.runner import ModelRunner, Traits
from promptcache.model.shared import Row, SharedArena

WINDOWS = ("sliding_window", "attention_chunk_size")
"""What configs call the number of tokens that some layers see; transformers' masks read these."""
TRIED = 8
"""Tokens of each of the two rows that are tried."""


def refusal(runner: ModelRunner, traits: Traits) -> str | None:
    """Why no two prompts can be served together; None where they can.

    It tries: two rows have to give the logits that each gives alone.
    """
    name = type(runner.model).__name__
    if traits.attention != attention.NAME:
        return f"{name} computes attention in a way of its own"
    if not runner.takes_positions:
        return f"{name} counts positions itself"
    if traits.movement.unmovable:
        return f"keys of {name} cannot be moved"
    longest = longest_row(runner.model)
    if longest is None or longest > TRIED:
        difference = _difference(runner, traits)
        if not difference <= _tolerance(traits.layers[0].dtype):
            return f"{name} gives other logits then"
    return None


def longest_row(model: Any) -> int | None:
    """The most tokens of a prompt and its answer over which all layers see everything.

    None where nothing limits them.
    """
    windows = [w for config in attention.configs_of(model) for w in _windows(config)]
    return min(windows, default=None)


def _windows(config: Any) -> Iterable[int]:
    kinds = set(getattr(config, "layer_types", None) or ())
    if kinds == {"full_attention"}:
        return
    for name in WINDOWS:
        if isinstance(window := getattr(config, name, None), int):
            yield window - 1  # at as many tokens as the window has, models make a mask


def _difference(runner: ModelRunner, traits: Traits) -> float:
    """How far the logits of two rows are from those of each alone, relative to their size."""
    vocabulary = runner.model.get_input_embeddings().weight.shape[0]
    generator = torch.Generator().manual_seed(0)
    lengths = (TRIED - 3, TRIED)
    prompts = [
        torch.randint(min(8, vocabulary - 1), vocabulary, (length,), generator=generator).tolist()
        for length in lengths
    ]
    rows = [Row(range(length), (), length, 0) for length in lengths]
    shared = SharedArena(traits.layers, rows, (None,) * len(traits.layers))
    work = [(number, range(length)) for number, length in enumerate(lengths)]
    try:
        got = runner.forward_rows(prompts, work, shared, attention=traits.attention)
    except torch.OutOfMemoryError:
        raise
    except (AttributeError, RuntimeError, TypeError, ValueError):
        return float("inf")
    alone = [
        runner.forward(
            torch.tensor([ids]),
            range(len(ids)),
            Arena(traits.layers, capacity=len(ids)),
            attention=traits.attention,
        )
        for ids in prompts
    ]
    expected = torch.cat(alone).float()
    error = (got.float() - expected).norm() / expected.norm().clamp_min(1e-12)
    return float(error.nan_to_num(float("inf")))


def _tolerance(dtype: torch.dtype) -> float:
    return 1e-3 if dtype in (torch.float32, torch.float64) else 0.1
