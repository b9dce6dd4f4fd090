"""A recording: the replies of every request that an engine serves while it is open.

For frameworks that pass on an answer's text and nothing else. Knows no framework.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import Protocol, overload

from promptcache.html import block, rows_table
from promptcache.reply import Reply


class Replying(Protocol):
    """A request that has a reply: a stream, of an engine here or of one behind a URL."""

    @property
    def reply(self) -> Reply:
        """What is answered, as far as that is known."""


class Recording(Sequence[Reply]):
    """Replies in the order in which their requests began; one that still runs as far as it is."""

    def __init__(self) -> None:
        self._streams: list[Replying] = []

    def add(self, stream: Replying) -> None:
        """Take a request in."""
        self._streams.append(stream)

    @overload
    def __getitem__(self, index: int) -> Reply: ...
    @overload
    def __getitem__(self, index: slice) -> list[Reply]: ...
    def __getitem__(self, index: int | slice) -> Reply | list[Reply]:
        if isinstance(index, slice):
            return [stream.reply for stream in self._streams[index]]
        return self._streams[index].reply

    def __len__(self) -> int:
        return len(self._streams)

    def _repr_html_(self) -> str:
        heads = ("first token, ms", "tokens", "reused", "computed", "answer")
        rows = (
            (
                f"{1000 * reply.ttft:,.1f}",
                f"{reply.usage.input_tokens:,}",
                f"{reply.usage.reused_tokens:,}",
                f"{reply.usage.computed_tokens:,}",
                reply.text,
            )
            for reply in self
        )
        return block(rows_table(heads, rows, numbers=4))


class Recordings:
    """The open recordings of one engine. Safe to use from several threads."""

    def __init__(self) -> None:
        self._open: list[Recording] = []
        self._lock = Lock()

    @contextmanager
    def open(self) -> Iterator[Recording]:
        """A recording of what is asked from now on, in any thread, until the block ends."""
        recording = Recording()
        with self._lock:
            self._open.append(recording)
        try:
            yield recording
        finally:
            with self._lock:
                self._open = [other for other in self._open if other is not recording]

    def now(self) -> tuple[Recording, ...]:
        """The recordings that are open at this moment."""
        with self._lock:
            return tuple(self._open)

    def add(self, stream: Replying) -> None:
        """Let every open recording have this request."""
        for recording in self.now():
            recording.add(stream)
