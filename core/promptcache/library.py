"""Modules by what they are made of: looked up in the store, encoded when missing, once.

Its keys say all that attention states depend on: the model's fingerprint, the tenant's salt, the
compression, the context and the module's own tokens.
"""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from hashlib import blake2b
from threading import Lock
from types import MappingProxyType

from promptcache.kv import KV, SENSITIVITY
from promptcache.layout import Context, ContextKind, ModuleRun
from promptcache.model.encode import encode
from promptcache.model.expected import encode_expected, sensitivity
from promptcache.model.fingerprint import Fingerprint
from promptcache.model.runner import ModelRunner, Traits
from promptcache.reuse import ReusePolicy
from promptcache.store import Store
from promptcache.store.compression import rounded

FORMAT = 1
OWNER = 16
"""Bytes of the hash that says whose states these are."""
SHOWN = 4
"""Bytes of it that keys begin with."""
REMEMBERED = 32
"""Contexts of one module whose keys are remembered before they are looked through."""
NAMES = 1024
"""Names of modules that are remembered, at least, before they are looked through."""


@dataclass(frozen=True, slots=True)
class Source:
    """How a request came by a module's attention states.

    `encoded` says that they were missing and this request waited for their encoding; `kept` that
    the store has them for later; `tier` is where they came from. `compression` is the one that they
    were rounded by, "" if they are as the model computed them.
    """

    key: str
    tier: str
    encoded: bool
    kept: bool = True
    compression: str = ""


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
        self._runner = runner
        self._traits = traits
        self._fingerprint = fingerprint
        self.salt = salt
        self.compression = compression
        self._lock = Lock()
        self._named: dict[str, dict[str, ModuleRun]] = {}
        """Runs by their keys, by the names that they were fetched under."""
        self._most_names = NAMES
        self._pinned: set[str] = set()
        self._in_flight: dict[str, Future[Record | None]] = {}

    @property
    def encodes(self) -> bool:
        """Whether the model has attention states that can be kept at all."""
        return bool(self._traits.layers)

    def owner(self) -> bytes:
        """Whose states these are, `OWNER` bytes: a hash of the model as it is now, of the tenant and
        of the compression.

        It looks at every weight of the model, so a request asks once and hands it on.
        """
        owner = blake2b(digest_size=OWNER)
        for part in (str(FORMAT), self._fingerprint.current(), self.salt, self.compression):
            owner.update(f"{len(part.encode())}:{part};".encode())
        return owner.digest()

    def key(self, run: ModuleRun) -> str:
        """The content-addressed key of a run: the same in every process, for equal content.

        It begins with the first bytes of its owner, so that a list of keys says what is whose.
        """
        return self._keys([run])[run]

    def _keys(self, runs: Iterable[ModuleRun], owner: bytes | None = None) -> dict[ModuleRun, str]:
        owner = owner or self.owner()
        begun = blake2b(owner, digest_size=20)
        keys = {}
        for run in runs:
            digest = begun.copy()
            for tokens in run.identity:
                digest.update(f"{len(tokens)}:".encode() + array("q", tokens).tobytes())
            keys[run] = f"{owner[:SHOWN].hex()}-{digest.hexdigest()}"
        return keys

    def fetch(
        self,
        runs: Iterable[ModuleRun],
        policy: ReusePolicy | None = None,
        owner: bytes | None = None,
    ) -> dict[ModuleRun, Record]:
        """The attention states of every run; what is missing is encoded now and stored.

        `owner` is whose they are, where that has been looked at for this request already.
        Contexts that are missing are encoded first; side tensors that `policy` reads and a record
        lacks are made. Two callers that miss the same module at the same time encode it once; if
        the one that encodes fails, the other encodes it itself.
        """
        keys = self._keys(runs, owner)
        self._remember(keys)
        found: dict[ModuleRun, Record] = {}
        while len(found) < len(keys):
            mine: dict[ModuleRun, tuple[str, Future[Record | None]]] = {}
            waiting: dict[ModuleRun, Future[Record | None]] = {}
            try:
                for run, key in keys.items():
                    if run not in found:
                        self._claim(run, key, found, mine, waiting)
                for run, record in self._encode({r: key for r, (key, _) in mine.items()}, policy):
                    found[run] = record
                    mine[run][1].set_result(record)
            finally:
                self._release(mine)
            for run, future in waiting.items():
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
        [other] = encode_expected(self._runner, self._traits, [run.ids], before, [decoy])
        ranking = sensitivity(kv, other)
        if (kv := self.store.get(key)) is not None:  # else it was forgotten or replaced meanwhile
            side = MappingProxyType({**kv.side, SENSITIVITY: ranking})
            self.store.put(key, replace(kv, side=side))

    def pin(self, runs: Iterable[ModuleRun]) -> None:
        """Keep the states of these runs from being evicted, now or once they are there."""
        for key in self._keys(runs).values():
            self._pinned.add(key)
            self.store.pin(key)

    def hand_over(self, old: str, new: str) -> None:
        """Forget the states under a key that another's stand for from now on, pinned as it was."""
        if old in self._pinned:
            self._pinned.add(new)
            self.store.pin(new)
        self._pinned.discard(old)
        self.store.delete(old)

    def delete_named(self, name: str) -> int:
        """Take the states of every module of this name, in any schema, out of the store."""
        with self._lock:
            named = [n for n in self._named if n == name or n.endswith(f".{name}")]
            keys = {key for n in named for key in self._named.pop(n)}
        self._pinned -= keys
        return sum(self.store.delete(key) for key in keys)

    def held(self) -> dict[ModuleRun, str]:
        """The modules whose states the store has now, with their keys."""
        alive = set(self.store.keys())
        with self._lock:
            named = [pair for runs in self._named.values() for pair in runs.items()]
        return {run: key for key, run in named if key in alive}

    def _remember(self, keys: Mapping[ModuleRun, str]) -> None:
        """Keep the names of modules, and forget keys that the store no longer has."""
        with self._lock:
            if len(self._named) > self._most_names:
                alive = set(self.store.keys())
                kept = {name: _only(alive, runs) for name, runs in self._named.items()}
                self._named = {name: runs for name, runs in kept.items() if runs}
                self._most_names = max(NAMES, 2 * len(self._named))
            for run, key in keys.items():
                if run.context.kind is ContextKind.START:
                    continue
                named = self._named.setdefault(run.name, {})
                named[key] = run
                if len(named) > REMEMBERED:
                    self._named[run.name] = _only({key, *self.store.keys()}, named)

    def holds(self, runs: Iterable[ModuleRun]) -> int:
        """How many of the runs the store has."""
        keys = set(self.store.keys())
        return sum(key in keys for key in self._keys(runs).values())

    def _claim(
        self,
        run: ModuleRun,
        key: str,
        found: dict[ModuleRun, Record],
        mine: dict[ModuleRun, tuple[str, Future[Record | None]]],
        waiting: dict[ModuleRun, Future[Record | None]],
    ) -> None:
        """Find the run in the store, or wait for who encodes it, or be the one.

        Nobody waits while the store reads it; whoever encodes it has looked once more, since
        another may have encoded and stored it meanwhile.
        """
        held = self.store.find(key)
        if held is None:
            with self._lock:
                if key in self._in_flight:
                    waiting[run] = self._in_flight[key]
                    return
                held = self.store.find(key)
                if held is None:
                    mine[run] = key, Future()
                    self._in_flight[key] = mine[run][1]
                    return
        kv, tier = held
        source = Source(key, tier, encoded=False, compression=kv.compression)
        found[run] = Record(source, kv)

    def _release(self, mine: Mapping[ModuleRun, tuple[str, Future[Record | None]]]) -> None:
        """Let nobody wait for what was not encoded."""
        for key, future in mine.values():
            with self._lock:
                self._in_flight.pop(key, None)
            if not future.done():
                future.set_result(None)

    def _ranked(self, record: Record, policy: ReusePolicy | None) -> Record:
        if policy is None or set(policy.side) <= set(record.kv.side):
            return record
        side = MappingProxyType({**record.kv.side, **policy.rank(record.kv)})
        kv = replace(record.kv, side=side)
        kept = self.store.put(record.source.key, kv)
        return Record(replace(record.source, kept=kept), kv)

    def _encode(
        self, keys: Mapping[ModuleRun, str], policy: ReusePolicy | None
    ) -> Iterator[tuple[ModuleRun, Record]]:
        """Encode the runs, those without a context first: they may be the others' context."""
        by_context: dict[Context, list[ModuleRun]] = {}
        for run in keys:
            by_context.setdefault(run.context, []).append(run)
        beginnings: dict[ModuleRun, KV] = {}
        for context, group in sorted(by_context.items(), key=lambda item: len(item[0].ids)):
            before = None
            if context.ids:
                start = group[0].beginning
                before = beginnings[start] if start in beginnings else self.fetch([start])[start].kv
            for run, kv in zip(group, self._states(group, before), strict=True):
                if not context.ids:
                    beginnings[run] = kv
                yield run, self._kept(keys[run], kv, policy)

    def _states(self, runs: Sequence[ModuleRun], before: KV | None) -> list[KV]:
        """Encode runs that have one context, `before` being its states, as they are kept."""
        rows, decoys = [run.ids for run in runs], runs[0].context.decoys
        states = (
            encode_expected(self._runner, self._traits, rows, before, decoys)
            if decoys
            else encode(self._runner, self._traits, rows, before)
        )
        return [rounded(kv, self.compression) for kv in states]

    def _kept(self, key: str, kv: KV, policy: ReusePolicy | None) -> Record:
        if policy is not None and policy.side:
            kv = replace(kv, side=MappingProxyType({**kv.side, **policy.rank(kv)}))
        kept = self.store.put(key, kv)
        source = Source(key, "encoded", encoded=True, kept=kept, compression=kv.compression)
        return Record(source, kv)


def _only(keys: Collection[str], runs: Mapping[str, ModuleRun]) -> dict[str, ModuleRun]:
    return {key: run for key, run in runs.items() if key in keys}
