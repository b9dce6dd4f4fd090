"""`promptcache bench scale`, first half: what a prompt costs when many documents are registered.

The documents and prompts are those of `recognise.py`; here an engine has them, with as many modules
in its store, and whole requests are timed beside recognition alone. The modules of those that the
prompts hold are encoded; the others' are stand-ins of one token.
"""

from __future__ import annotations

import random
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass

import torch
from tqdm.auto import tqdm

from promptcache.bench import recognise
from promptcache.bench.models import Subject
from promptcache.bench.prompts import new_engine
from promptcache.bench.rounds import check_count
from promptcache.bench.rows import LibraryRow, Spread
from promptcache.bench.setting import Setting
from promptcache.engine import PromptCache
from promptcache.kv import KV
from promptcache.reply import Reply, Stage

CASES = {"distinct": recognise.distinct, "near-matching": recognise.near}
SIZES = recognise.SIZES


@dataclass(frozen=True, slots=True)
class Plan:
    """Libraries up to `largest` documents, and `prompts` prompts for each.

    Raises OptionError for counts that make no sense.
    """

    largest: int = 100_000
    prompts: int = 20

    def __post_init__(self) -> None:
        check_count("largest", self.largest, least=SIZES[0])
        check_count("prompts", self.prompts)


def measure(subject: Subject, plan: Plan, *, progress: bool = True) -> list[LibraryRow]:
    """A row for each kind and size of library."""
    cases = [(name, size) for name in CASES for size in SIZES if size <= plan.largest]
    with tqdm(cases, desc="libraries", unit="library", disable=not progress) as bar:
        return [_row(subject, name, size, plan.prompts) for name, size in bar]


def _row(subject: Subject, name: str, size: int, prompts: int) -> LibraryRow:
    rng = random.Random(size)
    documents = CASES[name](size + 100, rng)
    registered, strangers = documents[:size], documents[size:]
    alone = recognise.measure(name, CASES[name], size, prompts)
    engine = new_engine(subject)
    start = time.perf_counter()
    engine.cache_documents(registered, progress=False)
    seconds = time.perf_counter() - start
    _fill(engine, size)
    replies = list(_asked(engine, registered, strangers, prompts, rng))
    parse = Spread.of([reply.timings[Stage.PARSE] for reply in replies])
    lookup = Spread.of([reply.timings[Stage.LOOKUP] for reply in replies])
    return LibraryRow(
        **asdict(Setting.of(subject)),
        case=name,
        repeats=prompts,
        documents=size,
        document_chars=recognise.DOCUMENT_CHARS,
        prompt_chars=recognise.PROMPT_CHARS,
        register_seconds=seconds,
        find_seconds=alone.find_ms_median / 1e3,
        find_worst=alone.find_ms_worst / 1e3,
        parse_seconds=parse.median,
        parse_worst=max(reply.timings[Stage.PARSE] for reply in replies),
        lookup_seconds=lookup.median,
        lookup_worst=max(reply.timings[Stage.LOOKUP] for reply in replies),
        bytes_per_document=_bytes(lambda: new_engine(subject), registered) // size,
    )


def _fill(engine: PromptCache, size: int) -> None:
    """Give the store as many entries as there are documents."""
    layers = engine.traits.layers
    keys = tuple(torch.zeros(s.kv_heads, 1, s.key_dim, dtype=s.dtype) for s in layers)
    values = tuple(torch.zeros(s.kv_heads, 1, s.value_dim, dtype=s.dtype) for s in layers)
    stand_in = KV(keys, values)
    for number in range(size):
        engine.store.put(f"{number:040x}", stand_in)


def _asked(
    engine: PromptCache,
    registered: Sequence[str],
    strangers: Sequence[str],
    prompts: int,
    rng: random.Random,
) -> Iterator[Reply]:
    """Replies to prompts whose modules an untimed request has encoded."""
    for _ in range(prompts):
        prompt = recognise.prompt_of(registered, strangers, rng)
        engine.generate_text(prompt, max_new_tokens=1)
        yield engine.generate_text(prompt, max_new_tokens=1)


def _bytes(make: Callable[[], PromptCache], documents: Sequence[str]) -> int:
    """What an engine keeps to know these documents, their own texts aside."""
    engine = make()
    tracemalloc.start()
    engine.cache_documents(documents, progress=False)
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return size
