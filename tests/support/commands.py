"""What the command line did: its status, and what it printed to either stream."""

from __future__ import annotations

from collections.abc import Callable

Cli = Callable[..., tuple[int, str, str]]
