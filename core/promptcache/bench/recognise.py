"""How long it takes to register documents and to find them in a prompt, by number of documents.

`python -m promptcache.bench.recognise [--json FILE]`. Two libraries: documents with nothing in
common, and documents that share their first 300 characters and differ from each other in three
characters only. Half of each prompt is registered documents, the other half documents of the same
kind that are not registered, so that in the second library every miss is a near one.
"""

from __future__ import annotations

import json
import platform
import random
import statistics
import time
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from promptcache.text.recognize import Recognizer

DOCUMENT_CHARS = 1_000
SHARED_CHARS = 300
PROMPT_CHARS = 8_000
SIZES = (100, 1_000, 10_000, 100_000)

_WORDS = ["".join(word) for word in product("bdklmnrst", "aeiou", "bdklmnrst", "aeiou")]


@dataclass(frozen=True, slots=True)
class Row:
    """One library's measurements; times in milliseconds, register_seconds for the whole library.

    `bytes_per_document` is what the recognizer needs beside the documents' own text.
    """

    case: str
    documents: int
    document_chars: int
    prompt_chars: int
    register_seconds: float
    find_ms_median: float
    find_ms_worst: float
    found_per_prompt: float
    bytes_per_document: int
    python: str
    promptcache: str


def distinct(count: int, rng: random.Random) -> list[str]:
    """Documents with no more in common than their words."""
    return [_prose(DOCUMENT_CHARS, rng) for _ in range(count)]


def near(count: int, rng: random.Random) -> list[str]:
    """Documents with one beginning, each three characters away from one and the same text."""
    base = _prose(DOCUMENT_CHARS, rng)
    documents: dict[str, None] = {}
    while len(documents) < count:
        letters = list(base)
        for place in rng.sample(range(SHARED_CHARS, DOCUMENT_CHARS), 3):
            letters[place] = rng.choice("0123456789")
        documents["".join(letters)] = None
    return list(documents)


def measure(
    case: str, make: Callable[[int, random.Random], list[str]], count: int, prompts: int
) -> Row:
    """Register `count` documents and search `prompts` prompts of PROMPT_CHARS characters."""
    rng = random.Random(count)
    documents = make(count + 100, rng)
    registered, strangers = documents[:count], documents[count:]
    recognizer = Recognizer()
    start = time.perf_counter()
    for i, document in enumerate(registered):
        recognizer.add(f"document-{i}", document)
    register_seconds = time.perf_counter() - start
    times, found = [], 0
    for _ in range(prompts):
        prompt = prompt_of(registered, strangers, rng)
        start = time.perf_counter()
        matches = recognizer.find(prompt)
        times.append((time.perf_counter() - start) * 1e3)
        found += len(matches)
        for match in matches:
            number = int(match.name.removeprefix("document-"))
            assert prompt[match.start : match.stop] == registered[number]
    return Row(
        case,
        count,
        DOCUMENT_CHARS,
        PROMPT_CHARS,
        register_seconds,
        statistics.median(times),
        max(times),
        found / prompts,
        _bytes(registered) // count,
        platform.python_version(),
        version("promptcache"),
    )


def _prose(chars: int, rng: random.Random) -> str:
    return " ".join(rng.choices(_WORDS, k=chars // 4))[:chars]


def prompt_of(registered: Sequence[str], strangers: Sequence[str], rng: random.Random) -> str:
    """A prompt of PROMPT_CHARS characters, half of them registered documents."""
    half = PROMPT_CHARS // DOCUMENT_CHARS // 2
    parts = rng.sample(registered, half) + rng.sample(strangers, half)
    rng.shuffle(parts)
    return "\n\n".join(parts)[:PROMPT_CHARS]


def _bytes(documents: list[str]) -> int:
    names = [f"document-{i}" for i in range(len(documents))]
    tracemalloc.start()
    recognizer = Recognizer()
    for name, document in zip(names, documents, strict=True):
        recognizer.add(name, document)
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return size


def table(rows: list[Row]) -> Table:
    """The rows as a table for a terminal."""
    title = f"Recognising documents of {DOCUMENT_CHARS:,} in prompts of {PROMPT_CHARS:,} characters"
    shown = Table(title=title)
    for heading in ("library", "documents", "register s", "find ms", "worst ms", "found", "bytes"):
        shown.add_column(heading, justify="left" if heading == "library" else "right")
    for row in rows:
        shown.add_row(
            row.case,
            f"{row.documents:,}",
            f"{row.register_seconds:.2f}",
            f"{row.find_ms_median:.2f}",
            f"{row.find_ms_worst:.2f}",
            f"{row.found_per_prompt:.1f}",
            f"{row.bytes_per_document:,}",
        )
    return shown


def main(
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the rows here.")] = None,
    largest: Annotated[int, typer.Option(help="The largest library, in documents.")] = 10_000,
    prompts: Annotated[int, typer.Option(help="Prompts searched per library.")] = 100,
) -> None:
    """Measure registering and recognising documents."""
    sizes = [size for size in SIZES if size <= largest]
    cases = [("distinct", distinct), ("near-matching", near)]
    rows = [measure(name, make, size, prompts) for name, make in cases for size in sizes]
    Console().print(table(rows))
    if json_file:
        json_file.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
