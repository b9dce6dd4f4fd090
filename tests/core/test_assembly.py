"""States put into an arena: in one pass, in blocks or beside, they are those moved one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from promptcache import native
from promptcache.kv import KV
from promptcache.model import blocks, onepass
from promptcache.model.arena import Arena, LayerShape
from promptcache.model.assembly import assemble_beside, assemble_here
from promptcache.rotate import Rotation, moved
from support.arenas import CPU, HALVES, PAIRS, Poisoned, shapes, states
from support.lanes import Later

Moves = list[tuple[int, KV]]
ROTATIONS = [HALVES, PAIRS, None, PAIRS]
PIECES = st.lists(
    st.tuples(st.integers(1, 6), st.integers(0, 30), st.integers(0, 3), st.integers(0, 2)),
    min_size=1,
    max_size=5,
)
"""Tokens, the position they were computed at, tokens cut off before them, and a gap behind."""
TYPES = st.sampled_from([torch.float32, torch.bfloat16, torch.float16])
compiled = pytest.mark.skipif(not native.usable(), reason="no C compiler when it was installed")


def laid(kinds: Sequence[LayerShape], pieces: Sequence[tuple[int, int, int, int]]) -> Moves:
    moves, position = [], 0
    for tokens, start, cut, gap in pieces:
        whole = states(kinds, tokens + cut, start)
        moves.append((position, whole.slice(cut, cut + tokens)))
        position += tokens + gap
    return moves


def arena_for(kinds: Sequence[LayerShape], moves: Moves) -> Arena:
    return Arena(kinds, capacity=moves[-1][0] + moves[-1][1].tokens + 1, spare=Poisoned())


def assert_moved(arena: Arena, moves: Moves, rotations: Sequence[Rotation | None]) -> None:
    for place, kv in moves:
        span = slice(place, place + kv.tokens)
        for index, rotation in enumerate(rotations):
            keys = moved(kv.keys[index], rotation, place - kv.start)
            assert arena.layers[index].keys[0, :, span].equal(keys)
            assert arena.layers[index].values[0, :, span].equal(kv.values[index])


@contextmanager
def natively(done: bool) -> Iterator[None]:
    """Native code alone, or none of it."""
    if done:
        with patch.object(blocks.InBlocks, "put", side_effect=AssertionError("in blocks")):
            yield
    else:
        with patch.object(native, "_loaded", lambda: None):
            yield


@given(
    pieces=PIECES,
    dtype=TYPES,
    at_once=st.sampled_from([1, 500, 2 << 20]),
    near=st.sampled_from([0, 64]),
    data=st.data(),
)
@settings(max_examples=60)
def test_in_blocks(
    pieces: list[tuple[int, int, int, int]],
    dtype: torch.dtype,
    at_once: int,
    near: int,
    data: st.DataObject,
) -> None:
    kinds = shapes(dtype)
    moves = laid(kinds, pieces)
    arena = arena_for(kinds, moves)
    with natively(False), patch.multiple(blocks, AT_ONCE=at_once, NEAR=near):
        assemble_here(arena, data.draw(st.permutations(moves)), ROTATIONS, None)
    assert_moved(arena, moves, ROTATIONS)


@given(pieces=PIECES, dtype=TYPES)
@settings(max_examples=30)
def test_beside(pieces: list[tuple[int, int, int, int]], dtype: torch.dtype) -> None:
    kinds = shapes(dtype)
    moves = laid(kinds, pieces)
    arena = arena_for(kinds, moves)
    assemble_beside(arena, moves, ROTATIONS, None, Later())
    arena.settle()
    assert_moved(arena, moves, ROTATIONS)


@compiled
@given(
    pieces=PIECES,
    dtype=st.sampled_from(list(native.KINDS)),
    threads=st.sampled_from([1, 2, 5]),
    streamed=st.sampled_from([0, 1 << 60]),
    data=st.data(),
)
@settings(max_examples=100)
def test_in_one_pass(
    pieces: list[tuple[int, int, int, int]],
    dtype: torch.dtype,
    threads: int,
    streamed: int,
    data: st.DataObject,
) -> None:
    kinds = shapes(dtype)
    moves = laid(kinds, pieces)
    arena = arena_for(kinds, moves)
    with (
        natively(True),
        patch.object(onepass, "STREAMED", streamed),
        patch.object(torch, "get_num_threads", lambda: threads),
        patch.object(native, "GRAIN", 1),
    ):
        assemble_here(arena, data.draw(st.permutations(moves)), ROTATIONS, None)
    assert_moved(arena, moves, ROTATIONS)


@compiled
@pytest.mark.parametrize("dtype", list(native.KINDS))
@pytest.mark.parametrize("dim", [6, 64, 80, 256])
@pytest.mark.parametrize("streamed", [0, 1 << 60])
def test_in_one_pass_over_many_blocks_of_every_width(
    dtype: torch.dtype, dim: int, streamed: int
) -> None:
    kinds = [LayerShape(2, dim, dim, dtype, CPU)] * 3
    frequencies = 10_000 ** -torch.linspace(0, 1, dim // 2 - 1)
    rotations = [
        Rotation(frequencies),
        Rotation(frequencies, interleaved=True),
        Rotation(frequencies, last=True),
    ]
    moves = [(1, states(kinds, 600, 40)), (700, states(kinds, 1, 9)), (800, states(kinds, 257, 0))]
    arena = arena_for(kinds, moves)
    with natively(True), patch.object(onepass, "STREAMED", streamed):
        assemble_here(arena, moves, rotations, None)
    assert_moved(arena, moves, rotations)


@compiled
def test_numbers_that_are_none_or_too_large_are_rounded_as_torch_rounds_them() -> None:
    kinds = [LayerShape(1, 8, 8, torch.bfloat16, CPU)]
    numbers = torch.tensor([float("nan"), float("inf"), 3.39e38, -3.39e38, 1e-40, -0.0, 1.0, 7e-5])
    keys = torch.stack([numbers.roll(by) for by in range(8)])[None].bfloat16()
    moves = [(5, KV((keys,), (keys,), 0))]
    arenas = [arena_for(kinds, moves) for _ in range(2)]
    for arena, done in zip(arenas, (True, False), strict=True):
        with natively(done):
            assemble_here(arena, moves, [HALVES], None)
    native_keys, others = (arena.layers[0].keys[0, :, 5:13] for arena in arenas)
    torch.testing.assert_close(native_keys, others, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize(
    "states_of",
    [
        lambda keys: keys.half(),
        lambda keys: keys.transpose(1, 2).contiguous().transpose(1, 2),
        lambda keys: torch.cat([keys, keys], dim=2)[:, :, ::2],
    ],
    ids=["another type", "transposed", "with gaps"],
)
def test_states_that_native_code_cannot_read_are_put_all_the_same(
    states_of: Callable[[torch.Tensor], torch.Tensor],
) -> None:
    kinds = [LayerShape(2, 8, 8, torch.float32, CPU)]
    whole = states(kinds, 5, 2)
    moves = [(4, KV((states_of(whole.keys[0]),), whole.values, 2)), (9, whole)]
    arena = arena_for(kinds, moves)
    assemble_here(arena, moves, [HALVES], None)
    for place, kv in moves:
        keys = moved(kv.keys[0].float(), HALVES, place - 2)
        assert arena.layers[0].keys[0, :, place : place + 5].equal(keys)


def test_states_of_another_shape_are_refused_rather_than_read_past_their_end() -> None:
    kinds = [LayerShape(4, 8, 8, torch.float32, CPU)]
    fewer = states([LayerShape(2, 8, 8, torch.float32, CPU)], 5, 2)
    with pytest.raises(RuntimeError, match="size"):
        assemble_here(Arena(kinds, capacity=9), [(3, fewer)], [HALVES], None)


@pytest.mark.parametrize("content", [None, b"", b"no library"])
def test_a_part_that_is_missing_or_does_not_load_is_not_used(
    tmp_path: Path, content: bytes | None
) -> None:
    compiled = tmp_path / "moves.so"
    if content is not None:
        compiled.write_bytes(content)
    native._loaded.cache_clear()
    try:
        with patch.object(native, "COMPILED", compiled):
            assert not native.usable()
    finally:
        native._loaded.cache_clear()


@compiled
def test_a_part_of_another_source_is_not_used(tmp_path: Path) -> None:
    later = tmp_path / "moves.c"
    later.write_bytes(native.SOURCE.read_bytes() + b"/* a number more in every struct */")
    native._loaded.cache_clear()
    try:
        with patch.object(native, "SOURCE", later):
            assert not native.usable()
    finally:
        native._loaded.cache_clear()


@pytest.mark.parametrize("position", [-1, 5])
@pytest.mark.parametrize("done", [pytest.param(True, marks=compiled), False])
def test_nothing_is_written_beyond_an_arena(position: int, done: bool) -> None:
    kinds = [LayerShape(2, 8, 8, torch.float32, CPU)]
    arena = Arena(kinds, capacity=9)
    with natively(done), pytest.raises((ValueError, RuntimeError, IndexError)):
        assemble_here(arena, [(position, states(kinds, 5, 2))], [HALVES], None)
