"""The modules of one engine: found in its store, waited for, or encoded now and kept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from types import MappingProxyType

from promptcache.kv import KV, SENSITIVITY
from promptcache.layout import Context, ModuleRun
from promptcache.library.claims import Claims
from promptcache.library.encoding import Encoder
from promptcache.library.keys import Keys
from promptcache.library.names import Names
from promptcache.model.encode import BATCH_TOKENS
from promptcache.model.fingerprint import Fingerprint
from promptcache.model.runner import ModelRunner, Traits
from promptcache.reuse import ReusePolicy
from promptcache.store import Effort, Store
from promptcache.store.expecting import room_for

Claimed = dict[ModuleRun, tuple[str, "Future[Record | None]"]]
"""Runs whose encoding is somebody's, with their keys."""


@dataclass(frozen=True, slots=True)
class Source:
    """How a request came by a module's attention states.

    `encoded` says that they were missing and this request waited for their encoding; `kept` that
    the store has them for later; `tier` is where they came from. `compression` is the one that they
    were rounded by, "" if they are as the model computed them. `slower` is the tier that was not
    read because that takes longer than encoding, "" where there was none.
    """

    key: str
    tier: str
    encoded: bool
    kept: bool = True
    compression: str = ""
    slower: str = ""


@dataclass(frozen=True, slots=True)
class Record:
    """A module's attention states as a request got them."""

    source: Source
    kv: KV


