"""One prompt whose answers are compared: what is asked, of which documents, and what is right.

Two forms: chat messages over registered documents, as chains send them, and PML. A question knows
how to put itself to an engine, and nothing about policies or scores.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from promptcache.bench.fidelity.metrics import Metric, f1
from promptcache.engine import PromptCache
from promptcache.pml import Prompt, Schema
from promptcache.stream import Stream


@dataclass(frozen=True, slots=True)
class About:
    """What rows say of a question: where it is from, and what is right.

    `seed` and `number` make it again where it was drawn; `kind` is what is asked for, `documents`
    how many are in the prompt, `wording` how it is worded where that is known. `right` are the
    right answers, none where nobody knows them; `metric` is by which, beside exact match, an answer
    is scored, `classes` what it may be one of.
    """

    text: str
    kind: str = ""
    documents: int = 0
    seed: int | None = None
    number: int = 0
    right: tuple[str, ...] = ()
    metric: Metric = f1
    classes: tuple[str, ...] = ()
    first_line: bool = False
    wording: str = ""


class Question(Protocol):
    """A prompt that can be put to any engine."""

    @property
    def about(self) -> About:
        """What there is to say of it."""
        ...

    @property
    def new_tokens(self) -> int:
        """The most tokens of its answer."""
        ...

    def register(self, engine: PromptCache) -> None:
        """Make what it consists of known to an engine."""
        ...

    def stream(self, engine: PromptCache, **options: Any) -> Stream:
        """The engine's answer, whose first token has been chosen."""
        ...

    def forget(self, engine: PromptCache) -> None:
        """Take what it consists of out of an engine."""
        ...


@dataclass(frozen=True, slots=True)
class Chat:
    """Chat messages in which the documents stand verbatim.

    `front` is a schema with a collection where they stand, for prompts whose context cannot be
    told from one of them: those that ask before the documents. A model without a chat template is
    given the messages' texts, with empty lines between.
    """

    about: About
    messages: tuple[tuple[str, str], ...]
    documents: tuple[str, ...]
    new_tokens: int = 32
    front: Schema | None = None

    def register(self, engine: PromptCache) -> None:
        """Make the documents known, and encode them where their context is known already."""
        front = self.front if engine.has_chat_template else None
        engine.cache_documents(self.documents, schema=front, progress=False)

    def stream(self, engine: PromptCache, **options: Any) -> Stream:
        """The engine's answer."""
        if not engine.has_chat_template:
            return engine.stream_text(as_text(self.messages), **options)
        return engine.stream_messages(as_messages(engine, self.messages), **options)

    def forget(self, engine: PromptCache) -> None:
        """Take the documents out of the register, and their states out of the store."""
        engine.forget_documents(self.documents)


def as_text(told: Iterable[tuple[str, str]]) -> str:
    """Messages by role and content as one text, for models without a chat template."""
    return "\n\n".join(content for _, content in told)


def as_messages(engine: PromptCache, told: Sequence[tuple[str, str]]) -> list[dict[str, str]]:
    """Messages by role and content for an engine; a system message that its template does not
    take stands in front of the user's.
    """
    (role, content), *others = told
    if role == "system" and others and not engine.takes_system:
        (role, asked), *others = others
        content = f"{content}\n\n{asked}"
    return [{"role": role, "content": content} for role, content in ((role, content), *others)]


@dataclass(frozen=True, slots=True)
class Marked:
    """A prompt in PML, and its schema."""

    about: About
    prompt: Prompt
    schema: Schema
    new_tokens: int = 32

    def register(self, engine: PromptCache) -> None:
        """Add the schema, and encode its modules."""
        engine.add_schema(self.schema)

    def stream(self, engine: PromptCache, **options: Any) -> Stream:
        """The engine's answer."""
        return engine.stream(self.prompt, **options)

    def forget(self, engine: PromptCache) -> None:
        """Nothing: prompts of a schema share its modules."""
