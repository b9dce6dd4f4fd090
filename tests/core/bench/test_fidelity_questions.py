"""Questions: drawn from pocket's corpus, read from LongBench's files, made of a user's texts."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from core.bench.fidelity_rows import rows
from promptcache import Modular
from promptcache.bench.fidelity import longbench, own, samples
from promptcache.bench.fidelity.metrics import f1, rouge_l
from promptcache.bench.fidelity.rows import ALL
from promptcache.bench.fidelity.running import Plan, run
from promptcache.bench.models import Subject
from promptcache.errors import OptionError
from promptcache.pml import Role, Text
from promptcache.pocket.prompts import WORDINGS
from promptcache.pocket.split import side_of
from support.library import DOCUMENTS


def test_samples_are_of_every_kind_and_size_and_the_same_each_time() -> None:
    draw = samples.Draw(20)
    drawn = list(samples.questions(draw, lambda _: 0))
    assert [(q.about.kind, q.about.documents) for q, _ in drawn] == draw.strata
    assert drawn == list(samples.questions(draw, lambda _: 0))
    assert drawn[13] != next(
        pair for pair in list(samples.questions(replace(draw, seed=1), lambda _: 0))[13:]
    )
    for question, shuffled in drawn:
        assert sorted(question.documents) == sorted(shuffled.documents)
        assert question.documents != shuffled.documents
        for one in (question, shuffled):
            text = "\n".join(content for _, content in one.messages)
            assert all(document in text for document in one.documents)
        assert question.about.right[0] and question.about.text in text
    [wanted] = [q for q, _ in drawn if q.about.kind == "follow" and q.about.documents == 2]
    assert sum(wanted.about.right[0] in document for document in wanted.documents) == 1


def test_names_of_samples_are_of_the_test_side() -> None:
    draw = samples.Draw(8, ("compare",), (4,))
    for question, _ in samples.questions(draw, lambda _: 0):
        words = [word for word in question.about.right[0].split() if word[0].isupper()]
        assert any(side_of(word) == "test" for word in words)


def test_half_of_the_samples_are_worded_as_training_never_was() -> None:
    held_out = [
        w.user.partition("{")[0] + w.system.partition("{")[0] for w in WORDINGS if w.held_out
    ]
    draw = samples.Draw(12, ("fact", "absent"), (2,))
    begun, called = [], []
    for question, _ in samples.questions(draw, lambda _: 0):
        text = "".join(content for _, content in question.messages)
        begun.append(any(text.startswith(front) for front in held_out))
        called.append(question.about.wording)
    assert begun == [False, False, True, True] * 3
    names = {w.name for w in WORDINGS if w.held_out}
    assert [name in names for name in called] == begun
    others = {name for name in called if name not in names}
    assert samples.TRAINED in others <= {samples.TRAINED, samples.TRAINED_FIRST}


def test_prompts_that_ask_first_bring_the_whole_sentences_before_the_question() -> None:
    fronts: dict[str, set[str]] = {}
    for question, _ in samples.questions(samples.Draw(60, ("fact",), (2,)), lambda _: 0):
        roles = question.front.children if question.front else ()
        nodes = [node for role in roles if isinstance(role, Role) for node in role.children]
        said = "".join(node.text for node in nodes if isinstance(node, Text))
        fronts.setdefault(question.about.wording, set()).add(said)
    assert fronts["held out: question first"] == {"I need to find out the following."}
    assert all(not said or said[-1] == "." for said in fronts[samples.TRAINED_FIRST])
    assert fronts[samples.TRAINED] == {""}


def test_what_cannot_be_drawn_is_refused() -> None:
    for wrong, complaint in (
        ({"count": 0}, "samples=0"),
        ({"kinds": ("facts",)}, "did you mean 'fact'"),
        ({"documents": (1,)}, "documents=1"),
        ({"kinds": ()}, "nothing to draw"),
    ):
        with pytest.raises(OptionError, match=complaint):
            samples.Draw(**wrong)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="at most 1024 tokens"):
        list(samples.questions(samples.Draw(1, ("fact",), (2,)), lambda _: 2000))


def test_longbench_files_are_read_and_scored(tmp_path: Path, subject: Subject) -> None:
    passages = "\n".join(f"Passage {n}:\n{text}" for n, text in enumerate(DOCUMENTS[:3], 1))
    record = {
        "input": "What is document 0 about?", "context": passages, "answers": ["a", "the letter a"],
        "length": 9, "dataset": "hotpotqa", "language": "en", "all_classes": None, "_id": "x",
    }  # fmt: skip
    report = {**record, "dataset": "gov_report", "input": "", "context": "\n\n".join(DOCUMENTS)}
    few = {**record, "dataset": "trec_e", "all_classes": ["city", "person"], "answers": ["city"]}
    for name, each in (("hotpotqa", record), ("gov_report", report), ("trec_e", few)):
        lines = [json.dumps(each)] * 3
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    (tmp_path / "dureader.jsonl").write_text("left out", encoding="utf-8")
    found = list(longbench.questions(tmp_path, 2))
    assert [q.about.kind for q in found] == ["gov_report"] * 2 + ["hotpotqa"] * 2 + ["trec"] * 2
    report_asked, asked, classed = found[0], found[2], found[4]
    assert asked.documents[1] == f"Passage 2:\n{DOCUMENTS[1]}" and len(asked.documents) == 3
    assert asked.about.metric is f1 and asked.about.right == ("a", "the letter a")
    assert "What is document 0 about?" in asked.messages[0][1] and asked.new_tokens == 32
    assert report_asked.about.metric is rouge_l and report_asked.documents == tuple(DOCUMENTS)
    assert classed.about.classes == ("city", "person") and classed.about.first_line

    short = [[replace(each, new_tokens=3)] for each in (asked, classed)]
    answers = run(subject, Plan((Modular(),), ("preamble",)), short, progress=False)
    made = rows(*answers.answered)
    assert {row.case for row in made} == {ALL, "hotpotqa", "trec", "3 documents"}
    assert all(row.f1 is not None and row.order == "own" for row in made)


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("nothing", "line 1 of .*task.jsonl is not JSON"),
        ("[]", "line 1 of .*task.jsonl is no object"),
        ('{"input": 3}', "has input=3; expected a str"),
        ('{"input": "", "context": "", "answers": "a"}', "has answers='a'; expected a list"),
    ],
)
def test_what_is_not_in_the_format_is_refused_with_the_place(
    tmp_path: Path, line: str, complaint: str
) -> None:
    with pytest.raises(OptionError, match=r"there are no \.jsonl files"):
        list(longbench.questions(tmp_path, 2))
    (tmp_path / "task.jsonl").write_text(line, encoding="utf-8")
    with pytest.raises(OptionError, match=complaint):
        list(longbench.questions(tmp_path, 2))


def test_a_long_text_is_cut_at_empty_lines_and_nothing_is_lost() -> None:
    paragraphs = ["one two", "three " * 300, "four", "five " * 150]
    text = "\n\n".join(paragraphs)
    pieces = list(own.cut(text, lambda part: len(part.split())))
    assert all(len(piece.split()) <= own.PIECE for piece in pieces)
    assert " ".join(pieces).split() == text.split()
    assert list(own.cut("one\n\n\n\ntwo", len)) == ["one\n\ntwo"]
