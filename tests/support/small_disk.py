"""An engine whose disk is full, and then read-only: python -m support.small_disk FOLDER.

It mounts a file system of its own on FOLDER, so it has to be in a mount namespace of its own
(`unshare --mount`). It prints, for each of both faults, whether all answers were those of an
engine without a disk, what the log warned of, and how many modules the disk has.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path

from promptcache import DiskStore, MemoryStore, PromptCache, Tiers
from support.library import DOCUMENTS, messages
from support.words import byte_tokenizer
from support.zoo import model

SIZE = "64k"
"""Room for some of the modules that are asked for, and not for all."""
ORDERS = [(0, 1), (2, 0), (3, 4, 5), (1, 2)]


class Heard(logging.Handler):
    """What was said since it was last asked."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self._said.append(record.getMessage())

    def said(self) -> list[str]:
        """All of it, once."""
        said, self._said = self._said, []
        return said


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


def answers(cache: PromptCache) -> list[tuple[int, ...]]:
    """Each twice, the second time from what was kept."""
    cache.cache_documents(DOCUMENTS, progress=False)
    given = []
    for order in ORDERS * 2:
        given.append(cache.generate_messages(messages(*order), max_new_tokens=4).token_ids)
        cache.store.evict()
        if isinstance(cache.store, Tiers):
            cache.store.flush(60)
    return given


def engine(store: Tiers | None) -> PromptCache:
    return PromptCache(model("llama"), byte_tokenizer(), store=store, conversations=False)


def main() -> None:
    folder = Path(sys.argv[1])
    heard = Heard()
    logging.getLogger("promptcache").addHandler(heard)
    expected = answers(engine(None))
    mount("-t", "tmpfs", "-o", f"size={SIZE},mode=700", "tmpfs", str(folder))
    told = []
    for fault in ("full", "read-only"):
        if fault == "read-only":
            mount("-o", "remount,ro", str(folder))
        disk = DiskStore(folder, 10**9)  # more than there is: what fails is the disk
        right = answers(engine(Tiers(MemoryStore(10**7), disk))) == expected
        disk.check_integrity()
        told.append((fault, right, heard.said(), len(disk.keys())))
    print(json.dumps(told))


if __name__ == "__main__":
    main()