class ModuleLibrary:
    """Every module of one engine. Safe to use from several threads."""

    def __init__(
        self,
        runner: ModelRunner,
        traits: Traits,
        store: Store,
        fingerprint: Fingerprint,
        salt: str = "",
        compression: str = "",
    ) -> None:
        self.store = store
        self.compression = compression
        self.encodes = bool(traits.layers)
        """Whether the model has attention states that can be kept at all."""
        self._keys = Keys(fingerprint, salt, compression)
        self._names = Names(store)
        self._encoder = Encoder(runner, traits, compression)
        self._claims = Claims[Record]()
        self._pinned: set[str] = set()

    def owner(self) -> bytes:
        """Whose states these are now (see `Keys.owner`)."""
        return self._keys.owner()

    def key(self, run: ModuleRun) -> str:
        """The content-addressed key of a run: the same in every process, for equal content."""
        return self._keys.of([run])[run]

    def fetch(
        self,
        runs: Iterable[ModuleRun],
        policy: ReusePolicy | None = None,
        owner: bytes | None = None,
        slots: int = BATCH_TOKENS,
    ) -> dict[ModuleRun, Record]:
        """The attention states of every run; what is missing is encoded now and stored.

        `owner` is whose they are, where that has been looked at for this request already;
        `slots` is how many one forward goes over while they are encoded (see `encode`).
        Contexts that are missing are encoded first; side tensors that `policy` reads and a record
        lacks are made. Two callers that miss the same module at the same time encode it once; if
        the one that encodes fails, the other encodes it itself.
        """
        keys = self._keys.of(runs, owner)
        self._names.remember(keys)
        found: dict[ModuleRun, Record] = {}
        while len(found) < len(keys):
            mine: Claimed = {}
            waiting: list[tuple[ModuleRun, Future[Record | None]]] = []
            try:
                slower = self._claim(keys, found, mine, waiting)
                claimed = {run: key for run, (key, _) in mine.items()}
                for run, made in self._encode(claimed, policy, slots):
                    source = replace(made.source, slower=slower.get(run, ""))
                    found[run] = record = replace(made, source=source)
                    mine[run][1].set_result(record)
            finally:
                self._claims.release(mine.values())
            for run, future in waiting:
                if (shared := future.result()) is not None:
                    found[run] = shared
        return {run: self._ranked(found[run], policy) for run in keys}

    def rank(self, run: ModuleRun, decoy: Sequence[int]) -> None:
        """Find out how sensitive a run's tokens are, if the store has it and does not know yet.

        It is encoded once more, behind its context and `decoy`, token ids, and compared.
        """
        key = self.key(run)
        kv = self.store.get(key)
        if kv is None or SENSITIVITY in kv.side:
            return
        before = self.fetch([run.beginning])[run.beginning].kv if run.context.ids else None
        ranking = self._encoder.sensitivity(run, kv, before, decoy)
        if (kv := self.store.get(key)) is not None:  # else it was forgotten or replaced meanwhile
            side = MappingProxyType({**kv.side, SENSITIVITY: ranking})
            self.store.put(key, replace(kv, side=side))

    def pin(self, runs: Iterable[ModuleRun]) -> None:
        """Keep the states of these runs from being evicted, now or once they are there."""
        for key in self._keys.of(runs).values():
            self._pinned.add(key)
            self.store.pin(key)

    def unpin(self, runs: Iterable[ModuleRun]) -> None:
        """Let the states of these runs be evicted again."""
        for key in self._keys.of(runs).values():
            self._pinned.discard(key)
            self.store.unpin(key)

    def is_pinned(self, key: str) -> bool:
        """Whether the states under a key are kept from being evicted."""
        return key in self._pinned

    def hand_over(self, old: str, new: str) -> None:
        """Forget the states under a key that another's stand for from now on, pinned as it was."""
        if old in self._pinned:
            self._pinned.add(new)
            self.store.pin(new)
        self._pinned.discard(old)
        self.store.delete(old)

    def delete_named(self, name: str) -> int:
        """Take the states of every module of this name, in any schema, out of the store."""
        keys = self._names.pop(name)
        self._pinned -= keys
        return sum(self.store.delete(key) for key in keys)

    def held(self) -> dict[ModuleRun, str]:
        """The modules whose states, of the model as it is, the store has now, with their keys."""
        owned = self._keys.beginning()
        return {run: key for key, run in self.every().items() if key.startswith(owned)}

    def every(self) -> dict[str, ModuleRun]:
        """What the store has now by its keys, of the model with other adapters or weights, too."""
        return self._names.alive()

    def holds(self, runs: Iterable[ModuleRun]) -> int:
        """How many of the runs the store has."""
        keys = self._keys.of(runs).values()
        there = self.store.holding(set(keys))
        return sum(key in there for key in keys)

    def _claim(
        self,
        keys: Mapping[ModuleRun, str],
        found: dict[ModuleRun, Record],
        mine: Claimed,
        waiting: list[tuple[ModuleRun, Future[Record | None]]],
    ) -> dict[ModuleRun, str]:
        """Find each run in the store, or wait for who encodes it, or be the one; for some of the
        latter, the tier that would have taken longer.

        Nobody waits while the store is asked, for all runs at once. What another has encoded
        since then is in the store by now, and left for the caller to ask for once more.
        """
        missing = {run: key for run, key in keys.items() if run not in found}
        looked = self._claims.now()
        held = self.store.find_all(missing.values(), self._efforts_of(missing))
        slower = {}
        for run, key in missing.items():
            kv, tier = held.get(key, (None, ""))
            if kv is not None:
                source = Source(key, tier, encoded=False, compression=kv.compression)
                found[run] = Record(source, kv)
            elif (claim := self._claims.claim(key, looked)) is not None:
                future, is_mine = claim
                if is_mine:
                    mine[run] = key, future
                    slower[run] = tier
                else:
                    waiting.append((run, future))
        return slower

    def _efforts_of(self, keys: Mapping[ModuleRun, str]) -> dict[str, Effort]:
        """What encoding these runs would take, as far as that is known."""
        efforts = {key: self._encoder.effort(run) for run, key in keys.items()}
        return {key: effort for key, effort in efforts.items() if effort is not None}

    def _ranked(self, record: Record, policy: ReusePolicy | None) -> Record:
        if policy is None or set(policy.side) <= set(record.kv.side):
            return record
        side = MappingProxyType({**record.kv.side, **policy.rank(record.kv)})
        kv = replace(record.kv, side=side)
        kept = self.store.put(record.source.key, kv)
        return Record(replace(record.source, kept=kept), kv)

    def _encode(
        self, keys: Mapping[ModuleRun, str], policy: ReusePolicy | None, slots: int
    ) -> Iterator[tuple[ModuleRun, Record]]:
        """Encode the runs, those without a context first: they may be the others' context."""
        by_context: dict[Context, list[ModuleRun]] = {}
        for run in keys:
            by_context.setdefault(run.context, []).append(run)
        beginnings: dict[ModuleRun, KV] = {}
        origins = self._keys.origins(keys)
        for context, group in sorted(by_context.items(), key=lambda item: len(item[0].ids)):
            before = None
            if context.ids:
                start = group[0].beginning
                before = beginnings[start] if start in beginnings else self.fetch([start])[start].kv
            with room_for(self.store, map(self._encoder.nbytes, group)) as take:
                for run, kv in zip(group, self._encoder.states(group, before, slots), strict=True):
                    if not context.ids:
                        beginnings[run] = kv
                    take()
                    yield run, self._kept(keys[run], replace(kv, origin=origins[run]), policy)

    def _kept(self, key: str, kv: KV, policy: ReusePolicy | None) -> Record:
        if policy is not None and policy.side:
            kv = replace(kv, side=MappingProxyType({**kv.side, **policy.rank(kv)}))
        kept = self.store.put(key, kv)
        source = Source(key, "encoded", encoded=True, kept=kept, compression=kv.compression)
        return Record(source, kv)
