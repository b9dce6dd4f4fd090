"""llama.cpp as a baseline, through llama-cpp-python: the same weights, its own cache of a prefix.

Prompts are tokenised by the model's own tokenizer; llama.cpp is given their ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from time import perf_counter
from typing import Any
from weakref import finalize

import torch

from promptcache.bench.baselines import TRIAL, shared_prefix
from promptcache.bench.models import Subject
from promptcache.bench.peers.gguf_file import write_gguf
from promptcache.bench.prompts import Asked
from promptcache.bench.rounds import Sample

ROOM = 256
"""Tokens that later prompts may have more than the first one."""


class LlamaCppPeer:
    """llama.cpp on a CPU, with as many threads as torch has, and its faster attention."""

    name = "llama.cpp"
    packages: Sequence[str] = ("llama-cpp-python",)
    remembers = True

    def __init__(self, subject: Subject) -> None:
        folder = mkdtemp(prefix="promptcache-bench-")
        finalize(self, rmtree, folder, ignore_errors=True)
        self._file = Path(folder) / "model.gguf"
        write_gguf(subject.model, self._file)
        self._model: Any = None
        self._made_for = (0, 0)

    def remember(self, prompt: Asked) -> None:
        """Serve a prompt, untimed; its states stay for the next one."""
        capacity, threads = self._made_for
        if capacity < len(prompt.ids) or threads != torch.get_num_threads():
            self._make(prompt.ids)
        self._token(prompt.ids)

    def first_token(self, prompt: Asked) -> Sample:
        """Time a prompt, from its text to its first token."""
        before = self._model.input_ids[: self._model.n_tokens].tolist()
        start = perf_counter()
        ids = list(prompt.tokenise())
        self._token(ids)
        seconds = perf_counter() - start
        cached = min(shared_prefix(ids, before), len(ids) - 1)
        return Sample(seconds, cached=cached, new=len(ids) - cached)

    def token(self, ids: Sequence[int]) -> int:
        """The greedy token behind these."""
        if self._made_for[0] < len(ids):
            self._make(ids)
        return self._token(ids)

    def _token(self, ids: Sequence[int]) -> int:
        return int(next(self._model.generate(list(ids), temp=0.0)))

    def _make(self, ids: Sequence[int]) -> None:
        """Load the model with room for these tokens, with the attention that it is faster with."""
        from llama_cpp import Llama

        threads = torch.get_num_threads()
        best = float("inf")
        for flash in (True, False):
            model = Llama(
                str(self._file),
                n_ctx=len(ids) + ROOM,
                n_threads=threads,
                n_threads_batch=threads,
                flash_attn=flash,
                verbose=False,
            )
            start = perf_counter()
            model.eval(list(ids[:TRIAL]))
            taken = perf_counter() - start
            model.reset()
            if taken < best:
                best, self._model = taken, model
        self._made_for = (len(ids) + ROOM, threads)
