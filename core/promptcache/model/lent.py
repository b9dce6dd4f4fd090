"""Modules that are lent to the rows of a batch: one copy of their states, seen from any place.

The keys stay as they are stored. A query that is turned back by the distance to which a module is
moved sees unmoved keys as the query itself would see moved ones: scores of rotary models depend on
distances alone. All rows that use a module ask it at once. Knows states, not what they are of.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from promptcache.kv import KV
from promptcache.model.partial import Merged, over_all
from promptcache.rotate import Rotation

AT_ONCE = 512
"""Queries that are turned at a time, at most, those of every module counted: they take memory."""


@dataclass(frozen=True, slots=True, eq=False)
class Loan:
    """States of a module as one row's prompt has them: from the position `start` on.

    Loans with the same `name` are of the same states. No token that the row computes stands
    between theirs, so that each of its queries sees all of a loan, or nothing.
    """

    name: Hashable
    kv: KV
    start: int


@dataclass(frozen=True, slots=True)
class Span:
    """The queries `first` to `last` of a forward, which are one row's, at sorted `positions`."""

    row: int
    first: int
    last: int
    positions: Sequence[int]


@dataclass(frozen=True, slots=True)
class _Module:
    """States that are lent: per layer keys and values, and who uses them, from where on."""

    layers: tuple[tuple[Tensor, Tensor], ...]
    uses: list[tuple[int, int, int]]
    """Row, position of the first token, and number of the use."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Queries that modules are asked by: which, for which use, and how many for each module."""

    queries: Tensor
    uses: Tensor
    modules: tuple[tuple[int, int], ...]


class LentModules:
    """The modules of a batch, and which of its rows use them where."""

    def __init__(
        self,
        rows: Sequence[Sequence[Loan]],
        rotations: Sequence[Rotation | None],
        devices: Sequence[torch.device],
    ) -> None:
        """What is lent to each of `rows`; `rotations` and `devices` are those of the layers."""
        self._rotations = rotations
        self._modules: list[_Module] = []
        self._distances: list[int] = []
        self._turns: dict[tuple[Rotation, int, torch.device], tuple[Tensor, Tensor]] = {}
        known: dict[Hashable, _Module] = {}
        for row, loans in enumerate(rows):
            for loan in loans:
                if loan.name not in known:
                    known[loan.name] = _Module(_on(loan.kv, devices), [])
                    self._modules.append(known[loan.name])
                known[loan.name].uses.append((row, loan.start, len(self._distances)))
                self._distances.append(loan.kv.start - loan.start)

    def states(self, layer: int) -> list[tuple[Tensor, Tensor]]:
        """The keys and values of each module in one layer, as they were lent."""
        return [module.layers[layer] for module in self._modules]

    def asked_by(self, spans: Sequence[Span], device: torch.device) -> list[Asked]:
        """Which queries stand after which modules, in portions of at most `AT_ONCE`."""
        by_row = {span.row: span for span in spans}
        portions: list[Asked] = []
        held: list[tuple[int, range, int]] = []
        room = AT_ONCE
        for module, queries, use in self._seen(by_row):
            rest = queries
            while rest:
                held.append((module, rest[:room], use))
                rest, room = rest[room:], room - len(rest[:room])
                if not room:
                    portions.append(_asked(held, device))
                    held, room = [], AT_ONCE
        return [*portions, _asked(held, device)] if held else portions

    def _seen(self, spans: dict[int, Span]) -> Iterator[tuple[int, range, int]]:
        """Each module, with the queries of each row that see it, and the number of the use."""
        for number, module in enumerate(self._modules):
            for row, start, use in module.uses:
                if (span := spans.get(row)) is not None:
                    first = span.first + bisect_left(span.positions, start)
                    yield number, range(first, span.last), use

    def attend(
        self, merged: Merged, query: Tensor, layer: int, portions: Sequence[Asked], scale: float
    ) -> None:
        """Add to `merged` what the modules have for `query` `[kv_heads, queries, groups, dim]`."""
        for asked in portions:
            turned = self._turned(query.index_select(1, asked.queries), asked.uses, layer)
            outs, logs = [], []
            first = 0
            for number, count in asked.modules:
                key, value = self._modules[number].layers[layer]
                out, log = over_all(turned[:, first : first + count], key, value, scale)
                outs.append(out)
                logs.append(log)
                first += count
            merged.add(asked.queries, torch.cat(outs, dim=1), torch.cat(logs, dim=1))

    def _turned(self, query: Tensor, uses: Tensor, layer: int) -> Tensor:
        """The queries, each turned back as its use of a module says."""
        rotation = self._rotations[layer]
        if rotation is None:
            return query
        cosines, sines = self._turns_of(rotation, query)
        cos, sin = (table.index_select(0, uses)[:, None] for table in (cosines, sines))
        wide = query.float()
        out = wide * cos
        (a, b), (a_out, b_out) = rotation.pairs(wide), rotation.pairs(out)
        a_out.addcmul_(b, sin, value=-1)
        b_out.addcmul_(a, sin)
        return out.to(query.dtype)

    def _turns_of(self, rotation: Rotation, query: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines `[uses, dim]` and sines `[uses, pairs]` of every use's turn."""
        made = rotation, query.shape[-1], query.device
        if made not in self._turns:
            turns = rotation.turns(self._distances, query.shape[-1])
            self._turns[made] = (
                torch.stack([turn.cos for turn in turns]).to(query.device),
                torch.stack([turn.sin for turn in turns]).to(query.device),
            )
        return self._turns[made]


def _on(kv: KV, devices: Sequence[torch.device]) -> tuple[tuple[Tensor, Tensor], ...]:
    """The keys and values of each layer on its device: as they are, where they are there."""
    layers = zip(kv.layers(), devices, strict=True)
    return tuple((keys.to(device), values.to(device)) for (keys, values), device in layers)


def _asked(held: Sequence[tuple[int, range, int]], device: torch.device) -> Asked:
    counts: dict[int, int] = {}
    for module, queries, _ in held:
        counts[module] = counts.get(module, 0) + len(queries)
    return Asked(
        torch.cat([torch.arange(q.start, q.stop) for _, q, _ in held]).to(device),
        torch.cat([torch.full((len(q),), use) for _, q, use in held]).to(device),
        tuple(counts.items()),
    )
