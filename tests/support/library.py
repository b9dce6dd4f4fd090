"""A small library of documents, and chat messages over it."""

from __future__ import annotations

DOCUMENTS = [f"Document {i} is about {word}, and no more." for i, word in enumerate("abcdef")]
SYSTEM = "Answer from the documents.\n\n"
RAG = '<schema name="rag"><system>{}<collection name="context"/></system></schema>'


def messages(*order: int, system: str = SYSTEM, question: str = "Well?") -> list[dict[str, str]]:
    text = system + "\n\n".join(DOCUMENTS[i] for i in order)
    return [{"role": "system", "content": text}, {"role": "user", "content": question}]
