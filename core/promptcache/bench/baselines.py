"""What promptcache is measured against in the same run: transformers, in full and with a prefix.

A baseline takes a prompt as a string and gives the seconds to its first token, tokenising included,
like the engine's own count.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from copy import deepcopy
from time import perf_counter
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import DynamicCache

from promptcache.bench.models import Subject
from promptcache.bench.prompts import Asked
from promptcache.bench.rounds import Sample

ATTENTIONS = ("sdpa", "eager")
"""transformers' own attentions, of which the fastest counts."""
TRIAL = 1024
"""Tokens of the prompt with which the fastest is found."""


class Baseline(Protocol):
    """Another way to a prompt's first token."""

    @property
    def name(self) -> str:
        """What rows call it."""
        ...

    @property
    def packages(self) -> Sequence[str]:
        """Packages whose versions its rows say, beside the usual ones."""
        ...

    @property
    def remembers(self) -> bool:
        """Whether the prompt before can help with the next one."""
        ...

    def remember(self, prompt: Asked) -> None:
        """Serve this prompt, untimed: it is the one before the next."""
        ...

    def first_token(self, prompt: Asked) -> Sample:
        """Time a prompt, from its text to its first token."""
        ...


class FullPrefill:
    """transformers without a cache from before: the whole prompt in one forward."""

    name = "transformers, full prefill"
    packages: Sequence[str] = ()
    remembers = False

    def __init__(self, subject: Subject) -> None:
        self._subject = subject

    def remember(self, prompt: Asked) -> None:
        """Nothing to do."""

    def first_token(self, prompt: Asked) -> Sample:
        """Time a prompt, from its text to its first token."""
        synchronise(self._subject.device)
        start = perf_counter()
        ids = list(prompt.tokenise())
        forward(self._subject, ids, DynamicCache())
        return Sample(perf_counter() - start, cached=0, new=len(ids))


class PrefixCache:
    """transformers with the states of the prompt before, as far as this one begins with it."""

    name = "transformers, prefix cache"
    packages: Sequence[str] = ()
    remembers = True

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._before: Sequence[int] = ()
        self._states = DynamicCache()

    def remember(self, prompt: Asked) -> None:
        """Keep the states of a prompt, where they are not kept yet."""
        if self._before != prompt.ids:
            self._states = DynamicCache()
            forward(self._subject, prompt.ids, self._states)
            self._before = prompt.ids

    def first_token(self, prompt: Asked) -> Sample:
        """Time a prompt, from its text to its first token."""
        cache = deepcopy(self._states)
        synchronise(self._subject.device)
        start = perf_counter()
        ids = list(prompt.tokenise())
        shared = min(shared_prefix(ids, self._before), len(ids) - 1)
        if shared < len(self._before):
            cache.crop(shared - len(self._before))
        forward(self._subject, ids[shared:], cache)
        return Sample(perf_counter() - start, cached=shared, new=len(ids) - shared)


def forward(subject: Subject, ids: Sequence[int], cache: DynamicCache) -> int:
    """The greedy token behind `ids`, whose states are added to the cache."""
    kept: dict[str, Any] = {}
    if "logits_to_keep" in inspect.signature(subject.model.forward).parameters:
        kept["logits_to_keep"] = 1
    row = torch.tensor([list(ids)], device=subject.device)
    with torch.no_grad():
        output = subject.model(input_ids=row, past_key_values=cache, use_cache=True, **kept)
    logits: Tensor = output.logits
    return int(logits[0, -1].argmax())


def set_fastest_attention(subject: Subject, ids: Sequence[int]) -> str:
    """Give the model the attention with which transformers prefills these tokens fastest.

    Tried on no more than TRIAL of them. Returns its name.
    """
    times = {}
    for name in ATTENTIONS:
        subject.model.set_attn_implementation(name)
        forward(subject, ids[:32], DynamicCache())
        synchronise(subject.device)
        start = perf_counter()
        forward(subject, ids[:TRIAL], DynamicCache())
        times[name] = perf_counter() - start
    best = min(times, key=lambda name: times[name])
    subject.model.set_attn_implementation(best)
    return best


def synchronise(device: torch.device) -> None:
    """Wait for what a GPU has been given to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def shared_prefix(ids: Sequence[int], others: Sequence[int]) -> int:
    """How many tokens two prompts have in common from the beginning."""
    pairs = zip(ids, others, strict=False)
    shortest = min(len(ids), len(others))
    return next((number for number, (a, b) in enumerate(pairs) if a != b), shortest)
