"""Our attention: grouped query heads folded into rows, so that keys and values are never repeated.

Registered with transformers under a name of its own and set around our forwards only; a model that
a user hands in keeps its config. It computes what `scaled_dot_product_attention` computes and
refuses what it cannot (soft-capped scores, attention sinks): such models keep their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel

from promptcache.model.attending import attended_by, running
from promptcache.model.causal import folded
from promptcache.model.masks import position_mask

NAME = "promptcache"


def folded_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention of `query` `[batch, heads, queries, dim]` over `key` and `value`
    `[batch, kv_heads, keys, dim]`; the result is `[batch, queries, heads, value_dim]`.

    `attention_mask` is `[batch, 1, queries, keys]`, or None as `position_mask` means it.
    """
    for name in ("softcap", "s_aux", "sinks", "position_bias"):
        if kwargs.get(name) is not None:
            raise ValueError(f"folded attention cannot apply {name!r}")
    cache = running()
    if attention_mask is None and cache is not None:
        out = cache.attend(query, key, value, scaling)
    elif attention_mask is None and query.shape[2] > 1:
        out = scaled_dot_product_attention(
            query,
            key,
            value,
            is_causal=True,
            scale=scaling,
            enable_gqa=query.shape[1] > key.shape[1],
        )
    else:
        out = folded(query, key, value, attention_mask, scaling)
    return out.transpose(1, 2).contiguous(), None


def register() -> None:
    """Make our attention and its mask known to transformers; calling it again changes nothing."""
    AttentionInterface.register(NAME, folded_attention)
    AttentionMaskInterface.register(NAME, position_mask)


@contextmanager
def attention_set(configs: Sequence[Any], name: str | None, cache: object = None) -> Iterator[None]:
    """Let the model of these configs use that attention inside the block; None leaves its own.

    `cache` is what the block's forward writes into: our attention asks it what a query sees.

    Restores what was set before, also after an error. Not safe against other threads that run the
    same model: the caller holds its lock.
    """
    if name is None:
        yield
        return
    before = [(config, config._attn_implementation_internal) for config in configs]
    try:
        for config, _ in before:
            config._attn_implementation_internal = name
        with attended_by(cache):
            yield
    finally:
        for config, previous in before:
            config._attn_implementation_internal = previous


def configs_of(model: PreTrainedModel) -> tuple[Any, ...]:
    """Every distinct config object that a module of the model reads its attention from."""
    configs = {id(config): config for m in model.modules() if (config := _config(m)) is not None}
    return tuple(configs.values())


def _config(module: nn.Module) -> Any:
    config = getattr(module, "config", None)
    return config if hasattr(config, "_attn_implementation_internal") else None
