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
from promptcache.model.efforts import Efforts
from promptcache.model.encode import BATCH_TOKENS, encode
from promptcache.model.expected import encode_expected, sensitivity
from promptcache.model.fingerprint import Fingerprint
from promptcache.model.runner import ModelRunner, Traits
from promptcache.reuse import ReusePolicy
from promptcache.store import Effort, Store
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
LATELY = 4096
"""Keys of which it is known when their encoding ended."""


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
        self._lately: dict[str, int] = {}
        """Keys whose encoding ended, each with how many had ended before."""
        self._ended = 0
        self._efforts = Efforts(runner, traits)

    @property
    def encodes(self) -> bool:
        """Whether the model has attention states that can be kept at all."""
        return bool(self._traits.layers)

    def owner(self) -> bytes:
        """Whose states these are, `OWNER` bytes: a hash of the model as it is now, of the tenant
        and of the compression.

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
        slots: int = BATCH_TOKENS,
    ) -> dict[ModuleRun, Record]:
        """The attention states of every run; what is missing is encoded now and stored.

        `owner` is whose they are, where that has been looked at for this request already;
        `slots` is how many one forward goes over while they are encoded (see `encode`).
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
                slower = self._claim(keys, found, mine, waiting)
                claimed = {r: key for r, (key, _) in mine.items()}
                for run, made in self._encode(claimed, policy, slots):
                    source = replace(made.source, slower=slower.get(run, ""))
                    found[run] = record = replace(made, source=source)
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
        """The modules whose states, of the model as it is, the store has now, with their keys."""
        owned = f"{self.owner()[:SHOWN].hex()}-"
        return {run: key for key, run in self.every().items() if key.startswith(owned)}

    def every(self) -> dict[str, ModuleRun]:
        """What the store has now by its keys, of the model with other adapters or weights, too."""
        with self._lock:
            named = [pair for runs in self._named.values() for pair in runs.items()]
        alive = self.store.holding([key for key, _ in named])
        return {key: run for key, run in named if key in alive}

    def _remember(self, keys: Mapping[ModuleRun, str]) -> None:
        """Keep the names of modules, and forget keys that the store no longer has."""
        with self._lock:
            if len(self._named) > self._most_names:
                alive = self.store.holding([key for runs in self._named.values() for key in runs])
                kept = {name: _only(alive, runs) for name, runs in self._named.items()}
                self._named = {name: runs for name, runs in kept.items() if runs}
                self._most_names = max(NAMES, 2 * len(self._named))
            for run, key in keys.items():
                if run.context.kind is ContextKind.START:
                    continue
                named = self._named.setdefault(run.name, {})
                named[key] = run
                if len(named) > REMEMBERED:
                    self._named[run.name] = _only({key, *self.store.holding(named)}, named)

    def holds(self, runs: Iterable[ModuleRun]) -> int:
        """How many of the runs the store has."""
        keys = self._keys(runs).values()
        there = self.store.holding(set(keys))
        return sum(key in there for key in keys)

    def _claim(
        self,
        keys: Mapping[ModuleRun, str],
        found: dict[ModuleRun, Record],
        mine: dict[ModuleRun, tuple[str, Future[Record | None]]],
        waiting: dict[ModuleRun, Future[Record | None]],
    ) -> dict[ModuleRun, str]:
        """Find each run in the store, or wait for who encodes it, or be the one; for some of the
        latter, the tier that would have taken longer.

        Nobody waits while the store is asked, for all runs at once. What another has encoded
        since then is in the store by now, and left for the caller to ask for once more.
        """
        missing = {run: key for run, key in keys.items() if run not in found}
        ended = self._ended
        held = self.store.find_all(missing.values(), self._efforts_of(missing))
        slower = {}
        for run, key in missing.items():
            kv, tier = held.get(key, (None, ""))
            if kv is not None:
                source = Source(key, tier, encoded=False, compression=kv.compression)
                found[run] = Record(source, kv)
                continue
            with self._lock:
                if key in self._in_flight:
                    waiting[run] = self._in_flight[key]
                elif self._lately.get(key, -1) < ended:
                    mine[run] = key, Future()
                    self._in_flight[key] = mine[run][1]
                    slower[run] = tier
        return slower

    def _efforts_of(self, keys: Mapping[ModuleRun, str]) -> dict[str, Effort]:
        """What encoding these runs would take, as far as that is known."""
        efforts = {key: self._efforts.of(len(run.ids), _times(run)) for run, key in keys.items()}
        return {key: effort for key, effort in efforts.items() if effort is not None}

    def _release(self, mine: Mapping[ModuleRun, tuple[str, Future[Record | None]]]) -> None:
        """Let nobody wait for what was not encoded."""
        for key, future in mine.values():
            with self._lock:
                self._in_flight.pop(key, None)
                self._lately.pop(key, None)
                self._lately[key], self._ended = self._ended, self._ended + 1
                if len(self._lately) > LATELY:
                    del self._lately[next(iter(self._lately))]
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
        self, keys: Mapping[ModuleRun, str], policy: ReusePolicy | None, slots: int
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
            for run, kv in zip(group, self._states(group, before, slots), strict=True):
                if not context.ids:
                    beginnings[run] = kv
                yield run, self._kept(keys[run], kv, policy)

    def _states(self, runs: Sequence[ModuleRun], before: KV | None, slots: int) -> list[KV]:
        """Encode runs that have one context, `before` being its states, as they are kept."""
        rows, decoys = [run.ids for run in runs], runs[0].context.decoys

        def states() -> list[KV]:
            if decoys:
                return encode_expected(self._runner, self._traits, rows, before, decoys, slots)
            return encode(self._runner, self._traits, rows, before, slots)

        timed = self._efforts.timed(states, _times(runs[0]))
        return [rounded(kv, self.compression) for kv in timed]

    def _kept(self, key: str, kv: KV, policy: ReusePolicy | None) -> Record:
        if policy is not None and policy.side:
            kv = replace(kv, side=MappingProxyType({**kv.side, **policy.rank(kv)}))
        kept = self.store.put(key, kv)
        source = Source(key, "encoded", encoded=True, kept=kept, compression=kv.compression)
        return Record(source, kv)


def _times(run: ModuleRun) -> int:
    """How many times a run's tokens are run through the model to encode it."""
    return len(run.context.decoys) or 1


def _only(keys: Collection[str], runs: Mapping[str, ModuleRun]) -> dict[str, ModuleRun]:
    return {key: run for key, run in runs.items() if key in keys}
