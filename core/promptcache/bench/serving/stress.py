"""`make stress-server`: a server under load, killed under load, and with two tenants."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
from rich.console import Console

from promptcache.bench.serving import killed, load, tenants


def main(
    model: Annotated[str, typer.Argument(help='"pocket", a folder, or a hub name.')] = "pocket",
    clients: Annotated[int, typer.Option(help="Clients at once.")] = 32,
    seconds: Annotated[float, typer.Option(help="How long they ask.")] = 60.0,
    documents: Annotated[int, typer.Option(help="Documents that they ask about.")] = 200,
    malformed: Annotated[int, typer.Option(help="Malformed requests among theirs.")] = 1000,
    texts: Annotated[int, typer.Option(help="Texts that two tenants ask for.")] = 80,
) -> None:
    """Load a server, kill one under load, time two tenants; status 1 where something is wrong."""
    console = Console(highlight=False, markup=False)
    plan = load.Plan(
        model, clients=clients, seconds=seconds, documents=documents, malformed=malformed
    )
    under_load = load.run(plan)
    _show(console, f"{clients} clients, {documents} documents", under_load.lines())
    with TemporaryDirectory() as folder:
        restart = killed.run(Path(folder), model, clients, documents, min(5.0, seconds))
    _show(console, "killed", restart.lines())
    with TemporaryDirectory() as folder:
        apart = tenants.run(Path(folder), model, texts)
    _show(console, "two tenants", apart.lines())
    right = (
        under_load.faultless
        and restart.reused
        and not (restart.again or apart.shared or apart.reused)
    )
    raise typer.Exit(0 if right else 1)


def _show(console: Console, title: str, lines: Sequence[str]) -> None:
    console.print(f"\n{title}", style="bold")
    for line in lines:
        console.print(f"  {line}", soft_wrap=True)


if __name__ == "__main__":
    typer.run(main)
