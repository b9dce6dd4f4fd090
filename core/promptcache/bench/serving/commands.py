"""`promptcache bench serve`: what can be asked of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console


def serve(
    model: Annotated[
        str, typer.Argument(help='"0.4b", "1.2b", "8b" (random weights), "pocket" or a folder.')
    ] = "0.4b",
    requests: Annotated[int, typer.Option(help="Requests of each run.")] = 16,
    clients: Annotated[
        list[int] | None, typer.Option(help="Clients at once; several times. [1 and 8]")
    ] = None,
    documents: Annotated[int, typer.Option(help="Documents in a prompt.")] = 4,
    library: Annotated[int, typer.Option(help="Documents that there are.")] = 8,
    tokens: Annotated[int, typer.Option(help="Tokens of each document.")] = 256,
    new: Annotated[int, typer.Option(help="Tokens of the question.")] = 32,
    answer: Annotated[int, typer.Option(help="Tokens of the answer.")] = 16,
    repeats: Annotated[int, typer.Option(help="Rounds.")] = 3,
    threads: Annotated[
        list[int] | None, typer.Option(help="Threads of torch; may be given several times.")
    ] = None,
    dtype: Annotated[str, typer.Option(help="bfloat16, float16, float32 or auto.")] = "bfloat16",
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write a row per case to this file.")
    ] = None,
    append: Annotated[
        bool, typer.Option("--append", help="Keep the rows that the file has already.")
    ] = False,
) -> None:
    """Requests a second: a server, one by one, and transformers' continuous batching."""
    from promptcache.bench.rows import read_rows, write_rows
    from promptcache.bench.serving import throughput
    from promptcache.bench.tables import setting, terminal_table
    from promptcache.errors import OptionError

    if append and json_file is None:
        raise OptionError("--append needs --json FILE, the file to add to")
    if append and json_file is not None and json_file.exists():
        read_rows(json_file)  # before anything is measured
    console = Console(highlight=False, markup=False)
    for number, count in enumerate(threads or [1]):
        plan = throughput.Plan(
            model=model,
            dtype=dtype,
            threads=count,
            requests=requests,
            clients=tuple(clients or (1, 8)),
            documents=documents,
            library=library,
            tokens=tokens,
            new=new,
            answer=answer,
            repeats=repeats,
        )
        rows = throughput.measure(plan)
        console.print(terminal_table(rows, setting(rows[0])))
        if json_file is not None:
            write_rows(json_file, rows, append=append or number > 0)
