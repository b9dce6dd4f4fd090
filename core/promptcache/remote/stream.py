"""An answer as it comes from a server: an iterator of text that ends with a Reply."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

from promptcache.errors import RemoteError
from promptcache.recording import Recording
from promptcache.remote.replies import reply_of
from promptcache.reply import Reply

ACCOUNT = "promptcache"
"""Under which name OpenAI's forms have the server's account of an answer."""


class RemoteStream(Iterator[str]):
    """The pieces of an answer's text, in order.

    The server has chosen the first token when the stream is made, so errors in the prompt are
    raised there. A stream that is closed hangs up, which ends the answer on the server.
    """

    def __init__(
        self, opened: AbstractContextManager[Iterator[Any]], recordings: Sequence[Recording] = ()
    ) -> None:
        """`recordings` take the stream in when its reply has come."""
        self._opened = opened
        self._recordings = recordings
        self._events = opened.__enter__()
        self._reply: Reply | None = None
        self._closed = False

    def __next__(self) -> str:
        try:
            for event in self._events:
                if self._closed:
                    break
                if piece := self._piece(event):
                    return piece
        except BaseException:
            self.close()
            raise
        self.close()
        raise StopIteration

    def close(self) -> None:
        """Hang up; a second time does nothing."""
        if not self._closed:
            self._closed = True
            self._opened.__exit__(None, None, None)

    def __enter__(self) -> RemoteStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def reply(self) -> Reply:
        """The whole answer. Raises RemoteError as long as it has not come."""
        if self._reply is None:
            raise RemoteError("the answer has not come to its end")
        return self._reply

    def _piece(self, event: Any) -> str:
        """The text of one event, in OpenAI's two forms or in ours; the reply has none."""
        if isinstance(account := event.get(ACCOUNT), dict):
            self._end(reply_of(account))
        elif "trace" in event:
            self._end(reply_of(event))
        elif "delta" in event:
            return str(event["delta"])
        for choice in event.get("choices", ()):
            return str(choice.get("text") or choice.get("delta", {}).get("content") or "")
        return ""

    def _end(self, reply: Reply) -> None:
        self._reply = reply
        for recording in self._recordings:
            recording.add(self)
