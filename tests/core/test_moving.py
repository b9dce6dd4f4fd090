"""Keys that move, and the memory of arenas that is used again."""

from __future__ import annotations

import gc

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from promptcache import PromptCache
from promptcache.model.arena import Arena, LayerShape
from promptcache.model.spare import SpareMemory
from promptcache.rotate import Mover, Rotation, moved

CPU = torch.device("cpu")


def by_definition(keys: torch.Tensor, rotation: Rotation, distance: int) -> torch.Tensor:
    """Each pair as a complex number, multiplied by one of length 1."""
    out = keys.double().clone()
    (a, b), (a_out, b_out) = rotation.pairs(keys.double()), rotation.pairs(out)
    turn = torch.polar(torch.ones(()).double(), rotation.frequencies.double() * distance)
    turned = torch.complex(a, b) * turn
    a_out.copy_(turned.real)
    b_out.copy_(turned.imag)
    return out


@given(
    st.booleans(), st.booleans(), st.sampled_from([8, 16, 24]), st.integers(-5000, 5000),
    st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
)  # fmt: skip
def test_a_move_turns_each_pair_by_its_angle(
    interleaved: bool, last: bool, dim: int, distance: int, dtype: torch.dtype
) -> None:
    frequencies = 10000.0 ** (-torch.arange(4) / 4)
    rotation = Rotation(frequencies, interleaved, last and dim > 8)
    keys = torch.randn(2, 5, dim, generator=torch.Generator().manual_seed(dim)).to(dtype)
    got = moved(keys, rotation, distance)
    expected = by_definition(keys, rotation, distance)
    assert got.dtype is dtype
    assert torch.allclose(got.double(), expected, atol=1e-5, rtol=torch.finfo(dtype).eps)
    still = slice(8, None) if not rotation.last else slice(0, dim - 8)
    assert got[..., still].equal(keys[..., still])


def test_one_mover_serves_layers_of_different_shape_and_rotation() -> None:
    half, other = (Rotation(base ** (-torch.arange(4) / 4)) for base in (100.0, 10000.0))
    rotations = [half, None, other, half]
    keys = [torch.randn(2, n, dim) for n, dim in ((3, 8), (4, 8), (9, 12), (5, 16))]
    mover = Mover(rotations, [3, 0, -7, 3])
    for distance in (3, -7, 0):
        for layer, (rotation, own) in enumerate(zip(rotations, keys, strict=True)):
            out = torch.empty_like(own)
            mover.move(out, own, layer, distance)
            assert torch.equal(out, moved(own, rotation, distance))


def shapes(dtype: torch.dtype = torch.bfloat16) -> list[LayerShape]:
    return [LayerShape(2, 8, 8, dtype, CPU), LayerShape(2, 8, 4, dtype, CPU)]


def test_the_next_arena_has_the_memory_of_the_last() -> None:
    spare = SpareMemory()
    arena = Arena(shapes(), capacity=100, spare=spare)
    assert spare.nbytes == 0
    place = arena.layers[0].keys.data_ptr()
    needed = arena.nbytes
    del arena
    assert needed <= spare.nbytes < 2 * needed
    smaller = Arena(shapes(), capacity=60, spare=spare)
    assert smaller.layers[0].keys.data_ptr() == place
    assert smaller.layers[0].keys.shape == (1, 2, 60, 8)
    assert smaller.layers[1].values.shape == (1, 2, 60, 4)
    beside = Arena(shapes(), capacity=60, spare=spare)
    assert beside.layers[0].keys.data_ptr() != place
    del smaller, beside
    larger = Arena(shapes(), capacity=500, spare=spare)
    needed = larger.nbytes
    del larger
    assert needed <= spare.nbytes < 2 * needed


def test_tensors_of_one_memory_do_not_overlap() -> None:
    arena = Arena(shapes(torch.float32), capacity=7, batch=2, spare=SpareMemory())
    tensors = [tensor for layer in arena.layers for tensor in (layer.keys, layer.values)]
    for number, tensor in enumerate(tensors):
        tensor.fill_(number)
    assert all((tensor == number).all() for number, tensor in enumerate(tensors))


@pytest.fixture(scope="module")
def engine() -> PromptCache:
    return PromptCache.from_pretrained("pocket")


def test_an_answer_gives_its_memory_back_at_once(engine: PromptCache) -> None:
    gc.disable()
    try:
        engine.generate_text("What opened in the town in spring?", max_new_tokens=4)
        held = engine._runner.spare.nbytes
        assert held > 0
        stream = engine.stream_text("What opened in the town in spring?", max_new_tokens=4)
        assert engine._runner.spare.nbytes == 0
        stream.close()
        assert engine._runner.spare.nbytes == held
    finally:
        gc.enable()


def test_answers_at_the_same_time_do_not_share_memory(engine: PromptCache) -> None:
    questions = ["What opened in spring?", "Who founded the museum in the old town?"]
    alone = [engine.generate_text(q, max_new_tokens=8).token_ids for q in questions]
    streams = [engine.stream_text(q, max_new_tokens=8) for q in questions]
    for _ in range(20):
        for stream in streams:
            next(stream, None)
    assert [stream.reply.token_ids for stream in streams] == alone
