"""A file system that fails, hangs and counts, as tests tell it to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, ClassVar

import fsspec
from fsspec.implementations.memory import MemoryFileSystem

Trouble = Callable[[str, str], None]


def nothing(what: str, path: str) -> None:
    """No trouble."""


class FaultyFileSystem(MemoryFileSystem):
    """Memory at "faulty://", where `trouble` is asked before each reading and in each writing."""

    protocol = "faulty"
    trouble: ClassVar[Trouble] = staticmethod(nothing)
    calls: ClassVar[Counter[str]] = Counter()

    @classmethod
    def _strip_protocol(cls, path: str) -> Any:
        return super()._strip_protocol(path.replace("faulty://", "memory://"))

    def cat_file(
        self, path: str, start: int | None = None, end: int | None = None, **_: Any
    ) -> Any:
        self.calls["read"] += 1
        type(self).trouble("read", path)
        return super().cat_file(path, start=start, end=end)

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **_: Any) -> None:
        self.calls["write"] += 1
        super().pipe_file(path, value[: len(value) // 2], mode=mode)
        type(self).trouble("write", path)
        super().pipe_file(path, value, mode=mode)


fsspec.register_implementation("faulty", FaultyFileSystem, clobber=True)
