"""Records that were encoded after their preamble, replaced by expected attention states."""

from __future__ import annotations

from collections.abc import Sequence

from tqdm.auto import tqdm

from promptcache.decoys import Expected
from promptcache.expectations import AFTER_PREAMBLE, Expectations
from promptcache.layout import ModuleRun
from promptcache.library import ModuleLibrary
from promptcache.memory import surviving_out_of_memory
from promptcache.store import Store

TOGETHER = 8
"""Modules that are encoded together: few, so that requests do not wait long for the model."""


class Refining:
    """Refines what one engine has in its store. Safe to use from several threads."""

    def __init__(self, library: ModuleLibrary, expectations: Expectations) -> None:
        self._library = library
        self._expectations = expectations

    def refine(self, expected: Expected, *, progress: bool) -> int:
        """Replace every module's states that stand after the preamble; how many there were.

        Requests that run meanwhile are served by the one or the other, and say by which.
        """
        held = self._library.held()
        waiting = [run for run in held if run.context.kind in AFTER_PREAMBLE]
        done = 0
        with tqdm(total=len(waiting), unit="module", desc="refining", disable=not progress) as bar:
            for first in range(0, len(waiting), TOGETHER):
                chunk = waiting[first : first + TOGETHER]
                done += self._replace(chunk, [held[run] for run in chunk], expected)
                bar.update(len(chunk))
        return done

    def _replace(self, runs: Sequence[ModuleRun], keys: Sequence[str], expected: Expected) -> int:
        """Encode expected states of these runs, let them serve, and forget the old ones."""
        store: Store = self._library.store
        wanted = self._expectations.expected(runs, expected)
        surviving_out_of_memory(
            lambda: self._library.fetch(wanted.values()), store, f"encoding {len(wanted)} modules"
        )
        self._expectations.want(wanted)
        for run, key in zip(runs, keys, strict=True):
            if run in wanted:
                store.delete(key)
        return len(wanted)
