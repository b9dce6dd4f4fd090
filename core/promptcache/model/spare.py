"""Memory of arenas that are done, kept for the next one: fresh memory costs more than a copy.

The operating system clears each page when it is first written to, which takes longer than moving
attention states there. So an engine on a CPU keeps the memory of its largest arena so far; GPUs
have an allocator that does the like.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from math import prod
from threading import Lock
from weakref import finalize

import torch
from torch import Tensor

ALIGNED = 64
"""Bytes that the beginning of each tensor is a multiple of."""
HEADROOM = 8
"""A new piece of memory is larger than asked for by one part in so many, for longer prompts."""


class SpareMemory:
    """At most one piece of memory that nobody uses. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._spare: Tensor | None = None

    @property
    def nbytes(self) -> int:
        """The bytes that wait to be used again."""
        with self._lock:
            return 0 if self._spare is None else self._spare.numel()

    def tensors(
        self, shapes: Sequence[tuple[int, ...]], dtype: torch.dtype, owner: object
    ) -> list[Tensor]:
        """Tensors on the CPU of these shapes, their content left as it is.

        Their memory serves others once `owner` is gone: nobody else may keep them.
        """
        sizes = [-(-prod(shape) * dtype.itemsize // ALIGNED) * ALIGNED for shape in shapes]
        *starts, total = accumulate(sizes, initial=0)
        memory = self._take(total)
        finalize(owner, self._give_back, memory).atexit = False
        return [
            memory[start : start + prod(shape) * dtype.itemsize].view(dtype).view(shape)
            for start, shape in zip(starts, shapes, strict=True)
        ]

    def _take(self, nbytes: int) -> Tensor:
        with self._lock:
            memory, self._spare = self._spare, None
        if memory is None or memory.numel() < nbytes:
            memory = None  # goes before its successor comes
            memory = torch.empty(nbytes + nbytes // HEADROOM, dtype=torch.uint8)
        return memory

    def _give_back(self, memory: Tensor) -> None:
        with self._lock:
            if self._spare is None or self._spare.numel() < memory.numel():
                self._spare = memory
