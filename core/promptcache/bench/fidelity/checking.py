"""`promptcache check`: what can be asked of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from promptcache.bench.fidelity.options import (
    Contexts,
    Device,
    Dtype,
    Json,
    Policies,
    Threads,
    plain_console,
    plan_of,
    say_left_out,
)

if TYPE_CHECKING:
    from promptcache.bench.fidelity.questions import Question


def check(
    model: Annotated[str, typer.Argument(help='"pocket", a folder, or a hub name.')],
    pml: Annotated[
        list[Path] | None,
        typer.Option(help="A file with a prompt in PML, or with its schema; several times."),
    ] = None,
    docs: Annotated[
        Path | None, typer.Option(help="A folder of your own .md or .txt files.")
    ] = None,
    question: Annotated[
        list[str] | None, typer.Option(help="Ask this of the documents; several times.")
    ] = None,
    prompts: Annotated[int, typer.Option(help="How many prompts are made.")] = 24,
    group: Annotated[int, typer.Option(help="Documents in each of them.")] = 5,
    new: Annotated[int, typer.Option(help="Tokens of an answer, at most.")] = 24,
    policy: Policies = None,
    context: Contexts = None,
    max_kl: Annotated[float, typer.Option(help="The bound: mean KL, in nats.")] = 0.02,
    min_top1: Annotated[float, typer.Option(help="The bound: share of equal tokens.")] = 0.98,
    min_answers: Annotated[float, typer.Option(help="The bound: share of equal answers.")] = 0.95,
    strict: Annotated[
        bool, typer.Option("--strict", help="Status 1 unless every case keeps the bound.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Of what is drawn.")] = 0,
    threads: Threads = None,
    dtype: Dtype = "auto",
    device: Device = None,
    json_file: Json = None,
) -> None:
    """Hold every reuse policy against full prefill, on your model and prompts; recommend one."""
    import torch

    from promptcache.bench.fidelity import own, samples
    from promptcache.bench.fidelity.engines import counts
    from promptcache.bench.fidelity.rows import rows_of, write_fidelity
    from promptcache.bench.fidelity.running import run
    from promptcache.bench.fidelity.tables import CHECK, LEGEND, terminal_table
    from promptcache.bench.fidelity.verdict import Bound, Verdict
    from promptcache.bench.models import subject
    from promptcache.bench.rounds import threads_set
    from promptcache.bench.setting import Setting
    from promptcache.bench.tables import setting
    from promptcache.errors import OptionError

    if pml and docs is not None:
        raise OptionError("--pml and --docs were given: one of them says what is asked")
    if question and docs is None:
        raise OptionError("--question needs --docs FOLDER, the documents that it is about")
    bound = Bound(max_kl, min_top1, min_answers)
    plan = plan_of(policy, context, seed)
    asked: list[list[Question]] = []
    if pml:
        asked = [[each] for each in own.in_files(pml, new)]
    measured = subject(model, dtype, device, endless=False)
    if docs is not None:
        tokens = counts(measured)[0]
        made = own.on_folder(docs, question or (), tokens, prompts, group, seed, new)
        asked = [[each] for each in made]
    elif not pml and model == "pocket":
        draw = samples.Draw(prompts, seed=seed)
        asked = [[own_order] for own_order, _ in samples.questions(draw, counts(measured)[1])]
    elif not pml:
        asked = [[each] for each in own.on_shipped(prompts, group, seed, new)]
    console = plain_console()
    with threads_set(torch.get_num_threads() if threads is None else threads):
        found = run(measured, plan, asked, count=len(asked), label="check")
        rows = list(rows_of(found.answered, Setting.of(measured), "check", cases=False))
    verdict = Verdict.of(rows, bound, found.refused)
    console.print(terminal_table(rows, CHECK, setting(rows[0])))
    console.print(LEGEND, soft_wrap=True)
    say_left_out(console, found)
    for line in verdict.lines():
        console.print(line, soft_wrap=True)
    if json_file is not None:
        write_fidelity(json_file, rows)
    if strict and (verdict.missed or found.refused):
        raise typer.Exit(1)
