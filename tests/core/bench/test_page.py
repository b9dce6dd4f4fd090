"""docs/performance.md and its figures, made of rows."""

from __future__ import annotations

import re
import sys
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from core.bench.made import case_rows, decode_row, library_row, memory_row, ttft_row
from promptcache.bench.page import figures, main, render, rows_in
from promptcache.bench.plots import draw
from promptcache.bench.rows import Row, write_rows
from promptcache.bench.tables import duration, size, terminal_table, times
from promptcache.errors import MissingExtraError, OptionError

DOCS = Path(__file__).parents[3] / "docs"
SWEEP: list[Row] = [row for tokens in (512, 1024, 2048) for row in case_rows(tokens)]


def test_the_page_is_what_its_rows_make() -> None:
    rows = rows_in(DOCS / "performance")
    assert rows
    page = (DOCS / "performance.md").read_text()
    assert page == render(rows), "run: python -m promptcache.bench.page"
    for name in figures(rows):
        assert f"(performance/{name})" in page
        assert (DOCS / "performance" / name).is_file()


def test_every_figure_stands_with_what_it_was_measured_on() -> None:
    rows: list[Row] = [*case_rows(777), decode_row(), library_row(), memory_row()]
    page = render(rows)
    for title in ("Time to first token", "Decoding", "Many documents", "Requests at once"):
        assert f"## {title}\n" in page
    setting = "tiny, float32, on a machine, cpu, 1 thread (promptcache 0.1.0, commit abc1234)"
    assert page.count(setting) == 4
    assert "| promptcache, Modular() | shuffled | 1,024 |" not in page
    assert "777 cached tokens" in page
    assert "| 6.00 ms | 5.00 ms | 7.00 ms | 40x | 1.20x | 5 |" in page
    assert "12.50" in page and "1,500" in page and "400.0 MB" in page


def test_a_sweep_is_a_curve_and_a_line_for_each_size() -> None:
    page = render(SWEEP)
    (figure,) = figures(SWEEP)
    assert f"(performance/{figure})" in page
    assert re.search(r"\| 512 \| 6.00 ms \| .* \| 125.0 ms \| 40x \| 1.20x \|", page)
    assert "| 2,048 |" in page
    assert "1,000 more cached tokens" in page and "transformers, full prefill 244.1 ms" in page
    assert not figures(case_rows(512))


def test_runs_with_other_settings_are_not_mixed() -> None:
    other = case_rows(512, threads=2)
    page = render([*case_rows(512), *other])
    assert render(case_rows(512, run="a") + case_rows(512, run="b")).count("### ") == 2
    assert "pml, 1 thread: 512 cached" in page and "pml, 2 threads: 512 cached" in page


def test_a_page_without_rows_says_how_to_make_some() -> None:
    assert "promptcache bench ttft" in render([])


def test_the_page_and_its_figures_are_written_beside_the_rows(tmp_path: Path) -> None:
    write_rows(tmp_path / "performance" / "ttft.json", SWEEP)
    main(tmp_path)
    assert (tmp_path / "performance.md").read_text() == render(SWEEP)
    (figure,) = figures(SWEEP)
    first = (tmp_path / "performance" / figure).read_bytes()
    main(tmp_path)
    assert (tmp_path / "performance" / figure).read_bytes() == first


@pytest.mark.parametrize("name", ["figure.png", "folder/figure.svg"])
def test_rows_are_drawn(tmp_path: Path, name: str) -> None:
    policies = [ttft_row(policy="Exact()", ttft_seconds=0.02), ttft_row(order="cold")]
    for rows in (SWEEP, [*case_rows(64), *policies], [*SWEEP, *case_rows(64, threads=2)]):
        draw(rows, tmp_path / name)
        assert (tmp_path / name).stat().st_size > 1000


def test_what_cannot_be_drawn_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OptionError, match=r"\.png, \.svg"):
        draw(SWEEP, tmp_path / "figure.docx")
    with pytest.raises(OptionError, match="no rows of `bench ttft`"):
        draw([decode_row()], tmp_path / "figure.png")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'promptcache\[bench\]'"):
        draw(SWEEP, tmp_path / "figure.png")


def test_numbers_are_written_as_people_read_them() -> None:
    seconds = (0.00052, 0.0341, 1.274, 80.4, 241.0)
    assert [duration(s) for s in seconds] == ["0.52 ms", "34.1 ms", "1.27 s", "80.40 s", "241 s"]
    assert [times(r) for r in (None, 0.8, 1.149, 7.25, 60.4)] == [
        "-",
        "0.80x",
        "1.15x",
        "7.2x",
        "60x",
    ]
    assert [size(n) for n in (12, 3400, 5e8, 2.4e9)] == ["12 bytes", "3.4 kB", "500.0 MB", "2.4 GB"]


@pytest.mark.parametrize("rows", [case_rows(9), [decode_row()], [library_row()], [memory_row()]])
def test_every_kind_of_row_has_a_table_that_fits_a_terminal(rows: list[Row]) -> None:
    console = Console(width=80, record=True, file=StringIO())
    console.print(terminal_table(rows))
    assert "…" not in console.export_text()
