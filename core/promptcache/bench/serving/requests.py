"""What a server is asked under load: questions over many documents, and requests with a fault."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from promptcache.pml import Schema, parse_schema
from promptcache.reply import Reply

ANSWER = 12
"""Tokens of an answer at most."""
SCHEMA = (
    '<schema name="load"><system>Answer from the documents.</system>'
    '<user><collection name="documents"/></user></schema>'
)
_TOWNS = ("Orlec", "Ostmark", "Tarn", "Velm", "Brisk", "Halden", "Quill", "Sorrow", "Uppe", "Wint")
_KINDS = ("Museum", "Bridge", "Library", "Tower", "Theatre", "Station", "Mill", "Harbour")
_NAMES = ("Hal", "Kor", "Mir", "Tol", "Ves", "Yar", "Zen", "Bel", "Dor", "Fen")


class Engine(Protocol):
    """What can be asked, in this process or behind a URL."""

    def generate(self, prompt: str, **options: Any) -> Reply:
        """The answer to a prompt in PML."""

    def generate_messages(self, messages: Any, **options: Any) -> Reply:
        """The answer to chat messages."""


@dataclass(frozen=True, slots=True)
class Documents:
    """Documents by name, and the schema of prompts that import them."""

    named: dict[str, str]
    schema: Schema

    @classmethod
    def made(cls, count: int, seed: int = 0) -> Documents:
        """`count` documents, each about something else."""
        rng = random.Random(seed)
        named = {}
        for number in range(count):
            name = f"{rng.choice(_NAMES)}{rng.choice(_NAMES).lower()} {rng.choice(_KINDS)} {number}"
            town, year, metres = rng.choice(_TOWNS), rng.randrange(1700, 2000), rng.randrange(9, 99)
            named[f"d{number}"] = (
                f"The {name} was founded in {year}. It stands in the town of {town}. "
                f"The {name} is {metres} metres long."
            )
        return cls(named, parse_schema(SCHEMA))


@dataclass(frozen=True, slots=True)
class Question:
    """A request over some documents: in PML, or as a chat whose documents are marked."""

    prompt: str | None
    messages: tuple[dict[str, Any], ...] = ()

    def asked(self, engine: Engine) -> Reply:
        """The answer of an engine."""
        options: dict[str, Any] = {"max_new_tokens": ANSWER, "temperature": 0}
        if self.prompt is not None:
            return engine.generate(self.prompt, **options)
        return engine.generate_messages(list(self.messages), **options)


def questions(documents: Documents, count: int, seed: int = 1) -> list[Question]:
    """`count` requests, each over three documents; every other one is a chat."""
    rng = random.Random(seed)
    made = []
    for number in range(count):
        keys = rng.sample(list(documents.named), 3)
        name = documents.named[keys[-1]].removeprefix("The ").partition(" was")[0]
        asked = f"When was the {name} founded?"
        if number % 2:
            control = {"cache_control": {"type": "ephemeral"}}
            texts = [{"type": "text", "text": documents.named[k], **control} for k in keys]
            content = [*texts, {"type": "text", "text": f"\n\n{asked}"}]
            made.append(Question(None, ({"role": "user", "content": content},)))
        else:
            imports = "".join(f'<doc key="{key}"/>' for key in keys)
            made.append(
                Question(f'<prompt schema="load"><documents>{imports}</documents>{asked}</prompt>')
            )
    return made


@dataclass(frozen=True, slots=True)
class Malformed:
    """A request that is to be refused."""

    method: str
    path: str
    body: bytes


_WRONG_FIELDS: Sequence[tuple[str, Any]] = (
    ("messages", "text"), ("messages", []), ("messages", [{"role": "user", "content": 5}]),
    ("max_tokens", 0), ("max_tokens", 10**30), ("temperature", -1), ("top_p", "x"), ("seed", 1.5),
    ("stop", [""]), ("n", 2), ("stream", 1), ("model", "other"), ("reuse", "Magic"),
    ("tools", [[5]]), ("logprobs", True), ("banana", 1), ("window", 1), ("expected", "text"),
)  # fmt: skip
_WRONG_MARKUP = (
    "", "plain", "<prompt", '<prompt schema="none"/>', "<a>&x;</a>",
    '<prompt schema="load"><documents><doc key="none"/></documents>Q?</prompt>',
)  # fmt: skip
_CHAT = "/v1/chat/completions"


def malformed(rng: random.Random) -> Malformed:
    """A request with one thing wrong."""
    good = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2}
    kind = rng.randrange(5)
    if kind == 0:
        name, value = rng.choice(_WRONG_FIELDS)
        return Malformed("POST", _CHAT, json.dumps({**good, name: value}).encode())
    if kind == 1:
        whole = json.dumps(good).encode()
        return Malformed("POST", _CHAT, whole[: rng.randrange(len(whole))])
    if kind == 2:
        path = rng.choice([_CHAT, "/v1/pml", "/v1/documents", "/v1/completions", "/v1/tokens"])
        return Malformed("POST", path, rng.randbytes(rng.randrange(200)))
    if kind == 3:
        path = rng.choice(["/v2", f"{_CHAT}/x", "/v1/modules/none", "/v1/models/none"])
        return Malformed(rng.choice(["DELETE", "PATCH"]), path, b"")
    markup = rng.choice(_WRONG_MARKUP)
    return Malformed("POST", "/v1/pml", json.dumps({"prompt": markup}).encode())
