"""From what a user hands in, markup or text or messages, to what is asked of the model."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping, Sequence
from typing import Any

from promptcache.answering import Asked
from promptcache.messages import MessageLike
from promptcache.pml import Prompt, Schema
from promptcache.prompts import FramedText, Prompts, answered
from promptcache.segments import Kind, Segment
from promptcache.shelf import Shelf


class Asking:
    """Reads what one engine is asked, against what is registered there."""

    def __init__(self, prompts: Prompts, shelf: Shelf) -> None:
        self._prompts = prompts
        self._shelf = shelf

    def markup(
        self, prompt: str | Prompt, schema: Schema | None, documents: Mapping[str, str] | None
    ) -> Asked:
        """A prompt in PML; `schema` and `documents` are its own, where they are given."""
        texts = ChainMap(dict(documents or {}), self._shelf.texts)
        asked = self._prompts.read_prompt(prompt)
        segments = self._prompts.from_pml(asked, texts, schema)
        return Asked(segments, strip=_is_chat(segments), continues=answered(asked))

    def text(self, prompt: FramedText) -> Asked:
        """A plain text to be continued."""
        segments = self._prompts.from_text(prompt, self._shelf.recognise)
        return Asked(segments, strip=_is_chat(segments))

    def messages(
        self,
        messages: Sequence[MessageLike],
        tools: Sequence[Any] | None = None,
        tool_choice: Any = None,
    ) -> Asked:
        """Chat messages, and the tools that the answer may call."""
        calling = self._prompts.calling(tools, tool_choice)
        opening = calling.opening if calling else ()
        segments = self._prompts.from_messages(
            messages, self._shelf.recognise, tools, opening, mark=self._shelf.marks.mark
        )
        continues = any(message.get("role") == "assistant" for message in messages)
        return Asked(segments, strip=True, continues=continues, calling=calling)


def _is_chat(segments: Sequence[Segment]) -> bool:
    return any(segment.kind is Kind.CONTROL for segment in segments)
