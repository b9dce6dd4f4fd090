"""Rows in files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from core.bench.made import case_rows, decode_row, library_row, memory_row, ttft_row
from promptcache.bench.rows import Row, Spread, read_rows, write_rows
from promptcache.bench.setting import versions
from promptcache.errors import OptionError

NEEDED = {
    "case", "policy", "model", "cached_tokens", "new_tokens", "order", "ttft_seconds",
    "full_prefill_ratio", "limit_ratio", "stages", "threads", "versions",
}  # fmt: skip
ROWS: list[Row] = [*case_rows(512), decode_row(), library_row(), memory_row()]


def test_rows_read_back_as_they_were_written(tmp_path: Path) -> None:
    file = tmp_path / "folder" / "rows.json"
    write_rows(file, ROWS)
    assert read_rows(file) == ROWS
    write_rows(file, [ttft_row(full_prefill_ratio=None)])
    assert read_rows(file) == [ttft_row(full_prefill_ratio=None)]


def test_rows_are_added_to_those_that_are_there(tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    for row in ROWS:
        write_rows(file, [row], append=True)
    assert read_rows(file) == ROWS


def test_a_row_has_what_readers_of_the_file_need(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.json", [ttft_row()])
    (said,) = json.loads((tmp_path / "rows.json").read_text())
    assert set(said) >= NEEDED
    assert said["bench"] == "ttft"


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        ("{}", "holds no list"),
        ("[1", "cannot be read"),
        ('[{"bench": "tft"}]', "row 1 of .* did you mean 'ttft'"),
        ("[3]", "row 1 of .* decode, library, memory, serve, stored, ttft"),
        ('[{"bench": "decode", "case": "x"}]', "row 1 of .* has no 'attention'"),
    ],
)
def test_a_file_of_something_else_is_refused_and_left_alone(
    tmp_path: Path, said: str, complaint: str
) -> None:
    file = tmp_path / "rows.json"
    file.write_text(said)
    with pytest.raises(OptionError, match=complaint):
        write_rows(file, ROWS, append=True)
    assert file.read_text() == said


def test_a_field_that_nobody_knows_is_named(tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    write_rows(file, [decode_row()])
    said = json.loads(file.read_text())
    file.write_text(json.dumps([said[0] | {"speed": 3}]))
    with pytest.raises(OptionError, match=r"row 1 of .* has an unknown 'speed'"):
        read_rows(file)


def test_a_spread_has_quartiles_where_there_are_enough_values() -> None:
    assert Spread.of([3.0, 1.0, 2.0]) == Spread(2.0, 1.0, 3.0, 3)
    whole = Spread.of([float(n) for n in range(1, 12)])
    assert (whole.median, whole.low, whole.high) == (6.0, 3.0, 9.0)


def test_versions_name_what_figures_depend_on() -> None:
    found = versions(["rich", "no-such-package"])
    assert {"python", "promptcache", "torch", "transformers", "rich"} <= set(found)
    assert "no-such-package" not in found
