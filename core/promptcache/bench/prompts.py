"""What benchmarks ask: documents of a given size, in one order or another, and a question.

Two forms of one prompt: PML, in which documents are imported by name and stand directly after one
another, and plain text, in which they are recognised and stand apart, as chains join them. The
only file of the benchmarks that looks inside an engine, for the token ids of a prompt.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Protocol

from promptcache.bench.models import Subject
from promptcache.engine import PromptCache
from promptcache.reuse import ReusePolicy
from promptcache.segments import Segment, joined
from promptcache.store import MemoryStore, Store
from promptcache.stream import Stream

SYSTEM = "Answer from the documents."
SCHEMA = f'<schema name="bench">{SYSTEM}<collection name="documents" separator=""/></schema>'
SEPARATOR = "\n\n"
UNLIMITED = 2**50
"""Bytes of a store that is to keep all it is given."""
_WORDS = ["".join(word) for word in product("bdklmnrst", "aeiou", "bdklmnrst", "aeiou")]
_FILL = ("a", "of", "in", "to", "the", "1", "x", "ab", "b1", "of a", "a 1", "1 2 3", "the of a")
"""What a text is filled up with to an exact size: one token to a few, with most tokenizers."""


@dataclass(frozen=True, slots=True)
class Library:
    """Documents of equal size, and the names that PML calls them by."""

    documents: tuple[str, ...]

    @classmethod
    def of(
        cls, count_tokens: Callable[[str], int], count: int, tokens: int, seed: int = 0
    ) -> Library:
        """`count` documents of `tokens` tokens each, of words that nobody knows."""
        rng = random.Random(seed)
        return cls(tuple(sized(count_tokens, tokens, rng, end=".") for _ in range(count)))

    @property
    def named(self) -> dict[str, str]:
        """The documents by their names."""
        return {f"document-{number}": text for number, text in enumerate(self.documents)}


class Questions:
    """Questions of `tokens` tokens, each another one."""

    def __init__(self, count_tokens: Callable[[str], int], tokens: int, seed: int = 1) -> None:
        self._count_tokens = count_tokens
        self._tokens = tokens
        self._rng = random.Random(seed)

    def next(self) -> str:
        """A question that was not asked before."""
        return sized(self._count_tokens, self._tokens, self._rng, start=" ", end="?")


class Form(Protocol):
    """One way to write a prompt for an engine."""

    @property
    def name(self) -> str:
        """What rows call it."""
        ...

    def register(self, engine: PromptCache, library: Library, *, encode: bool) -> None:
        """Make the documents known to an engine, and encode them or leave that to a prompt."""
        ...

    def prompt(self, library: Library, order: Sequence[int], question: str) -> str:
        """The documents in this order, and the question."""
        ...

    def segments(self, engine: PromptCache, prompt: str) -> Sequence[Segment]:
        """What the engine reads in the prompt."""
        ...

    def stream(
        self, engine: PromptCache, prompt: str, policy: ReusePolicy, new_tokens: int
    ) -> Stream:
        """The engine's answer, whose first token has been chosen."""
        ...


@dataclass(frozen=True, slots=True)
class Pml:
    """Documents of a collection, imported by name; the question is all that is new."""

    name: str = "pml"

    def register(self, engine: PromptCache, library: Library, *, encode: bool) -> None:
        """As `Form` says."""
        engine.add_schema(SCHEMA, encode=encode)
        schema = "bench" if encode else None
        engine.cache_documents(library.named, schema=schema, progress=False)

    def prompt(self, library: Library, order: Sequence[int], question: str) -> str:
        """As `Form` says."""
        names = list(library.named)
        imports = "".join(f'<doc key="{names[index]}"/>' for index in order)
        return f'<prompt schema="bench"><documents>{imports}</documents>{question}</prompt>'

    def segments(self, engine: PromptCache, prompt: str) -> Sequence[Segment]:
        """As `Form` says."""
        return engine._prompts.from_pml(prompt, engine._shelf.texts)

    def stream(
        self, engine: PromptCache, prompt: str, policy: ReusePolicy, new_tokens: int
    ) -> Stream:
        """As `Form` says."""
        return engine.stream(prompt, reuse=policy, max_new_tokens=new_tokens)


@dataclass(frozen=True, slots=True)
class PlainText:
    """Documents joined by empty lines, and recognised; what joins them is new, too."""

    name: str = "text"

    def register(self, engine: PromptCache, library: Library, *, encode: bool) -> None:
        """As `Form` says."""
        preamble = SYSTEM + SEPARATOR if encode else None
        engine.cache_documents(library.documents, preamble=preamble, progress=False)

    def prompt(self, library: Library, order: Sequence[int], question: str) -> str:
        """As `Form` says."""
        shown = SEPARATOR.join(library.documents[index] for index in order)
        return f"{SYSTEM}{SEPARATOR}{shown}{SEPARATOR}{question.strip()}"

    def segments(self, engine: PromptCache, prompt: str) -> Sequence[Segment]:
        """As `Form` says."""
        return engine._prompts.from_text(prompt, engine._shelf.recognise)

    def stream(
        self, engine: PromptCache, prompt: str, policy: ReusePolicy, new_tokens: int
    ) -> Stream:
        """As `Form` says."""
        return engine.stream_text(prompt, reuse=policy, max_new_tokens=new_tokens)


FORMS: dict[str, Form] = {form.name: form for form in (Pml(), PlainText())}


@dataclass(frozen=True, slots=True)
class Asked:
    """One prompt as baselines take it: its text, and how to get the engine's very tokens of it.

    `plain` says that the model's own tokenizer makes these tokens of the text.
    """

    text: str
    ids: tuple[int, ...]
    tokenise: Callable[[], Sequence[int]]
    plain: bool


def asked(engine: PromptCache, form: Form, prompt: str) -> Asked:
    """The prompt for baselines.

    They tokenise its text as the model's own tokenizer does. Where that joins tokens across the
    edges of modules, which an engine never does, they take the engine's way instead.
    """
    segments = form.segments(engine, prompt)
    text = joined(segments)
    ids = engine._pipeline.layout(segments).ids
    if tuple(engine.tokenizer.encode(text)) == ids:
        return Asked(text, ids, lambda: list(engine.tokenizer.encode(text)), plain=True)
    return Asked(text, ids, lambda: engine._pipeline.layout(segments).ids, plain=False)


def new_engine(subject: Subject, compression: str = "", store: Store | None = None) -> PromptCache:
    """An engine that keeps no turns: each prompt is on its own. Its store is empty by default."""
    return PromptCache(
        subject.model,
        subject.tokenizer,
        name=subject.name,
        store=store or MemoryStore(UNLIMITED),
        compression=compression,
        learn_contexts=False,
        conversations=False,
    )


def sized(
    count_tokens: Callable[[str], int],
    tokens: int,
    rng: random.Random,
    *,
    start: str = "",
    end: str = "",
) -> str:
    """A text of exactly so many tokens, or of a few less where no word of ours fits."""
    words = rng.choices(_WORDS, k=max(1, tokens))

    def text(count: int, fill: str = "") -> str:
        return start + " ".join([*words[:count], *([fill] if fill else [])]) + end

    low, high = 1, len(words)
    while low < high:
        middle = (low + high + 1) // 2
        fits = count_tokens(text(middle)) <= tokens
        low, high = (middle, high) if fits else (low, middle - 1)
    for count in (low, low - 1):
        for fill in ("", *_FILL, *rng.sample(_WORDS, 8)):
            if count_tokens(text(count, fill)) == tokens:
                return text(count, fill)
    return text(low)
