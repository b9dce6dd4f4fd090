"""The demo from beginning to end."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from langchain_classic.chains import create_retrieval_chain
from langchain_classic.chains.combine_documents import create_stuff_documents_chain
from langchain_core.documents import Document
from langchain_core.language_models import BaseChatModel
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableLambda
from rich.console import Console
from rich.progress import track

from langchain_promptcache.chat_model import ChatPromptCache
from langchain_promptcache.demo import show
from langchain_promptcache.demo.library import (
    FolderLoader,
    Question,
    in_pieces,
    questions_on,
    shipped_library,
    shipped_questions,
)
from langchain_promptcache.demo.measure import Answer, Chain, Way, ask, rounds, rows
from langchain_promptcache.demo.plain import PlainChat
from langchain_promptcache.demo.retriever import KeywordRetriever
from langchain_promptcache.messages import to_engine
from promptcache import PromptCache

RETRIEVED = 4
"""Documents in a prompt."""
ANSWER = 64
"""Tokens of the longest answer."""
PIECE = 300
"""Tokens of the longest piece of a user's document, where the model's window allows it."""
ROUNDS = 3

PROMPT = ChatPromptTemplate.from_messages(
    [
        (
            "system",
            "Answer any use questions based solely on the context below:\n\n"
            "<context>\n{context}\n</context>",
        ),
        ("human", "{input}"),
    ]
)
"""As LangChain's hub has it for retrieval ("any use questions" too), word for word."""


def tour(folder: Path | None, model: str, console: Console, asked: Sequence[str]) -> int:
    """Run the demo; 1 when an answer that should be right is wrong, else 0."""
    loader = FolderLoader(folder) if folder else shipped_library()
    # Each question is asked in every way: kept as a turn, it would cost one token the second time.
    llm = ChatPromptCache(model=model, temperature=0, max_tokens=ANSWER, conversations=False)
    documents = in_pieces(loader, llm, _piece(llm)) if folder else loader.load()
    questions = _questions(folder, documents, asked)
    retriever = KeywordRetriever(documents=documents, k=RETRIEVED)

    show.heading(console, "1. The prompt template and the documents, as PML")
    show.markup(console, PROMPT, documents)

    show.heading(console, "2. Every document is encoded once")
    cached = llm.cache_documents(documents, prompt=PROMPT)
    console.print(
        f"{cached.encoded} documents, {cached.tokens:,} tokens, {cached.nbytes / 1e6:.1f} MB"
    )

    show.heading(console, "3. An unchanged chain answers from them")
    chain = _chain(llm, retriever)
    answers = [ask(chain, question) for question in questions]
    for answer in answers:
        show.answered(console, answer)

    show.heading(console, "4. Time to first token")
    ways = _ways(llm, retriever)
    show.times(console, rows(_measured(ways, questions, console)), _caption(llm, len(questions)))

    show.heading(console, "5. Where the tokens of one prompt came from, documents in another order")
    console.print(_trace(llm, answers[-1]))  # the last to be measured, so it is in the store

    if folder is None:
        console.print()
        console.print(show.NEXT, soft_wrap=True)
    return int(any(answer.right is False for answer in answers))


def _chain(llm: BaseChatModel, retriever: Any) -> Chain:
    """As LangChain's documentation has it."""
    chain: Chain = create_retrieval_chain(retriever, create_stuff_documents_chain(llm, PROMPT))
    return chain


def _ways(llm: ChatPromptCache, retriever: BaseRetriever) -> list[Way]:
    engine = _engine(llm)
    plain = PlainChat(model=engine.model, tokenizer=engine.tokenizer, max_tokens=ANSWER)
    reordered = RunnableLambda(_input) | retriever | RunnableLambda(_reversed)
    cached = _chain(llm, retriever)
    return [
        Way("plain transformers", _chain(plain, retriever)),
        Way("cold", cached, prepare=engine.store.evict),
        Way("warm", cached),
        Way("warm, other order", _chain(llm, reordered)),
    ]


def _input(given: dict[str, Any]) -> str:
    return cast(str, given["input"])


def _reversed(documents: list[Document]) -> list[Document]:
    return documents[::-1]


def _measured(
    ways: Sequence[Way], questions: Sequence[Question], console: Console
) -> dict[str, list[Answer]]:
    for way in ways:  # to warm up; not counted
        ask(way.chain, questions[0])
    answers: dict[str, list[Answer]] = defaultdict(list)
    total = ROUNDS * len(questions) * len(ways)
    steps = track(
        rounds(ways, questions, ROUNDS), "measuring", total, console=console, transient=True
    )
    for way, answer in steps:
        answers[way.name].append(answer)
    return answers


def _engine(llm: ChatPromptCache) -> PromptCache:
    assert isinstance(llm.engine, PromptCache)
    return llm.engine


def _caption(llm: ChatPromptCache, questions: int) -> str:
    attention = _engine(llm).model.config._attn_implementation
    return (
        f"Medians of {ROUNDS} rounds over {show.counted(questions, 'question')}, the ways taking "
        "turns; tokens are those of the prompt. Plain transformers: full prefill by generate() on "
        f"the same model, with its own cache and {attention} attention. Cold: promptcache with an "
        "empty store, the documents are encoded for the question. Warm: they are there."
    )


def _trace(llm: ChatPromptCache, answer: Answer) -> Any:
    context = "\n\n".join(document.page_content for document in reversed(answer.documents))
    messages = PROMPT.format_messages(context=context, input=answer.question.text)
    return _engine(llm).generate_messages(to_engine(messages), max_new_tokens=1).trace


def _piece(llm: ChatPromptCache) -> int:
    """Tokens that a piece may have, so that a prompt with RETRIEVED of them fits the window."""
    window = llm.engine.window
    if window is None:
        return PIECE
    around = llm.get_num_tokens(PROMPT.format(context="", input="")) + 2 * ANSWER
    return max(1, min(PIECE, (window - around) // RETRIEVED))


def _questions(
    folder: Path | None, documents: Sequence[Document], asked: Sequence[str]
) -> list[Question]:
    if asked:
        return [Question(text) for text in asked]
    return shipped_questions() if folder is None else questions_on(documents)
