"""PromptModuleTransformer: documents that pass through an ingest pipeline become modules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.documents import BaseDocumentTransformer, Document
from langchain_core.prompts import BasePromptTemplate

from langchain_promptcache.caching import DocumentCaching, Intake
from langchain_promptcache.documents import text_of
from langchain_promptcache.intake import checked_llm
from langchain_promptcache.templates import DOCUMENT_VARIABLE
from promptcache.errors import OptionError
from promptcache.prompts import key_of

MODULE = "prompt_module"
"""The metadata that holds the key of a document's module, which PML prompts name it by."""
TOKENS = "prompt_module_tokens"
"""The metadata that holds how many tokens the module has."""


class PromptModuleTransformer(BaseDocumentTransformer):
    """Registers the documents that pass through it with a model's engine.

        transformer = PromptModuleTransformer(llm, prompt)
        store.add_documents(transformer.transform_documents(splitter.split_documents(documents)))

    With the chain's `prompt` they are encoded now, after what that prompt has in front of its
    `document_variable`; without, when a first request shows what stands before them. The
    documents come out as they went in; with `annotate`, copies whose metadata say the module's
    key and its number of tokens. Put it last, behind all that changes texts.

    Raises OptionError for a model that is none of ours, TemplateError for a prompt in which it
    cannot be known what stands before the documents.
    """

    def __init__(
        self,
        llm: DocumentCaching,
        prompt: BasePromptTemplate[Any] | None = None,
        *,
        document_variable: str = DOCUMENT_VARIABLE,
        annotate: bool = False,
        progress: bool = False,
    ) -> None:
        self._llm = checked_llm(llm)
        self._intake = Intake(self._llm, prompt, document_variable=document_variable)
        self._annotate = annotate
        self._progress = progress

    def transform_documents(
        self, documents: Sequence[Document], **kwargs: Any
    ) -> Sequence[Document]:
        """Register the documents, encode them if there is a prompt, and give them back."""
        if kwargs:
            raise OptionError(f"{type(self).__name__} takes no {next(iter(kwargs))!r}")
        self._intake.take(documents, progress=self._progress)
        return [self._annotated(d) for d in documents] if self._annotate else documents

    def _annotated(self, document: Document) -> Document:
        text = text_of(document)
        if not text:
            return document
        about = {MODULE: key_of(text), TOKENS: len(self._llm.get_token_ids(text))}
        return document.model_copy(update={"metadata": {**document.metadata, **about}})
