"""What a cluster of any size needs, on paper: `python -m promptcache.ray.simulation`.

It prints hits, times and loads of replicas that are simulated behind the router that serves, beside
other ways to route, and what all documents take. Defaults are those of docs/scaling.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import typer

from promptcache.ray.routing import BOUND
from promptcache.ray.simulated import ROUTINGS, Figures, Machine, simulate
from promptcache.ray.workload import Workload

GB = 1e9


def print_needs(
    replicas: Annotated[int, typer.Option(help="How many replicas there are.")] = 100,
    documents: Annotated[int, typer.Option(help="How many documents, a module each.")] = 10_000_000,
    topic: Annotated[int, typer.Option(help="Documents that are asked for together.")] = 20,
    each: Annotated[int, typer.Option(help="Documents of one request.")] = 5,
    together: Annotated[float, typer.Option(help="Share of them that are of one topic.")] = 0.8,
    zipf: Annotated[float, typer.Option(help="Exponent of how topics are asked for.")] = 1.0,
    rate: Annotated[float, typer.Option(help="Requests a second, all replicas together.")] = 200.0,
    memory: Annotated[float, typer.Option(help="GB of states that a replica holds.")] = 500.0,
    module: Annotated[float, typer.Option(help="MB of one module's states.")] = 67.1,
    text: Annotated[float, typer.Option(help="Bytes of one document's text.")] = 2_000.0,
    read: Annotated[float, typer.Option(help="GB/s of a replica from the store.")] = 1.0,
    copy: Annotated[float, typer.Option(help="GB/s from its memory to the model.")] = 25.0,
    encode: Annotated[float, typer.Option(help="Seconds to encode a module.")] = 0.1,
    prefill: Annotated[float, typer.Option(help="Seconds for a request's new tokens.")] = 0.02,
    answer: Annotated[float, typer.Option(help="Seconds from the first token to the last.")] = 2.0,
    places: Annotated[int, typer.Option(help="Requests that a replica answers at once.")] = 8,
    bound: Annotated[float, typer.Option(help="Most load of a replica, of the mean.")] = BOUND,
    ahead: Annotated[bool, typer.Option(help="The store has every document to begin with.")] = True,
    warm: Annotated[int, typer.Option(help="Requests before those that count.")] = 200_000,
    measured: Annotated[int, typer.Option(help="Requests that count.")] = 30_000,
    seed: Annotated[int, typer.Option(help="Of what is drawn at random.")] = 0,
) -> None:
    """Simulate a cluster and print what it needs."""
    workload = Workload(documents, topic, each, together, zipf, rate)
    machine = Machine(
        int(memory * GB), int(module * 1e6), read * GB, copy * GB, encode, prefill, answer, places
    )
    typer.echo("| routing | in memory | from the store | encoded | TTFT | 95 % | busiest | reads |")
    typer.echo("| :-- | --: | --: | --: | --: | --: | --: | --: |")
    for routing in ROUTINGS:
        counted = simulate(
            workload, machine, replicas=replicas, routing=routing, warm=warm, measured=measured,
            ahead=ahead, bound=bound, seed=seed,
        )  # fmt: skip
        typer.echo(f"| {routing} | {' | '.join(_cells(counted, machine))} |")
    held = replicas * machine.modules
    typer.echo(
        f"\nAttention states of all documents: {documents * machine.module / 1e12:,.1f} TB. "
        f"Replicas hold {held:,} modules in memory, {min(1.0, held / documents):.1%} of them. "
        f"Text of all documents: {documents * text / GB:,.1f} GB."
    )


def _cells(counted: Figures, machine: Machine) -> Iterator[str]:
    for found in (counted.hits, counted.read, counted.encoded):
        yield f"{found / counted.lookups:.1%}"
    for share in (0.5, 0.95):
        yield f"{counted.quantile(share) * 1000:,.0f} ms"
    requests = list(counted.asked.values())
    yield f"{max(requests) * len(requests) / sum(requests):.2f}x"
    seconds = counted.ended - counted.began
    yield f"{counted.read * machine.module / GB / seconds / len(requests):.2f} GB/s"


if __name__ == "__main__":
    typer.run(print_needs)
