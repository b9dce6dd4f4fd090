"""PromptModuleIndex: the index that LangChain's indexing API keeps a model's modules in step by."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from threading import Lock
from typing import Annotated, Any
from uuid import uuid4

from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.indexing import DeleteResponse, DocumentIndex, UpsertResponse
from langchain_core.stores import BaseStore, InMemoryStore
from pydantic import Field, PrivateAttr, SkipValidation, field_validator

from langchain_promptcache.documents import text_of
from langchain_promptcache.intake import DocumentIntake, checked_k
from langchain_promptcache.keywords import Keywords
from promptcache.errors import OptionError, kind_of


class MissingIdsError(OptionError, ValueError):
    """A deletion that does not say of what; a ValueError, as LangChain's interface asks."""


class PromptModuleIndex(DocumentIntake, DocumentIndex):
    """Documents by id, each a module of a model's engine for as long as it is here.

        index(loader, record_manager, PromptModuleIndex(llm=llm, prompt=prompt), cleanup="full")

    A document that is added is registered with the engine, and with `prompt` encoded after what
    that prompt has in front of its `document_variable`. One that is deleted, or that an upsert
    gives another text, is forgotten by the engine with its attention states, unless another id
    here has the same text. As a retriever it returns the `k` documents that share most words with
    a query (BM25). The engine knows texts, and not which index they came from: let one index of an
    engine hold a text.

    `store` keeps the documents. Give a lasting one beside a lasting record manager: what it holds
    is taken in when the index is made. Safe to use from several threads.

    Raises OptionError for a model that is none of ours, TemplateError for a prompt in which it
    cannot be known what stands before the documents, and PromptError for a document that no
    prompt can hold; then nothing has changed here.
    """

    store: Annotated[BaseStore[str, Document], SkipValidation] = Field(
        default_factory=InMemoryStore, exclude=True, repr=False
    )
    k: int = 4
    """The most documents that are retrieved."""

    _texts: dict[str, str] = PrivateAttr(default_factory=dict)
    """Every document's text, by id."""
    _ids: dict[str, set[str]] = PrivateAttr(default_factory=dict)
    """The ids that have a text, by text."""
    _keywords: Keywords = PrivateAttr(default_factory=Keywords)
    _writing: Lock = PrivateAttr(default_factory=Lock)
    """Held for a whole change, encoding included, by one writer at a time."""
    _noting: Lock = PrivateAttr(default_factory=Lock)
    """Held while what readers read is changed."""

    @field_validator("store", mode="before")
    @classmethod
    def _check_store(cls, given: object) -> object:
        if not isinstance(given, BaseStore):
            raise OptionError(
                f"store is {kind_of(given)}; expected a LangChain store of documents, for "
                "example InMemoryStore()"
            )
        return given

    @field_validator("k", mode="before")
    @classmethod
    def _check_k(cls, given: int) -> int | None:
        return checked_k(given)

    def model_post_init(self, context: Any) -> None:
        """Take in what the store holds already."""
        super().model_post_init(context)
        self._intake.take(self._stored())

    def _stored(self) -> Iterator[Document]:
        for name in list(self.store.yield_keys()):
            for document in self.store.mget([name]):
                if document is not None:
                    self._note({name: document})
                    yield document

    def upsert(self, items: Sequence[Document], /, **kwargs: Any) -> UpsertResponse:
        """Add documents, or put them in place of those that have their ids."""
        _refuse(kwargs, "upsert")
        named = {item.id or str(uuid4()): item for item in items}
        documents = {name: d.model_copy(update={"id": name}) for name, d in named.items()}
        with self._writing:
            self._intake.take(documents.values())
            self.store.mset(list(documents.items()))
            self._forget(self._note(documents))
        return UpsertResponse(succeeded=list(documents), failed=[])

    def delete(self, ids: list[str] | None = None, **kwargs: Any) -> DeleteResponse:
        """Delete documents by id; ids that are not here are no failure."""
        _refuse(kwargs, "delete")
        if ids is None:
            raise MissingIdsError("delete() needs the ids of the documents to delete")
        if isinstance(ids, str):
            raise OptionError(f"ids={ids!r} is a text; expected a list of ids")
        with self._writing:
            known = [name for name in dict.fromkeys(ids) if name in self._texts]
            self.store.mdelete(known)
            self._forget(self._unnote(known))
        return DeleteResponse(succeeded=known, num_deleted=len(known), failed=[], num_failed=0)

    def get(self, ids: Sequence[str], /, **kwargs: Any) -> list[Document]:
        """The documents that have these ids, in this order, without those that are not here."""
        _refuse(kwargs, "get")
        return [found for found in self.store.mget(list(ids)) if found is not None]

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, k: int | None = None
    ) -> list[Document]:
        with self._noting:
            best = self._keywords.best(query, checked_k(k) or self.k)
        return self.get(best)

    def _note(self, documents: Mapping[str, Document]) -> list[str]:
        """Keep the documents' texts and words; the texts that no id has any more."""
        texts = {name: text_of(document) for name, document in documents.items()}
        changed = [name for name, text in texts.items() if self._texts.get(name, text) != text]
        gone = self._unnote(changed)
        with self._noting:
            for name, text in texts.items():
                self._texts[name] = text
                self._ids.setdefault(text, set()).add(name)
                self._keywords.add(name, text)
        return [text for text in gone if text not in self._ids]

    def _unnote(self, names: Iterable[str]) -> list[str]:
        """Let go of documents' texts and words; the texts that no id has any more."""
        gone = []
        with self._noting:
            for name in names:
                text = self._texts.pop(name)
                self._keywords.remove(name)
                self._ids[text].discard(name)
                if not self._ids[text]:
                    del self._ids[text]
                    gone.append(text)
        return gone

    def _forget(self, texts: Iterable[str]) -> None:
        self._intake.engine.forget_documents(texts)


def _refuse(kwargs: Mapping[str, Any], method: str) -> None:
    if kwargs:
        raise OptionError(f"{method}() takes no {next(iter(kwargs))!r}")
