"""A server that is killed under load: what was on its disk serves the first answers of the next."""

from __future__ import annotations

import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Timer

from promptcache.bench.serving.process import ServerProcess
from promptcache.bench.serving.requests import Documents, Question, questions
from promptcache.errors import PromptCacheError
from promptcache.remote.engine import RemoteEngine
from promptcache.reply import Reply
from promptcache.trace import Provenance

SUFFIX = ".kv.safetensors"


@dataclass(frozen=True, slots=True)
class Report:
    """What a restart has shown, in modules.

    `kept` were whole on the disk when the server was killed; of those that the first answers used,
    `reused` were reused, and `again` encoded anew though they were there.
    """

    kept: int
    reused: int
    again: int

    def lines(self) -> Sequence[str]:
        """The report in a sentence."""
        return [
            f"killed under load with {self.kept:,} modules on the disk; of these the first answers "
            f"after the restart used {self.reused + self.again:,}, and {self.again:,} were encoded "
            "again"
        ]


def run(folder: Path, model: str, clients: int, documents: int, seconds: float) -> Report:
    """Kill a server `seconds` after its first answer, and ask another one on the same store.

    Nothing is encoded before: the load does that, and is interrupted in it.
    """
    library = Documents.made(documents)
    asked = questions(library, documents)
    options = ["--store", str(folder)]
    with ServerProcess(model, options) as server:
        engine = RemoteEngine(server.url, max_retries=0)
        _register(engine, library)
        _until_killed(server, engine, asked, clients, seconds)
    kept = {file.name.removesuffix(SUFFIX) for file in folder.glob(f"*{SUFFIX}")}
    with ServerProcess(model, options) as server:
        engine = RemoteEngine(server.url)
        _register(engine, library)
        replies = [question.asked(engine) for question in asked]
    encoded, reused = _first_uses(replies)
    return Report(len(kept), len(kept & reused), len(kept & encoded))


def _register(engine: RemoteEngine, library: Documents) -> None:
    engine.add_schema(library.schema, encode=False)
    engine.cache_documents(library.named, progress=False)


def _until_killed(
    server: ServerProcess,
    engine: RemoteEngine,
    asked: Sequence[Question],
    clients: int,
    seconds: float,
) -> None:
    killed = Event()

    def client(number: int) -> None:
        rng = random.Random(number)
        while not killed.is_set():
            try:
                rng.choice(asked).asked(engine)
            except PromptCacheError:
                if not killed.is_set():
                    raise

    def kill() -> None:
        killed.set()
        server.kill()

    asked[0].asked(engine)
    timer = Timer(seconds, kill)
    timer.start()
    with ThreadPoolExecutor(clients) as threads:
        for each in [threads.submit(client, number) for number in range(clients)]:
            each.result()
    timer.join()


def _first_uses(replies: Sequence[Reply]) -> tuple[set[str], set[str]]:
    """The keys of modules that their first use encoded, and of those that it reused."""
    encoded: set[str] = set()
    reused: set[str] = set()
    for span in (span for reply in replies for span in reply.trace if span.module and span.key):
        assert span.key is not None
        if span.key not in encoded | reused:
            (encoded if span.provenance is Provenance.ENCODED else reused).add(span.key)
    return encoded, reused
