"""What was asked and answered before: found again by how a prompt begins.

The states of a token depend on the tokens up to it, and on which of those got theirs from a module
and which were computed. The *origins* of a prompt say both, one number for each token; where two
prompts have the same origins from the beginning on, their states are the same. So the states that
a prompt and its answer had to compute serve a later prompt as far as its origins agree, and an
answer is the same whether they were kept or not. Modules keep their own states and are not kept
twice. Knows tokens and states, not messages.
"""

from __future__ import annotations

import os
from bisect import bisect_left, insort
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import takewhile
from threading import Lock
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from promptcache.kv import KV
from promptcache.layout import Layout, ModuleRun, Piece
from promptcache.library import OWNER as OWNER_BYTES
from promptcache.library import ModuleLibrary, Source
from promptcache.model.slots import POSITION
from promptcache.store import PRIVATE

Decode = Callable[[Sequence[int]], str]
"""The text of token ids."""
Origins = npt.NDArray[np.int64]
"""For each token its id, where its states are computed or equal to computed ones; else a negative
number for the module and the place in it that they come from."""

FEWEST = 8
"""Computed tokens that are worth keeping."""
PRUNED_FROM = 256
"""Entries from which those that the store has evicted are looked for."""
SHOWN = 8
"""Tokens that are quoted where two prompts part."""
ITEM = 8
OWNER = OWNER_BYTES // ITEM
"""Numbers that a line begins with to say whose it is, and the bytes of one."""


class States(Protocol):
    """What one prompt's attention states stand in."""

    def read_at(self, positions: Sequence[int]) -> KV:
        """A copy of the states at sorted `positions`, which are kept with it as POSITION."""


@dataclass(frozen=True, slots=True)
class Recalled:
    """An earlier prompt and its answer, which began as a prompt does.

    Its states serve `positions`, sorted; they lie before `agreed`, where the two part.
    """

    key: str
    positions: tuple[int, ...]
    agreed: int
    earlier: Origins
    """Of the whole earlier prompt and its answer."""

    @property
    def whole(self) -> bool:
        """Whether the prompt goes on where the earlier one ended."""
        return self.agreed == len(self.earlier)


