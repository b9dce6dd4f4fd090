"""`promptcache serve` and `promptcache key`: a server, and keys for its namespaces."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from promptcache.errors import MissingExtraError, OptionError
from promptcache.store_commands.given import number_of_bytes

if TYPE_CHECKING:
    from promptcache.store import Store

HERE = ("127.0.0.1", "localhost", "::1")
log = logging.getLogger("promptcache.server")


def key(
    file: Annotated[Path, typer.Argument(help="The file of keys; it is made if there is none.")],
    namespace: Annotated[str, typer.Argument(help="Whose modules the key is for.")],
) -> None:
    """Add a new API key to a file of keys, which has its hash alone, and print it."""
    from promptcache.server.keys import add_key

    typer.echo(add_key(file, namespace))


def serve(
    model: Annotated[str, typer.Argument(help='"pocket", a folder, or a hub name.')],
    store: Annotated[
        list[str] | None,
        typer.Option(
            help="Keep attention states in this folder or at this URL, too; may be given several "
            "times, the fastest first."
        ),
    ] = None,
    memory: Annotated[
        str | None,
        typer.Option(help="The most that they may take in memory, such as 4GB. [a quarter of it]"),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            help="The most that each folder may hold, such as 20GB. [a quarter of the free]"
        ),
    ] = None,
    compression: Annotated[
        str | None, typer.Option(help="What they are rounded to, such as int8. [nothing]")
    ] = None,
    host: Annotated[str, typer.Option(help="The address to listen at.")] = HERE[0],
    port: Annotated[int, typer.Option(help="The port; 0 for any that is free.")] = 8000,
    keys: Annotated[
        Path | None, typer.Option(help="Serve only keys of this file (see promptcache key).")
    ] = None,
    name: Annotated[str | None, typer.Option(help="What clients call the model. [MODEL]")] = None,
    reuse: Annotated[str, typer.Option(help="The reuse policy, such as FirstK(8).")] = "Modular",
    context: Annotated[
        str, typer.Option(help="What modules are encoded after: preamble, expected or bare.")
    ] = "preamble",
    device: Annotated[str | None, typer.Option(help="Where the model runs, such as cuda.")] = None,
    dtype: Annotated[str, typer.Option(help="The model's dtype, such as bfloat16.")] = "auto",
    concurrency: Annotated[int, typer.Option(help="Requests that run at once.")] = 8,
    continuous_batching: Annotated[
        bool, typer.Option(help="Compute tokens of requests that run at once in one forward.")
    ] = True,
    queue: Annotated[int, typer.Option(help="Requests that may wait beside them.")] = 64,
    timeout: Annotated[float, typer.Option(help="Seconds that a request may take.")] = 300.0,
    max_body: Annotated[int, typer.Option(help="Bytes that its body may have.")] = 16 * 1024**2,
    window: Annotated[
        int | None, typer.Option(help="Tokens of a prompt and its answer. [the model's own]")
    ] = None,
    recent: Annotated[
        int, typer.Option(help="Requests that the page at / shows with their texts; 0 for none.")
    ] = 20,
) -> None:
    """Serve a model over HTTP, with OpenAI's API and our own; see docs/serving.md."""
    try:
        import uvicorn

        from promptcache.server.app import create_app
        from promptcache.server.engines import Engines
        from promptcache.server.keys import Keys
        from promptcache.server.limits import Limits
    except ModuleNotFoundError as error:
        raise MissingExtraError("promptcache serve", "server") from error
    from promptcache.model.load import load
    from promptcache.reuse.named import policy

    limits = Limits(concurrency, queue, timeout, max_body, window, recent)
    known = None if keys is None else Keys.read(keys)
    if known is None and host not in HERE:
        log.warning("whoever reaches %s:%d is served: there are no --keys", host, port)
    options = {
        "reuse": policy(reuse),
        "context": context,
        "compression": compression,
        "continuous_batching": continuous_batching,
    }
    kept = tiers(store or (), memory, budget)
    loaded, tokenizer = load(model, device=device, dtype=dtype)
    engines = Engines(loaded, tokenizer, name=name or model, store=kept, options=options)
    engines.of("" if known is None else known.namespaces[0])  # a model that cannot be served
    app = create_app(engines, keys=known, limits=limits)
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        timeout_graceful_shutdown=int(timeout) + 1,
        server_header=False,
        access_log=False,
    )
    signal.signal(signal.SIGTERM, _end)
    with suppress(KeyboardInterrupt):
        uvicorn.Server(config).run()


def tiers(
    places: Sequence[str], memory: str | None, budget: str | None
) -> list[Store | str] | None:
    """Where attention states are kept: memory of so many bytes, folders of so many, URLs.

    Raises OptionError for what are no bytes, and for a budget without a folder to have it.
    """
    from promptcache.store import DiskStore, MemoryStore

    if budget is None:
        found: list[Store | str] = list(places)
    else:
        if all("://" in place for place in places):
            raise OptionError(f"--budget {budget!r} is for folders; give --store FOLDER with it")
        most = number_of_bytes(budget)
        found = [place if "://" in place else DiskStore(place, most) for place in places]
    if memory is not None:
        found = [MemoryStore(number_of_bytes(memory, "--memory")), *found]
    return found or None


def _end(*_: object) -> NoReturn:
    """End as any program does, once uvicorn has let requests finish: states are still written."""
    sys.exit(0)
