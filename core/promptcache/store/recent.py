"""What is remembered of keys, as long as there are not too many: the oldest is forgotten first."""

from __future__ import annotations

from collections import OrderedDict
from typing import TypeVar

T = TypeVar("T")

MOST = 1 << 16
"""Keys of which something is remembered, some 10 MB of them."""


class Recent(OrderedDict[str, T]):
    """Values by key, of the `MOST` keys that were set last."""

    def __setitem__(self, key: str, value: T) -> None:
        super().__setitem__(key, value)
        self.move_to_end(key)
        if len(self) > MOST:
            self.popitem(last=False)
