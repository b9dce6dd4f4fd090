"""`make bench-kernels`: our attention and our moves, against other ways to do them.

One model's worth of layers each, the ways in turns; the error is against float32.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from promptcache.bench.rows import Spread
from promptcache.bench.tables import duration
from promptcache.kv import KV
from promptcache.model.arena import Arena, LayerShape
from promptcache.model.assembly import assemble_here
from promptcache.model.blocks import InBlocks
from promptcache.model.causal import Sight, causal_attention, folded
from promptcache.rotate import Mover, Rotation

CPU = torch.device("cpu")
BASE = 500_000.0
"""Of the rotary frequencies; the move costs the same with any."""


@dataclass(frozen=True, slots=True)
class Shape:
    """`layers` of attention: `heads` share `kv_heads` of `dim` dimensions; `cached` tokens in
    `modules`, and `new` ones behind them.
    """

    layers: int
    heads: int
    kv_heads: int
    dim: int
    cached: int
    modules: int
    new: int


def ways_to_attend(shape: Shape, new: int) -> dict[str, Callable[[], list[Tensor]]]:
    """Attention of the last `new` tokens over everything, in each way, ours first."""
    length = shape.cached + new
    size = (shape.layers, 1, shape.kv_heads, length, shape.dim)
    keys, values = (torch.randn(size, dtype=torch.bfloat16) for _ in range(2))
    query = 2 * torch.randn(1, shape.heads, new, shape.dim, dtype=torch.bfloat16)
    sight = Sight(range(length - new, length))
    mask = sight.mask(length, 1, query.device)
    grouped = shape.heads > shape.kv_heads
    groups = shape.heads // shape.kv_heads

    def every(one: Callable[[Tensor, Tensor], Tensor]) -> Callable[[], list[Tensor]]:
        return lambda: [one(key, value) for key, value in zip(keys, values, strict=True)]

    def plain(key: Tensor, value: Tensor) -> Tensor:
        return scaled_dot_product_attention(query, key, value, attn_mask=mask, enable_gqa=grouped)

    def repeated(key: Tensor, value: Tensor) -> Tensor:
        return plain(key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1))

    def exact(key: Tensor, value: Tensor) -> Tensor:
        return folded(query.float(), key.float(), value.float(), mask, None)

    return {
        "ours": every(lambda k, v: causal_attention(query, k, v, sight, None)),
        "torch's, heads folded into rows": every(lambda k, v: folded(query, k, v, mask, None)),
        "torch's, grouped heads": every(plain),
        "torch's, keys and values repeated": every(repeated),
        "in float32": every(exact),
    }


def ways_to_assemble(shape: Shape) -> dict[str, Callable[[], list[Tensor]]]:
    """Keys and values of shuffled modules, put where a prompt has them."""
    tokens = shape.cached // shape.modules
    size = (shape.layers, 2, shape.kv_heads, tokens, shape.dim)
    stored = [torch.randn(size, dtype=torch.bfloat16) for _ in range(shape.modules)]
    kinds = [LayerShape(shape.kv_heads, shape.dim, shape.dim, torch.bfloat16, CPU)] * shape.layers
    arena, other = (Arena(kinds, capacity=shape.cached) for _ in range(2))
    moves = [
        (place * tokens, KV(keys.unbind(), values.unbind(), place * tokens - place - 1))
        for place, (keys, values) in enumerate(layers.unbind(1) for layers in stored)
    ]
    pairs = shape.dim // 2
    rotations = [Rotation(BASE ** (-torch.arange(pairs) / pairs))] * shape.layers
    _fill(other)

    def assembled() -> list[Tensor]:
        assemble_here(arena, moves, rotations, None)
        return _content(arena)

    def in_blocks() -> list[Tensor]:
        blocks = InBlocks(moves, rotations)
        for index, own in enumerate(arena.layers):
            blocks.put(own.keys[0], own.values[0], index)
        return _content(arena)

    def by_module() -> list[Tensor]:
        mover = Mover(rotations, [place - kv.start for place, kv in moves])
        for layer, own in enumerate(arena.layers):
            for place, kv in moves:
                span = slice(place, place + tokens)
                mover.move(own.keys[0, :, span], kv.keys[layer], layer, place - kv.start)
                own.values[0, :, span].copy_(kv.values[layer])
        return _content(arena)

    def by_copy() -> list[Tensor]:
        for place, kv in moves:
            arena.write(kv, place)
        return _content(arena)

    def copied() -> list[Tensor]:
        for place, own in zip(_content(arena), _content(other), strict=True):
            place.copy_(own)
        return _content(arena)

    def fresh() -> list[Tensor]:
        return [torch.empty_like(own).copy_(own) for own in _content(other)]

    return {
        "ours": assembled,
        "turned in blocks, by torch": in_blocks,
        "each module moved": by_module,
        "each module copied": by_copy,
        "one bare copy": copied,
        "one bare copy into fresh memory": fresh,
    }


def _fill(arena: Arena) -> None:
    for tensor in _content(arena):
        tensor.normal_()


def _content(arena: Arena) -> list[Tensor]:
    """Keys and values of each layer in turn, `[kv_heads, tokens, dim]`."""
    return [tensor[0] for layer in arena.layers for tensor in (layer.keys, layer.values)]


def measure(ways: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, Spread]:
    """Seconds of each way, in turns."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(repeats + 1):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            if turn:  # the first is for warming up
                taken[name].append(time.perf_counter() - start)
    return {name: Spread.of(seconds) for name, seconds in taken.items()}


