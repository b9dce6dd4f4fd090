"""A small LlamaIndex model over a tiny engine, that caches documents."""

from __future__ import annotations

from typing import Any

from llama_index.core.base.llms.types import CompletionResponse, CompletionResponseGen, LLMMetadata
from llama_index.core.llms import CustomLLM
from llama_index.core.prompts import BasePromptTemplate
from llama_index.core.retrievers import BaseRetriever
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode
from pydantic import PrivateAttr

from llama_index_promptcache.documents import DocumentSource, texts_of
from promptcache import CachedDocuments, PromptCache
from promptcache.errors import TemplateError
from promptcache.reply import Reply
from promptcache.trace import Provenance
from support.rag import tiny_engine

NODES = [
    TextNode(text="The lighthouse of Arven is 31 metres tall and painted white."),
    TextNode(text="Mira Tollen plays the viola in Ostmark.", metadata={"title": "Mira"}),
    TextNode(text="The Kolt museum opened in 1893, in a mill.\nEntry is free.\n"),
]
TEXTS = [
    "The lighthouse of Arven is 31 metres tall and painted white.",
    "title: Mira\n\nMira Tollen plays the viola in Ostmark.",
    "The Kolt museum opened in 1893, in a mill.\nEntry is free.",
]
"""What synthesizers send of the nodes."""
QUESTION = "How tall is it?"
_MARK = "\0documents\0"


class CachingLLM(CustomLLM):
    """Completes texts with a tiny random model; `replies` are what the engine gave."""

    _engine: PromptCache = PrivateAttr()
    _replies: list[Reply] = PrivateAttr(default_factory=list)

    def __init__(self, engine: PromptCache | None = None) -> None:
        super().__init__()
        self._engine = engine or tiny_engine()

    @property
    def engine(self) -> PromptCache:
        return self._engine

    @property
    def replies(self) -> list[Reply]:
        return self._replies

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(context_window=1024, num_output=8, model_name="tiny")

    def cache_documents(
        self,
        documents: DocumentSource,
        prompt: BasePromptTemplate | None = None,
        *,
        progress: bool = True,
        pin: bool = False,
    ) -> CachedDocuments:
        front: dict[str, str] = {} if prompt is None else {"preamble": self._front(prompt)}
        return self._engine.cache_documents(
            texts_of(documents), **front, progress=progress, pin=pin
        )

    def _front(self, prompt: BasePromptTemplate) -> str:
        blank = dict.fromkeys(prompt.template_vars, "")
        before, mark, _ = prompt.format(llm=self, **{**blank, "context_str": _MARK}).partition(
            _MARK
        )
        if not mark:
            raise TemplateError("the prompt has no variable 'context_str'")
        return before

    def complete(self, prompt: str, formatted: bool = False, **_: Any) -> CompletionResponse:
        reply = self._engine.generate_text(prompt, max_new_tokens=1)
        self._replies.append(reply)
        return CompletionResponse(text=reply.text)

    def stream_complete(
        self, prompt: str, formatted: bool = False, **_: Any
    ) -> CompletionResponseGen:
        raise NotImplementedError


class Shelf(BaseRetriever):
    """Retrieves what stands on it, in its order."""

    def __init__(self, nodes: list[TextNode]) -> None:
        super().__init__()
        self.nodes = nodes

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return scored(self.nodes)


def scored(nodes: list[TextNode]) -> list[NodeWithScore]:
    return [NodeWithScore(node=node, score=1.0) for node in nodes]


def reused(reply: Reply, texts: list[str], engine: PromptCache) -> float:
    """The share of the texts' tokens that a prompt took from the cache."""
    found = sum(
        span.tokens - span.recomputed
        for span in reply.trace.spans
        if span.module not in (None, "preamble", "conversation")
        and span.provenance in (Provenance.EXACT, Provenance.APPROXIMATE)
    )
    return found / sum(engine.count_tokens(text) for text in texts)
