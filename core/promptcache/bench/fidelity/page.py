"""docs/fidelity.md, made of rows in docs/fidelity: `python -m promptcache.bench.fidelity.page`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from promptcache.bench.fidelity.plots import ALONE
from promptcache.bench.fidelity.rows import (
    ALL,
    BASELINES,
    FULL,
    SEED,
    FidelityRow,
    read_fidelity,
)
from promptcache.bench.fidelity.tables import (
    CHECK,
    CONTEXT,
    FIDELITY,
    POLICY,
    context,
    number,
    points,
    share,
)
from promptcache.bench.fidelity.texts import (
    INTRODUCTION,
    POCKET,
    RUNNING,
    TOWARDS_FULL,
    TWO_NEEDED,
)
from promptcache.bench.tables import Column, page_table, setting
from promptcache.reuse import Modular

TWO_DOCUMENTS = ("compare", "follow")
"""The kinds of questions that need two documents."""


@dataclass(frozen=True, slots=True)
class Group:
    """The rows of one run on one setting."""

    rows: Sequence[FidelityRow]

    @property
    def any(self) -> FidelityRow:
        """One of the rows."""
        return self.rows[0]

    @property
    def whole(self) -> list[FidelityRow]:
        """The rows of all prompts."""
        return [row for row in self.rows if row.case == ALL]

    @property
    def name(self) -> str:
        """What to call it in a file's name."""
        row = self.any
        words = f"{row.model} {row.dtype} {row.threads} {row.run}"
        return "-".join("".join(c if c.isalnum() else " " for c in words.lower()).split())

    @property
    def has_figure(self) -> bool:
        """Whether a policy was measured that has something to choose."""
        kinds = {row.policy.partition("(")[0] for row in self.whole if not row.compression}
        return bool(kinds - {*ALONE, *(name.partition("(")[0] for name in BASELINES)})


def grouped(rows: Iterable[FidelityRow]) -> list[Group]:
    """The rows by what they can be compared with, in the order in which they come."""
    found: dict[tuple[object, ...], list[FidelityRow]] = {}
    for row in rows:
        said = tuple(sorted(row.versions.items()))
        key = (row.run, row.model, row.dtype, row.device, row.threads, said)
        found.setdefault(key, []).append(row)
    return [Group(mine) for mine in found.values()]


def render(rows: Sequence[FidelityRow]) -> str:
    """The page for these rows."""
    groups = grouped(rows)
    sections = [INTRODUCTION]
    if any(row.kind == "compare" for row in rows):
        sections.append(POCKET)
    for group in groups:
        sections += _section(group)
    return "\n".join([*sections, RUNNING])


def figures(rows: Sequence[FidelityRow]) -> dict[str, Group]:
    """The names of the figures that the page shows, each with what it shows."""
    return {f"{group.name}.svg": group for group in grouped(rows) if group.has_figure}


def rows_in(folder: Path) -> list[FidelityRow]:
    """The rows of every file in a folder. Raises OptionError for others in them."""
    return [row for file in sorted(folder.glob("*.json")) for row in read_fidelity(file)]


def _section(group: Group) -> Iterator[str]:
    row = group.any
    scored = any(each.exact_match is not None for each in group.whole)
    yield f"## {row.model}, {row.dtype}: {row.prompts:,} prompts\n"
    seeds = f"; seed {', '.join(map(str, row.seeds))}" if row.seeds else ""
    yield f"{setting(row)}; run {row.run}; {row.prompt_tokens:.0f} tokens on average{seeds}.\n"
    yield page_table(group.whole, FIDELITY if scored else CHECK)
    if group.has_figure:
        yield f"![Fidelity against cost](fidelity/{group.name}.svg)\n"
        yield f"{_in_vain(group.whole)} {TOWARDS_FULL}"
    every = list(dict.fromkeys(each.case for each in group.rows if each.case != ALL))
    seeds_apart = [case for case in every if case.startswith(SEED)]
    wordings = list(dict.fromkeys(each.case for each in group.rows if each.wording))
    cases = [case for case in every if case not in (*seeds_apart, *wordings)]
    if cases:
        if scored:
            yield "Exact match, and the interval of its difference, by what is asked:\n"
            yield _by_case(group, cases, _match)
            yield from _of_two_documents(group.rows)
        yield "Mean KL, and its 99th percentile, by what is asked:\n"
        yield _by_case(group, cases, _kl)
    if wordings:
        if scored:
            yield "Exact match, and the interval of its difference, by how it is worded:\n"
            yield _by_case(group, wordings, _match)
        yield "Mean KL, and its 99th percentile, by how it is worded:\n"
        yield _by_case(group, wordings, _kl)
    if seeds_apart:
        yield "Mean KL, and its 99th percentile, seed by seed:\n"
        yield _by_case(group, seeds_apart, _kl)
    if worst := list(_worst(group.whole)):
        yield "The prompts whose first token `Modular()` got most wrong, by context:\n"
        yield page_table(worst, WORST)


