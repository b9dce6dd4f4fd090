"""The benchmarks' command line."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from promptcache.bench import memory, recognise
from promptcache.bench.rows import (
    DecodeRow,
    LibraryRow,
    MemoryRow,
    StoredRow,
    TtftRow,
    read_rows,
)
from promptcache.cli import app
from promptcache.errors import OptionError, PromptCacheError
from support.words import byte_tokenizer
from support.zoo import model

SMALL = (
    "--documents",
    "3",
    "--tokens",
    "24",
    "--new",
    "8",
    "--repeats",
    "1",
    "--full-repeats",
    "1",
)
Bench = Callable[..., Result]


@pytest.fixture
def bench() -> Bench:
    def run(*arguments: object) -> Result:
        return CliRunner().invoke(app, ["bench", *map(str, arguments)])

    return run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    model("llama").save_pretrained(tmp_path / "tiny-llama")
    byte_tokenizer().save_pretrained(tmp_path / "tiny-llama")
    return tmp_path / "tiny-llama"


def test_ttft_prints_a_table_and_writes_rows_and_a_figure(
    bench: Bench, folder: Path, tmp_path: Path
) -> None:
    file, figure = tmp_path / "rows.json", tmp_path / "figure.svg"
    options = (*SMALL, "--dtype", "float32", "--json", file, "--plot", figure, "--no-peers")
    result = bench("ttft", folder, *options)
    assert result.exit_code == 0, result.exception
    assert "promptcache, Modular()" in result.output
    rows = read_rows(file)
    assert all(isinstance(row, TtftRow) for row in rows)
    assert {row.model for row in rows} == {"tiny-llama"}
    assert {row.dtype for row in rows} == {"float32"}
    assert figure.read_text().startswith("<?xml")


def test_several_runs_make_up_one_file(bench: Bench, folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    options = (*SMALL, "--policy", "Modular", "--orders", "shuffled", "--prompt", "pml")
    for _ in range(2):
        result = bench("ttft", folder, *options, "--json", file, "--append", "--threads", "1")
        assert result.exit_code == 0, result.exception
    once = bench("ttft", folder, *options, "--threads", "1", "--threads", "2", "--json", file)
    assert once.exit_code == 0
    rows = read_rows(file)
    assert {row.threads for row in rows} == {1, 2}
    assert {row.order for row in rows if isinstance(row, TtftRow)} == {"shuffled", "in-order"}


def test_a_sweep_says_where_the_window_ends_it(bench: Bench, folder: Path, tmp_path: Path) -> None:
    options = ("--sweep", "--tokens", "128", "--prompt", "pml", "--policy", "Modular")
    few = ("--repeats", "1", "--no-peers", "--no-prefix-cache", "--json", tmp_path / "rows.json")
    result = bench("ttft", folder, *options, *few)
    assert result.exit_code == 0, result.exception
    assert "the window of 1024 tokens ends the sweep after 1 sizes" in result.output
    cases = {row.case for row in read_rows(tmp_path / "rows.json")}
    assert cases == {"promptcache", "limit", "transformers, full prefill"}


def test_decode_counts_tokens_per_second(bench: Bench, folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    options = ("--context", "96", "--tokens", "24", "--new", "5", "--repeats", "2")
    result = bench("decode", folder, *options, "--json", file)
    assert result.exit_code == 0, result.exception
    rows = [row for row in read_rows(file) if isinstance(row, DecodeRow)]
    assert [row.output_tokens for row in rows] == [5, 5]
    assert len({row.context_tokens for row in rows}) == 1
    assert {row.case: row.ratio for row in rows}["transformers, generate"] == 1


def test_scale_measures_libraries(
    bench: Bench, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("DOCUMENT_CHARS", 80), ("SHARED_CHARS", 30), ("PROMPT_CHARS", 400)):
        monkeypatch.setattr(recognise, name, value)
    file = tmp_path / "rows.json"
    options = ("--only", "library", "--largest", "100", "--prompts", "2", "--json", file)
    result = bench("scale", folder, *options)
    assert result.exit_code == 0, result.exception
    rows = [row for row in read_rows(file) if isinstance(row, LibraryRow)]
    assert [(row.case, row.documents) for row in rows] == [
        ("distinct", 100),
        ("near-matching", 100),
    ]
    assert all(0 < row.bytes_per_document < 5000 for row in rows)
    assert all(row.lookup_seconds > 0 and row.parse_seconds > 0 for row in rows)


def test_scale_measures_memory_in_processes(bench: Bench, folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    options = ("--only", "memory", "--memory", folder, "--requests", "2", "--json", file)
    small = ("--documents", "3", "--tokens", "24", "--dtype", "float32")
    result = bench("scale", *options, *small)
    assert result.exit_code == 0, result.exception
    rows = [row for row in read_rows(file) if isinstance(row, MemoryRow)]
    assert rows[0].requests == 1 and rows[0].ratio == 1
    assert all(row.model == "tiny-llama" and row.peak_bytes > 0 for row in rows)


def test_scale_measures_what_modules_take_in_each_tier(
    bench: Bench, folder: Path, tmp_path: Path
) -> None:
    file = tmp_path / "rows.json"
    small = ("--documents", "3", "--tokens", "24", "--dtype", "bfloat16")
    result = bench("scale", "--only", "store", "--memory", folder, *small, "--json", file)
    assert result.exit_code == 0, result.exception
    rows = [row for row in read_rows(file) if isinstance(row, StoredRow)]
    ratios = {(row.case, row.compression): row.ratio for row in rows}
    tiers, compressions = ("memory", "host", "disk"), ("none", "int8", "int4")
    assert ratios.keys() == {(tier, name) for tier in tiers for name in compressions}
    assert {ratios["memory", name] for name in compressions} == {1.0}
    for tier in ("host", "disk"):
        assert ratios[tier, "int4"] < ratios[tier, "int8"] < ratios[tier, "none"]
    assert ratios["host", "int8"] < 0.7


def test_what_a_process_fails_with_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 1, "", "Traceback\nModelError: no such model\n")

    monkeypatch.setattr(subprocess, "run", fail)
    with pytest.raises(PromptCacheError, match="1 requests at once failed: ModelError: no such"):
        memory.measure(memory.Plan(model="nothing"))


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("ttft", "pocket", "--policy", "Modula"), "did you mean 'Modular'"),
        (("ttft", "pocket", "--documents", "0"), "documents=0"),
        (("ttft", "pocket", "--append"), "--append needs --json"),
        (("ttft", "pocket", "--plot", "figure.txt"), "figure.txt is no figure"),
        (("ttft", "pocket", "--dtype", "int3"), "unknown dtype 'int3'"),
        (("ttft", "pocket", *SMALL, "--threads", "0"), "threads=0"),
        (("ttft", "tiny", "--device", "nowhere"), "device 'nowhere' cannot be used"),
        (("decode", "pocket", "--new", "1"), "new=1 is not valid; expected 2"),
        (("decode", "pocket", "--context", "9"), "context=9 has no room"),
        (("scale", "--largest", "9"), "largest=9"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_runs(
    bench: Bench, arguments: tuple[str, ...], complaint: str
) -> None:
    result = bench(*arguments)
    assert isinstance(result.exception, PromptCacheError)
    assert complaint in str(result.exception)


def test_a_file_of_something_else_is_refused_before_anything_runs(
    bench: Bench, tmp_path: Path
) -> None:
    (tmp_path / "rows.json").write_text("{}")
    result = bench("ttft", "no-such-model", "--json", tmp_path / "rows.json", "--append")
    assert isinstance(result.exception, OptionError)
    assert "holds no list of rows" in str(result.exception)


def test_an_order_that_there_is_not_is_refused_with_the_valid_ones(bench: Bench) -> None:
    result = bench("ttft", "pocket", "--orders", "sorted")
    assert result.exit_code == 2
    assert "in-order" in result.output and "cold" in result.output


def test_the_help_names_every_benchmark(bench: Bench) -> None:
    output = bench("--help").output
    assert all(name in output for name in ("ttft", "decode", "scale", "fidelity"))
