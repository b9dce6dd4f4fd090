"""`bench ttft`: its rows say what happened, and every system gets the same tokens."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from transformers import DynamicCache

from promptcache import Exact, Modular, NoReuse
from promptcache.bench.baselines import FullPrefill, PrefixCache, forward
from promptcache.bench.limit import NAME as LIMIT
from promptcache.bench.models import Subject
from promptcache.bench.models import subject as named
from promptcache.bench.orders import FIRST, Order, shuffled
from promptcache.bench.prompts import FORMS, Asked, Library, Pml, Questions, asked, new_engine
from promptcache.bench.restarts import store_left
from promptcache.bench.rounds import Sample
from promptcache.bench.rows import TtftRow
from promptcache.bench.ttft import OURS, Plan, Trial, measure, sweep
from promptcache.errors import OptionError, PromptError
from promptcache.reply import Stage
from promptcache.reuse.named import usual

PLAN = Plan(documents=4, tokens=24, new=8, repeats=2, full_repeats=1, policies=usual())
BOTH = Plan(**{f: getattr(PLAN, f) for f in PLAN.__slots__} | {"forms": tuple(FORMS.values())})


class Listener:
    """A baseline that notes what it is told."""

    name = "listener"
    packages: Sequence[str] = ()
    remembers = True

    def __init__(self) -> None:
        self.told: list[tuple[str, Asked]] = []

    def remember(self, prompt: Asked) -> None:
        self.told.append(("remember", prompt))

    def first_token(self, prompt: Asked) -> Sample:
        self.told.append(("first token", prompt))
        return Sample(1.0, cached=3, new=len(prompt.ids) - 3)


def trial(subject: Subject, plan: Plan = PLAN, form: str = "pml") -> Trial:
    engine = new_engine(subject)
    library = Library.of(engine.count_tokens, plan.documents, plan.tokens)
    questions = Questions(engine.count_tokens, plan.new)
    return Trial(subject, plan, FORMS[form], library, questions, [])


@pytest.fixture
def rows(subject: Subject) -> list[TtftRow]:
    return measure(subject, BOTH, [Listener()], progress=False)


def test_there_is_a_row_for_every_case(rows: list[TtftRow]) -> None:
    cases = {(row.prompt, row.case, row.policy, str(row.order)) for row in rows}
    expected = {
        (form, case, policy, order)
        for form in FORMS
        for case, policy, orders in (
            *((OURS, str(p), ("in-order", "shuffled")) for p in usual()),
            (OURS, str(Modular()), ("cold", "from-disk", "from-remote")),
            (FullPrefill.name, "", ("shuffled",)),
            (PrefixCache.name, "", ("in-order", "shuffled")),
            ("listener", "", ("in-order", "shuffled")),
            (LIMIT, "", ("in-order",)),
        )
        for order in orders
    }
    assert cases == expected
    assert len(rows) == len(cases)


def test_rows_count_tokens_as_the_engine_does(rows: list[TtftRow]) -> None:
    preamble = len("Answer from the documents.")
    whole = preamble + PLAN.documents * PLAN.tokens
    for row in rows:
        if row.prompt != "pml":
            continue
        found = (row.cached_tokens, row.new_tokens)
        assert row.module_tokens == whole
        assert sum(found) == whole + PLAN.new or row.case == PrefixCache.name
        if row.policy == str(Modular()) and row.order != Order.COLD:
            assert found == (whole, PLAN.new)
        if row.policy == str(Exact()) and row.order == Order.IN_ORDER:
            assert found[0] == preamble + PLAN.tokens
        if row.policy == str(NoReuse()) or row.order == Order.COLD:
            assert found[0] == 0
        if row.case == LIMIT:
            assert found == (whole, PLAN.new)


def test_rows_of_a_prefix_cache_say_what_it_could_use(rows: list[TtftRow]) -> None:
    prefix = {str(r.order): r for r in rows if r.case == PrefixCache.name and r.prompt == "pml"}
    assert prefix["in-order"].cached_tokens >= prefix["in-order"].module_tokens
    assert prefix["shuffled"].cached_tokens < prefix["shuffled"].module_tokens


def test_ratios_are_against_full_prefill_and_the_limit_of_the_same_prompts(
    rows: list[TtftRow],
) -> None:
    for form in FORMS:
        mine = [row for row in rows if row.prompt == form]
        full = next(row for row in mine if row.case == FullPrefill.name)
        limit = next(row for row in mine if row.case == LIMIT)
        assert full.full_prefill_ratio == limit.limit_ratio == 1
        for row in mine:
            assert row.full_prefill_ratio == pytest.approx(full.ttft_seconds / row.ttft_seconds)
            assert row.limit_ratio == pytest.approx(row.ttft_seconds / limit.ttft_seconds)
            assert row.ttft_low <= row.ttft_seconds <= row.ttft_high


def test_stages_add_up_to_the_time(subject: Subject) -> None:
    once = Plan(documents=3, tokens=24, new=8, repeats=1, full_repeats=0, orders=(Order.SHUFFLED,))
    rows = measure(subject, once, progress=False)
    assert {row.case for row in rows} == {OURS, LIMIT}
    for row in rows:
        assert sum(row.stages.values()) == pytest.approx(row.ttft_seconds)
        assert row.full_prefill_ratio is None
        if row.case == OURS:
            assert set(row.stages) == set(map(str, Stage))


def test_slow_cases_run_as_often_as_they_are_to(rows: list[TtftRow]) -> None:
    for row in rows:
        whole = row.case not in (OURS, LIMIT) and row.order == Order.SHUFFLED
        slow = whole or row.policy == str(NoReuse()) or row.order in FIRST
        assert row.repeats == (PLAN.full_repeats if slow else PLAN.repeats)


@pytest.mark.parametrize("form", FORMS)
def test_baselines_get_the_tokens_of_the_engine(subject: Subject, form: str) -> None:
    mine = trial(subject, form=form)
    prompt = mine.prompt(Order.SHUFFLED)
    told = asked(mine.engine, mine.form, prompt)
    assert told.plain
    assert tuple(told.tokenise()) == told.ids
    with mine.form.stream(mine.engine, prompt, NoReuse(), 1) as stream:
        reply = stream.reply
    assert reply.usage.input_tokens == len(told.ids)
    assert "".join(span.text for span in reply.trace) == told.text
    assert reply.token_ids[0] == forward(subject, told.ids, DynamicCache())


def test_where_a_tokenizer_joins_documents_baselines_still_get_the_engines_tokens() -> None:
    engine = new_engine(named("pocket"))
    library = Library(("bala nel kalo", "kata lem rol."))
    Pml().register(engine, library, encode=False)
    told = asked(engine, Pml(), Pml().prompt(library, (0, 1), " Well?"))
    assert not told.plain
    assert tuple(engine.tokenizer.encode(told.text)) != told.ids
    assert tuple(told.tokenise()) == told.ids


def test_the_prompt_before_is_the_one_in_order(subject: Subject) -> None:
    listener = Listener()
    measure(subject, PLAN, [listener], progress=False)
    kinds = [kind for kind, _ in listener.told]
    assert kinds == ["remember", "first token"] * (len(kinds) // 2)
    documents = trial(subject).library.documents
    for kind, prompt in listener.told:
        places = [prompt.text.index(text) for text in documents]
        if kind == "remember":
            assert places == sorted(places)
    assert any(
        [prompt.text.index(text) for text in documents]
        != sorted(prompt.text.index(text) for text in documents)
        for kind, prompt in listener.told
        if kind == "first token"
    )


def test_a_prefix_cache_gives_the_token_of_a_full_prefill(subject: Subject) -> None:
    mine, cache = trial(subject), PrefixCache(subject)
    cache.remember(mine.asked(Order.IN_ORDER))
    for order in (Order.SHUFFLED, Order.IN_ORDER, Order.SHUFFLED):
        prompt = mine.asked(order)
        sample = cache.first_token(prompt)
        assert sample.cached + sample.new == len(prompt.ids)
        assert (sample.cached >= mine.module_tokens) == (order is Order.IN_ORDER)


def test_shuffled_is_always_another_order() -> None:
    rng = random.Random(0)
    drawn = [tuple(shuffled(4, rng)) for _ in range(200)]
    assert (0, 1, 2, 3) not in drawn
    assert len(set(drawn)) > 20
    assert all(sorted(order) == [0, 1, 2, 3] for order in drawn)
    assert shuffled(1, rng) == [0]


def test_every_prompt_is_another_one(subject: Subject) -> None:
    mine = trial(subject)
    prompts = [mine.prompt(order) for order in (*[Order.IN_ORDER] * 5, *[Order.SHUFFLED] * 5)]
    assert len(set(prompts)) == len(prompts)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("order", [Order.FROM_DISK, Order.FROM_REMOTE])
def test_an_engine_that_has_just_started_reads_each_module_from_where_it_lies(
    subject: Subject, form: str, order: Order
) -> None:
    mine = trial(subject, form=form)
    for _ in range(2):
        assert mine._at_first(Modular(), order).cached == mine.module_tokens
    with store_left(mine.engine.store, order) as store:
        found = store.find_all(mine.engine.store.keys())
        assert {tier for _, tier in found.values()} == {order.removeprefix("from-")}
        assert len(found) == len(mine.engine.store.keys())


@pytest.mark.parametrize("form", FORMS)
def test_cold_finds_nothing_encoded_each_time(subject: Subject, form: str) -> None:
    mine = trial(subject, form=form)
    for _ in range(2):
        sample = mine._at_first(Modular(), Order.COLD)
        assert sample.cached == 0
        assert sample.new >= mine.module_tokens + PLAN.new


def test_documents_and_questions_have_the_size_that_was_asked_for() -> None:
    count = new_engine(named("pocket")).count_tokens
    for tokens in (8, 31, 64, 257):
        assert all(count(text) == tokens for text in Library.of(count, 3, tokens).documents)
        assert count(Questions(count, tokens).next()) == tokens


def test_a_sweep_ends_where_the_window_does() -> None:
    plans = list(sweep(Plan(tokens=256), (512, 1024, 2048), 1600))
    assert [(plan.documents, plan.tokens) for plan in plans] == [(2, 256), (4, 256)]
    assert len(list(sweep(Plan(), (512, 1024), None))) == 2


def test_what_makes_no_sense_is_refused(subject: Subject) -> None:
    for wrong in ({"documents": 0}, {"tokens": -1}, {"repeats": 0}, {"full_repeats": -1}):
        with pytest.raises(OptionError, match=f"{next(iter(wrong))}=.*expected"):
            Plan(**wrong)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="nothing to measure"):
        Plan(orders=())
    with pytest.raises(PromptError, match="window"):
        measure(subject, Plan(documents=20, tokens=100), progress=False)
