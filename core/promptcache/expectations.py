"""Which modules are kept as expected attention states, and which run stands for each then."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from hashlib import blake2b
from threading import Lock

from promptcache.decoys import Expected
from promptcache.layout import Context, ContextKind, Layout, ModuleRun

AFTER_PREAMBLE = (ContextKind.PREAMBLE, ContextKind.SCAFFOLD)
Decoys = tuple[tuple[int, ...], ...]


class Expectations:
    """The modules of one engine that are to be expected states. Safe to use from several threads.

    A module counts from when it was asked for, so what serves a prompt follows from what users
    asked to be encoded, never from what happens to be in the store.
    """

    def __init__(self, tokens: Callable[[str], Sequence[int]], longest: int | None) -> None:
        """`tokens` gives a decoy's ids; `longest` is how many tokens the model can encode."""
        self._tokens = tokens
        self._longest = longest
        self._possible = True
        self._lock = Lock()
        self._decoys: dict[bytes, tuple[Decoys, str]] = {}
        """The decoys of each module, and its name, by what identifies it."""

    def rule_out(self) -> None:
        """Let nothing be expected states: the model's keys cannot be moved, or all is bare."""
        self._possible = False

    def expected(self, runs: Iterable[ModuleRun], expected: Expected) -> dict[ModuleRun, ModuleRun]:
        """The expected states of runs that stand after their preamble.

        Those that are too long to stand behind a decoy are left out: they remain what they are.
        """
        if not self._possible:
            return {}
        decoys = tuple(tuple(self._tokens(text)) for text in expected.texts)
        return {
            run: _with(run, decoys)
            for run in runs
            if run.context.kind in AFTER_PREAMBLE and self._fits(run, decoys)
        }

    def want(self, runs: Mapping[ModuleRun, ModuleRun]) -> None:
        """Let the expected states of these runs stand for them from now on."""
        with self._lock:
            for run, expected in runs.items():
                self._decoys[_digest(run)] = expected.context.decoys, run.name

    def drop(self, runs: Iterable[ModuleRun]) -> None:
        """Forget these modules."""
        with self._lock:
            for run in runs:
                self._decoys.pop(_digest(run), None)

    def forget(self, names: Collection[str]) -> None:
        """Forget the modules of these names, in any schema."""
        ends = tuple(f".{name}" for name in names)
        with self._lock:
            self._decoys = {
                digest: (decoys, name)
                for digest, (decoys, name) in self._decoys.items()
                if name not in names and not name.endswith(ends)
            }

    def of(self, run: ModuleRun) -> ModuleRun:
        """The run whose states stand for this one: the same, or its expected states."""
        if not self._decoys or run.context.kind not in AFTER_PREAMBLE:
            return run
        decoys, _ = self._decoys.get(_digest(run), (None, ""))
        return run if decoys is None else _with(run, decoys)

    def applied(self, layout: Layout) -> Layout:
        """The prompt, served by expected states wherever these were asked for."""
        if not self._decoys:
            return layout
        distinct = dict.fromkeys(piece.run for piece in layout.pieces if piece.run)
        runs = {run: self.of(run) for run in distinct}
        pieces = tuple(
            replace(piece, run=run, exact=False)
            if piece.run and (run := runs[piece.run]) is not piece.run
            else piece
            for piece in layout.pieces
        )
        return replace(layout, pieces=pieces)

    def _fits(self, run: ModuleRun, decoys: Decoys) -> bool:
        before = len(run.context.ids) + max(map(len, decoys))
        return self._longest is None or before + len(run.ids) <= self._longest


def _with(run: ModuleRun, decoys: Decoys) -> ModuleRun:
    return replace(run, context=Context(ContextKind.EXPECTED, run.context.ids, decoys))


def _digest(run: ModuleRun) -> bytes:
    """What identifies a run, in few bytes: there may be one for every document."""
    digest = blake2b(str(run.context.kind).encode(), digest_size=16)
    for tokens in run.identity:
        digest.update(f":{len(tokens)}:".encode() + array("q", tokens).tobytes())
    return digest.digest()
