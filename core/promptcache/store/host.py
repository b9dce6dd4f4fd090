"""The host tier: attention states in main memory, for models on a GPU that has less of it."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

import torch
from torch import Tensor

from promptcache.kv import KV
from promptcache.store.compression import PackedKV, packed, unpacked
from promptcache.store.memory import MemoryStore


class HostStore(MemoryStore):
    """Keeps at most `budget` bytes of attention states in the host's memory, whatever device the
    model is on.

    Where there is a GPU, they lie in pinned memory, from which it copies without waiting for the
    processor. Compressed ones are held packed, and unpacked on `device`, or in main memory without
    one, whenever they are read. Raises BudgetError as MemoryStore does.
    """

    tier = "host"

    def __init__(self, budget: int, *, device: torch.device | str | None = None) -> None:
        super().__init__(budget)
        self._device = None if device is None else torch.device(device)

    def get(self, key: str) -> KV | None:
        """The states under `key`, which count as used now."""
        kv = super().get(key)
        return None if kv is None else unpacked(kv, self._device)

    def put(self, key: str, kv: KV) -> bool:
        """Keep a copy of `kv` in the host's memory, if pinned entries leave room for it."""
        return super().put(key, on_host(packed(kv), pinned=torch.cuda.is_available()))


def on_host(kv: KV, *, pinned: bool) -> KV:
    """The states in main memory; tensors that are there already are not copied, unless to pin."""
    moved = replace(
        kv,
        keys=tuple(_on_host(tensor, pinned) for tensor in kv.keys),
        values=tuple(_on_host(tensor, pinned) for tensor in kv.values),
        side=MappingProxyType({name: tensor.cpu() for name, tensor in kv.side.items()}),
    )
    if isinstance(moved, PackedKV):
        return replace(moved, peaks=tuple(_on_host(peaks, pinned) for peaks in moved.peaks))
    return moved


def _on_host(tensor: Tensor, pinned: bool) -> Tensor:
    if not pinned or tensor.is_pinned():
        return tensor.cpu()
    copy = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return copy.copy_(tensor)
