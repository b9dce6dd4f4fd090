"""Every kind of engine with only `Settings.llm` swapped: the share of node tokens that are reused
when the nodes come a second time, in another order, and why where it is not all of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest
from llama_index.core import Settings
from llama_index.core.base.llms.types import LLMMetadata
from llama_index.core.chat_engine import (
    CondensePlusContextChatEngine,
    CondenseQuestionChatEngine,
    ContextChatEngine,
    SimpleChatEngine,
)
from llama_index.core.llms import LLM
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.query_engine import CitationQueryEngine, RetrieverQueryEngine
from llama_index.core.schema import MetadataMode, TextNode

from llama_index_promptcache import PromptCacheLLM
from promptcache import NoReuse
from promptcache.recording import Recording
from promptcache.reply import Reply
from support.llama import PlainLLM, Shelf, unspeakable, words_tokenizer
from support.rag import tiny_engine
from support.reuse import shares_reused, tokens_reused
from support.words import byte_tokenizer
from support.zoo import model

NODES = [
    TextNode(text='The "Gull & Anchor" inn has 31 rooms.\nIt\'s <never> full.'),
    TextNode(text='Mira Tollen\'s viola, "Old Ada", was made in Ostmark.\nIt hums.'),
    TextNode(text='The "Kolt" opened in 1893; it\'s a museum.\nEntry is free.'),
]
TEXTS = [node.text for node in NODES]
SHUFFLED = [NODES[2], NODES[0], NODES[1]]
QUESTION = "How many rooms are there?"
LENGTH = 8

Ask = Callable[[Sequence[TextNode]], Any]


def query(mode: str, **kwargs: Any) -> Ask:
    def ask(nodes: Sequence[TextNode]) -> Any:
        engine = RetrieverQueryEngine.from_args(Shelf(nodes), response_mode=mode, **kwargs)
        return engine.query(QUESTION)

    return ask


def cited(nodes: Sequence[TextNode]) -> Any:
    return CitationQueryEngine.from_args(None, retriever=Shelf(nodes)).query(QUESTION)


def chatting(kind: Any) -> Ask:
    def ask(nodes: Sequence[TextNode]) -> Any:
        memory = ChatMemoryBuffer.from_defaults(token_limit=10**6)
        engine = kind.from_defaults(retriever=Shelf(nodes), memory=memory)
        engine.chat("Good day.")
        return engine.chat(QUESTION)

    return ask


def condensing(nodes: Sequence[TextNode]) -> Any:
    inner = RetrieverQueryEngine.from_args(Shelf(nodes))
    engine = CondenseQuestionChatEngine.from_defaults(
        inner, memory=ChatMemoryBuffer.from_defaults(token_limit=10**6)
    )
    engine.chat("Good day.")
    return engine.chat(QUESTION)


@dataclass(frozen=True)
class Case:
    """An engine; `reason` is what a reply says where nodes do not reach the prompt verbatim.

    `calls`: how often it has to be called before every node is reused. `prompts`: whether nodes
    reach a prompt at all.
    """

    name: str
    ask: Ask
    reason: str = ""
    calls: int = 1
    prompts: bool = True


CASES = [
    Case("compact", query("compact")),
    # Two templates, and a node has to have been in both.
    Case("refine", query("refine"), calls=3),
    Case("tree_summarize", query("tree_summarize")),
    Case("accumulate", query("accumulate")),
    Case("compact_accumulate", query("compact_accumulate")),
    Case("simple_summarize", query("simple_summarize"), "repr-escaped"),
    Case("no_text", query("no_text"), prompts=False),
    Case("context_only", query("context_only"), prompts=False),
    Case("citations", cited),
    Case("context chat", chatting(ContextChatEngine)),
    Case("condense plus context chat", chatting(CondensePlusContextChatEngine)),
    Case("condense question chat", condensing),
]


def name_of(case: Case) -> str:
    return case.name


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """LlamaIndex's settings as they were; tokens are counted without a download."""
    before = Settings._llm, Settings._tokenizer
    Settings.tokenizer = words_tokenizer
    yield
    Settings._llm, Settings._tokenizer = before


def swapped(**settings: Any) -> PromptCacheLLM:
    llm = PromptCacheLLM(
        engine=tiny_engine(),
        max_new_tokens=LENGTH,
        temperature=0,
        generate_kwargs={"suppress_tokens": list(unspeakable())},
        **settings,
    )
    Settings.llm = llm
    return llm


def asked(case: Case, llm: PromptCacheLLM) -> tuple[Recording, int]:
    """The replies of a call that comes again, with the nodes in another order."""
    orders = [NODES, SHUFFLED, [*SHUFFLED[1:], SHUFFLED[0]]]
    for call in range(case.calls + 1):
        with llm.engine.recording() as replies:
            case.ask(orders[call % len(orders)])
    return replies, call


def str_of(reply: Reply) -> str:
    return "".join(span.text for span in reply.trace)