def errors(ways: Mapping[str, Callable[[], Sequence[Tensor]]], exact: str) -> dict[str, float]:
    """How far each way's first layer is from `exact`, relative to its size."""
    expected = ways[exact]()[0]
    return {
        name: float((way()[0].float() - expected).norm() / expected.norm())
        for name, way in ways.items()
    }


def table(title: str, taken: Mapping[str, Spread], off: Mapping[str, float]) -> Table:
    """The ways, the first one's time as the measure."""
    shown = Table(title=title, title_justify="left", box=None, padding=(0, 1, 0, 0))
    for heading in ("way", "time", "from", "to", "this / ours", "error"):
        shown.add_column(heading, justify="left" if heading == "way" else "right")
    ours = next(iter(taken.values())).median
    for name, spread in taken.items():
        seconds = (spread.median, spread.low, spread.high)
        error = f"{off[name]:.2%}" if name in off else ""
        shown.add_row(name, *map(duration, seconds), f"{spread.median / ours:.2f}", error)
    return shown


def main(
    cached: Annotated[int, typer.Option(help="Tokens in modules.")] = 5120,
    modules: Annotated[int, typer.Option(help="Modules that they are in.")] = 20,
    new: Annotated[int, typer.Option(help="Tokens behind them.")] = 32,
    threads: Annotated[int, typer.Option(help="Threads of torch.")] = 1,
    repeats: Annotated[int, typer.Option(help="Rounds.")] = 5,
) -> None:
    """Measure on the shape of Llama 3.2 1B, in bfloat16."""
    torch.set_num_threads(threads)
    shape = Shape(16, 32, 8, 64, cached, modules, new)
    console = Console()
    for count, what in ((new, f"{new} new tokens"), (1, "one token, while decoding")):
        ways = ways_to_attend(shape, count)
        title = f"Attention of {what} over {cached} others, {threads} thread(s)"
        console.print(table(title, measure(ways, repeats), errors(ways, "in float32")))
    ways = ways_to_assemble(shape)
    title = f"{cached} tokens of {modules} modules put into an arena, {threads} thread(s)"
    console.print(table(title, measure(ways, repeats), {}))


if __name__ == "__main__":
    typer.run(main)
