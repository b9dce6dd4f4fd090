"""What tests of chains share: a tiny engine, a few documents, and prompts to put them in."""

from __future__ import annotations

from typing import Any

from langchain_core.callbacks import BaseCallbackHandler, CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.messages import AIMessage
from langchain_core.outputs import LLMResult
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.retrievers import BaseRetriever

from promptcache import PromptCache
from support.reuse import share_reused
from support.words import TEMPLATE, byte_tokenizer
from support.zoo import model

PROMPT = ChatPromptTemplate.from_messages(
    [
        ("system", "Answer from the context.\n\n<context>\n{context}\n</context>"),
        ("human", "{input}"),
    ]
)
DOCUMENTS = [
    Document("The lighthouse of Arven is 31 metres tall and painted white.", id="lighthouse"),
    Document("Mira Tollen plays the viola in Ostmark every summer.", metadata={"title": "Mira"}),
    Document("The Kolt museum opened in 1893, in a mill that stood empty.\nEntry is free."),
]
QUESTION = "How tall is it?"


def tiny_engine(template: str = TEMPLATE, **options: Any) -> PromptCache:
    """An engine on a tiny random model, with a store of its own."""
    return PromptCache(model("llama"), byte_tokenizer(template), name="tiny", **options)


class Shelf(BaseRetriever):
    """Retrieves what stands on it, in its order."""

    documents: list[Document]

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun
    ) -> list[Document]:
        return self.documents


class Ear(BaseCallbackHandler):
    """Hears the message that a chain's model gives."""

    message: AIMessage

    def on_llm_end(self, response: LLMResult, **_: Any) -> None:
        message = response.generations[0][0].message  # type: ignore[union-attr]
        assert isinstance(message, AIMessage)
        self.message = message


def reused(message: AIMessage, documents: list[Document], engine: PromptCache) -> float:
    """The share of the documents' tokens that an answer's prompt took from the cache."""
    texts = [document.page_content.strip() for document in documents]
    return share_reused(message.response_metadata, texts, engine)
