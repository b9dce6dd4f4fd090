"""`promptcache bench fidelity`: what can be asked of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from promptcache.bench.fidelity.options import (
    Contexts,
    Device,
    Dtype,
    Json,
    Policies,
    Threads,
    name_of,
    plain_console,
    plan_of,
    say_left_out,
)


def fidelity(
    model: Annotated[str, typer.Argument(help='"pocket", a folder, or a hub name.')] = "pocket",
    sample_count: Annotated[
        int, typer.Option("--samples", help="Samples, in turn of every kind and size.")
    ] = 200,
    documents: Annotated[
        list[int] | None, typer.Option(help="Documents in a prompt; several times. [2, 4, 8, 16]")
    ] = None,
    kind: Annotated[
        list[str] | None,
        typer.Option(help="fact, compare, follow, absent or stranger; several times. [all]"),
    ] = None,
    longest: Annotated[int, typer.Option(help="The most tokens of a prompt.")] = 1024,
    longbench: Annotated[
        Path | None, typer.Option(help="A folder of LongBench's .jsonl files, instead of samples.")
    ] = None,
    most: Annotated[int, typer.Option(help="Prompts of each of LongBench's files.")] = 200,
    policy: Policies = None,
    context: Contexts = None,
    compression: Annotated[
        list[str] | None,
        typer.Option(help="What modules are rounded to: none, int8, int4; several times. [none]"),
    ] = None,
    shuffle: Annotated[
        bool, typer.Option(help="Ask each sample with its documents in another order, too.")
    ] = True,
    plain: Annotated[
        bool, typer.Option(help="Ask transformers on the prompt in one piece, too.")
    ] = True,
    named: Annotated[
        str | None, typer.Option("--run", help="A name for what this belongs to.")
    ] = None,
    seed: Annotated[
        list[int] | None,
        typer.Option(help="Of what is drawn; several times: so many samples of each. [0]"),
    ] = None,
    jobs: Annotated[
        int, typer.Option(help="Seeds that are measured at once, each in a process.")
    ] = 1,
    threads: Threads = None,
    dtype: Dtype = "auto",
    device: Device = None,
    plot: Annotated[Path | None, typer.Option(help="Draw a figure: .png or .svg.")] = None,
    json_file: Json = None,
    append: Annotated[
        bool, typer.Option("--append", help="Keep the rows that the file has already.")
    ] = False,
) -> None:
    """How right answers are: every policy in every context, against full prefill."""
    import torch

    from promptcache.bench.fidelity import longbench as format_of_longbench
    from promptcache.bench.fidelity import samples
    from promptcache.bench.fidelity.plots import draw
    from promptcache.bench.fidelity.rows import ALL, read_fidelity, rows_of, write_fidelity
    from promptcache.bench.fidelity.running import run
    from promptcache.bench.fidelity.seeds import Work, of_seeds, threads_of
    from promptcache.bench.fidelity.tables import FIDELITY, terminal_table
    from promptcache.bench.models import subject
    from promptcache.bench.plots import check_file
    from promptcache.bench.rounds import check_count, threads_set
    from promptcache.bench.setting import Setting
    from promptcache.bench.tables import setting
    from promptcache.errors import OptionError

    kept_as = tuple("" if name == "none" else name for name in compression or ["none"])
    plan = replace(plan_of(policy, context), plain=plain, compressions=kept_as)
    check_count("most", most)
    seeds = tuple(seed or (0,))
    for each in seeds:
        drawn = samples.Draw(
            sample_count,
            tuple(kind or samples.KINDS),
            tuple(documents or samples.DOCUMENTS),
            each,
            longest,
        )
    if json_file is None and append:
        raise OptionError("--append needs --json FILE, the file to add to")
    if json_file is not None and append and json_file.exists():
        read_fidelity(json_file)
    if plot is not None:
        check_file(plot)
    usual = threads_of(jobs, threads, torch.get_num_threads())
    if longbench is not None:
        asked = [[each] for each in format_of_longbench.questions(longbench, most)]
    measured = subject(model, dtype, device, endless=False)
    console, name = plain_console(), name_of(named)
    with threads_set(usual):
        if longbench is None:
            work = Work(model, dtype, device, usual, plan, drawn, shuffle)
            found = of_seeds(work, seeds, measured, jobs, name)
        else:
            found = run(measured, plan, asked, count=len(asked), label=name)
        rows = list(rows_of(found.answered, Setting.of(measured), name))
    whole = [row for row in rows if row.case == ALL]
    console.print(terminal_table(whole, FIDELITY, setting(rows[0])))
    say_left_out(console, found)
    if json_file is not None:
        write_fidelity(json_file, rows, append=append)
    if plot is not None:
        draw(rows, plot)
