"""A recorder without a GPU: it notes every operation on tensors, and does them again in place.

As a CUDA graph does, it runs no Python again: numbers that Python worked out stay what they were,
and every operation reads and writes the memory that it read and wrote when it was noted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only


class Tape:
    """Records by noting operations; `recorded` counts the tapes, `played` their replays."""

    def __init__(self) -> None:
        self.recorded = 0
        self.played = 0

    def record(self, run: Callable[[], Tensor]) -> Callable[[], Tensor]:
        run()
        with _Noting() as notes:
            result = run()
        operations = notes.operations
        self.recorded += 1

        @torch.no_grad()
        def replay() -> Tensor:
            self.played += 1
            for function, args, kwargs, out in operations:
                again = function(*args, **kwargs)
                for old, new in zip(tree_leaves(out), tree_leaves(again), strict=True):
                    if isinstance(old, Tensor) and not _same_memory(old, new):
                        old.copy_(new)
            return result

        return replay


class _Noting(TorchDispatchMode):
    """Keeps what memory the tensors have now: a parameter may have another later."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        kept = tree_map_only(Tensor, Tensor.detach, (args, kwargs or {}, out))
        self.operations.append((func, *kept))
        return out


def _same_memory(one: Tensor, other: Tensor) -> bool:
    """Whether a tensor is a view of another's memory, or written in place."""
    return one.untyped_storage().data_ptr() == other.untyped_storage().data_ptr()
