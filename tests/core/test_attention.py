"""Our attention, against plain attention under a mask in float32."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from promptcache.model import scores
from promptcache.model.attending import attended_by, running
from promptcache.model.causal import Sight, causal_attention
from promptcache.model.masks import position_mask


def by_mask(query: Tensor, key: Tensor, value: Tensor, positions: list[int]) -> Tensor:
    groups = query.shape[1] // key.shape[1]
    repeated = [t.float().repeat_interleave(groups, 1) for t in (key, value)]
    mask = torch.arange(key.shape[2]) <= torch.tensor(positions)[:, None]
    return scaled_dot_product_attention(query.float(), *repeated, attn_mask=mask)


def off(got: Tensor, expected: Tensor) -> float:
    return float((got.float() - expected).norm() / expected.norm())


@st.composite
def queries(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor, list[int]]:
    batch, kv_heads, groups = (draw(st.integers(1, 3)) for _ in range(3))
    dim, length = 8 * draw(st.integers(1, 4)), draw(st.integers(1, 400))
    if draw(st.booleans()):
        first = draw(st.integers(0, length - 1))
        positions = list(range(first, length))
    else:
        positions = sorted(draw(st.sets(st.integers(0, length - 1), min_size=1, max_size=30)))
    keys = draw(st.integers(positions[-1] + 1, length))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    query = torch.randn(batch, kv_heads * groups, len(positions), dim, generator=generator)
    arena = torch.randn(2, batch, kv_heads, length + 3, dim, generator=generator)
    key, value = arena[:, :, :, :keys]
    return 2 * query, key, value, positions


@given(queries())
def test_every_query_sees_the_keys_up_to_its_own(case: tuple[Tensor, ...]) -> None:
    query, key, value, positions = case
    expected = by_mask(query, key, value, positions)  # type: ignore[arg-type]
    got = causal_attention(query, key, value, Sight(positions), None)  # type: ignore[arg-type]
    assert off(got, expected) < 1e-5


@given(queries())
def test_scores_in_bfloat16_lose_no_more_than_weights_in_bfloat16(
    case: tuple[Tensor, ...],
) -> None:
    query, key, value = (tensor.bfloat16() for tensor in case[:3])
    positions: list[int] = case[3]  # type: ignore[assignment]
    expected = by_mask(query, key, value, positions)
    got = scores.attention_by_scores(query, key, value, scores.blocks_of(positions), None)
    assert got.dtype is torch.bfloat16
    assert off(got, expected) < 6e-3


def test_a_shift_keeps_large_scores_exact() -> None:
    generator = torch.Generator().manual_seed(0)
    key, value = torch.randn(2, 1, 2, 600, 64, generator=generator).bfloat16()
    common = 40 * torch.randn(1, 2, 1, 64, generator=generator)
    query = (torch.randn(1, 4, 8, 64, generator=generator) + 1).bfloat16()
    key = (key + common).bfloat16()  # as in trained models: keys share a large part
    positions = list(range(592, 600))
    expected = by_mask(query, key, value, positions)
    got = scores.attention_by_scores(query, key, value, scores.blocks_of(positions), None)
    rounded = (query.float() @ key.float().repeat_interleave(2, 1).mT / 8).bfloat16().float()
    assert rounded.abs().max() > 100  # here an unshifted score is off by up to a half
    assert off(got, expected) < 2e-2


def test_many_queries_go_in_blocks_that_see_little_in_vain() -> None:
    blocks = scores.blocks_of([5, 6, 300, 301, 2000, 2001, *range(5000, 5100)])
    assert [(block.first, block.last) for block in blocks] == [(0, 4), (4, 6), (6, 70), (70, 106)]


def test_no_mask_is_built_while_a_cache_attends() -> None:
    class Cache:
        def attend(
            self, query: Tensor, key: Tensor, value: Tensor, scaling: float | None
        ) -> Tensor:
            raise AssertionError

    assert running() is None
    assert position_mask(1, 3, 8, q_offset=5) is not None
    with attended_by(Cache()):
        assert position_mask(1, 3, 8, q_offset=5) is None
        assert position_mask(1, 3, 8, q_offset=5, local_size=4) is not None
        with attended_by(object()):
            assert running() is None
    assert running() is None


def test_few_keys_are_left_to_one_fused_step() -> None:
    query = torch.zeros(1, 4, 2, 8, dtype=torch.bfloat16)
    few, many = (torch.zeros(1, 2, keys, 8, dtype=torch.bfloat16) for keys in (1023, 1024))
    supported = bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    assert not scores.takes_scores(query, few)
    assert scores.takes_scores(query, many) is supported
    assert not scores.takes_scores(query.float(), many.float())
