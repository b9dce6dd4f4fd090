"""The rows that benchmarks write: what was measured, on what, with which versions.

One JSON object per case, in files that several runs can add to. Times are in seconds.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

from promptcache.errors import OptionError, valid


@dataclass(frozen=True, slots=True)
class Spread:
    """Repeated measurements of one thing: the median, and where half of them lie.

    `low` and `high` are the quartiles, or the extremes of fewer than four.
    """

    median: float
    low: float
    high: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """The spread of some values, of which there must be one at least."""
        low, high = min(values), max(values)
        if len(values) >= 4:
            low, _, high = statistics.quantiles(values, n=4)
        return cls(statistics.median(values), low, high, len(values))


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What every row says; `bench` names the kind of row in files."""

    bench: ClassVar[str] = ""

    case: str
    model: str
    dtype: str
    device: str
    threads: int
    versions: Mapping[str, str]
    repeats: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TtftRow(Row):
    """Time to first token of one case: a system, a policy, an order of the documents.

    `prompt` is the form in which it was asked: "pml" or "text". `cached_tokens` are the prompt's
    tokens whose states were at hand in this case, `new_tokens` those that were computed,
    `module_tokens` those that a policy could reuse, equal for all cases of a prompt.
    `full_prefill_ratio` is how many times faster it is than transformers' full prefill, None where
    that was not run; `limit_ratio` how many times slower than the limit. `attention` is what
    transformers computed with. Rows of one `run` are compared with each other.
    """

    bench: ClassVar[str] = "ttft"

    run: str = ""
    prompt: str
    policy: str
    order: str
    documents: int
    module_tokens: int
    cached_tokens: int
    new_tokens: int
    ttft_seconds: float
    ttft_low: float
    ttft_high: float
    full_prefill_ratio: float | None
    limit_ratio: float
    stages: Mapping[str, float]
    attention: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeRow(Row):
    """Tokens per second behind a context, the first token not counted.

    `ratio` is how many times as many as transformers' `generate` with its default cache.
    """

    bench: ClassVar[str] = "decode"

    policy: str
    context_tokens: int
    output_tokens: int
    tokens_per_second: float
    low: float
    high: float
    ratio: float
    attention: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LibraryRow(Row):
    """What one prompt costs, by how many documents are registered. `repeats` counts prompts.

    `find_*` is recognition alone, `parse_*` and `lookup_*` are those stages of a whole request
    whose modules are encoded. `bytes_per_document` is what the engine keeps beside its text.
    """

    bench: ClassVar[str] = "library"

    documents: int
    document_chars: int
    prompt_chars: int
    register_seconds: float
    find_seconds: float
    find_worst: float
    parse_seconds: float
    parse_worst: float
    lookup_seconds: float
    lookup_worst: float
    bytes_per_document: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryRow(Row):
    """Peak memory of requests at once over the same modules, beyond the weights, in bytes.

    `ratio` is how many times that of one request.
    """

    bench: ClassVar[str] = "memory"

    requests: int
    module_tokens: int
    new_tokens: int
    output_tokens: int
    weights_bytes: int
    peak_bytes: int
    ratio: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRow(Row):
    """Modules in one tier, which the case names, and how long reading them all takes.

    `ratio` is of the bytes that their states have for the model; `compression` "none" is none.
    """

    bench: ClassVar[str] = "stored"

    compression: str
    modules: int
    module_tokens: int
    stored_bytes: int
    ratio: float
    read_seconds: float
    read_low: float
    read_high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeRow(Row):
    """How many requests are answered in a second, `clients` of them asked at once.

    `ratio` is how many times as many as one by one through an engine. `new_tokens` are those of a
    question, `module_tokens` those in front of it, which promptcache has cached.
    """

    bench: ClassVar[str] = "serve"

    clients: int
    requests: int
    module_tokens: int
    new_tokens: int
    output_tokens: int
    requests_per_second: float
    low: float
    high: float
    ratio: float


KINDS: dict[str, type[Row]] = {
    kind.bench: kind for kind in (TtftRow, DecodeRow, LibraryRow, MemoryRow, StoredRow, ServeRow)
}


def write_rows(
    file: Path,
    rows: Sequence[Row],
    *,
    append: bool = False,
    kinds: Mapping[str, type[Row]] = KINDS,
) -> None:
    """Write one object per row; with `append`, behind those that the file has already.

    Raises OptionError for a file that cannot be written, or holds something else.
    """
    before = read_rows(file, kinds) if append and file.exists() else []
    said = [{"bench": row.bench} | asdict(row) for row in (*before, *rows)]
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise OptionError(f"{file} cannot be written: {error.strerror}") from error


def read_rows(file: Path, kinds: Mapping[str, type[Row]] = KINDS) -> list[Row]:
    """The rows of a file. Raises OptionError, with the place, for a file that holds others."""
    try:
        said = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise OptionError(f"{file} cannot be read: {error}") from error
    if not isinstance(said, list):
        raise OptionError(f"{file} holds no list of rows")
    return [_row(item, kinds, f"row {number} of {file}") for number, item in enumerate(said, 1)]


def _row(said: Any, kinds: Mapping[str, type[Row]], where: str) -> Row:
    named = said.get("bench") if isinstance(said, dict) else None
    if not isinstance(named, str) or named not in kinds:
        raise OptionError(f"{where} has bench={named!r}{valid(str(named), kinds)}")
    values = {name: value for name, value in said.items() if name != "bench"}
    known = {field.name for field in fields(kinds[named])}
    needed = {field.name for field in fields(kinds[named]) if field.default is MISSING}
    for name in sorted((needed - set(values)) | (set(values) - known)):
        what = "has no" if name in known else "has an unknown"
        raise OptionError(f"{where} {what} {name!r}")
    return kinds[named](**values)
