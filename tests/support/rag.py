"""What tests of chains share: a tiny engine, a few documents, and a prompt to put them in."""

from __future__ import annotations

from typing import Any

from langchain_core.documents import Document
from langchain_core.prompts import ChatPromptTemplate

from promptcache import PromptCache
from support.words import byte_tokenizer
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


def tiny_engine(**options: Any) -> PromptCache:
    """An engine on a tiny random model, with a store of its own."""
    return PromptCache(model("llama"), byte_tokenizer(), name="tiny", **options)
