"""One prompt of a template, in both forms: as PML, and as LangChain's own value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from langchain_core.messages import BaseMessage
from langchain_core.prompt_values import PromptValue

from promptcache.pml import Prompt, Schema, write


@dataclass(frozen=True, slots=True)
class Rendered:
    """A prompt, its schema, the documents that it imports by their keys, and the plain value."""

    schema: Schema
    prompt: Prompt
    documents: Mapping[str, str]
    value: PromptValue

    @property
    def markup(self) -> str:
        """The prompt in PML, which `PromptCache.generate` takes."""
        return write(self.prompt)

    @property
    def messages(self) -> list[BaseMessage]:
        """The messages that any chat model takes."""
        return self.value.to_messages()
