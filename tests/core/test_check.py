"""`promptcache check` and `promptcache bench fidelity`, as they are called."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from promptcache.bench.fidelity.rows import FidelityRow, read_fidelity
from promptcache.bench.rounds import threads_set
from support.commands import Cli
from support.words import byte_tokenizer
from support.zoo import model

KEYS = {
    "policy", "context", "kl", "top1", "answers", "recomputed_share", "flops_share", "ttft_ratio",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with threads_set(1):
        yield


def saved(family: str, folder: Path, template: bool = True) -> Path:
    model(family).save_pretrained(folder)
    (byte_tokenizer() if template else byte_tokenizer(None)).save_pretrained(folder)
    return folder


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    (tmp_path / "docs").mkdir()
    for number in range(4):
        text = f"# Note {number}\n\nThe lamp {number} is blue."
        (tmp_path / "docs" / f"{number}.md").write_text(text)
    return tmp_path / "docs"


def by_case(file: Path) -> dict[tuple[str, str], FidelityRow]:
    return {(row.policy, row.context): row for row in read_fidelity(file)}


@pytest.mark.parametrize("template", [True, False])
def test_a_users_documents_are_asked_about_under_every_policy(
    cli: Cli, tmp_path: Path, docs: Path, template: bool
) -> None:
    folder, file = saved("llama", tmp_path / "tiny", template), tmp_path / "rows.json"
    options = ("--docs", docs, "--question", "Which lamp?", "--prompts", 2, "--group", 3)
    status, out, _ = cli("check", folder, *options, "--new", 4, "--json", file)
    assert status == 0
    assert "Recommended: reuse=" in out and "The bound: a mean KL of at most 0.02" in out
    assert "Tokenising each module apart changes nothing" in out, "a byte is a token"
    found = by_case(file)
    contexts = {context for _, context in found}
    assert contexts == {"", "preamble", "expected", "bare"}
    policies = {"Modular()", "Exact()", "FirstK(k=16)", "Selective(ratio=0.15, check_layer=1)"}
    assert policies <= {policy for policy, _ in found}
    assert found["NoReuse()", ""].kl == 0 and found["NoReuse()", ""].prompts == 2
    assert found["Exact()", "preamble"].answers == 1
    assert found["Exact()", "preamble"].kl < 1e-8 < found["Modular()", "bare"].kl
    for row in found.values():
        assert set(row.__slots__) >= KEYS
        assert all(prompt["question"] == "Which lamp?" for prompt in row.worst)


def test_strict_is_a_gate(cli: Cli, tmp_path: Path, docs: Path) -> None:
    folder = saved("llama", tmp_path / "tiny")
    options = ("--docs", docs, "--prompts", 1, "--group", 3, "--new", 3, "--strict")
    exact = ("--policy", "Exact", "--context", "preamble")
    assert cli("check", folder, *options, *exact)[0] == 0
    modular = ("--policy", "Modular", "--context", "bare", "--max-kl", 1e-9)
    assert cli("check", folder, *options, *modular)[0] == 1


def test_a_model_whose_modules_cannot_move_is_told_that_only_exact_works(
    cli: Cli, tmp_path: Path, docs: Path
) -> None:
    folder, file = saved("gpt2", tmp_path / "gpt2"), tmp_path / "rows.json"
    options = ("--docs", docs, "--prompts", 1, "--new", 3)
    status, out, err = cli("check", folder, *options, "--json", file)
    assert status == 0, err
    assert "Refused: " in out and "keys depend on absolute positions" in out
    assert "Use reuse=Exact()" in out
    assert {policy for policy, _ in by_case(file)} == {"NoReuse()", "transformers", "Exact()"}
    assert "Recommended: reuse=Exact()" in out or "Recommended: reuse=NoReuse()" in out


def test_prompts_in_pml_are_asked_as_they_are(cli: Cli, tmp_path: Path) -> None:
    folder, file = saved("llama", tmp_path / "tiny"), tmp_path / "rows.json"
    schema, prompt = tmp_path / "trip.pml", tmp_path / "ask.pml"
    schema.write_text(
        '<schema name="trip"><system>You plan trips.</system><user>'
        '<module name="miami">Miami is hot and loud.</module>'
        '<module name="maui">Maui is an island.</module></user></schema>'
    )
    prompt.write_text('<prompt schema="trip"><miami/><maui/>Where to?</prompt>')
    options = ("--policy", "Modular", "--new", 3, "--json", file)
    for given in (("--pml", schema, "--pml", prompt), ("--pml", prompt)):
        status, _, err = cli("check", folder, *given, *options)
        assert status == 0, err
        assert by_case(file)["Modular()", "preamble"].prompts == 1
    status, _, err = cli("check", folder, "--pml", schema)
    assert status == 1 and "there is no prompt in" in err
    prompt.write_text('<prompt schema="trips"><miami/></prompt>')
    status, _, err = cli("check", folder, "--pml", prompt)
    assert status == 1 and "no file given, and none beside them, holds the schema 'trips'" in err
    prompt.write_text('<prompt schema="trip"><rome/>Where to?</prompt>')
    status, _, err = cli("check", folder, "--pml", prompt)
    assert status == 1 and "rome" in err


def test_pocket_is_asked_its_own_questions(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    options = ("--prompts", 2, "--policy", "Modular", "--context", "preamble", "--json", file)
    status, out, _ = cli("check", "pocket", *options)
    assert status == 0 and "Recommended: " in out
    modular = by_case(file)["Modular()", "preamble"]
    assert modular.prompts == 2 and modular.exact_match is not None
    assert modular.flops_share is not None and modular.flops_share < 0.5
    status, out, _ = cli(
        "bench", "fidelity", "--samples", 2, "--documents", 2, "--kind", "fact", "--policy",
        "Modular", "--context", "expected", "--json", file, "--run", "trial", "--no-plain",
        "--plot", tmp_path / "figure.svg",
    )  # fmt: skip
    assert status == 0 and "full prefill, reordered" in out
    rows = read_fidelity(file)
    assert {(row.kind, row.documents) for row in rows} == {("", None), ("fact", None), ("", 2)}
    assert {row.run for row in rows} == {"trial"} and {row.order for row in rows} == {
        "both", "own", "shuffled"
    }  # fmt: skip
    assert (tmp_path / "figure.svg").read_text().startswith("<?xml")


def test_seeds_are_the_same_one_by_one_and_side_by_side(cli: Cli, tmp_path: Path) -> None:
    """All but the times; and each seed by itself as in a run of its own."""
    file = tmp_path / "rows.json"
    options = ("--samples", 1, "--documents", 2, "--kind", "fact", "--policy", "Modular",
        "--context", "preamble", "--no-plain", "--threads", 1, "--json", file, "--run", "seeds",
    )  # fmt: skip

    def rows(*more: object) -> dict[tuple[str, str, str], dict[str, object]]:
        status, _, err = cli("bench", "fidelity", *options, *more)
        assert status == 0, err
        timed = {"ttft_ratio", "ttft_seconds"}
        return {
            (row.policy, row.case, str(row.seeds)): {
                name: value for name, value in asdict(row).items() if name not in timed
            }
            for row in read_fidelity(file)
        }

    together = rows("--seed", 3, "--seed", 4)
    assert together == rows("--seed", 3, "--seed", 4, "--jobs", 2)
    [alone] = [row for (policy, case, _), row in rows("--seed", 4).items()
        if (policy, case) == ("Modular()", "all")]  # fmt: skip
    assert together["Modular()", "seed 4", "[4]"] | {"case": "all", "worst": None} == alone | {
        "worst": None
    }


def test_longbench_files_are_asked_of_any_model(cli: Cli, tmp_path: Path) -> None:
    folder, data, file = (
        saved("llama", tmp_path / "tiny"),
        tmp_path / "data",
        tmp_path / "rows.json",
    )
    data.mkdir()
    passages = "".join(f"Passage {n}:\nThe lamp {n} is blue.\n" for n in range(1, 4))
    record = {"input": "Which?", "context": passages, "answers": ["lamp 2"], "dataset": "musique"}
    (data / "musique.jsonl").write_text(f"{json.dumps(record)}\n" * 3, encoding="utf-8")
    (data / "vcsum.jsonl").write_text("left out", encoding="utf-8")
    options = ("--most", 2, "--policy", "Modular", "--context", "preamble", "--json", file)
    status, out, err = cli("bench", "fidelity", folder, "--longbench", data, *options)
    assert status == 0, err
    assert "Modular()" in out and "reordered" not in out
    rows = read_fidelity(file)
    assert {(row.kind, row.documents) for row in rows} == {("", None), ("musique", None), ("", 3)}
    assert all(row.prompts == 2 and row.f1 is not None for row in rows)


def test_other_models_are_asked_about_the_documents_that_ship(cli: Cli, tmp_path: Path) -> None:
    folder = saved("llama", tmp_path / "tiny")
    options = ("--prompts", 1, "--group", 2, "--new", 2, "--policy", "Modular")
    status, out, _ = cli("check", folder, *options)
    assert status == 0 and "measured on 1 prompt of" in out


def test_what_makes_no_sense_ends_in_one_sentence(cli: Cli, tmp_path: Path, docs: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    for arguments, complaint in (
        (("check", empty), "it has no config.json"),
        (("check", tmp_path / "nothing"), "there is no model folder"),
        (("check", "pocket", "--docs", empty), "there is no text in"),
        (("check", "pocket", "--docs", tmp_path / "nothing"), "there is no folder"),
        (("check", "pocket", "--docs", docs, "--pml", "a.pml"), "--pml and --docs"),
        (("check", "pocket", "--question", "Who?"), "--question needs --docs"),
        (("check", "pocket", "--policy", "Modula"), "did you mean 'Modular'"),
        (("check", "pocket", "--context", "nude"), "unknown context 'nude'"),
        (("check", "pocket", "--min-top1", "2"), "min-top1=2.0"),
        (("check", "pocket", "--prompts", "0"), "samples=0"),
        (("check", "pocket", "--prompts", "1", "--threads", "0"), "threads=0"),
        (("bench", "fidelity", "--longbench", empty), "there are no .jsonl files"),
        (("bench", "fidelity", "--append"), "--append needs --json"),
        (("bench", "fidelity", "--kind", "facts"), "unknown kind of question 'facts'"),
        (("bench", "fidelity", "--plot", "figure.txt"), "figure.txt is no figure"),
    ):
        status, _, err = cli(*arguments)
        assert status == 1 and "Traceback" not in err, (arguments, err)
        assert complaint in err.replace("\n", " "), (arguments, err)