class Conversations:
    """The earlier prompts and answers of one engine. Safe to use from several threads.

    The origins of all of them are held in order, so that the one that agrees longest with a prompt
    is a neighbour of the place where the prompt would stand.
    """

    def __init__(self, library: ModuleLibrary) -> None:
        self._library = library
        self._secret = os.urandom(16)
        self._lock = Lock()
        self._ordered: list[bytes] = []
        self._keys: dict[bytes, str] = {}
        self._prune_at = PRUNED_FROM

    def origins(
        self,
        layout: Layout,
        reused: Iterable[Piece],
        sources: Mapping[ModuleRun, Source],
        recomputed: Collection[int],
    ) -> Origins:
        """The origins of a prompt whose `reused` pieces come from `sources`."""
        ids = np.array(layout.ids, dtype=np.int64)
        origins = ids.copy()
        for piece in reused:
            if piece.run is None or (piece.exact and not sources[piece.run].compression):
                continue
            module = blake2b(sources[piece.run].key.encode(), digest_size=8, key=self._secret)
            first = (int.from_bytes(module.digest()) >> 2) + piece.offset
            origins[piece.start : piece.stop] = -1 - first - np.arange(len(piece.ids))
        again = list(recomputed)
        origins[again] = ids[again]
        return origins

    def recall(
        self, owner: bytes, origins: Origins, wanted: Sequence[int]
    ) -> tuple[Recalled, KV] | None:
        """What began as this prompt does, and its states at the sorted positions `wanted`.

        None where nothing did. There may be states at none of them, where modules serve them all.
        """
        line = owner + origins.tobytes()
        with self._lock:
            while True:
                best = self._nearest(line)
                if best is None:
                    return None
                key = self._keys[best]
                kv = self._library.store.get(key)
                if kv is not None:
                    break
                self._forget(best)
        agreed = _agreed(line, best) - OWNER
        held = kv.side[POSITION].numpy()
        rows = np.flatnonzero((held < agreed) & np.isin(held, wanted))
        positions = tuple(held[rows].tolist())
        earlier = np.frombuffer(best, dtype=np.int64)[OWNER:]
        return Recalled(key, positions, agreed, earlier), _rows(kv, rows)

    def keep(
        self,
        arena: States,
        owner: bytes,
        origins: Origins,
        answer: Sequence[int],
        computed: Sequence[int],
        after: Recalled | None,
    ) -> None:
        """Keep what a prompt and its answer computed, in place of `after`, which it went on from.

        `computed` are the prompt's positions that no module served. The last token of an answer
        has no states: it was chosen, and nothing came after it. `owner` is whose the states were
        when the prompt was computed; nothing is kept when the model has changed meanwhile.
        """
        said = np.array(answer[:-1], dtype=np.int64)
        positions = [*computed, *range(len(origins), len(origins) + len(said))]
        if len(positions) < FEWEST or owner != self._library.owner():
            return
        line = owner + np.concatenate([origins, said]).tobytes()
        with self._lock:
            known = self._keys.get(line)
        if known is not None and self._library.store.get(known) is not None:
            return
        states = arena.read_at(positions)
        before, held = b"", None
        if after is not None and after.whole:  # goes first, so that nothing else has to
            before = owner + after.earlier.tobytes()
            held = self._take(before)
        if not self._put(line, states) and held is not None:
            self._put(before, held)

    def _nearest(self, line: bytes) -> bytes | None:
        """The line that agrees longest with `line`, beyond its owner."""
        at = bisect_left(self._ordered, line)
        near = self._ordered[max(0, at - 1) : at + 1]
        best = max(near, key=lambda other: _agreed(line, other), default=None)
        return best if best is not None and _agreed(line, best) > OWNER else None

    def _put(self, line: bytes, states: KV) -> bool:
        key = PRIVATE + blake2b(line, digest_size=20, person=b"conversation").hexdigest()
        if not self._library.store.put(key, states):
            return False
        with self._lock:
            if line not in self._keys:
                insort(self._ordered, line)
            self._keys[line] = key
            self._prune()
        return True

    def _take(self, line: bytes) -> KV | None:
        """Forget a line; the states that it had, if they are still there."""
        with self._lock:
            if (key := self._keys.get(line)) is None:
                return None
            self._forget(line)
        states = self._library.store.get(key)
        self._library.store.delete(key)
        return states

    def _forget(self, line: bytes) -> None:
        del self._keys[line]
        del self._ordered[bisect_left(self._ordered, line)]

    def _prune(self) -> None:
        """Forget the lines whose states the store no longer has, before there are too many."""
        if len(self._ordered) < self._prune_at:
            return
        there = self._library.store.holding(list(self._keys.values()))
        self._keys = {line: key for line, key in self._keys.items() if key in there}
        self._ordered = sorted(self._keys)
        self._prune_at = max(PRUNED_FROM, 2 * len(self._ordered))


def parting(recalled: Recalled | None, origins: Origins, decode: Decode) -> str:
    """Why the earlier turns of a conversation are not reused, or not as a whole."""
    if recalled is None:
        return "the earlier turns are computed: none that this prompt goes on from is kept"
    here, there = (
        _shown(line[recalled.agreed : recalled.agreed + SHOWN], decode)
        for line in (origins, recalled.earlier)
    )
    return (
        f"the earlier turns are known up to token {recalled.agreed}: there this prompt goes on "
        f"with {here}, the earlier one with {there}"
    )


def _shown(origins: Origins, decode: Decode) -> str:
    ids = [int(i) for i in takewhile(lambda i: i >= 0, origins)]
    return repr(decode(ids)) if ids else "a module" if len(origins) else "nothing"


def _agreed(a: bytes, b: bytes) -> int:
    """How many numbers two lines have in common from their beginning on."""
    shorter = min(len(a), len(b)) // ITEM
    mine, theirs = (np.frombuffer(line, dtype=np.int64, count=shorter) for line in (a, b))
    differ = mine != theirs
    return int(differ.argmax()) if differ.any() else shorter


def _rows(kv: KV, rows: npt.NDArray[np.intp]) -> KV:
    """Some of the states; views where the rows follow one another."""
    if not len(rows):
        return kv.slice(0, 0)
    first, last = int(rows[0]), int(rows[-1])
    if last - first + 1 == len(rows):
        return kv.slice(first, last + 1)
    return kv.pick(torch.from_numpy(rows))
