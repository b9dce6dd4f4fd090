"""The ways that are compared do the same."""

from __future__ import annotations

import torch

from promptcache.bench.kernels import (
    Shape,
    errors,
    measure,
    table,
    ways_to_assemble,
    ways_to_attend,
)

SHAPE = Shape(layers=2, heads=4, kv_heads=2, dim=8, cached=48, modules=3, new=4)


def test_every_way_to_attend_gives_the_same() -> None:
    for new in (4, 1):
        ways = ways_to_attend(SHAPE, new)
        off = errors(ways, "in float32")
        assert next(iter(off)) == "ours"
        assert off["in float32"] == 0
        assert max(off.values()) < 1e-2


def test_all_moves_do_the_same_and_keep_the_length_of_keys_that_are_copied() -> None:
    ways = ways_to_assemble(SHAPE)
    names = "ours", "turned in blocks, by torch", "each module moved", "each module copied"
    turned, in_blocks, moved, copied = (
        [tensor.clone() for tensor in ways[name]()] for name in names
    )
    assert all(map(torch.equal, turned, in_blocks))
    assert all(map(torch.equal, turned, moved))
    assert all(map(torch.equal, turned[1::2], copied[1::2]))
    lengths = [torch.stack(tensors[::2]).float().norm(dim=-1) for tensors in (copied, turned)]
    assert torch.allclose(*lengths, rtol=2e-2)
    assert not torch.equal(copied[0], turned[0])


def test_each_way_is_timed_as_often() -> None:
    calls: list[str] = []
    ways = {name: lambda name=name: calls.append(name) for name in "ab"}
    taken = measure(ways, 3)
    assert calls == ["a", "b"] * 4
    assert {spread.count for spread in taken.values()} == {3}
    assert table("t", taken, {"a": 0.01}).row_count == 2
