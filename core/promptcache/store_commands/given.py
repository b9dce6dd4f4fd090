"""What commands about attention states are given: a folder, a module's key, a number of bytes."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated

import typer

from promptcache.errors import OptionError, StoreError
from promptcache.store import DiskStore

Place = Annotated[Path, typer.Argument(help="A folder that an engine keeps its modules in.")]
Budget = Annotated[
    str | None,
    typer.Option(help="The most that the folder may hold, such as 20GB. [a quarter of the free]"),
]
UNITS = {
    "": 1, "B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40,
}  # fmt: skip


def opened(folder: Path) -> DiskStore:
    """The store in a folder. StoreError where there is none."""
    if not folder.expanduser().is_dir():
        raise StoreError(f"there is no folder {str(folder)!r}; expected what an engine's store= is")
    return DiskStore(folder, sys.maxsize)


def made(folder: Path, budget: str | None) -> DiskStore:
    """The store in a folder, which is made if need be, within a budget."""
    return DiskStore(folder, None if budget is None else number_of_bytes(budget))


def chosen(folder: Path, keys: Sequence[str], beginnings: Sequence[str]) -> list[str]:
    """The keys that begin so, all of them without a beginning. StoreError for one of no key."""
    for beginning in beginnings:
        if not any(key.startswith(beginning) for key in keys):
            raise StoreError(
                f"no module in {str(folder)!r} has a key that begins with {beginning!r}; "
                f"`promptcache ls` lists the {len(keys)} that there are"
            )
    return [key for key in keys if not beginnings or key.startswith(tuple(beginnings))]


def model_part(key: str) -> str:
    """The part of a key that says whose it is: of which model as it was, and of which tenant."""
    return key.partition("-")[0] if "-" in key else ""


def moment(nanoseconds: int) -> str:
    """A time as people read it, of this place: "2026-01-31 09:30"."""
    return datetime.fromtimestamp(nanoseconds / 1e9).isoformat(" ", "minutes")


def number_of_bytes(text: str, option: str = "--budget") -> int:
    """A number of bytes, as people write it. OptionError for what is none."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?([A-Za-z]*)", text.strip())
    nbytes = Decimal(match[1]) * UNITS[match[2]] if match and match[2] in UNITS else None
    if nbytes is None or nbytes > sys.maxsize:
        raise OptionError(
            f"{option} {text!r:.80} is no number of bytes; expected for example 2GB, and less than "
            "8 EiB"
        )
    return int(nbytes)
