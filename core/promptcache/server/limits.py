"""What one request may take, and how many may be served or wait."""

from __future__ import annotations

from dataclasses import dataclass

from promptcache.errors import OptionError


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of a server.

    `concurrency` requests run at once, their tokens together; `queue` more may wait, the next one
    is refused. `timeout` is in seconds, from when a request was read to the end of its answer.
    `body` is the most bytes of a request; `window` the most tokens of a prompt and its answer,
    None for the model's own. The page at `/` has the last `recent` requests of a namespace with
    their texts.

    Raises OptionError for a limit that lets nothing through.
    """

    concurrency: int = 8
    queue: int = 64
    timeout: float = 300.0
    body: int = 16 * 1024**2
    window: int | None = None
    recent: int = 20

    def __post_init__(self) -> None:
        for name in ("concurrency", "timeout", "body", "window"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise OptionError(f"{name}={value!r} is not a number above 0")
        for name in ("queue", "recent"):
            if getattr(self, name) < 0:
                raise OptionError(f"{name}={getattr(self, name)!r} is not a number from 0")
