"""Records that were encoded after their preamble, replaced by expected attention states."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tqdm.auto import tqdm

from promptcache.beside import is_ending
from promptcache.decoys import Expected
from promptcache.expectations import AFTER_PREAMBLE, Expectations
from promptcache.layout import Context, ContextKind, ModuleRun
from promptcache.library import ModuleLibrary
from promptcache.memory import giving_up_out_of_memory
from promptcache.model.encode import IN_BACKGROUND

TOGETHER = 8
"""Modules that are looked up and encoded before the next ones are looked at."""


class Refining:
    """Refines what one engine has in its store. Safe to use from several threads."""

    def __init__(self, library: ModuleLibrary, expectations: Expectations) -> None:
        self._library = library
        self._expectations = expectations

    def refine(self, expected: Expected, *, progress: bool) -> int:
        """Replace every module's states that stand after the preamble; how many there were.

        Requests that run meanwhile are served by the one or the other, and say by which. Expected
        states of other decoys than are asked for now go, too. Raises OutOfMemoryError where that
        would take more memory than is free: nothing is evicted for it.
        """
        held = self._library.held()
        for run, key in held.items():
            if (current := self._current(run)) is not run:
                self._library.hand_over(key, self._library.key(current))
        waiting = [
            run
            for run in held
            if run.context.kind in AFTER_PREAMBLE and self._expectations.of(run) is run
        ]
        done = 0
        with tqdm(total=len(waiting), unit="module", desc="refining", disable=not progress) as bar:
            for first in range(0, len(waiting), TOGETHER):
                if is_ending():
                    break
                chunk = waiting[first : first + TOGETHER]
                done += self._replace(chunk, [held[run] for run in chunk], expected)
                bar.update(len(chunk))
        return done

    def _current(self, run: ModuleRun) -> ModuleRun:
        """The expected states that are asked for now in place of these; the same where none are."""
        if run.context.kind is not ContextKind.EXPECTED:
            return run
        plain = (replace(run, context=Context(k, run.context.ids)) for k in AFTER_PREAMBLE)
        wanted = [new for before in plain if (new := self._expectations.of(before)) is not before]
        return run if not wanted or run in wanted else wanted[0]

    def _replace(self, runs: Sequence[ModuleRun], keys: Sequence[str], expected: Expected) -> int:
        """Encode expected states of these runs, let them serve, and forget the old ones.

        Only where the store keeps the new ones, and has the old ones still: what was forgotten
        meanwhile stays so. Pins go over.
        """
        store = self._library.store
        wanted = self._expectations.expected(runs, expected)
        if not wanted:
            return 0
        records = giving_up_out_of_memory(
            lambda: self._library.fetch(wanted.values(), slots=IN_BACKGROUND),
            f"refining {len(wanted)} modules",
        )
        there = store.holding(keys)
        done = 0
        for run, key in zip(runs, keys, strict=True):
            new = wanted.get(run)
            if new is None or not records[new].source.kept:
                continue
            if key not in there:
                store.delete(records[new].source.key)
                continue
            self._expectations.want({run: new})  # first, or a request would encode the old again
            self._library.hand_over(key, records[new].source.key)
            done += 1
        return done
