"""PromptCacheRetriever: any retriever, with what it returns ready to be reused."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from langchain_core.callbacks import (
    AsyncCallbackManagerForRetrieverRun,
    CallbackManagerForRetrieverRun,
)
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever, RetrieverLike
from langchain_core.runnables import Runnable, RunnableConfig
from pydantic import SkipValidation, field_validator

from langchain_promptcache.intake import DocumentIntake, checked_k
from promptcache.errors import OptionError, kind_of


class PromptCacheRetriever(DocumentIntake, BaseRetriever):
    """Returns what another retriever returns, once a model's engine has it.

        retriever = PromptCacheRetriever(retriever=retriever, llm=llm, prompt=prompt)

    With the chain's `prompt` the documents are encoded while they are retrieved, after what that
    prompt has in front of its `document_variable`, and only those that the engine does not have;
    without, they are registered. `k` keeps the first so many. Arguments of a call, `k` among
    them, reach the wrapped retriever.

    Raises OptionError for what is no retriever or no model of ours, and TemplateError for a
    prompt in which it cannot be known what stands before the documents.
    """

    retriever: Annotated[RetrieverLike, SkipValidation]
    """The wrapped one: a retriever, or another runnable from a query to documents."""
    k: int | None = None
    """The most documents that are returned; default: all that the wrapped retriever returns."""

    @field_validator("retriever", mode="before")
    @classmethod
    def _check_retriever(cls, given: object) -> object:
        if not isinstance(given, Runnable):
            raise OptionError(
                f"retriever is {kind_of(given)}; expected a retriever, for example "
                "vector_store.as_retriever()"
            )
        return given

    @field_validator("k", mode="before")
    @classmethod
    def _check_k(cls, given: int | None) -> int | None:
        return checked_k(given)

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, **kwargs: Any
    ) -> list[Document]:
        k = checked_k(kwargs.get("k", self.k))
        found = self.retriever.invoke(query, {"callbacks": run_manager.get_child()}, **kwargs)
        return self._taken(found[:k])

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun, **kwargs: Any
    ) -> list[Document]:
        k = checked_k(kwargs.get("k", self.k))
        config: RunnableConfig = {"callbacks": run_manager.get_child()}
        found = await self.retriever.ainvoke(query, config, **kwargs)
        return await asyncio.to_thread(self._taken, found[:k])

    def _taken(self, documents: list[Document]) -> list[Document]:
        self._intake.take(documents)
        return documents
