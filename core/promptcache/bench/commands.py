"""`promptcache bench ttft | decode | scale | serve | fidelity`: what can be asked of each."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from promptcache.bench.fidelity.commands import fidelity
from promptcache.bench.orders import Order
from promptcache.bench.serving.commands import serve

if TYPE_CHECKING:
    from promptcache.bench.rows import Row

app = typer.Typer(
    help="Measure this machine: time to first token, decoding, and how both scale.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.command()(fidelity)
app.command()(serve)

SWEEP = (512, 1024, 2048, 4096, 8192, 16_384)
"""Cached tokens of the paper's figure."""


class Part(StrEnum):
    """What `bench scale` measures."""

    LIBRARY = "library"
    MEMORY = "memory"
    STORE = "store"


class PromptForm(StrEnum):
    """In which form a prompt is asked."""

    PML = "pml"
    TEXT = "text"


Model = Annotated[
    str,
    typer.Argument(
        help='"0.4b", "1.2b", "8b" (shapes, random weights), "pocket", a folder or a hub name.'
    ),
]
Threads = Annotated[
    list[int] | None, typer.Option(help="Threads of torch; may be given several times.")
]
Dtype = Annotated[str, typer.Option(help="bfloat16, float16, float32 or auto.")]
Device = Annotated[str | None, typer.Option(help='Such as "cpu" or "cuda".')]
Json = Annotated[Path | None, typer.Option("--json", help="Write a row per case to this file.")]
Append = Annotated[bool, typer.Option("--append", help="Keep the rows that the file has already.")]


@app.command()
def ttft(
    model: Model = "pocket",
    documents: Annotated[int, typer.Option(help="Documents in a prompt.")] = 8,
    tokens: Annotated[int, typer.Option(help="Tokens of each document.")] = 256,
    new: Annotated[int, typer.Option(help="Tokens of the question.")] = 32,
    repeats: Annotated[int, typer.Option(help="Rounds.")] = 5,
    full_repeats: Annotated[
        int, typer.Option(help="Rounds of what computes whole prompts; 0 leaves that out.")
    ] = 3,
    policy: Annotated[
        list[str] | None,
        typer.Option(help="Such as Modular or Exact; several times. [all of them]"),
    ] = None,
    orders: Annotated[
        list[Order] | None, typer.Option(help="How documents stand; several times. [all]")
    ] = None,
    prompt: Annotated[
        list[PromptForm] | None, typer.Option(help="The form of prompts; several times. [both]")
    ] = None,
    sweep: Annotated[
        bool, typer.Option("--sweep", help="512 to 16,384 cached tokens: the paper's figure.")
    ] = False,
    largest: Annotated[int, typer.Option(help="Where a sweep ends, in tokens.")] = SWEEP[-1],
    run: Annotated[
        str | None,
        typer.Option(help="A name for what this belongs to; calls of one name make one curve."),
    ] = None,
    peers: Annotated[bool, typer.Option(help="Measure other systems that are installed.")] = True,
    prefix_cache: Annotated[
        bool, typer.Option(help="Measure transformers' own cache of one prefix, too.")
    ] = True,
    threads: Threads = None,
    dtype: Dtype = "bfloat16",
    device: Device = None,
    plot: Annotated[Path | None, typer.Option(help="Draw a figure: .png or .svg.")] = None,
    json_file: Json = None,
    append: Append = False,
) -> None:
    """Time to first token: every policy, transformers in full and with a prefix, and the limit."""
    from promptcache.bench import peers as others
    from promptcache.bench import ttft
    from promptcache.bench.groups import grouped
    from promptcache.bench.models import subject
    from promptcache.bench.plots import check_file, draw
    from promptcache.bench.prompts import FORMS
    from promptcache.bench.rounds import threads_set
    from promptcache.bench.tables import setting, terminal_table
    from promptcache.model.probe import window_of
    from promptcache.reuse import named

    plan = ttft.Plan(
        documents=documents,
        tokens=tokens,
        new=new,
        repeats=repeats,
        full_repeats=full_repeats,
        policies=tuple(map(named.policy, policy)) if policy else named.usual(),
        orders=tuple(orders or Order),
        forms=tuple(FORMS[form] for form in prompt or PromptForm),
        prefix_cache=prefix_cache,
    )
    if plot is not None:
        check_file(plot)
    _check_json(json_file, append=append)
    console = _console()
    started = f"{datetime.now(UTC):%Y-%m-%d %H:%M}"
    measured = subject(model, dtype, device)
    systems, lines = others.at_hand(measured) if peers else ([], [])
    for line in lines:
        console.print(line)
    window = window_of(measured.model.config)
    sizes = [size for size in SWEEP if size <= largest]
    plans = list(ttft.sweep(plan, sizes, window)) if sweep else [plan]
    if len(plans) < len(sizes) and sweep:
        console.print(f"the window of {window} tokens ends the sweep after {len(plans)} sizes")
    rows: list[Row] = []
    for count in threads or [1]:
        with threads_set(count):
            for each in plans:
                measured_now = ttft.measure(measured, each, systems, run=run or started)
                _write(json_file, measured_now, append=append or bool(rows))
                rows += measured_now
    for group in grouped(rows):
        console.print(f"\n{setting(group.any)}, {group.any.prompt} prompts", soft_wrap=True)
        for size, found in sorted(group.sizes.items()):
            ranked = sorted(found, key=lambda row: row.ttft_seconds)
            console.print(terminal_table(ranked, f"{size:,} tokens in modules"))
    if plot is not None:
        draw(rows, plot)


