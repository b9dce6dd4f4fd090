"""Several tiers as one store: a fast one, and slower ones behind it, in order of speed."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import torch

from promptcache.errors import OptionError
from promptcache.kv import KV
from promptcache.store.behind import Behind
from promptcache.store.expecting import Expecting
from promptcache.store.forgetting import Forgetting
from promptcache.store.protocol import NO_EFFORTS, Effort, Store

WAITING = 256 * 1024**2
"""Bytes that may wait to be written to a tier, beside what the memory tier holds."""


class Tiers:
    """Keeps attention states in the first tier, and writes them to the others in the background.

    `tiers` stand in order of speed: memory, perhaps the host's, a disk, a remote. What is found
    in one of them is copied into the first, onto `device` if one is given, and written to those
    between. No request waits for a write: what finds `waiting` bytes ahead of it is written when it
    is next read, or when `flush` is called, if the first tier still has it then. What belongs to
    one process (`PRIVATE`) stays in memory. The process ends when all that waits is written.

    Where it is known that encoding takes less time than reading from a tier, that tier is left
    out. Raises OptionError for anything but stores, for none, and for bytes that cannot be.
    """

    def __init__(
        self, *tiers: Store, device: torch.device | None = None, waiting: int = WAITING
    ) -> None:
        for tier in tiers:
            if not isinstance(tier, Store):
                raise OptionError(
                    f"{tier!r:.80} is no tier; expected stores, fastest first, for example "
                    'Tiers(MemoryStore(2 * 1024**3), DiskStore("~/.cache/promptcache"))'
                )
        if not tiers:
            raise OptionError("Tiers() has no tier; expected one at least, the fastest first")
        if isinstance(waiting, bool) or not isinstance(waiting, int) or waiting < 0:
            raise OptionError(
                f"waiting={waiting!r:.80} is not valid; expected a number of bytes, 0 or more"
            )
        self.tiers = tiers
        self._device = device
        self._forgetting = Forgetting()
        self._behind = [Behind(tier, waiting) for tier in tiers[1:]]

    @property
    def memory(self) -> Store:
        """The first tier, which is asked first."""
        return self.tiers[0]

    @property
    def tier(self) -> str:
        """The name of the first tier: what was just put is read from there."""
        return self.memory.tier

    @property
    def budget(self) -> int:
        """The bytes that all tiers together never exceed."""
        return sum(tier.budget for tier in self.tiers)

    @property
    def nbytes(self) -> int:
        """The bytes that all tiers hold; what is in two of them counts twice."""
        return sum(tier.nbytes for tier in self.tiers)

    @property
    def unwritten(self) -> int:
        """How many entries a tier was too slow for, and still lacks."""
        return len({key for behind in self._behind for key in behind.unwritten})

    def get(self, key: str) -> KV | None:
        """The states under `key`, from the fastest tier that has them."""
        found = self.find(key)
        return None if found is None else found[0]

    def find(self, key: str) -> tuple[KV, str] | None:
        """The states under `key`, and the name of the fastest tier that had them."""
        kv, tier = self.find_all([key]).get(key, (None, ""))
        return None if kv is None else (kv, tier)

    def find_all(
        self, keys: Iterable[str], efforts: Mapping[str, Effort] = NO_EFFORTS
    ) -> dict[str, tuple[KV | None, str]]:
        """The states under these keys, each from the fastest tier that has it."""
        wanted = list(dict.fromkeys(keys))
        with self._forgetting.looking():
            return self._found(wanted, efforts)

    def _found(
        self, wanted: Sequence[str], efforts: Mapping[str, Effort]
    ) -> dict[str, tuple[KV | None, str]]:
        found = self.memory.find_all(wanted)
        for behind in self._behind:
            for key in behind.lacking(found):
                if (kv := found[key][0]) is not None:
                    self._forgetting.keep(key, partial(behind.write, key, kv))
        for place, behind in enumerate(self._behind):
            missing = [key for key in wanted if key not in found or found[key][0] is None]
            if not missing:
                break
            for key, kv in behind.waiting(missing).items():
                self._forgetting.keep(key, partial(self.memory.put, key, kv))
                found[key] = kv, self.memory.tier
            missing = [key for key in missing if key not in found or found[key][0] is None]
            found |= behind.find_all(missing, efforts, partial(self._promoted, place))
        return found

    def holding(self, keys: Collection[str]) -> set[str]:
        """Which of these keys any tier has or is about to have, as far as they know."""
        there = {key for behind in self._behind for key in behind.waiting(keys)}
        return there.union(*(tier.holding(keys) for tier in self.tiers))

    def put(self, key: str, kv: KV) -> bool:
        """Keep `kv` in memory now and elsewhere soon. False when no tier will have it."""
        self._forgetting.made(key)
        kept = [self.memory.put(key, kv), *(behind.write(key, kv) for behind in self._behind)]
        return any(kept)

    def expect(self, nbytes: int) -> bool:
        """Leave so many bytes of the first tier free; False for more than it could take."""
        return isinstance(self.memory, Expecting) and self.memory.expect(nbytes)

    def expect_no_more(self, nbytes: int) -> None:
        """Leave so many bytes less of the first tier free: they come now, or never."""
        if isinstance(self.memory, Expecting):
            self.memory.expect_no_more(nbytes)

    def delete(self, key: str) -> bool:
        """Forget `key` in every tier; who looks for it at the same time puts it back nowhere."""
        with self._forgetting.deleting(key):
            there = [behind.delete(key) for behind in reversed(self._behind)]
            there.append(self.memory.delete(key))
        return any(there)

    def keys(self) -> list[str]:
        """Every key of any tier; those of the slowest first, each in the order of its tier."""
        ordered: dict[str, None] = {}
        for tier in (*(part for b in self._behind for part in (b.writer, b.tier)), self.memory):
            for key in tier.keys():  # noqa: SIM118
                ordered.pop(key, None)
                ordered[key] = None
        return list(ordered)

    def pin(self, key: str) -> None:
        """Keep `key` from being evicted by this process, from any tier."""
        for tier in self.tiers:
            tier.pin(key)

    def unpin(self, key: str) -> None:
        """Let `key` be evicted again."""
        for tier in self.tiers:
            tier.unpin(key)

    def evict(self) -> int:
        """Forget everything in the first tier that is not pinned, or if that is nothing, what the
        others have in memory.
        """
        return self.memory.evict() or sum(tier.evict() for tier in self.tiers[1:])

    def flush(self, timeout: float | None = None) -> None:
        """Wait until every tier has all that memory has. TimeoutError after `timeout` seconds."""
        until = None if timeout is None else time.monotonic() + timeout
        for behind in self._behind:
            behind.flush(self.memory.get, until)

    def check_integrity(self) -> None:
        """Assert that all tiers are right about themselves."""
        for tier in self.tiers:
            tier.check_integrity()

    def _promoted(self, place: int, key: str, kv: KV) -> KV:
        """What the tier behind at `place` had, for the faster ones: a copy in memory that depends
        on no file, if there can be room for it.
        """
        if kv.nbytes <= self.memory.budget:
            kv = replace(
                kv,
                keys=tuple(self._copied(tensor) for tensor in kv.keys),
                values=tuple(self._copied(tensor) for tensor in kv.values),
                side={name: tensor.clone() for name, tensor in kv.side.items()},
            )
            self._forgetting.keep(key, partial(self.memory.put, key, kv))
        for behind in self._behind[:place]:
            self._forgetting.keep(key, partial(behind.write, key, kv))
        return kv

    def _copied(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to(self._device or tensor.device, copy=True)
