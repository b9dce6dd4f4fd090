"""One prompt against its full prefill, many in turns, and the rows of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from core.bench.fidelity_rows import answered, rows
from promptcache import Exact, FirstK, Modular, NoReuse
from promptcache.bench.fidelity import samples
from promptcache.bench.fidelity.engines import encode, engine_for
from promptcache.bench.fidelity.flops import Costs
from promptcache.bench.fidelity.measure import Outcome, full_prefill, measure, measure_plain
from promptcache.bench.fidelity.questions import About, Chat
from promptcache.bench.fidelity.rows import (
    ALL,
    FULL,
    PLAIN,
    REORDERED,
    read_fidelity,
    write_fidelity,
)
from promptcache.bench.fidelity.running import Plan, run
from promptcache.bench.fidelity.statistics import divergence
from promptcache.bench.models import Subject
from promptcache.clock import Clock
from promptcache.decoys import CONTEXTS
from promptcache.errors import OptionError, PromptError
from promptcache.pocket.prompts import WORDINGS
from support.library import DOCUMENTS, messages
from support.reference import modular_logits, plain_logits
from support.words import byte_tokenizer


def chat(*order: int, question: str = "Well?", new: int = 6) -> Chat:
    told = tuple((m["role"], m["content"]) for m in messages(*order, question=question))
    about = About(question, kind="own", documents=len(order), number=len(order))
    return Chat(about, told, tuple(DOCUMENTS[place] for place in order), new)


@pytest.fixture
def subject(subject: Subject) -> Subject:
    """One whose answers may end."""
    subject.model.generation_config.eos_token_id = 2
    return subject


def test_full_prefill_is_what_plain_transformers_says(subject: Subject) -> None:
    engine, question = engine_for(subject, "preamble"), chat(0, 1, 2)
    costs = Costs.of_model(engine.model, engine.traits)
    encode(engine, question, [], "preamble")
    full = full_prefill(engine, question, costs)
    ids = engine._pipeline.layout(
        engine._asking.messages(messages(0, 1, 2), None, None).segments
    ).ids
    assert (full.logits - plain_logits(subject.model, ids)).abs().max() <= 1e-4
    row = torch.tensor([list(ids)])
    answer = subject.model.generate(
        row, attention_mask=torch.ones_like(row), max_new_tokens=6, do_sample=False
    )
    assert list(full.answer) == answer[0, len(ids) :].tolist()
    plain = measure_plain(subject, full, 6)  # a byte is a token: one piece has the same ones
    assert plain.same and plain.kl <= 1e-8 and plain.tokens == full.tokens == len(ids)


def test_a_policy_is_held_against_full_prefill_by_the_reference(subject: Subject) -> None:
    engine, question = engine_for(subject, "preamble"), chat(0, 1, 2)
    costs = Costs.of_model(engine.model, engine.traits)
    encode(engine, question, [], "preamble")
    full = full_prefill(engine, question, costs)
    exact = measure(engine, question, Exact(), full, costs)
    assert exact.same and exact.top1 == 1 and exact.kl <= 1e-8 and exact.text == full.text
    assert 0 < exact.recomputed_share < 1 and exact.recomputed_share < exact.flops_share < 1

    modular = measure(engine, question, Modular(), full, costs)
    segments = engine._asking.messages(messages(0, 1, 2), None, None).segments
    prefilled = engine._pipeline.run(segments, Modular(), Clock(), room=1)
    expected = modular_logits(subject.model, prefilled.layout, prefilled.layout.reusable)
    assert modular.kl == pytest.approx(divergence(full.logits, expected), rel=1e-3)
    assert modular.recomputed_share == 0
    again = measure(engine, question, FirstK(1000), full, costs)
    assert again.same and again.kl <= 1e-8 and again.flops_share > modular.flops_share


def test_steps_are_those_of_the_same_text_and_the_answer_is_its_own(subject: Subject) -> None:
    engine, question = engine_for(subject, "bare"), chat(3, 1, 2, 0, new=12)
    costs = Costs.of_model(engine.model, engine.traits)
    encode(engine, question, [], "bare")
    full = full_prefill(engine, question, costs)
    outcome = measure(engine, question, Modular(), full, costs)
    alone = engine.generate_messages(
        messages(3, 1, 2, 0), reuse=Modular(), max_new_tokens=12, do_sample=False
    )
    assert outcome.text == alone.text
    assert outcome.same == (alone.token_ids == full.answer)
    assert not outcome.same, "a tiny random model is far off with bare modules"
    # full prefill of another text, forced along this answer, is what teacher forcing gives
    ids = engine._pipeline.layout(
        engine._asking.messages(messages(0, 1, 2, 3), None, None).segments
    ).ids
    whole = torch.tensor([[*ids, *full.answer[:-1]]])
    with torch.no_grad():
        logits = subject.model(input_ids=whole).logits[0, len(ids) - 1 :]
    steps = logits.argmax(dim=-1).tolist()
    other = measure(engine, chat(0, 1, 2, 3, new=12), NoReuse(), full, costs)
    expected = sum(a == b for a, b in zip(steps, full.answer, strict=True)) / len(steps)
    assert other.top1 == pytest.approx(expected)


def test_every_policy_is_measured_in_every_context_and_nothing_is_kept(subject: Subject) -> None:
    plan = Plan((Modular(), FirstK(4), NoReuse()))
    pairs = [[chat(0, 1, 2), chat(2, 0, 1)], [chat(3, 4), chat(4, 3)]]
    found = run(subject, plan, pairs, progress=False)
    made = rows(*found.answered)
    whole = {(row.policy, row.context): row for row in made if row.case == ALL}
    ours = {(str(p), c) for p in (Modular(), FirstK(4)) for c in CONTEXTS}
    assert whole.keys() == ours | {(FULL, ""), (PLAIN, ""), (REORDERED, "")}
    assert whole[FULL, ""].kl == 0 and whole[FULL, ""].prompts == 4
    assert whole[FULL, ""].repeats == 2
    assert whole[PLAIN, ""].kl <= 1e-8 and whole[PLAIN, ""].answers == 1
    assert whole[REORDERED, ""].kl > 1e-4 and whole[REORDERED, ""].prompts == 2
    kls = [whole["Modular()", context].kl for context in CONTEXTS]
    assert len(set(kls)) == len(CONTEXTS), "each context has states of its own"
    for context in CONTEXTS:
        assert 0 < whole["FirstK(k=4)", context].recomputed_share < 1  # type: ignore[operator]
    assert {row.case for row in made} == {
        ALL, "own order", "shuffled order", "own", "2 documents", "3 documents"
    }  # fmt: skip
    assert not found.refused and not found.left_out


def test_compressions_are_measured_beside_one_another(subject: Subject) -> None:
    plan = Plan((Modular(), Exact()), ("preamble",), False, 0, ("", "int8", "int4"))
    made = rows(*run(subject, plan, [[chat(0, 1, 2)]], progress=False).answered)
    whole = {(row.policy, row.compression): row for row in made if row.case == ALL}
    cases = {(str(p), c) for p in plan.policies for c in plan.compressions}
    assert whole.keys() == cases | {(FULL, "")}
    kl = [whole["Modular()", compression].kl for compression in plan.compressions]
    assert kl[0] < kl[2] and 0 < abs(kl[1] - kl[0]) < abs(kl[2] - kl[0])
    assert whole["Exact()", ""].recomputed_share < 1  # type: ignore[operator]
    assert whole["Exact()", "int8"].recomputed_share == 1, "rounded states are not exact"
    assert whole["Exact()", "int8"].kl <= 1e-8


def test_a_sample_is_forgotten_once_it_is_answered(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    from promptcache.bench.fidelity import running

    engines = []

    def engine(*arguments: object) -> object:
        engines.append(engine_for(*arguments))  # type: ignore[arg-type]
        return engines[-1]

    monkeypatch.setattr(running, "engine_for", engine)
    plan = Plan((Modular(),), ("preamble", "expected"), plain=False)
    running.run(subject, plan, [[chat(0, 1)]] * 3, progress=False)
    first = [len(each.store.keys()) for each in engines]
    running.run(subject, plan, [[chat(0, 1)]], progress=False)
    assert first == [len(each.store.keys()) for each in engines[2:]]
    for each in engines:
        assert each.documents_in(DOCUMENTS[0]) == []


def test_prompts_that_ask_first_share_the_context_that_they_begin_with(subject: Subject) -> None:
    asked_first = next(w for w in WORDINGS if w.asked_first and not w.system)
    question = chat(0, 1, 2)
    front = samples._front(asked_first)
    assert front is not None
    before = asked_first.user.partition("{question}")[0].rstrip()
    engine = engine_for(subject, "preamble")
    for number, text in enumerate(("Where is it?", "And who was there?", "Why?")):
        user = f"{before} {text}\n\n" + "\n\n".join(question.documents)
        one = replace(question, messages=(("user", user),), front=front)
        one.register(engine)
        with one.stream(engine, max_new_tokens=1, reuse=Modular()) as stream:
            usage = stream.reply.usage
        assert usage.encoded == 0, f"question {number} made a context of its own"
        assert usage.reused_tokens > sum(map(len, question.documents))


def test_a_prompt_that_the_window_cannot_hold_is_left_out(subject: Subject) -> None:
    plan = Plan((Modular(),), ("preamble",))
    long = chat(0, 1, question="Well? " * 300)
    found = run(subject, plan, [[chat(0)], [long]], progress=False)
    assert len(found.left_out) == 1 and {each.about.documents for each in found.answered} == {1}
    with pytest.raises(PromptError, match=r"nothing was measured: .*1024"):
        run(subject, plan, [[long]], progress=False)


def test_a_template_without_a_system_role_has_its_text_in_front_of_the_users(
    subject: Subject,
) -> None:
    template = "<s>{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no') }}"
    template += "{% endif %}<|{{ m.role }}|>{{ m.content }}</s>{% endfor %}<|assistant|>"
    plain = replace(subject, tokenizer=byte_tokenizer(template))
    found = run(plain, Plan((Modular(),), ("preamble",)), [[chat(0, 1)]], progress=False)
    modular = next(each for each in found.answered if each.policy == "Modular()")
    assert modular.outcome.recomputed_share == 0 < modular.outcome.kl


def test_a_row_counts_a_sample_once_and_pairs_it_with_full_prefill() -> None:
    wrong = Outcome("Nobody", 0.5, 0.5, False, 0.0, 0.1, 0.4)
    made = [
        answered(0),
        answered(0, order="shuffled", outcome=wrong),
        answered(1),
        answered(1, order="shuffled"),
    ]
    whole, own_order, shuffled, *_ = rows(*made)
    assert (whole.case, whole.repeats, whole.prompts, whole.order) == (ALL, 2, 4, "both")
    assert whole.exact_match == 0.75 and whole.exact_match_difference == -0.25
    assert whole.exact_match_low is not None and whole.exact_match_low < -0.25
    assert whole.answers == 0.75 and whole.top1 == 0.875 and whole.seeds == [7]
    assert whole.kl == pytest.approx((0.01 * 3 + 0.5) / 4) and whole.kl_median == 0.01
    assert whole.ttft_ratio == pytest.approx(0.2)
    assert [prompt["answer"] for prompt in whole.worst[:2]] == ["Nobody", "Mira"]
    assert own_order.exact_match == 1 and shuffled.exact_match == 0.5
    assert not own_order.worst


def test_rows_without_right_answers_have_no_scores() -> None:
    [only] = rows(answered(about=About("What?")), cases=False)
    assert only.exact_match is None and only.f1 is None and only.exact_match_low is None


def test_rows_read_back_as_they_were_written(tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    made = rows(answered(0), answered(1, policy="Exact()"))
    write_fidelity(file, made[:1])
    write_fidelity(file, made[1:], append=True)
    assert read_fidelity(file) == [replace(row, worst=list(row.worst)) for row in made]
    said = json.loads(file.read_text())
    needed = {"policy", "context", "kl", "top1", "answers", "recomputed_share", "flops_share"}
    assert all(needed | {"ttft_ratio", "exact_match", "f1", "documents", "kind"} <= each.keys()
               for each in said)  # fmt: skip
    file.write_text('[{"bench": "speed"}]')
    with pytest.raises(OptionError, match="'speed'"):
        read_fidelity(file)


def test_a_plan_of_nothing_is_refused(subject: Subject) -> None:
    with pytest.raises(OptionError, match="nothing to measure"):
        Plan(())
    with pytest.raises(OptionError, match=r"unknown context 'nude'.*bare"):
        engine_for(subject, "nude")
