"""docs/performance.md, made of the rows in docs/performance: `python -m promptcache.bench.page`.

No figure on the page was typed by hand, and each stands with what it was measured on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Annotated

import typer

from promptcache.bench.baselines import FullPrefill
from promptcache.bench.groups import Group, grouped
from promptcache.bench.limit import NAME as LIMIT
from promptcache.bench.orders import FIRST, Order
from promptcache.bench.rows import (
    DecodeRow,
    LibraryRow,
    MemoryRow,
    Row,
    ServeRow,
    StoredRow,
    TtftRow,
    read_rows,
)
from promptcache.bench.tables import (
    COLUMNS,
    Column,
    duration,
    page_table,
    setting,
    stages_of,
    times,
)
from promptcache.bench.ttft import OURS

INTRODUCTION = """\
# Performance

<!-- Written by `python -m promptcache.bench.page` from the rows in docs/performance: run it again
instead of editing here. -->

What is compared, in one run and in turns, in another order each round:

- **promptcache** by reuse policy. `Modular()` is the paper's: no cached token is computed again;
  its modules are encoded after the preamble. Documents stand in the order of the prompt before
  (*in-order*), in another one each time (*shuffled*), or are seen for the first time (*cold*:
  nothing is encoded yet, and what is encoded stays for the next prompt). *From-disk* is the first
  prompt of an engine that has just started, whose modules an earlier one left in a folder that the
  system has forgotten the content of; *from-remote* the same with a URL (`file://`, on that disk).
- **transformers, full prefill**: the very same tokens in one forward, with the faster of
  transformers' attentions.
- **transformers, prefix cache** and other systems, where they are installed: with the states of the
  same documents in order from the prompt before.
- **limit**: the bare forward of the new tokens on a contiguous cache with the fastest attention at
  hand, and one bare copy of the reused states. Nothing is looked up, moved or chosen. With the same
  kernels, no way of reusing states that copies them is faster.

A time to first token (TTFT) counts from the call with the prompt's string to the token: parsing,
tokenising, looking up, assembling, prefill and sampling. In *pml* prompts documents are imported by
name and stand directly after one another; in *text* prompts they are recognised in plain text, and
the empty lines between them are new tokens. Figures are medians; *from* and *to* are the quartiles,
or the extremes of fewer than four runs; *speedup* is over full prefill, *of limit* how many times
as long as the limit a case takes. Random weights cost what trained ones do.

Everything here was measured on CPUs. What is done otherwise on a GPU (modules copied on a stream of
their own while the layers before them are computed, CUDA graphs of forwards over few tokens) is
tested on a CPU as far as that goes; its CUDA calls have not been run, let alone measured.
"""

RUNNING = """\
## Running it

    promptcache bench ttft pocket                       # a minute; `make bench-ttft`
    promptcache bench ttft 1.2b --documents 20 --tokens 256 --new 32 --threads 1 --threads 2
    promptcache bench ttft 0.4b --sweep --prompt pml --full-repeats 1 --plot figure.svg
    promptcache bench ttft path/to/model --policy Modular --policy Exact --orders shuffled
    promptcache bench decode 1.2b --context 5120 --new 64     # `make bench-decode`
    promptcache bench scale --largest 100000 --memory 0.4b    # `make bench-scale`
    promptcache bench serve 0.4b --clients 1 --clients 8

A model is a shape with random weights (`0.4b`, `1.2b`, `8b`), `pocket`, a folder or a hub name.
`--json FILE` writes a row per case, `--append` adds to the file's rows, and rows in
docs/performance become this page. Cases are compared within a run, which is one call, or several
that are given the same `--run NAME`:

    promptcache bench ttft 0.4b --json docs/performance/ttft.json --append
    python -m promptcache.bench.page

