"""`promptcache ls | inspect | verify | gc`: a folder of attention states, looked at and cleaned."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from tqdm.auto import tqdm

from promptcache.bench.tables import size
from promptcache.errors import ModelError, StoreError
from promptcache.store import DiskStore, states
from promptcache.store.compression import COMPRESSIONS
from promptcache.store.folder import DAMAGED
from promptcache.store.format import (
    CHECKSUM,
    MODEL,
    START,
    DamagedFileError,
    cost_of,
    tokens_of,
)
from promptcache.store.listing import File
from promptcache.store.states import told_by
from promptcache.store_commands.given import (
    Place,
    chosen,
    model_part,
    moment,
    number_of_bytes,
    opened,
)

SHOWN = 12
"""How many token ids are shown."""


def ls(folder: Place) -> None:
    """List the modules in a folder, the one used longest ago first."""
    store = opened(folder)
    table = Table("key", "model", box=None, pad_edge=False)
    for heading in ("tokens", "layers", "dtype", "size", "last used"):
        table.add_column(heading, justify="right")
    files = store.folder.files()
    for key, file in files.items():
        table.add_row(*_row(store, key, file))
    console = Console(highlight=False)
    if files:
        console.print(table)
    models = len({model_part(key) for key in files})
    damaged = store.folder.damaged()
    console.print(
        f"{len(files)} {'module' if len(files) == 1 else 'modules'} of {models} "
        f"{'model' if models == 1 else 'models'}, {size(store.nbytes)}"
        + (f", {damaged} damaged files among them in {DAMAGED}/" if damaged else "")
    )


def inspect(
    folder: Place,
    key: Annotated[str, typer.Argument(help="A module's key, or enough of its beginning.")],
    tokenizer: Annotated[
        str | None,
        typer.Option(help='Shows the text, too: "pocket", a folder or a hub name.'),
    ] = None,
) -> None:
    """Show all that one module's file says, and whether it is whole; status 1 if it is not."""
    store = opened(folder)
    found = chosen(folder, store.keys(), [key])
    if len(found) > 1 and key not in found:
        raise StoreError(f"{len(found)} keys begin with {key!r}, {found[0]} and {found[1]} first")
    key = key if key in found else found[0]
    file = store.folder.files()[key]
    table = Table(box=None, pad_edge=False, show_header=False)
    for name, value in (("key", key), ("owner", model_part(key)), *_told(store, key, tokenizer)):
        table.add_row(name, value)
    table.add_row("file", f"{store.folder.path_of(key)}, {file.nbytes:,} bytes")
    table.add_row("last used", moment(file.used))
    reason = _damage(store, key)
    table.add_row("state", "whole" if reason is None else f"damaged: it {reason}")
    Console(highlight=False, markup=False, soft_wrap=True).print(table)
    raise typer.Exit(0 if reason is None else 1)


def verify(folder: Place) -> None:
    """Hold every file against its checksum, and set aside what is damaged; status 1 if any is."""
    store = opened(folder)
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
    store = opened(folder)
    try:
        freed = store.folder.shrink(sys.maxsize if budget is None else number_of_bytes(budget))
    except OSError as error:
        raise StoreError(f"{str(folder)!r} cannot be cleaned: {error.strerror}") from error
    print(f"{size(freed)} freed, {size(store.nbytes)} kept")


def _row(store: DiskStore, key: str, file: File) -> tuple[str, ...]:
    used = moment(file.used)
    try:
        _, shapes = told_by(store.folder.path_of(key))
        dtype, (_, tokens, _) = shapes["key.0"]
    except (OSError, DamagedFileError, KeyError, ValueError):
        return key, model_part(key), "", "", "damaged", size(file.nbytes), used
    layers = sum(name.startswith("key.") for name in shapes)
    return key, model_part(key), f"{tokens:,}", str(layers), dtype, size(file.nbytes), used


def _told(store: DiskStore, key: str, tokenizer: str | None) -> Iterator[tuple[str, str]]:
    """What the header of a module's file says, in words; nothing where it has none."""
    try:
        told, shapes = told_by(store.folder.path_of(key))
        dtype, (heads, tokens, key_dim) = shapes["key.0"]
        _, (_, _, value_dim) = shapes["value.0"]
    except (OSError, DamagedFileError, KeyError, ValueError):
        return
    layers = sum(name.startswith("key.") for name in shapes)
    dims = f"{key_dim}" if key_dim == value_dim else f"{key_dim} (keys) and {value_dim} (values)"
    cost = cost_of(told)
    ids = tokens_of(told)
    more = f" and {len(ids) - SHOWN:,} more" if len(ids) > SHOWN else ""
    yield "model", _plain(told.get(MODEL, "unknown"))
    yield "tokens", f"{tokens:,}, encoded from position {_plain(told.get(START, '?'))} on"
    yield "token ids", " ".join(map(str, ids[:SHOWN])) + more if ids else "unknown"
    if tokenizer is not None:
        yield "text", repr(_text(ids, tokenizer)) if ids else "unknown"
    yield "states", f"{layers} layers, {heads} heads of {dims} in the first, {dtype}"
    compression = next((name for name in COMPRESSIONS if f"{name}.key.0" in shapes), None)
    yield "compression", compression or "none"
    side = [name.removeprefix("side.") for name in shapes if name.startswith("side.")]
    yield "kept beside", ", ".join(side) or "nothing"
    yield "encoding took", "unknown" if cost is None else f"{cost:.3g} s"
    yield "checksum", _plain(told.get(CHECKSUM, "none"))


def _plain(value: str) -> str:
    """What a header says, which may be anything, as a terminal shows it."""
    return value[:80] if value.isprintable() else repr(value)[:80]


def _text(ids: Sequence[int], tokenizer: str) -> str:
    """What the tokens say. ModelError for a tokenizer that cannot be loaded, or has them not."""
    from promptcache.model.load import load_tokenizer

    loaded = load_tokenizer(tokenizer)
    if max(ids) >= len(loaded):
        raise ModelError(f"the tokenizer of {tokenizer} has no token {max(ids)}")
    return str(loaded.decode(ids))


def _damage(store: DiskStore, key: str) -> str | None:
    """What is wrong with a file, which stays where it is."""
    try:
        states.read(store.folder.path_of(key), key, lambda _: False)
    except DamagedFileError as error:
        return str(error)
    except OSError as error:
        return f"cannot be read: {error}"
    return None
