"""`promptcache encode`: modules of schemas and of documents, encoded ahead into a folder."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from promptcache.bench.tables import size
from promptcache.errors import OptionError, valid
from promptcache.store import DiskStore
from promptcache.store.format import DamagedFileError
from promptcache.store.states import told_by
from promptcache.store_commands.given import Budget, made

if TYPE_CHECKING:
    from promptcache.engine import PromptCache
    from promptcache.pml import Schema

ROLES = ("system", "user")
COLLECTION = "documents"


def encode(
    model: Annotated[str, typer.Argument(help='"pocket", a folder, or a hub name.')],
    store: Annotated[Path, typer.Option(help="The folder to encode into, made if need be.")],
    pml: Annotated[
        list[Path] | None, typer.Option(help="A file with a schema in PML; several times.")
    ] = None,
    docs: Annotated[
        Path | None, typer.Option(help="A folder of .md or .txt files, each one document.")
    ] = None,
    preamble: Annotated[
        Path | None,
        typer.Option(
            help="A file with the text in front of the first document in your prompts, to the "
            "letter. [nothing]"
        ),
    ] = None,
    role: Annotated[
        str | None,
        typer.Option(help="Whose message the documents stand in. [system, if there is such]"),
    ] = None,
    context: Annotated[
        str, typer.Option(help="What modules are encoded after: preamble, expected or bare.")
    ] = "preamble",
    namespace: Annotated[str, typer.Option(help="The tenant that they are for.")] = "",
    compression: Annotated[
        str | None, typer.Option(help="What they are rounded to, such as int8. [nothing]")
    ] = None,
    dtype: Annotated[str, typer.Option(help="bfloat16, float16, float32 or auto.")] = "auto",
    device: Annotated[str | None, typer.Option(help='Such as "cpu" or "cuda".')] = None,
    budget: Budget = None,
) -> None:
    """Encode the modules of schemas and documents into a folder, for engines that open it later.

    These find them if they are made with the same settings. Documents stand in the collection of
    the schema, where one file of PML is given, too.
    """
    from promptcache.engine import PromptCache
    from promptcache.pml import load_schema

    if not pml and docs is None:
        raise OptionError("there is nothing to encode: give --pml FILE or --docs FOLDER")
    if pml and docs is not None and len(pml) > 1:
        raise OptionError("--docs takes one --pml, the schema whose collection they stand in")
    if (preamble is not None or role is not None) and (pml or docs is None):
        raise OptionError("--preamble and --role are for --docs without --pml")
    schemas = [load_schema(file) for file in pml or ()]
    texts = [] if docs is None else _texts(docs)
    folder = made(store, budget)
    before = set(folder.keys())
    cache = PromptCache.from_pretrained(
        model,
        device=device,
        dtype=dtype,
        store=folder,
        context=context,
        namespace=namespace,
        compression=compression,
    )
    if texts and not schemas:
        text = "" if preamble is None else _text(preamble)
        schemas = [_around(cache, text, role)]
    began = time.perf_counter()
    for schema in schemas:
        cache.add_schema(schema, progress=bool(pml))
    if texts:
        cache.cache_documents(texts, schema=schemas[0])
    _show(folder, before, time.perf_counter() - began)


def _texts(folder: Path) -> list[str]:
    from promptcache.bench.fidelity.own import texts_in

    return texts_in(folder)


def _text(file: Path) -> str:
    from promptcache.pml.files import read_text

    return read_text(file, str(file))


def _around(cache: PromptCache, preamble: str, role: str | None) -> Schema:
    """A schema whose prompts have the preamble before their documents, as chat if there is one."""
    from promptcache.pml import Collection, Role, Schema, Text

    children = (Text(preamble), Collection(COLLECTION))
    if not cache.has_chat_template:
        if role is not None:
            raise OptionError(f"--role {role!r}: {cache.name} has no chat template")
        return Schema("ahead", children)
    role = role or ("system" if cache.takes_system else "user")
    if role not in ROLES:
        raise OptionError(f"--role {role!r} is none{valid(role, ROLES)}")
    return Schema("ahead", (Role(role, children),))


def _show(folder: DiskStore, before: set[str], seconds: float) -> None:
    """What is in the folder now, and what of it is new."""
    table = Table("", box=None, pad_edge=False)
    for heading in ("modules", "tokens", "size"):
        table.add_column(heading, justify="right")
    there = folder.folder.files()
    new = [key for key in there if key not in before]
    for name, keys in ((f"encoded in {seconds:.1f} s", new), ("in the folder", list(there))):
        nbytes = sum(there[key].nbytes for key in keys)
        tokens = sum(_tokens(folder, key) for key in keys)
        table.add_row(name, f"{len(keys):,}", f"{tokens:,}", size(nbytes))
    Console(highlight=False, markup=False).print(table)


def _tokens(folder: DiskStore, key: str) -> int:
    """How many tokens a module has; none where its file does not say."""
    try:
        return told_by(folder.folder.path_of(key))[1]["key.0"][1][1]
    except (OSError, DamagedFileError, LookupError):
        return 0
