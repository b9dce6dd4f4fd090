"""`promptcache bench scale`, third part: the bytes of modules in each tier, by compression.

And how long reading them all takes, unpacked and in main memory. A disk's files are likely in the
system's own memory when they are read: this is what reading costs beside the disk itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from promptcache.bench.models import Subject
from promptcache.bench.prompts import UNLIMITED, Library, PlainText, new_engine
from promptcache.bench.rounds import check_count
from promptcache.bench.rows import Spread, StoredRow
from promptcache.bench.setting import Setting
from promptcache.kv import KV
from promptcache.store import DiskStore, HostStore, MemoryStore, Store
from promptcache.store.compression import COMPRESSIONS

NONE = "none"
"""What rows call states as they are."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Modules of `documents` documents of `tokens` tokens, read `repeats` times from each tier.

    Raises OptionError for counts that make no sense.
    """

    documents: int = 8
    tokens: int = 256
    repeats: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("documents", "tokens", "repeats"):
            check_count(name, getattr(self, name))


def measure(subject: Subject, plan: Plan) -> list[StoredRow]:
    """A row for each tier and compression."""
    return [row for name in (NONE, *COMPRESSIONS) for row in _rows(subject, plan, name)]


def _rows(subject: Subject, plan: Plan, compression: str) -> Iterator[StoredRow]:
    engine = new_engine(subject, "" if compression == NONE else compression)
    library = Library.of(engine.count_tokens, plan.documents, plan.tokens, plan.seed)
    PlainText().register(engine, library, encode=True)
    kept = {key: kv for key in engine.store.keys() if (kv := engine.store.get(key))}  # noqa: SIM118
    with TemporaryDirectory() as folder:
        tiers: Sequence[Callable[[], Store]] = (
            lambda: MemoryStore(UNLIMITED),
            lambda: HostStore(UNLIMITED),
            lambda: DiskStore(Path(folder), UNLIMITED),
        )
        for make in tiers:
            yield _row(subject, plan, compression, make(), kept)


def _row(
    subject: Subject, plan: Plan, compression: str, store: Store, kept: Mapping[str, KV]
) -> StoredRow:
    for key, kv in kept.items():
        assert store.put(key, kv)
    seconds = Spread.of([_reading(store, kept) for _ in range(plan.repeats)])
    return StoredRow(
        **asdict(Setting.of(subject)),
        case=store.tier,
        repeats=plan.repeats,
        compression=compression,
        modules=len(kept),
        module_tokens=sum(kv.tokens for kv in kept.values()),
        stored_bytes=store.nbytes,
        ratio=store.nbytes / sum(kv.nbytes for kv in kept.values()),
        read_seconds=seconds.median,
        read_low=seconds.low,
        read_high=seconds.high,
    )


def _reading(store: Store, kept: Mapping[str, KV]) -> float:
    """Seconds to read every module, each byte of it."""
    start = time.perf_counter()
    for key in kept:
        kv = store.get(key)
        assert kv is not None
        for tensor in (*kv.keys, *kv.values):
            tensor.clone()
    return time.perf_counter() - start
