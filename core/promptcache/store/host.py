"""The host tier: attention states in main memory, for models on a GPU that has less of it."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from promptcache.kv import KV
from promptcache.store.memory import MemoryStore


class HostStore(MemoryStore):
    """Keeps at most `budget` bytes of attention states in the host's memory, whatever device the
    model is on.

    Where there is a GPU, they lie in pinned memory, from which it copies without waiting for the
    processor. Raises BudgetError as MemoryStore does.
    """

    tier = "host"

    def put(self, key: str, kv: KV) -> bool:
        """Keep a copy of `kv` in the host's memory, if pinned entries leave room for it."""
        return super().put(key, on_host(kv, pinned=torch.cuda.is_available()))


def on_host(kv: KV, *, pinned: bool) -> KV:
    """The states in main memory; tensors that are there already are not copied, unless to pin."""
    return replace(
        kv,
        keys=tuple(_on_host(tensor, pinned) for tensor in kv.keys),
        values=tuple(_on_host(tensor, pinned) for tensor in kv.values),
    )


def _on_host(tensor: Tensor, pinned: bool) -> Tensor:
    if not pinned or tensor.is_pinned():
        return tensor.cpu()
    copy = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return copy.copy_(tensor)