llama.cpp (`pip install llama-cpp-python gguf`) and KVBoost (`pip install kvboost`) are measured
beside the rest where they are installed; figures need `pip install 'promptcache[bench]'`.
"""

SWEEP: Sequence[Column] = (
    Column("cached", lambda rows: f"{rows[OURS].module_tokens:,}"),
    Column("promptcache", lambda rows: duration(rows[OURS].ttft_seconds)),
    Column("limit", lambda rows: duration(rows[LIMIT].ttft_seconds)),
    Column("full prefill", lambda rows: _seconds(rows.get(FullPrefill.name))),
    Column("speedup", lambda rows: times(rows[OURS].full_prefill_ratio)),
    Column("of limit", lambda rows: times(rows[OURS].limit_ratio)),
)


def render(rows: Sequence[Row]) -> str:
    """The page for these rows."""
    sections = [INTRODUCTION, *_first_tokens(grouped(rows))]
    for kind, title, about in (
        (DecodeRow, "Decoding", "Tokens per second between the first token and the last."),
        (
            LibraryRow,
            "Many documents",
            "What finding documents costs a prompt of 8,000 characters, by how many of 1,000 "
            "characters are registered. Half of a prompt is registered documents, half is others "
            "of their kind; near-matching ones differ in three characters. The parse and look-up "
            "stages are those of a whole request, whose store has as many modules. The bytes are "
            "what an engine keeps to know a document, its text and its states aside.",
        ),
        (
            MemoryRow,
            "Requests at once",
            "Peak memory of requests over the same modules, in other orders, beyond the weights. "
            "It holds the modules themselves, which all requests share.",
        ),
        (
            StoredRow,
            "Modules in each tier",
            "The bytes of the same modules in each tier, by compression (see store.md), and how "
            "long reading them all takes, unpacked and in main memory. Files of a disk are likely "
            "in the system's memory when they are read.",
        ),
        (
            ServeRow,
            "Requests a second",
            "What `promptcache serve` answers, asked over HTTP by so many clients at once, against "
            "the same requests one by one through an engine, and against transformers' continuous "
            "batching of all of them, which computes the documents of every prompt. Documents are "
            "in another order each time, their modules encoded before. All take turns.",
        ),
    ):
        mine = [row for row in rows if type(row) is kind]
        if mine:
            sections.append(f"## {title}\n\n{about}\n\n" + "\n".join(_by_setting(mine)))
    return "\n".join([*sections, RUNNING])


def figures(rows: Sequence[Row]) -> dict[str, Group]:
    """The names of the figures that the page shows, each with what it shows."""
    return {f"{group.name}.svg": group for group in grouped(rows) if group.is_sweep}


def rows_in(folder: Path) -> list[Row]:
    """The rows of every file in a folder, file by file. Raises OptionError for others in them."""
    return [row for file in sorted(folder.glob("*.json")) for row in read_rows(file)]


def _first_tokens(groups: Iterable[Group]) -> Iterator[str]:
    yield "## Time to first token\n"
    for group in groups:
        row = group.any
        threads = "1 thread" if row.threads == 1 else f"{row.threads} threads"
        if group.is_sweep:
            yield f"### {row.model}, {row.prompt}, {threads}: by cached tokens\n"
            yield _setting(row, _run(row))
            yield f"![TTFT against cached tokens](performance/{group.name}.svg)\n"
            lines = list(_lines(group))
            yield page_table(lines, SWEEP)
            yield _growth(lines[0], lines[-1])
            continue
        for tokens, rows in group.sizes.items():
            yield f"### {row.model}, {row.prompt}, {threads}: {tokens:,} cached tokens\n"
            yield _setting(row, _run(row), f"{row.documents} documents")
            ranked = sorted(rows, key=_ttft)
            yield page_table(ranked, COLUMNS[TtftRow])
            ours = [each for each in ranked if each.case == OURS]
            yield "The stages of these requests:\n"
            yield page_table(ours, stages_of(ours))


def _lines(group: Group) -> Iterator[dict[str, TtftRow]]:
    """For each size, the rows of the cases that a curve's table compares."""
    for tokens, rows in sorted(group.sizes.items()):
        del tokens
        found = {row.case: row for row in rows if row.case != OURS}
        mine = [row for row in rows if row.case == OURS and row.order not in FIRST]
        found[OURS] = min(mine, key=lambda row: (row.order != Order.SHUFFLED, row.ttft_seconds))
        yield found


def _growth(first: Mapping[str, TtftRow], last: Mapping[str, TtftRow]) -> str:
    """What each system takes for more cached tokens, between the ends of a curve."""
    tokens = last[OURS].module_tokens - first[OURS].module_tokens
    said = []
    for case in (OURS, LIMIT, FullPrefill.name):
        if case in first and case in last:
            more = (last[case].ttft_seconds - first[case].ttft_seconds) / tokens
            said.append(f"{case} {duration(1000 * more)}")
    return f"For every 1,000 more cached tokens of these: {', '.join(said)}.\n"


def _by_setting(rows: Sequence[Row]) -> Iterator[str]:
    for _, found in groupby(rows, setting):
        mine = list(found)
        yield _setting(mine[0]) + "\n" + page_table(mine, COLUMNS[type(mine[0])])


def _setting(row: Row, *more: str) -> str:
    attention = getattr(row, "attention", "")
    parts = [setting(row), *more, f"transformers with {attention}" if attention else ""]
    return "; ".join(filter(None, parts)) + ".\n"


def _run(row: TtftRow) -> str:
    return f"run {row.run}" if row.run else ""


def _ttft(row: TtftRow) -> float:
    return row.ttft_seconds


def _seconds(row: TtftRow | None) -> str:
    return "-" if row is None else duration(row.ttft_seconds)


def main(
    docs: Annotated[Path, typer.Argument(help="The folder that holds performance.md.")] = Path(
        "docs"
    ),
) -> None:
    """Write performance.md and its figures from the rows beside it."""
    folder = docs / "performance"
    rows = rows_in(folder)
    shown = figures(rows)
    if shown:
        from promptcache.bench.plots import draw

        for name, group in shown.items():
            draw([row for rows in group.sizes.values() for row in rows], folder / name)
    (docs / "performance.md").write_text(render(rows), encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
