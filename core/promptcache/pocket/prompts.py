"""The wordings in which chains put documents and a question before a model.

A wording is a system text, a user text, and how documents are joined. `{context}` and
`{question}` are its holes. The defaults of LangChain's and LlamaIndex's question-answering
templates are here word for word, among others of our own. Wordings that are `held_out` are for
testing only. This file knows nothing about tokens or about what the documents tell.
"""

from __future__ import annotations

from dataclasses import dataclass

RULE = "---------------------"


@dataclass(frozen=True, slots=True)
class Wording:
    """One way to ask: `header` (holes `{n}`, `{title}`) goes before each document."""

    name: str
    system: str
    user: str
    joiner: str = "\n\n"
    header: str = ""
    held_out: bool = False
    weight: float = 1.0

    @property
    def asked_first(self) -> bool:
        """Whether the question stands before the documents, which is harder to answer."""
        return "{context}" in self.user.partition("{question}")[2]


_STUFF = (
    "You are an assistant for question-answering tasks. Use the following pieces of retrieved "
    "context to answer the question. If you don't know the answer, say that you don't know. Use "
    "three sentences maximum and keep the answer concise."
)
_HUB = (
    "You are an assistant for question-answering tasks. Use the following pieces of retrieved "
    "context to answer the question. If you don't know the answer, just say that you don't know. "
    "Use three sentences maximum and keep the answer concise."
)
_INDEX_SYSTEM = (
    "You are an expert Q&A system that is trusted around the world.\nAlways answer the query "
    "using the provided context information, and not prior knowledge.\nSome rules to follow:\n"
    "1. Never directly reference the given context in your answer.\n2. Avoid statements like "
    "'Based on the context, ...' or 'The context information ...' or anything along those lines."
)
_INDEX_TEXT = (
    f"Context information is below.\n{RULE}\n{{context}}\n{RULE}\nGiven the context information "
    "and not prior knowledge, answer the query.\nQuery: {question}\nAnswer: "
)
_INDEX_CHAT = (
    "We have provided context information below. \n" + RULE + "\n{context}\n" + RULE + "\nGiven "
    "this information, please answer the question: {question}"
)
_QA = (
    "Use the following pieces of context to answer the question at the end. If you don't know the "
    "answer, just say that you don't know, don't try to make up an answer.\n\n{context}\n\n"
    "Question: {question}\nHelpful Answer:"
)
_QA_CHAT = (
    "Use the following pieces of context to answer the user's question. \nIf you don't know the "
    "answer, just say that you don't know, don't try to make up an answer.\n----------------\n"
    "{context}"
)
_HELPFUL = "You are a helpful assistant."
_Q = "{question}"

WORDINGS: tuple[Wording, ...] = (
    # LangChain
    Wording("langchain stuff", _STUFF + "\n\n{context}", _Q, weight=3),
    Wording("langchain stuff, rules", _STUFF + "\n\n{context}", _Q, joiner="\n---\n"),
    Wording("langchain hub", "", _HUB + "\nQuestion: {question} \nContext: {context} \nAnswer:",
            weight=2),
    Wording("langchain qa", "", _QA, weight=2),
    Wording("langchain qa chat", _QA_CHAT, _Q, weight=2),
    Wording("langchain short", "Answer any use questions based solely on the context below:\n\n"
            "<context>\n{context}\n</context>", _Q, weight=2),
    Wording("langchain tutorial", "", "Answer the following question based only on the provided "
            "context:\n\n<context>\n{context}\n</context>\n\nQuestion: {question}", weight=2),
    Wording("langchain summary style", "What are everyone's favorite colors:\n\n{context}", _Q),
    # LlamaIndex
    Wording("llama-index text", "", _INDEX_TEXT, weight=3),
    Wording("llama-index chat", _INDEX_SYSTEM, _INDEX_TEXT, weight=2),
    Wording("llama-index context chat", "Use the context information below to assist the user.\n"
            "Context information is below.\n----------------------\n{context}\n"
            "----------------------", _Q),
    Wording("llama-index provided", "", _INDEX_CHAT),
    Wording("llama-index sources", "", "Please provide an answer based solely on the provided "
            "sources.\n\n{context}\n\nQuery: {question}\nAnswer: ", header="Source {n}:\n"),
    # Our own
    Wording("plain context", "", "{context}\n\n{question}"),
    Wording("context question answer", "", "Context:\n{context}\n\nQuestion: {question}\n"
            "Answer:", weight=2),
    Wording("question first", "", "Question: {question}\n\nContext:\n{context}\n\nAnswer:"),
    Wording("question first, documents", "", "{question}\n\nUse these documents:\n\n{context}"),
    Wording("following context", "Use the following context to answer the question.\n\n{context}",
            _Q, weight=2),
    Wording("helpful, documents", _HELPFUL, "Documents:\n\n{context}\n\nQuestion: {question}"),
    Wording("titles", _HELPFUL + " Answer from the documents.\n\n{context}", _Q,
            header="title: {title}\n"),
    Wording("numbered", "", "Read the documents and answer the question.\n\n{context}\n\n"
            "{question}",
            header="Document {n}:\n"),
    Wording("marked titles", "", "Here are some notes.\n\n{context}\n\nPlease answer: {question}",
            header="# {title}\n\n"),
    Wording("bracketed", "You answer questions about a library of documents. Be brief.\n\n"
            "{context}", "{question}", header="[{n}] "),
    Wording("hash rules", "", "Below are the search results.\n###\n{context}\n###\nMy question: "
            "{question}", joiner="\n###\n"),
    Wording("lines", "Knowledge:\n{context}", "Question: {question}", joiner="\n"),
    Wording("metadata", "", "{context}\n\nBased on the text above, {question}",
            header="source: {title}.md\n\n"),
    # Held out for testing
    Wording("held out: reference", "Rely on the reference material that follows and on nothing "
            "else.\n\n{context}", _Q, held_out=True),
    Wording("held out: excerpts", "", "These excerpts were found:\n\n{context}\n\nWith their help, "
            "reply to this: {question}", header="Excerpt {n}: ", held_out=True),
    Wording("held out: rules", "", "Background\n==========\n{context}\n==========\nUser asks: "
            "{question}\nShort reply:", joiner="\n\n***\n\n", held_out=True),
    Wording("held out: search", "You help people to search an archive. Records:\n\n{context}\n\n"
            "End of records.", "I would like to know: {question}", held_out=True),
    Wording("held out: question first", "", "I need to find out the following. {question}\n\n"
            "Passages:\n\n{context}\n\nWhat is the answer?", held_out=True),
    Wording("held out: names", "Only trust these files.\n\n{context}", "{question} Answer briefly.",
            header="file name: {title}\n", held_out=True),
)  # fmt: skip
