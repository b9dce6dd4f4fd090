"""Documents into an engine: registered, and encoded after what a prompt has in front of them.

Shared by every LangChain class of ours that takes documents. What a model's prompts look like in
front of their documents is that model's own business.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, TypedDict

from langchain_core.prompts import BasePromptTemplate

from langchain_promptcache.documents import DocumentSource, Splitter, texts_of
from langchain_promptcache.settings import EngineSettings
from langchain_promptcache.templates import DOCUMENT_VARIABLE
from promptcache import CachedDocuments, Expected
from promptcache.errors import OptionError, kind_of


class Front(TypedDict, total=False):
    """What documents stand behind, as the engine takes it; empty where that is not known."""

    schema: str
    preamble: str


class DocumentCaching(EngineSettings):
    """A LangChain model of ours, seen as a place for documents."""

    def cache_documents(
        self,
        documents: DocumentSource,
        prompt: BasePromptTemplate[Any] | None = None,
        *,
        splitter: Splitter | None = None,
        document_variable: str = DOCUMENT_VARIABLE,
        context: str | Expected | None = None,
        progress: bool = True,
        pin: bool = False,
    ) -> CachedDocuments:
        """Register documents, so that prompts that contain their text reuse it.

        A loader is read lazily, and each of its documents split when its turn comes: `splitter`
        is any text splitter of LangChain's or another document transformer, which gets one
        document at a time. Documents with the same text are one. What is there already is not
        encoded again, so after an interruption the same call goes on where it stopped.

        With the chain's `prompt` documents are encoded now, after what that prompt has in front
        of its `document_variable`; without, when a first request shows what stands before them.
        `context="expected"` encodes them several times, after that and another case of what may
        stand between, and keeps the mean, which is nearer to a full prefill (see `PromptCache`).
        `pin` keeps them from being evicted. Raises TemplateError for a prompt in which it cannot be
        known what stands before the documents, OptionError for what is not a splitter or a context,
        and PromptError for what is not a document.
        """
        intake = Intake(self, prompt, document_variable=document_variable)
        return intake.take(
            documents, splitter=splitter, context=context, progress=progress, pin=pin
        )

    def forget_documents(self, documents: DocumentSource) -> int:
        """Take documents out of the register, and their states out of the store.

        They are those that `cache_documents` was given, or the parts that a splitter made of
        them. How many were registered. Raises PromptError for what is not a document.
        """
        return self.engine.forget_documents(texts_of(documents))

    @abstractmethod
    def front_of(self, prompt: BasePromptTemplate[Any], document_variable: str) -> Front:
        """What the prompts of a template have in front of their documents.

        Raises TemplateError where that cannot be known.
        """


class Intake:
    """The way of documents into the engine of one model, behind one prompt's beginning.

    Raises OptionError for what is no prompt template, and TemplateError as the model does.
    """

    def __init__(
        self,
        llm: DocumentCaching,
        prompt: BasePromptTemplate[Any] | None = None,
        *,
        document_variable: str = DOCUMENT_VARIABLE,
    ) -> None:
        if prompt is not None and not isinstance(prompt, BasePromptTemplate):
            raise OptionError(
                f"prompt is {kind_of(prompt)}; expected a prompt template, for example "
                "ChatPromptTemplate.from_template('Context: {context} Question: {input}'), or None"
            )
        self.engine = llm.engine
        self._front = Front() if prompt is None else llm.front_of(prompt, document_variable)

    def take(
        self,
        documents: DocumentSource,
        *,
        splitter: Splitter | None = None,
        context: str | Expected | None = None,
        progress: bool = False,
        pin: bool = False,
    ) -> CachedDocuments:
        """Register documents, and encode them if it is known what they stand behind."""
        return self.engine.cache_documents(
            texts_of(documents, splitter),
            **self._front,
            context=context,
            progress=progress,
            pin=pin,
        )
