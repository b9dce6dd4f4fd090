"""Whatever was asked before, from whatever was kept or evicted: the same logits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from promptcache import (
    DiskStore,
    Exact,
    Expected,
    FirstK,
    MemoryStore,
    Modular,
    NoReuse,
    PromptCache,
    RemoteStore,
    Selective,
    Sensitive,
    Store,
    Tiers,
)
from promptcache.clock import Clock
from promptcache.pipeline import Prefilled
from promptcache.reuse import ReusePolicy
from promptcache.segments import Segment
from support.reference import modular_logits, plain_logits
from support.words import byte_tokenizer
from support.zoo import FAMILIES, model

DOCUMENTS = [f"Document {i}: {'abcdefg'[i] * (3 * i + 4)} is the answer." for i in range(7)]
BUDGET = 60_000
"""Bytes: a few modules of these models, so that most requests evict some."""
DISK_BUDGET = 3 * BUDGET
"""Bytes: more of them, and not all."""
SCHEMA = """
<schema name="trip"><system>You plan trips.</system><user>
<module name="plan">Plan a trip of <param name="days" len="8" default="a week"/> for two.
<module name="note">Mind the <param name="what" len="6"/>.</module> Be brief.</module>
<union default="maui"><module name="miami">Miami is hot and loud.</module>
<module name="maui">Maui is an island in the sea.</module></union>
<module name="now" cache="false">It is <param name="hour" len="5"/> now.</module></user>
<scaffold name="both" modules="plan maui"/><scaffold name="turned" modules="miami plan"/></schema>
"""
PREAMBLES = ["You answer from documents.\n\n", "Be brief. Documents:\n"]


@dataclass(frozen=True)
class Request:
    """A chat prompt over some documents, in some order."""

    documents: tuple[int, ...]
    preamble: int
    policy: ReusePolicy
    question: str = field(default="Which?")

    def messages(self) -> list[dict[str, str]]:
        text = PREAMBLES[self.preamble] + "\n\n".join(DOCUMENTS[i] for i in self.documents)
        return [{"role": "system", "content": text}, {"role": "user", "content": self.question}]

    def segments(self, cache: PromptCache) -> Sequence[Segment]:
        return cache._prompts.from_messages(self.messages(), cache._shelf.recognise)


@dataclass(frozen=True)
class Marked:
    """A PML prompt: modules with and without arguments, in some order."""

    imports: tuple[str, ...]
    policy: ReusePolicy

    def segments(self, cache: PromptCache) -> Sequence[Segment]:
        imports = "".join(self.imports)
        return cache._prompts.from_pml(f'<prompt schema="trip">{imports}What now?</prompt>', {})


@dataclass(frozen=True)
class Evict:
    """Everything goes."""


@dataclass(frozen=True)
class Forget:
    """One module's states go, in the store alone."""

    place: int


@dataclass(frozen=True)
class Restart:
    """Another process: what is in memory goes, what is on disk stays."""


@dataclass(frozen=True)
class Refine:
    """What stands after its preamble becomes expected states, and modules are ranked."""


CONTEXTS = st.sampled_from(["preamble", Expected(("A.", "so"))])
POLICIES = st.sampled_from(
    [Modular(), Selective(0.3), Sensitive(0.3), FirstK(3), Exact(), NoReuse()]
)
REQUESTS = st.builds(
    Request,
    st.lists(st.integers(0, 6), max_size=5, unique=True).map(tuple),
    st.integers(0, 1),
    POLICIES,
    st.sampled_from(["Which?", "Who said <|user|> so?", "Why " * 9]),
)
IMPORTS = st.tuples(
    st.sampled_from(["", "<plan/>", "<plan days='3'/>",
                     "<plan days='1234567'><note/></plan>",
                     "<plan days=''><note what='rain'/></plan>",
                     "<plan><note what='sun'/></plan>"]),
    st.sampled_from(["", "<miami/>", "<maui/>"]),
    st.sampled_from(["", "<now/>", "<now hour='nine'/>"]),
).flatmap(st.permutations)  # fmt: skip
MARKED = st.builds(Marked, IMPORTS.map(tuple), POLICIES)
EVENTS = st.lists(
    st.one_of(
        REQUESTS,
        REQUESTS,
        MARKED,
        MARKED,
        st.sampled_from([Evict(), Refine()]),
        st.builds(Forget, st.integers(0, 9)),
    ),
    min_size=1,
    max_size=8,
)


LASTING = st.lists(
    st.one_of(REQUESTS, MARKED, st.sampled_from([Restart(), Evict(), Refine()])),
    min_size=2,
    max_size=8,
)


