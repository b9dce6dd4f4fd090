"""Attention in parts, put together: the same as over everything at once."""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType

import pytest
import torch
from torch import Tensor, nn

from promptcache import PromptCache
from promptcache.kv import KV
from promptcache.model import attention, lent, partial
from promptcache.model.lent import LentModules, Loan, Span
from promptcache.model.partial import Merged, over_all, up_to
from promptcache.model.runner import ModelRunner
from promptcache.model.shared import Row, SharedArena
from promptcache.model.slots import POSITION
from promptcache.model.together import longest_row, refusal
from promptcache.rotate import Rotation, moved
from support.words import byte_tokenizer
from support.zoo import WINDOW, model

HEADS, GROUPS, DIM, SCALE = 2, 3, 16, 0.25


def states(tokens: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    key, value = torch.randn(2, HEADS, tokens, DIM, dtype=torch.float32)
    return key.to(dtype), value.to(dtype)


def whole(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention of one query `[kv_heads, groups, dim]` over everything."""
    scores = query.float() @ key.float().transpose(1, 2) * SCALE
    return scores.softmax(-1) @ value.float()


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float32, 1e-5), (torch.float64, 1e-5), (torch.bfloat16, 4e-2), (torch.float16, 4e-3)],
)
@pytest.mark.parametrize("ranks", [range(7), [1, 2, 3, 5, 6, 7, 8], range(2, 9)])
def test_parts_make_up_the_whole(
    dtype: torch.dtype, tolerance: float, ranks: Sequence[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partial, "QUERIES", 3)
    torch.manual_seed(0)
    query = torch.randn(HEADS, 7, GROUPS, DIM).to(dtype)
    (own_key, own_value), (key, value) = states(9, dtype), states(11, dtype)
    merged = Merged(*up_to(query, own_key, own_value, ranks, SCALE))
    which = torch.tensor([3, 4, 5, 6, 0, 3])
    merged.add(which, *over_all(query.index_select(1, which), key, value, SCALE))
    for place, got in enumerate(merged.result().unbind(1)):
        times = which.tolist().count(place)
        seen = ranks[place] + 1
        expected = whole(
            query[:, place],
            torch.cat([own_key[:, :seen], *[key] * times], dim=1),
            torch.cat([own_value[:, :seen], *[value] * times], dim=1),
        )
        assert torch.allclose(got.float(), expected, atol=tolerance)


def test_scores_that_are_far_apart_overflow_nowhere() -> None:
    query = torch.full((1, 1, 1, 4), 100.0)
    key, value = torch.ones(1, 2, 4), torch.ones(1, 2, 4)
    merged = Merged(*over_all(query, -key, value, 10.0))
    merged.add(torch.tensor([0]), *over_all(query, key, 2 * value, 10.0))
    assert torch.equal(merged.result(), torch.full((1, 1, 1, 4), 2.0))


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("at_once", [1, 3, 512])
def test_a_query_that_is_turned_back_sees_unmoved_keys_as_moved_ones(
    interleaved: bool, last: bool, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lent, "AT_ONCE", at_once)
    torch.manual_seed(0)
    rotation = Rotation(torch.tensor([1.0, 0.3, 0.01]), interleaved, last)
    records = [KV((key,), (value,), start=4) for key, value in (states(5), states(3))]
    rows = [
        [Loan("a", records[0], 4), Loan("b", records[1], 10)],
        [Loan("b", records[1], 0), Loan("a", records[0], 30), Loan("a", records[0], 40)],
    ]
    spans = [Span(0, 0, 3, [9, 13, 14]), Span(1, 3, 5, [35, 45])]
    query = torch.randn(HEADS, 5, GROUPS, DIM)
    own = states(1)
    merged = Merged(*over_all(query, *own, SCALE))
    modules = LentModules(rows, [rotation], [torch.device("cpu")])
    modules.attend(merged, query, 0, modules.asked_by(spans, query.device), SCALE)
    for span in spans:
        for place, position in zip(range(span.first, span.last), span.positions, strict=True):
            seen = [loan for loan in rows[span.row] if loan.start < position]
            keys = [moved(loan.kv.keys[0], rotation, loan.start - 4) for loan in seen]
            expected = whole(
                query[:, place],
                torch.cat([own[0], *keys], dim=1),
                torch.cat([own[1], *[loan.kv.values[0] for loan in seen]], dim=1),
            )
            assert torch.allclose(merged.result()[:, place], expected, atol=1e-5)


def test_states_of_a_row_are_read_back_from_where_they_were_written() -> None:
    cache = PromptCache(model("llama"), byte_tokenizer())
    rows = [Row([0, 1], (), 2, 1), Row([3, 7, 9], (), 10, 2)]
    arena = SharedArena(cache.traits.layers, rows, (None,) * len(cache.traits.layers))
    shapes = [(layer.kv_heads, 2, layer.key_dim) for layer in cache.traits.layers]
    kv = KV(
        tuple(torch.randn(shape) for shape in shapes),
        tuple(torch.randn(shape) for shape in shapes),
        side=MappingProxyType({POSITION: torch.tensor([7, 10])}),
    )
    arena.write_at(1, kv)
    got = arena.read_at(1, [7, 10])
    assert got.side[POSITION].tolist() == [7, 10]
    for (key, value), (expected_key, expected_value) in zip(got.layers(), kv.layers(), strict=True):
        assert torch.equal(key, expected_key)
        assert torch.equal(value, expected_value)


def test_what_models_see_of_a_prompt_limits_what_goes_together() -> None:
    assert longest_row(model("llama")) is None
    assert longest_row(model("mistral")) is None
    assert longest_row(model("mistral_windowed")) == WINDOW - 1


def test_a_model_that_changes_the_keys_of_its_cache_is_refused_when_it_is_tried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cache = PromptCache(model("llama"), byte_tokenizer())
    assert refusal(cache._runner, cache.traits) is None

    def changing(module: nn.Module, query: Tensor, key: Tensor, *rest: object, **named: object):  # type: ignore[no-untyped-def]
        return attention.folded_attention(module, query, key + 0, *rest, **named)  # type: ignore[arg-type]

    interface = attention.AttentionInterface._global_mapping
    monkeypatch.setitem(interface, attention.NAME, changing)
    assert (
        refusal(ModelRunner(cache.model), cache.traits)
        == "LlamaForCausalLM gives other logits then"
    )
