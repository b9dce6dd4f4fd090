"""Modules by what they are made of: looked up in the store, encoded when missing, once.

Its keys say all that attention states depend on: the model's fingerprint, the tenant's salt, the
context and the module's own tokens.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from hashlib import blake2b
from threading import Lock
from types import MappingProxyType

from torch import Tensor

from promptcache.kv import KV
from promptcache.layout import ModuleRun
from promptcache.model.encode import encode
from promptcache.model.fingerprint import Fingerprint
from promptcache.model.runner import ModelRunner, Traits
from promptcache.store import Store

Rank = Callable[[KV], Mapping[str, Tensor]]
FORMAT = 1


@dataclass(frozen=True, slots=True)
class Record:
    """A module's attention states as a request got them.

    `encoded` says that they were missing and this request waited for their encoding; `kept` that
    the store has them for later; `tier` is where they came from.
    """

    key: str
    kv: KV
    tier: str
    encoded: bool
    kept: bool = True


class ModuleLibrary:
    """Every module of one engine. Safe to use from several threads."""

    def __init__(
        self,
        runner: ModelRunner,
        traits: Traits,
        store: Store,
        fingerprint: Fingerprint,
        salt: str = "",
    ) -> None:
        self.store = store
        self._runner = runner
        self._traits = traits
        self._fingerprint = fingerprint
        self._salt = salt
        self._lock = Lock()
        self._in_flight: dict[str, Future[Record]] = {}

    @property
    def encodes(self) -> bool:
        """Whether the model has attention states that can be kept at all."""
        return bool(self._traits.layers)

    def key(self, run: ModuleRun) -> str:
        """The content-addressed key of a run: the same in every process, for equal content."""
        return self._keys([run])[run]

    def _keys(self, runs: Iterable[ModuleRun]) -> dict[ModuleRun, str]:
        owner = blake2b(digest_size=20)
        for part in (str(FORMAT), self._fingerprint.current(), self._salt):
            owner.update(f"{len(part.encode())}:{part};".encode())
        keys = {}
        for run in runs:
            digest = owner.copy()
            for tokens in run.identity:
                digest.update(f"{len(tokens)}:".encode() + array("q", tokens).tobytes())
            keys[run] = digest.hexdigest()
        return keys

    def fetch(
        self,
        runs: Sequence[ModuleRun],
        rank: Rank | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> dict[ModuleRun, Record]:
        """The attention states of every run; what is missing is encoded now and stored.

        Two callers that miss the same module at the same time encode it once. `progress` is told
        how many runs have become available. Contexts that are missing are encoded first.
        """
        found: dict[ModuleRun, Record] = {}
        waiting: dict[ModuleRun, Future[Record]] = {}
        mine: dict[ModuleRun, tuple[str, Future[Record]]] = {}
        for run, key in self._keys(runs).items():
            with self._lock:
                kv = self.store.get(key)
                if kv is not None:
                    found[run] = Record(key, kv, self.store.tier, encoded=False)
                elif key in self._in_flight:
                    waiting[run] = self._in_flight[key]
                else:
                    mine[run] = key, Future()
                    self._in_flight[key] = mine[run][1]
        if progress and found:
            progress(len(found))
        try:
            for run, record in self._encode({r: key for r, (key, _) in mine.items()}, rank):
                found[run] = record
                mine[run][1].set_result(record)
                if progress:
                    progress(1)
        except BaseException as error:
            for _, future in mine.values():
                if not future.done():
                    future.set_exception(error)
            raise
        finally:
            with self._lock:
                for key, _ in mine.values():
                    del self._in_flight[key]
        for run, future in waiting.items():
            found[run] = future.result()
            if progress:
                progress(1)
        return found

    def _encode(
        self, keys: Mapping[ModuleRun, str], rank: Rank | None
    ) -> Iterator[tuple[ModuleRun, Record]]:
        """Encode the runs, those without a context first: they may be the others' context."""
        by_context: dict[tuple[int, ...], list[ModuleRun]] = {}
        for run in keys:
            by_context.setdefault(run.context.ids, []).append(run)
        beginnings: dict[ModuleRun, KV] = {}
        for context, group in sorted(by_context.items(), key=lambda item: len(item[0])):
            before = None
            if context:
                start = group[0].beginning
                before = beginnings[start] if start in beginnings else self.fetch([start])[start].kv
            rows = [run.ids for run in group]
            for run, kv in zip(
                group, encode(self._runner, self._traits, rows, before), strict=True
            ):
                if not context:
                    beginnings[run] = kv
                yield run, self._kept(keys[run], kv, rank)

    def _kept(self, key: str, kv: KV, rank: Rank | None) -> Record:
        side = dict(rank(kv)) if rank else {}
        if side:
            kv = replace(kv, side=MappingProxyType(side))
        kept = self.store.put(key, kv)
        return Record(key, kv, "encoded", encoded=True, kept=kept)
