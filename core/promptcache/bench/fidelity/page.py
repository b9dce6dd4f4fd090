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
from promptcache.bench.tables import Column, page_table, setting
from promptcache.reuse import Modular

INTRODUCTION = """\
# Fidelity

<!-- Written by `python -m promptcache.bench.fidelity.page` from the rows in docs/fidelity: run it
again instead of editing here. -->

How near reuse comes to full prefill, prompt by prompt. Every prompt is answered greedily in full,
and then by every reuse policy in every encoding context, in random turns:

- **KL** is KL(full prefill || policy) of the distribution of the answer's first token, in nats:
  the mean over all prompts with its 95 % interval (bootstrap), and below what half of them, 95 %
  and 99 % of them lie.
- **top-1**: the share of steps along full prefill's own answer at which the same token is best;
  **answers**: the share of prompts whose whole answer is the same.
- **exact match** and **F1** (LongBench's) are of the answers against the right ones. *difference*
  is the 95 % interval of policy less full prefill, in percentage points, paired sample by sample:
  Bonett and Price's for paired proportions, which has a width where nothing differs. A sample asked
  with its documents in two orders counts once.
- **again**: the share of the modules' tokens that is computed again; **FLOPs**: of a full prefill's
  operations, as they follow from the model's shapes, a policy's choosing included; **TTFT**: the
  median of the ratios of times to the first token, prompt by prompt. Modules are encoded before.
- *transformers* is the model without promptcache on the same text tokenised in one piece: what it
  changes that modules are tokenised apart. *full prefill, reordered* is the full prefill of the
  documents in another order against that in their own: what a prompt's order alone changes.
  `Exact()` differs from full prefill by rounding alone, of which bfloat16 has much.
- A context with *int8* or *int4* is one whose modules were rounded to what that compression holds.
"""

POCKET = """\
Prompts of pocket's corpus are worded as LangChain's and LlamaIndex's are, half of them in wordings
that its training never saw, on names and values that it never saw either. *fact* is stated in one
document; *compare* and *follow* need two (which of two entities has more of something; a reference
from one document into another); *absent* and *stranger* are not to be answered: the document on the
entity does not say, or there is none on it.
"""

RUNNING = """\
## Running it

    promptcache check path/to/model --docs path/to/folder     # your model, your documents
    promptcache check path/to/model --pml schema.pml --pml prompt.pml --json rows.json
    promptcache bench fidelity pocket --samples 200           # `make bench-fidelity`
    promptcache bench fidelity pocket --policy Modular --context expected --samples 3000
    promptcache bench fidelity pocket --policy Modular --compression none --compression int8
    promptcache bench fidelity path/to/model --longbench path/to/LongBench/data

`check` holds every policy against full prefill. Of those that keep a bound, which `--max-kl`,
`--min-top1` and `--min-answers` set, it recommends the fastest; of several within a tenth of the
fastest, the one with the lowest KL. With `--strict` its status says whether all keep the bound.
LongBench's files are scored by LongBench's metrics, which stand under F1 here, with short
instructions of our own. Rows that `--json FILE` writes into docs/fidelity become this page:

    promptcache bench fidelity pocket --samples 200 --json docs/fidelity/pocket.json
    python -m promptcache.bench.fidelity.page

Figures need `pip install 'promptcache[bench]'`.
"""


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
    every = list(dict.fromkeys(each.case for each in group.rows if each.case != ALL))
    seeds_apart = [case for case in every if case.startswith(SEED)]
    cases = [case for case in every if case not in seeds_apart]
    if cases:
        if scored:
            yield "Exact match, and the interval of its difference, by what is asked:\n"
            yield _by_case(group, cases, _match)
        yield "Mean KL, and its 99th percentile, by what is asked:\n"
        yield _by_case(group, cases, _kl)
    if seeds_apart:
        yield "Mean KL, and its 99th percentile, seed by seed:\n"
        yield _by_case(group, seeds_apart, _kl)
    if worst := list(_worst(group.whole)):
        yield "The prompts whose first token `Modular()` got most wrong, by context:\n"
        yield page_table(worst, WORST)


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
