"""Rows of `bench ttft`, grouped into what can be compared: one setting, one form of prompt."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from promptcache.bench.limit import NAME as LIMIT
from promptcache.bench.orders import FIRST, Order
from promptcache.bench.rows import Row, TtftRow
from promptcache.bench.ttft import OURS

SIZES_OF_A_SWEEP = 3
"""Numbers of cached tokens from which rows make a curve."""


@dataclass(frozen=True, slots=True)
class Group:
    """Rows of one run, setting and form of prompt, by the tokens that a policy could reuse."""

    sizes: Mapping[int, Sequence[TtftRow]]

    @property
    def any(self) -> TtftRow:
        """One of the rows: the setting is the same for all."""
        return self.largest[0]

    @property
    def largest(self) -> Sequence[TtftRow]:
        """The rows of the longest prompts."""
        return self.sizes[max(self.sizes)]

    @property
    def is_sweep(self) -> bool:
        """Whether there are enough sizes for a curve."""
        return len(self.sizes) >= SIZES_OF_A_SWEEP

    @property
    def name(self) -> str:
        """What to call it in a file's name."""
        row = self.any
        words = f"{row.model} {row.dtype} {row.threads} {row.prompt} {row.run}"
        return "-".join("".join(c if c.isalnum() else " " for c in words.lower()).split())

    def curve(self, case: str, policy: str = "") -> list[TtftRow]:
        """The rows of a case by size; with its documents shuffled, where that was measured."""
        found = []
        for _, rows in sorted(self.sizes.items()):
            mine = [
                row
                for row in rows
                if row.case == case and row.policy == policy and row.order not in FIRST
            ]
            found += sorted(mine, key=lambda row: row.order != Order.SHUFFLED)[:1]
        return found

    def curves(self) -> list[tuple[str, list[TtftRow]]]:
        """Every case with a name for it: ours first, the limit last."""
        named = dict.fromkeys(
            (row.case, row.policy)
            for rows in self.sizes.values()
            for row in rows
            if row.order not in FIRST
        )
        ranked = sorted(named, key=lambda pair: (pair[0] != OURS, pair[0] == LIMIT))
        return [
            (f"{case}, {policy}" if policy else case, self.curve(case, policy))
            for case, policy in ranked
        ]


def grouped(rows: Iterable[Row]) -> list[Group]:
    """The groups of the rows that are of `bench ttft`, in the order in which they come."""
    found: dict[tuple[object, ...], dict[int, list[TtftRow]]] = {}
    for row in rows:
        if isinstance(row, TtftRow):
            said = tuple(sorted(row.versions.items()))
            key = (row.run, row.model, row.dtype, row.device, row.threads, row.prompt, said)
            found.setdefault(key, {}).setdefault(row.module_tokens, []).append(row)
    return [Group(sizes) for sizes in found.values()]
