"""What templates and documents are to an LLM: what it fills in, and what it encodes beforehand.

Knows templates and texts, and no responses.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llama_index.core.llms import ChatMessage
from llama_index.core.llms.llm import default_completion_to_prompt
from llama_index.core.prompts import BasePromptTemplate
from llama_index.core.schema import TransformComponent

from llama_index_promptcache.asking import Asking
from llama_index_promptcache.documents import DocumentSource, Front, texts_of
from llama_index_promptcache.framing import (
    Formatting,
    beginning,
    formatted_messages,
    formatted_text,
    within,
)
from llama_index_promptcache.templates import schema_of, text_before_documents
from llama_index_promptcache.translation import Translator
from promptcache import CachedDocuments, Expected
from promptcache.pml import Schema


class Filling(Asking):
    """An LLM's side towards templates, and towards the documents that stand in them."""

    def cache_documents(
        self,
        documents: DocumentSource,
        prompt: BasePromptTemplate | None = None,
        *,
        splitter: TransformComponent | None = None,
        context: str | Expected | None = None,
        progress: bool = True,
        pin: bool = False,
    ) -> CachedDocuments:
        """Register documents, so that prompts that contain their text reuse it.

        A reader is read lazily, and each of its documents split when its turn comes. What is
        there already is not encoded again, so after an interruption the same call goes on where
        it stopped. With the template `prompt` documents are encoded now, after what it has in
        front of them; without, when a first prompt shows what stands before them.
        `context="expected"` encodes them several times, after that and another case of what may
        stand between, and keeps the mean, which is nearer to a full prefill (see `PromptCache`).
        `pin` keeps them from being evicted. Raises TemplateError for a prompt in which it cannot be
        known what stands before the documents, OptionError for what is no context, and PromptError
        for what is not a document.
        """
        texts = texts_of(documents, splitter)
        front = Front() if prompt is None else self.front_of(prompt)
        return self.engine.cache_documents(
            texts, **front, context=context, progress=progress, pin=pin
        )

    def forget_documents(self, documents: DocumentSource) -> int:
        """Take documents out of the register, and their states out of the store.

        They are those that `cache_documents` was given, or the nodes that a splitter made of
        them. How many were registered. Raises PromptError for what is not a document.
        """
        return self.engine.forget_documents(texts_of(documents))

    def schema_from_prompt(self, prompt: BasePromptTemplate) -> Schema:
        """The schema of the prompts that a template makes for this LLM.

        Raises TemplateError for a template without a variable for documents.
        """
        return schema_of(prompt, self._filled, self, self.document_variables)

    def _get_messages(self, prompt: BasePromptTemplate, **prompt_args: Any) -> list[ChatMessage]:
        """What `predict` and its like hand to `chat`: the template's messages, with their PML."""
        if self._writes_text:
            return self._filled(prompt, prompt_args)
        translator = Translator(
            self,
            self._filled,
            self.engine.documents_in,
            self.document_variables,
            self.cut_passages,
        )
        return translator.messages(prompt, prompt_args)

    def _get_prompt(self, prompt: BasePromptTemplate, **prompt_args: Any) -> str:
        """What `predict` and its like hand to `complete`: a text that knows its format's parts."""
        as_prompt = self.completion_to_prompt or default_completion_to_prompt
        text = Formatting(formatted_text, as_prompt)
        messages = Formatting(formatted_messages, self._as_text)
        whole = prompt.format(
            llm=self, messages_to_prompt=messages, completion_to_prompt=text, **prompt_args
        )
        if self.output_parser is not None:
            whole = self.output_parser.format(whole)
        return within(self._extend_prompt(whole), text.made or messages.made)

    def _filled(self, prompt: BasePromptTemplate, values: Mapping[str, Any]) -> list[ChatMessage]:
        return self._spoken(super()._get_messages(prompt, **values))

    def _filled_text(self, prompt: BasePromptTemplate, values: Mapping[str, Any]) -> str:
        if self._chats:
            return formatted_messages(self._as_text, self._filled(prompt, values))
        return self._get_prompt(prompt, **values)

    def front_of(self, prompt: BasePromptTemplate) -> Front:
        """What documents stand behind in a template's prompts. Raises as `cache_documents` does."""
        if self._chats and not self._writes_text:
            return Front(schema=self.schema_from_prompt(prompt))
        filled = ""

        def render(template: BasePromptTemplate, values: Mapping[str, Any]) -> str:
            nonlocal filled
            filled = self._filled_text(template, values)
            return filled

        before, interrupted = text_before_documents(prompt, render, self, self.document_variables)
        return Front(preamble=beginning(filled, len(before), interrupted=interrupted))
