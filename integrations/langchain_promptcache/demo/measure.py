"""The same questions through the same chain, with and without reuse.

Each answer comes with the time to its first token, counted by the model class from the chain's
messages on: template, tokens, look-up and prefill are inside, retrieval is not.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.documents import Document
from langchain_core.messages import AIMessage
from langchain_core.outputs import LLMResult
from langchain_core.runnables import Runnable

from langchain_promptcache.demo.library import Question

Chain = Runnable[dict[str, Any], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer. `ttft` in seconds; tokens are those of the prompt."""

    question: Question
    text: str
    documents: tuple[Document, ...]
    ttft: float
    reused: int
    computed: int

    @property
    def right(self) -> bool | None:
        """Whether the answer says what it should; None where that is not known."""
        if self.question.answer is None:
            return None
        return says(self.text, self.question.answer)


@dataclass(frozen=True, slots=True)
class Way:
    """A way to answer: a chain, and what is done before each question."""

    name: str
    chain: Chain
    prepare: Callable[[], object] = lambda: None


@dataclass(frozen=True, slots=True)
class Row:
    """A way's medians over its answers; `right` of `known` answers are right."""

    name: str
    ttft: float
    reused: float
    computed: float
    right: int
    known: int


def ask(chain: Chain, question: Question) -> Answer:
    """Ask a retrieval chain, and hear what its model reports."""
    ear = _Ear()
    said = chain.invoke({"input": question.text}, config={"callbacks": [ear]})
    usage = ear.message.usage_metadata
    assert usage is not None
    reused = usage.get("input_token_details", {}).get("cache_read", 0)
    return Answer(
        question,
        said["answer"],
        tuple(said["context"]),
        ear.message.response_metadata["ttft"],
        reused,
        usage["input_tokens"] - reused,
    )


def rounds(
    ways: Sequence[Way], questions: Sequence[Question], count: int
) -> Iterator[tuple[Way, Answer]]:
    """Every question in every way, `count` times, the ways taking turns."""
    for _ in range(count):
        for question in questions:
            for way in ways:
                way.prepare()
                yield way, ask(way.chain, question)


def rows(answers: Mapping[str, Sequence[Answer]]) -> list[Row]:
    """One row for each way."""
    return [
        Row(
            name,
            median(a.ttft for a in given),
            median(a.reused for a in given),
            median(a.computed for a in given),
            sum(a.right is True for a in given),
            sum(a.right is not None for a in given),
        )
        for name, given in answers.items()
    ]


def says(answer: str, expected: str) -> bool:
    """Whether the expected words stand in an answer as whole words, whatever their case."""
    wanted = re.escape(expected.strip().rstrip(".").casefold())
    return re.search(rf"(?<!\w){wanted}(?!\w)", answer.casefold()) is not None


class _Ear(BaseCallbackHandler):
    """Keeps the message that a chain's model gives."""

    message: AIMessage

    def on_llm_end(self, response: LLMResult, **_: Any) -> None:
        """Take the message out of the result."""
        message = getattr(response.generations[0][0], "message", None)
        assert isinstance(message, AIMessage)
        self.message = message
