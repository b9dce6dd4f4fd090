"""Masks by position: which keys a query sees.

We never hand a model a mask. Models disagree on its form (one float tensor, a windowed one, a
dict by layer type, none at all), and a wrong form is silently wrong. Each model builds its own,
from the sizes and query positions that the arena tells it; here is the builder that it calls
while our attention is set. Stock attention uses transformers' own builders with the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers.masking_utils import causal_mask_function, sdpa_mask

from promptcache.model.attending import running


def position_mask(
    batch_size: int,
    q_length: int,
    kv_length: int,
    q_offset: int | Tensor = 0,
    kv_offset: int = 0,
    mask_function: Callable[..., Any] = causal_mask_function,
    attention_mask: Tensor | None = None,
    local_size: int | None = None,
    use_vmap: bool = False,
    device: torch.device | str = "cpu",
    **_: Any,
) -> Tensor | None:
    """A boolean mask `[batch, 1, queries, keys]`, True where a query sees a key.

    None stands for plain causal attention: by the positions that the running forward's cache
    knows, or, without one, over a whole sequence or by one query that sees everything.
    """
    windowed = local_size is not None and kv_length >= local_size
    plain = attention_mask is None and not use_vmap and not windowed
    if plain and (mask_function is causal_mask_function or local_size is not None):
        whole = q_length == kv_length and isinstance(q_offset, int) and q_offset == 0
        if whole or q_length == 1 or running() is not None:
            return None
    mask: Tensor | None = sdpa_mask(
        batch_size=batch_size,
        q_length=q_length,
        kv_length=kv_length,
        q_offset=q_offset,
        kv_offset=kv_offset,
        mask_function=mask_function,
        attention_mask=attention_mask,
        allow_is_causal_skip=False,
        use_vmap=use_vmap,
        device=device,
    )
    return mask