@pytest.mark.parametrize("registered", [True, False], ids=["registered", "unknown"])
@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_node_tokens_are_all_reused_when_they_come_again_or_the_reply_says_why_not(
    case: Case, registered: bool
) -> None:
    llm = swapped()
    if registered:
        llm.cache_documents(NODES, progress=False)
    replies, _ = asked(case, llm)
    if not case.prompts:
        assert not len(replies)
        return
    sent = [text for reply in replies for text in TEXTS if text in str_of(reply)]
    whole = sum(map(llm.engine.count_tokens, sent))
    share = sum(map(tokens_reused, replies)) / whole if whole else 0.0
    notes = [note for reply in replies for note in reply.trace.warnings]
    print(f"{case.name:28} {'registered' if registered else 'unknown':10} {share:6.0%}")
    if case.reason:
        assert share == 0
        told = sum(case.reason in note for note in notes)
        assert told == (len(NODES) if registered else 0)
        assert any("'context_str' was given as a list" in note for note in notes)
    else:
        assert share == 1
        assert not [note for note in notes if "not recognised" in note or "not whole" in note]
        assert registered is not any("no registered document" in note for note in notes)


ABOUT = {"file": "library.md"}
PARAGRAPHS = [
    TextNode(
        text="The inn at Arven has 31 rooms and a bar.\n\nIt has never been full.", metadata=ABOUT
    ),
    TextNode(
        text="The museum of Kolt opened in 1893, in a mill.\n\nEntry is free today.", metadata=ABOUT
    ),
]
SHORT = [TextNode(text="Rooms: 31."), TextNode(text="Opened: 1893.")]


@pytest.mark.parametrize(("nodes", "least"), [(PARAGRAPHS, 0.5), (SHORT, 0.0)])
def test_unknown_nodes_of_several_paragraphs_or_few_words_are_reused_in_part_and_noted(
    nodes: list[TextNode], least: float
) -> None:
    texts = [node.get_content(metadata_mode=MetadataMode.LLM) for node in nodes]
    llm = swapped()
    ask = query("compact")
    for order in (nodes, nodes[::-1]):
        with llm.engine.recording() as replies:
            ask(order)
    [share] = shares_reused(replies, texts, llm.engine)
    assert least <= share < 1
    [note] = replies[0].trace.warnings
    assert "belong to no registered document" in note
    assert re.search(r"\d (is|are) computed$", note)
    llm.cache_documents(nodes, progress=False)
    for order in (nodes, nodes[::-1]):
        with llm.engine.recording() as replies:
            ask(order)
    if nodes is PARAGRAPHS:  # the others are too short to be looked for
        assert shares_reused(replies, texts, llm.engine) == [1]


@pytest.mark.parametrize("case", [c for c in CASES if c.prompts], ids=name_of)
def test_greedy_answers_without_reuse_equal_those_of_the_engine_on_plain_transformers(
    case: Case,
) -> None:
    plain = PlainLLM(model=model("llama"), tokenizer=byte_tokenizer(), max_new_tokens=LENGTH)
    for nodes in (NODES, SHUFFLED):
        Settings.llm = plain
        expected = str(case.ask(nodes))
        swapped(reuse=NoReuse())
        assert str(case.ask(nodes)) == expected
    assert plain.answers


def texts_of(llm: LLM, messages: Sequence[str]) -> list[str]:
    engine = SimpleChatEngine.from_defaults(
        llm=llm, memory=ChatMemoryBuffer.from_defaults(token_limit=10**6)
    )
    return [str(engine.chat(message)) for message in messages]


def test_a_simple_chat_reuses_its_earlier_turns() -> None:
    llm = swapped()
    with llm.engine.recording() as replies:
        texts_of(llm, ["Good day.", QUESTION, "And now?"])
    for before, after in pairwise(replies):
        assert after.usage.reused_tokens >= before.usage.input_tokens


def test_a_context_chat_reuses_its_earlier_turns_when_the_same_nodes_are_retrieved() -> None:
    llm = swapped()
    engine = ContextChatEngine.from_defaults(
        retriever=Shelf(NODES), memory=ChatMemoryBuffer.from_defaults(token_limit=10**6)
    )
    with llm.engine.recording() as replies:
        engine.chat("Good day.")
        engine.chat(QUESTION)
    first, second = replies
    assert from_conversation(second) > first.usage.output_tokens
    new = second.usage.input_tokens - second.usage.reused_tokens
    around = 5  # the last token of the answer before, and the template's own
    assert new == llm.engine.count_tokens(QUESTION) + around


def from_conversation(reply: Reply) -> int:
    return sum(span.tokens for span in reply.trace if span.module == "conversation")


def test_the_metadata_of_the_swapped_model_are_the_models_own() -> None:
    llm = swapped(context_window=512)
    assert llm.metadata == LLMMetadata(
        context_window=512,
        num_output=LENGTH,
        is_chat_model=True,
        is_function_calling_model=False,
        model_name="tiny",
    )
