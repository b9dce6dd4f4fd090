"""Which modules are kept as expected attention states, and which run stands for each then."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from threading import Lock

from promptcache.decoys import Expected
from promptcache.layout import Context, ContextKind, Layout, ModuleRun

AFTER_PREAMBLE = (ContextKind.PREAMBLE, ContextKind.SCAFFOLD)


class Expectations:
    """The modules of one engine that are to be expected states. Safe to use from several threads.

    A module counts from when it was asked for, so what serves a prompt follows from what users
    asked to be encoded, never from what happens to be in the store.
    """

    def __init__(self, tokens: Callable[[str], Sequence[int]], longest: int | None) -> None:
        """`tokens` gives a decoy's ids; `longest` is how many tokens the model can encode."""
        self._tokens = tokens
        self._longest = longest
        self._lock = Lock()
        self._wanted: dict[ModuleRun, ModuleRun] = {}

    def expected(self, runs: Iterable[ModuleRun], expected: Expected) -> dict[ModuleRun, ModuleRun]:
        """The expected states of runs that stand after their preamble.

        Those that are too long to stand behind a decoy are left out: they remain what they are.
        """
        decoys = tuple(tuple(self._tokens(text)) for text in expected.texts)
        return {
            run: replace(run, context=Context(ContextKind.EXPECTED, run.context.ids, decoys))
            for run in runs
            if run.context.kind in AFTER_PREAMBLE and self._fits(run, decoys)
        }

    def want(self, runs: Mapping[ModuleRun, ModuleRun]) -> None:
        """Let the expected states of these runs stand for them from now on."""
        with self._lock:
            self._wanted.update(runs)

    def drop(self, runs: Iterable[ModuleRun]) -> None:
        """Forget these modules."""
        with self._lock:
            for run in runs:
                self._wanted.pop(run, None)

    def forget(self, names: Collection[str]) -> None:
        """Forget the modules of these names, in any schema."""
        with self._lock:
            self._wanted = {
                run: expected
                for run, expected in self._wanted.items()
                if run.name not in names and run.name.rpartition(".")[2] not in names
            }

    def of(self, run: ModuleRun) -> ModuleRun:
        """The run whose states stand for this one: the same, or its expected states."""
        return self._wanted.get(run, run)

    def applied(self, layout: Layout) -> Layout:
        """The prompt, served by expected states wherever these were asked for."""
        if not self._wanted:
            return layout
        pieces = tuple(
            replace(piece, run=run, exact=False)
            if piece.run and (run := self.of(piece.run)) is not piece.run
            else piece
            for piece in layout.pieces
        )
        return replace(layout, pieces=pieces)

    def _fits(self, run: ModuleRun, decoys: Iterable[Sequence[int]]) -> bool:
        before = len(run.context.ids) + max(map(len, decoys))
        return self._longest is None or before + len(run.ids) <= self._longest
