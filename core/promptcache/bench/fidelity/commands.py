"""`promptcache check` and `promptcache bench fidelity`: what can be asked of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from promptcache.decoys import CONTEXTS

if TYPE_CHECKING:
    from promptcache.bench.fidelity.questions import Question
    from promptcache.bench.fidelity.rows import FidelityRow
    from promptcache.bench.fidelity.running import Found, Plan
    from promptcache.bench.models import Subject

Policies = Annotated[
    list[str] | None,
    typer.Option("--policy", help="Such as Modular or FirstK(8); several times. [all of them]"),
]
Contexts = Annotated[
    list[str] | None,
    typer.Option("--context", help="What modules are encoded after; several times. [all]"),
]
Threads = Annotated[int | None, typer.Option(help="Threads of torch. [its own choice]")]
Dtype = Annotated[str, typer.Option(help="bfloat16, float16, float32 or auto.")]
Device = Annotated[str | None, typer.Option(help='Such as "cpu" or "cuda".')]
Json = Annotated[Path | None, typer.Option("--json", help="Write a row per case to this file.")]
Seed = Annotated[int, typer.Option(help="Of what is drawn.")]


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
    seed: Seed = 0,
    threads: Threads = None,
    dtype: Dtype = "auto",
    device: Device = None,
    json_file: Json = None,
) -> None:
    """Hold every reuse policy against full prefill, on your model and prompts; recommend one."""
    from promptcache.bench.fidelity import own, samples
    from promptcache.bench.fidelity.rows import write_fidelity
    from promptcache.bench.fidelity.tables import CHECK, terminal_table
    from promptcache.bench.fidelity.verdict import Bound, Verdict
    from promptcache.bench.models import subject
    from promptcache.bench.tables import setting
    from promptcache.errors import OptionError

    if pml and docs is not None:
        raise OptionError("--pml and --docs were given: one of them says what is asked")
    if question and docs is None:
        raise OptionError("--question needs --docs FOLDER, the documents that it is about")
    bound = Bound(max_kl, min_top1, min_answers)
    plan = _plan(policy, context, seed)
    asked: list[list[Question]] = []
    if pml:
        asked = [[each] for each in own.in_files(pml, new)]
    measured = subject(model, dtype, device, endless=False)
    if docs is not None:
        tokens = _counts(measured)[0]
        made = own.on_folder(docs, question or (), tokens, prompts, group, seed, new)
        asked = [[each] for each in made]
    elif not pml and model == "pocket":
        draw = samples.Draw(prompts, seed=seed)
        asked = [[own_order] for own_order, _ in samples.questions(draw, _counts(measured)[1])]
    elif not pml:
        asked = [[each] for each in own.on_shipped(prompts, group, seed, new)]
    console = _console()
    found, rows = _measured(measured, plan, asked, len(asked), threads, "check", cases=False)
    verdict = Verdict.of(rows, bound, found.refused)
    console.print(terminal_table(rows, CHECK, setting(rows[0])))
    _say_left_out(console, found)
    for line in verdict.lines():
        console.print(line, soft_wrap=True)
    if json_file is not None:
        write_fidelity(json_file, rows)
    if strict and (verdict.missed or found.refused):
        raise typer.Exit(1)


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
    run: Annotated[str | None, typer.Option(help="A name for what this belongs to.")] = None,
    seed: Seed = 0,
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
    from promptcache.bench.fidelity import longbench as format_of_longbench
    from promptcache.bench.fidelity import samples
    from promptcache.bench.fidelity.plots import draw
    from promptcache.bench.fidelity.rows import ALL, read_fidelity, write_fidelity
    from promptcache.bench.fidelity.tables import FIDELITY, terminal_table
    from promptcache.bench.models import subject
    from promptcache.bench.plots import check_file
    from promptcache.bench.rounds import check_count
    from promptcache.bench.tables import setting
    from promptcache.errors import OptionError

    kept_as = tuple("" if name == "none" else name for name in compression or ["none"])
    plan = replace(_plan(policy, context, seed), plain=plain, compressions=kept_as)
    check_count("most", most)
    drawn = samples.Draw(
        sample_count,
        tuple(kind or samples.KINDS),
        tuple(documents or samples.DOCUMENTS),
        seed,
        longest,
    )
    if json_file is None and append:
        raise OptionError("--append needs --json FILE, the file to add to")
    if json_file is not None and append and json_file.exists():
        read_fidelity(json_file)
    if plot is not None:
        check_file(plot)
    asked: Iterable[Sequence[Question]]
    if longbench is not None:
        asked = [[each] for each in format_of_longbench.questions(longbench, most)]
        count = len(asked)
    measured = subject(model, dtype, device, endless=False)
    if longbench is None:
        pairs = samples.questions(drawn, _counts(measured)[1])
        asked, count = (pair if shuffle else pair[:1] for pair in pairs), drawn.count
    console = _console()
    found, rows = _measured(measured, plan, asked, count, threads, run or "")
    whole = [row for row in rows if row.case == ALL]
    console.print(terminal_table(whole, FIDELITY, setting(rows[0])))
    _say_left_out(console, found)
    if json_file is not None:
        write_fidelity(json_file, rows, append=append)
    if plot is not None:
        draw(rows, plot)


def _plan(policies: Sequence[str] | None, contexts: Sequence[str] | None, seed: int) -> Plan:
    from promptcache.bench.fidelity.running import Plan
    from promptcache.reuse import named

    chosen = tuple(map(named.policy, policies)) if policies else named.usual()
    return Plan(chosen, tuple(contexts or CONTEXTS), seed=seed)


def _measured(
    measured: Subject,
    plan: Plan,
    asked: Iterable[Sequence[Question]],
    count: int,
    threads: int | None,
    name: str,
    *,
    cases: bool = True,
) -> tuple[Found, list[FidelityRow]]:
    """What was found, and its rows; a run without a name is called by its time."""
    import torch

    from promptcache.bench.fidelity.rows import rows_of
    from promptcache.bench.fidelity.running import run
    from promptcache.bench.rounds import threads_set
    from promptcache.bench.rows import Setting

    name = name or f"{datetime.now(UTC):%Y-%m-%d %H:%M}"
    with threads_set(torch.get_num_threads() if threads is None else threads):
        found = run(measured, plan, asked, count=count, label=name)
        setting = Setting.of(measured)
    return found, list(rows_of(found.answered, setting, name, cases=cases))


def _counts(
    measured: Subject,
) -> tuple[Callable[[str], int], Callable[[Sequence[tuple[str, str]]], int]]:
    """How many tokens a text has, and a prompt of chat messages."""
    from promptcache.bench.fidelity.engines import engine_for
    from promptcache.bench.fidelity.questions import as_messages, as_text

    engine = engine_for(measured, "bare")

    def of_messages(told: Sequence[tuple[str, str]]) -> int:
        if not engine.has_chat_template:
            return engine.count_tokens(as_text(told))
        return engine.count_message_tokens(as_messages(engine, told))

    return engine.count_tokens, of_messages


def _say_left_out(console: Console, found: Found) -> None:
    if found.left_out:
        count = len(found.left_out)
        samples = "sample" if count == 1 else "samples"
        console.print(f"left out: {count} {samples}; {found.left_out[0]}", soft_wrap=True)


def _console() -> Console:
    return Console(highlight=False, markup=False)