Event = Request | Marked | Evict | Forget | Restart | Refine


def store_in(folder: Path, places: str) -> Store:
    """Memory, and behind it the tiers that engines share: "disk", "remote" or "disk, remote"."""
    behind: dict[str, Callable[[], Store]] = {
        "disk": lambda: DiskStore(folder, DISK_BUDGET),
        "remote": lambda: RemoteStore((folder / "far").as_uri(), timeout=600),
    }
    return Tiers(MemoryStore(BUDGET), *(behind[place]() for place in places.split(", ")))


def engine_for(
    family: str, context: str | Expected, folder: Path | None, places: str = "disk"
) -> PromptCache:
    store = MemoryStore(BUDGET) if folder is None else store_in(folder, places)
    cache = PromptCache(model(family), byte_tokenizer(), store=store, context=context)
    cache.cache_documents(DOCUMENTS, progress=False)
    cache.add_schema(SCHEMA, encode=False)
    return cache


def check(cache: PromptCache, request: Request | Marked) -> Prefilled:
    got = cache._pipeline.run(request.segments(cache), request.policy, Clock(), room=1)
    cache._pipeline.ranking.later(got.served.unranked)
    if request.policy.moves:
        reused, again = got.layout.reusable, got.served.missing
        expected = modular_logits(cache.model, got.layout, reused, again)
        assert got.usage.input_tokens == len(got.layout.ids)
    else:
        expected = plain_logits(cache.model, got.layout.ids)
    assert torch.allclose(got.logits[0], expected, atol=1e-4), request
    return got


def run_history(
    family: str,
    context: str | Expected,
    events: list[Event],
    folder: Path | None = None,
    places: str = "disk",
) -> None:
    """Hold every answer of a history against the plain model.

    With a `folder`, two engines take turns, as two processes would that share what is in it.
    """
    engines = [engine_for(family, context, folder, places)]
    if folder is not None:
        engines.append(engine_for(family, context, folder, places))
    for number, event in enumerate(events):
        place = number % len(engines)
        cache = engines[place]
        if isinstance(event, Evict):
            cache.store.evict()
        elif isinstance(event, Restart):
            assert isinstance(cache.store, Tiers)
            cache.store.flush()
            engines[place] = engine_for(family, context, folder, places)
        elif isinstance(event, Refine):
            cache.refine(progress=False)
            cache.settle(60)
        elif isinstance(event, Forget):
            keys = cache.store.keys()
            if keys:
                cache.store.delete(keys[event.place % len(keys)])
        else:
            check(cache, event)
        cache.store.check_integrity()
    for cache in engines:
        if isinstance(cache.store, Tiers):
            cache.store.flush()


QUIET = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large]


@settings(max_examples=300, deadline=None, suppress_health_check=QUIET,
          phases=[Phase.explicit, Phase.reuse, Phase.generate], derandomize=True)  # fmt: skip
@given(family=st.sampled_from(sorted(FAMILIES)), context=CONTEXTS, events=EVENTS)
def test_logits_never_depend_on_what_was_asked_or_evicted_before(
    family: str, context: str | Expected, events: list[Event]
) -> None:
    run_history(family, context, events)


@settings(max_examples=30, deadline=None, suppress_health_check=QUIET,
          phases=[Phase.explicit, Phase.reuse, Phase.generate], derandomize=True)  # fmt: skip
@given(
    family=st.sampled_from(sorted(FAMILIES)),
    context=CONTEXTS,
    events=LASTING,
    places=st.sampled_from(["disk", "remote", "disk, remote"]),
)
def test_logits_never_depend_on_what_another_process_left_on_disk_or_far_away(
    family: str, context: str | Expected, events: list[Event], places: str
) -> None:
    with TemporaryDirectory() as folder:
        run_history(family, context, events, Path(folder), places)


@pytest.mark.stress
@settings(max_examples=2_000, deadline=None, suppress_health_check=QUIET)
@given(family=st.sampled_from(sorted(FAMILIES)), context=CONTEXTS, events=LASTING)
def test_logits_never_depend_on_the_disk_in_two_thousand_histories(
    family: str, context: str | Expected, events: list[Event]
) -> None:
    with TemporaryDirectory() as folder:
        run_history(family, context, events, Path(folder))


@pytest.mark.stress
@settings(max_examples=10_000, deadline=None, suppress_health_check=QUIET)
@given(family=st.sampled_from(sorted(FAMILIES)), context=CONTEXTS, events=EVENTS)
def test_logits_never_depend_on_the_history_in_ten_thousand_of_them(
    family: str, context: str | Expected, events: list[Event]
) -> None:
    run_history(family, context, events)