@app.command()
def decode(
    model: Model = "pocket",
    context: Annotated[int, typer.Option(help="Tokens of the documents in the prompt.")] = 2048,
    tokens: Annotated[int, typer.Option(help="Tokens of each document.")] = 256,
    new: Annotated[int, typer.Option(help="Tokens of the answer.")] = 64,
    repeats: Annotated[int, typer.Option(help="Rounds.")] = 3,
    policy: Annotated[str, typer.Option(help="Such as Modular or Exact.")] = "Modular",
    threads: Threads = None,
    dtype: Dtype = "bfloat16",
    device: Device = None,
    json_file: Json = None,
    append: Append = False,
) -> None:
    """Tokens per second behind a long context, against transformers' generate."""
    from promptcache.bench import decode
    from promptcache.bench.models import subject
    from promptcache.bench.rounds import threads_set
    from promptcache.bench.tables import setting, terminal_table
    from promptcache.reuse import named

    plan = decode.Plan(
        context=context,
        tokens=tokens,
        new=new,
        repeats=repeats,
        policy=named.policy(policy),
    )
    _check_json(json_file, append=append)
    console = _console()
    measured = subject(model, dtype, device)
    rows: list[Row] = []
    for count in threads or [1]:
        with threads_set(count):
            found = decode.measure(measured, plan)
        console.print(terminal_table(found, setting(found[0])))
        rows += found
    _write(json_file, rows, append=append)


@app.command()
def scale(
    model: Annotated[
        str,
        typer.Argument(help='The model of the library; "tiny" costs least, and a name as above.'),
    ] = "tiny",
    largest: Annotated[int, typer.Option(help="The largest library, in documents.")] = 10_000,
    prompts: Annotated[int, typer.Option(help="Prompts for each library.")] = 10,
    memory: Annotated[
        str, typer.Option(help="The model whose requests at once and stored modules are measured.")
    ] = "pocket",
    documents: Annotated[
        int, typer.Option(help="Documents in each request, and in the tiers.")
    ] = 8,
    tokens: Annotated[int, typer.Option(help="Tokens of each document.")] = 256,
    requests: Annotated[
        list[int] | None, typer.Option(help="Requests at once; several times. [8]")
    ] = None,
    only: Annotated[Part | None, typer.Option(help="Leave the others out.")] = None,
    threads: Annotated[int, typer.Option(help="Threads of torch.")] = 1,
    dtype: Dtype = "bfloat16",
    json_file: Json = None,
    append: Append = False,
) -> None:
    """What many documents cost a prompt, what many requests take, and what modules do in tiers."""
    from promptcache.bench import library, stored
    from promptcache.bench import memory as at_once
    from promptcache.bench.models import subject
    from promptcache.bench.rounds import threads_set
    from promptcache.bench.tables import setting, terminal_table

    shelves = library.Plan(largest=largest, prompts=prompts)
    plan = at_once.Plan(
        model=memory,
        dtype=dtype,
        threads=threads,
        documents=documents,
        tokens=tokens,
        requests=tuple(requests or [8]),
    )
    in_tiers = stored.Plan(documents, tokens)
    _check_json(json_file, append=append)
    console = _console()
    rows: list[Row] = []
    if only in (None, Part.LIBRARY):
        with threads_set(threads):
            found = library.measure(subject(model, dtype, "cpu"), shelves)
        console.print(terminal_table(found, setting(found[0])))
        rows += found
    if only in (None, Part.MEMORY):
        if not at_once.batches():
            console.print("this version answers one request at a time: only that is measured")
        served = at_once.measure(plan)
        console.print(terminal_table(served, setting(served[0])))
        rows += served
    if only in (None, Part.STORE):
        with threads_set(threads):
            kept = stored.measure(subject(memory, dtype, "cpu"), in_tiers)
        console.print(terminal_table(kept, setting(kept[0])))
        rows += kept
    _write(json_file, rows, append=append)


def _console() -> Console:
    return Console(highlight=False, markup=False)


def _check_json(file: Path | None, *, append: bool) -> None:
    """Raise OptionError before anything is measured for a file that cannot be added to."""
    from promptcache.bench.rows import read_rows
    from promptcache.errors import OptionError

    if file is None and append:
        raise OptionError("--append needs --json FILE, the file to add to")
    if file is not None and append and file.exists():
        read_rows(file)


def _write(file: Path | None, rows: Sequence[Row], *, append: bool) -> None:
    from promptcache.bench.rows import write_rows

    if file is not None:
        write_rows(file, rows, append=append)
