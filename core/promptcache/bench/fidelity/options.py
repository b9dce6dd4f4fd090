"""What `promptcache check` and `promptcache bench fidelity` are both asked and say alike."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from promptcache.decoys import CONTEXTS

if TYPE_CHECKING:
    from promptcache.bench.fidelity.running import Found, Plan

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


def plan_of(policies: Sequence[str] | None, contexts: Sequence[str] | None, seed: int = 0) -> Plan:
    """What to measure, by names. Raises OptionError for unknown ones."""
    from promptcache.bench.fidelity.running import Plan
    from promptcache.reuse import named

    chosen = tuple(map(named.policy, policies)) if policies else named.usual()
    return Plan(chosen, tuple(contexts or CONTEXTS), seed=seed)


def name_of(run: str | None) -> str:
    """What rows call this run: as was asked, or by its time."""
    return run or f"{datetime.now(UTC):%Y-%m-%d %H:%M}"


def say_left_out(console: Console, found: Found) -> None:
    """Print how many samples were left out, and why the first of them."""
    if found.left_out:
        count = len(found.left_out)
        samples = "sample" if count == 1 else "samples"
        console.print(f"left out: {count} {samples}; {found.left_out[0]}", soft_wrap=True)


def plain_console() -> Console:
    """A console that prints what it is given as it is."""
    return Console(highlight=False, markup=False)
