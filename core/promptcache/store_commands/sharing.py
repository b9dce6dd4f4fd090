"""`promptcache export | import`: modules of a folder as one file, for another machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from tqdm.auto import tqdm

from promptcache.bench.tables import size
from promptcache.errors import StoreError
from promptcache.store_commands import archive
from promptcache.store_commands.archive import Taken
from promptcache.store_commands.given import Budget, Place, chosen, made, opened


def export(
    folder: Place,
    file: Annotated[Path, typer.Argument(help="The archive to write, such as modules.tar.")],
    key: Annotated[
        list[str] | None,
        typer.Option(help="Only keys that begin so, a model's part for instance; several times."),
    ] = None,
) -> None:
    """Write modules of a folder into one archive; status 1 if a damaged one was left out."""
    store = opened(folder)
    sizes = {name: each.nbytes for name, each in store.folder.files().items()}
    keys = chosen(folder, list(sizes), key or ())
    total = sum(sizes[name] for name in keys)
    try:
        with tqdm(total=total, unit="B", unit_scale=True, desc="exporting", disable=None) as bar:
            taken = archive.write(store, keys, file, bar.update)
    except OSError as error:
        raise StoreError(f"the archive {str(file)!r} cannot be written: {error}") from error
    written = [each for each in taken if each.reason is None]
    _show({"written": written}, taken)
    raise typer.Exit(len(written) < len(taken))


def import_(
    file: Annotated[Path, typer.Argument(help="An archive that `promptcache export` wrote.")],
    folder: Place,
    budget: Budget = None,
) -> None:
    """Check the modules of an archive and put them into a folder; status 1 if one is damaged.

    Import only what comes from people whom you let decide what your model reads.
    """
    if not file.is_file():
        raise StoreError(f"there is no archive {str(file)!r}; expected what an export wrote")
    store = made(folder, budget)
    before = set(store.keys())
    taken: list[Taken] = []
    total = file.stat().st_size
    try:
        with tqdm(total=total, unit="B", unit_scale=True, desc="importing", disable=None) as bar:
            for each in archive.read(file, store, bar.update):
                taken.append(each)
    except OSError as error:
        raise StoreError(f"{str(file)!r} cannot be imported: {error}") from error
    finally:
        there = set(store.keys())
        kept = [each for each in taken if each.reason is None]
        groups = {
            "imported": [t for t in kept if t.key not in before and t.key in there],
            "there already": [t for t in kept if t.key in before and t.key in there],
        }
        gone = len(before - there) + sum(each.key not in there for each in kept)
        _show(groups, taken)
    if gone:
        print(f"the budget of {size(store.budget)} made {gone} modules go, the oldest first")
    raise typer.Exit(len(kept) < len(taken))


def _show(groups: Mapping[str, Sequence[Taken]], taken: Sequence[Taken]) -> None:
    """A closing table, and below it what was left out."""
    table = Table("", box=None, pad_edge=False)
    table.add_column("modules", justify="right")
    table.add_column("size", justify="right")
    left_out = [each for each in taken if each.reason is not None]
    for name, group in (*groups.items(), *((("left out", left_out),) if left_out else ())):
        table.add_row(name, f"{len(group):,}", size(sum(each.nbytes for each in group)))
    console = Console(highlight=False, markup=False, soft_wrap=True)
    console.print(table)
    for each in left_out:
        console.print(f"{each.key} {each.reason}")