def _in_vain(whole: Sequence[FidelityRow]) -> str:
    """Which policies computed tokens again and were further from full prefill than without, by
    more than the page's digits show.
    """
    plain = [row for row in whole if not row.compression]
    nothing = {row.context: row for row in plain if row.policy == str(Modular())}
    worse = [
        f"`{row.policy}` {row.context} ({number(row.kl)} against {number(nothing[row.context].kl)})"
        for row in plain
        if row.policy not in BASELINES
        and row.context in nothing
        and row.kl > nothing[row.context].kl
        and number(row.kl) != number(nothing[row.context].kl)
    ]
    if not worse:
        return (
            "To the digits shown, nothing that was computed again left a higher mean KL than "
            "computing nothing again."
        )
    return f"These left a higher mean KL than computing nothing again: {', '.join(worse)}."


def _of_two_documents(rows: Sequence[FidelityRow]) -> Iterator[str]:
    """What modules that do not see each other lose where two of them are needed."""
    own = [row for row in rows if row.case in TWO_DOCUMENTS and not row.compression]
    full = {row.case: row.exact_match for row in own if row.policy == FULL}
    lost = [
        f"{row.context} {100 * (whole - row.exact_match):+.1f} ({row.case})"
        for row in own
        if row.policy == str(Modular())
        and row.exact_match is not None
        and (whole := full.get(row.case)) is not None
    ]
    if lost:
        yield f"{TWO_NEEDED} {', '.join(lost)}.\n"


def _by_case(group: Group, cases: Sequence[str], cell: Callable[[FidelityRow], str]) -> str:
    """A line for each policy, context and compression, a column for each case."""
    lines: dict[tuple[str, str, str], dict[str, FidelityRow]] = {}
    for row in group.rows:
        lines.setdefault((row.policy, row.context, row.compression), {})[row.case] = row

    def under(case: str, line: Mapping[str, FidelityRow]) -> str:
        return cell(line[case]) if case in line else "-"

    columns = [
        *(Column(c.heading, partial(_of_whole, c), words=True) for c in (POLICY, CONTEXT)),
        *(Column(case, partial(under, case)) for case in cases),
    ]
    return page_table(lines.values(), columns)


def _of_whole(column: Column, line: Mapping[str, FidelityRow]) -> str:
    return column.cell(line[ALL])


def _match(row: FidelityRow) -> str:
    between = points(row.exact_match_low, row.exact_match_high)
    return share(row.exact_match) + ("" if row.policy == FULL else f" ({between})")


def _kl(row: FidelityRow) -> str:
    return f"{number(row.kl)} ({number(row.kl_p99)})"


WORST: Sequence[Column] = (
    Column("context", lambda line: line[0], words=True),
    Column("KL", lambda line: number(line[1]["kl"])),
    Column("sample", lambda line: f"{line[1]['seed']}, {line[1]['number']}"),
    Column("documents", lambda line: f"{line[1]['documents']}, {line[1]['order']}"),
    Column("wording", lambda line: line[1].get("wording") or "-", words=True),
    Column("question", lambda line: _cell(line[1]["question"]), words=True),
    Column("right", lambda line: _cell(" / ".join(line[1]["right"])), words=True),
    Column("full prefill", lambda line: _cell(line[1]["full_prefill"]), words=True),
    Column("answer", lambda line: _cell(line[1]["answer"]), words=True),
)


def _worst(whole: Iterable[FidelityRow]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The worst prompts of `Modular`, context by context."""
    for row in whole:
        if row.policy == str(Modular()):
            yield from ((context(row), prompt) for prompt in row.worst)


def _cell(text: str) -> str:
    """A text that a table can hold."""
    return " ".join(text.split()).replace("|", "\\|")[:120] or "-"


def main(
    docs: Annotated[Path, typer.Argument(help="The folder that holds fidelity.md.")] = Path("docs"),
) -> None:
    """Write fidelity.md and its figures from the rows beside it."""
    folder = docs / "fidelity"
    rows = rows_in(folder)
    shown = figures(rows)
    if shown:
        from promptcache.bench.fidelity.plots import draw

        for name, group in shown.items():
            draw(group.rows, folder / name)
    (docs / "fidelity.md").write_text(render(rows), encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
