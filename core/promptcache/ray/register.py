"""What was registered with a cluster, in order: every replica and every ingress goes through it.

Plain values; knows neither Ray nor what a change means.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from hashlib import blake2b
from uuid import uuid4

from promptcache.ray.wire import Asked, Version


class Register:
    """The requests that changed what is registered: schemas, documents, deletions.

    Of equal changes the last stays. A register that was lost begins a new epoch, empty, and is
    given by whoever notices first what they know.
    """

    def __init__(self) -> None:
        self._epoch = uuid4().hex
        self._last = 0
        self._changes: dict[bytes, tuple[int, Asked]] = {}

    @property
    def version(self) -> Version:
        """What somebody knows who knows everything."""
        return Version(self._epoch, self._last)

    def add(self, changes: Sequence[Asked]) -> Version:
        """Take in changes, in order; the version that has them."""
        for change in changes:
            self._last += 1
            identity = _identity(change)
            self._changes.pop(identity, None)
            self._changes[identity] = self._last, replace(change, version=Version())
        return self.version

    def since(self, known: Version) -> tuple[Version, list[Asked]]:
        """What came after `known`, all of it for a version of another epoch."""
        number = known.number if known.epoch == self._epoch else 0
        after = []
        for last, change in reversed(self._changes.values()):
            if last <= number:
                break
            after.append(change)
        return self.version, after[::-1]


def _identity(change: Asked) -> bytes:
    """The same for two changes of which the later one does all that the earlier did."""
    digest = blake2b(digest_size=16)
    for part in (change.namespace, change.method, change.path):
        digest.update(f"{len(part)}:{part}".encode())
    if change.method == "POST":  # a body of documents; a schema's replaces an earlier one's
        digest.update(change.body)
    return digest.digest()
