"""`promptcache ls | verify | gc`: what people can ask of a folder of attention states."""

from __future__ import annotations

import re
import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from tqdm.auto import tqdm

from promptcache.bench.tables import size
from promptcache.errors import OptionError, StoreError
from promptcache.store import DiskStore
from promptcache.store.folder import DAMAGED, File
from promptcache.store.format import DamagedFileError
from promptcache.store.states import told_by

Place = Annotated[Path, typer.Argument(help="A folder that an engine keeps its modules in.")]
UNITS = {
    "": 1, "B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40,
}  # fmt: skip


def ls(folder: Place) -> None:
    """List the modules in a folder, the one used longest ago first."""
    store = _opened(folder)
    table = Table("key", "model", box=None, pad_edge=False)
    for heading in ("tokens", "layers", "dtype", "size", "last used"):
        table.add_column(heading, justify="right")
    files = store.folder.files()
    for key, file in files.items():
        table.add_row(*_row(store, key, file))
    console = Console(highlight=False)
    if files:
        console.print(table)
    models = len({_model(key) for key in files})
    damaged = store.folder.damaged()
    console.print(
        f"{len(files)} modules of {models} models, {size(store.nbytes)}"
        + (f", {damaged} damaged files among them in {DAMAGED}/" if damaged else "")
    )


def verify(folder: Place) -> None:
    """Hold every file against its checksum, and set aside what is damaged; status 1 if any is."""
    store = _opened(folder)
    console = Console(highlight=False, soft_wrap=True)
    keys = store.keys()
    wrong = 0
    for key in tqdm(keys, unit="file", desc="verifying", disable=None):
        try:
            reason = store.verify(key)
        except OSError as error:
            reason = f"cannot be read: {error}"
        if reason is not None:
            wrong += 1
            console.print(f"{store.folder.path_of(key).name} {reason}", markup=False)
    console.print(f"{len(keys) - wrong} of {len(keys)} files are whole")
    raise typer.Exit(1 if wrong else 0)


def gc(
    folder: Place,
    budget: Annotated[
        str | None, typer.Option(help="Keep this much of what was used last, such as 2GB.")
    ] = None,
) -> None:
    """Remove damaged files, and modules until the folder keeps a budget."""
    store = _opened(folder)
    try:
        freed = store.folder.shrink(sys.maxsize if budget is None else _bytes(budget))
    except OSError as error:
        raise StoreError(f"{str(folder)!r} cannot be cleaned: {error.strerror}") from error
    print(f"{size(freed)} freed, {size(store.nbytes)} kept")


def _opened(folder: Path) -> DiskStore:
    if not folder.expanduser().is_dir():
        raise StoreError(f"there is no folder {str(folder)!r}; expected what an engine's store= is")
    return DiskStore(folder, sys.maxsize)


def _row(store: DiskStore, key: str, file: File) -> tuple[str, ...]:
    used = datetime.fromtimestamp(file.used / 1e9).isoformat(" ", "minutes")
    try:
        _, shapes = told_by(store.folder.path_of(key))
        dtype, (_, tokens, _) = shapes["key.0"]
    except (OSError, DamagedFileError, KeyError, ValueError):
        return key, _model(key), "", "", "damaged", size(file.nbytes), used
    layers = sum(name.startswith("key.") for name in shapes)
    return key, _model(key), f"{tokens:,}", str(layers), dtype, size(file.nbytes), used


def _model(key: str) -> str:
    """The part of a key that says whose it is: of which model as it was, and of which tenant."""
    return key.partition("-")[0] if "-" in key else ""


def _bytes(text: str) -> int:
    """A number of bytes, as people write it. OptionError for what is none."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?([A-Za-z]*)", text.strip())
    if match is None or match[2] not in UNITS:
        raise OptionError(f"--budget {text!r} is no number of bytes; expected for example 2GB")
    return int(float(match[1]) * UNITS[match[2]])
