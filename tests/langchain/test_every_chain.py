"""Every kind of chain with only its model swapped: the share of document tokens that are reused
when the documents come a second time, in another order, and why where it is none.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import pytest
from langchain_classic.chains import create_history_aware_retriever, create_retrieval_chain
from langchain_classic.chains.combine_documents import create_stuff_documents_chain
from langchain_classic.chains.question_answering import load_qa_chain
from langchain_classic.retrievers import MultiQueryRetriever
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.documents import Document
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.outputs import LLMResult
from langchain_core.prompts import (
    ChatPromptTemplate,
    FewShotChatMessagePromptTemplate,
    FewShotPromptTemplate,
    PromptTemplate,
)
from langchain_core.runnables import Runnable, RunnableLambda

from langchain_promptcache import ChatPromptCache
from langchain_promptcache.demo.plain import PlainChat
from promptcache import NoReuse
from support.rag import PROMPT, Shelf, tiny_engine
from support.reuse import tokens_reused
from support.words import byte_tokenizer
from support.zoo import model

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Using fallback GPT-2 tokenizer"),
]

DOCUMENTS = [
    Document('The "Gull & Anchor" inn has 31 rooms.\nIt\'s <never> full.', metadata={"n": 1}),
    Document('Mira Tollen\'s viola, "Old Ada", was made in Ostmark.\nIt hums.', metadata={"n": 2}),
    Document('The "Kolt" opened in 1893; it\'s a museum.\nEntry is free.', metadata={"n": 3}),
]
SHUFFLED = [DOCUMENTS[2], DOCUMENTS[0], DOCUMENTS[1]]
QUESTION = "How many rooms are there?"
LENGTH = 8
SAID = [HumanMessage("Is it white?"), AIMessage("Yes.")]

Chain = Runnable[Any, Any]


def joined(documents: list[Document]) -> str:
    return "\n\n".join(document.page_content for document in documents)


def filled(prompt: Any, text: Callable[[list[Document]], str] = joined) -> Any:
    """LCEL: retrieve, make a text of the documents, fill the prompt, ask."""

    def make(llm: BaseChatModel, documents: list[Document]) -> Chain:
        retrieved = itemgetter("input") | Shelf(documents=documents) | RunnableLambda(text)
        given = {"context": retrieved, "input": itemgetter("input")}
        return given | prompt | llm | StrOutputParser()

    return make


def stuffed(prompt: Any, document_prompt: Any = None) -> Any:
    def make(llm: BaseChatModel, documents: list[Document]) -> Chain:
        chosen = {"document_prompt": document_prompt} if document_prompt else {}
        combine = create_stuff_documents_chain(llm, prompt, **chosen)
        return RunnableLambda(lambda given: {**given, "context": documents}) | combine

    return make


def retrieval(llm: BaseChatModel, documents: list[Document]) -> Chain:
    combine = create_stuff_documents_chain(llm, PROMPT)
    return create_retrieval_chain(Shelf(documents=documents), combine) | itemgetter("answer")


def history_aware(llm: BaseChatModel, documents: list[Document]) -> Chain:
    rephrase = ChatPromptTemplate.from_messages(
        [("system", "Rephrase the question."), ("placeholder", "{chat_history}"),
         ("human", "{input}")]
    )  # fmt: skip
    answer = ChatPromptTemplate.from_messages(
        [("system", "Answer from this.\n\n{context}"), ("placeholder", "{chat_history}"),
         ("human", "{input}")]
    )  # fmt: skip
    retriever = create_history_aware_retriever(llm, Shelf(documents=documents), rephrase)
    combine = create_stuff_documents_chain(llm, answer)
    chain = create_retrieval_chain(retriever, combine) | itemgetter("answer")
    return RunnableLambda(lambda given: {**given, "chat_history": SAID}) | chain


def multi_query(llm: BaseChatModel, documents: list[Document]) -> Chain:
    retriever = MultiQueryRetriever.from_llm(Shelf(documents=documents), llm)
    combine = create_stuff_documents_chain(llm, PROMPT)
    return create_retrieval_chain(retriever, combine) | itemgetter("answer")


def classic(kind: str) -> Any:
    def make(llm: BaseChatModel, documents: list[Document]) -> Chain:
        chain = load_qa_chain(llm, chain_type=kind)
        if kind == "map_reduce":  # else it counts tokens with a tokenizer from the hub
            chain.reduce_documents_chain.token_max = 10**6
        return (
            RunnableLambda(lambda given: {"input_documents": documents, "question": given["input"]})
            | chain
            | itemgetter("output_text")
        )

    return make


EXAMPLES = [{"q": "How high is Mount Tarn?", "a": "812 m"}, {"q": "Who sailed?", "a": "Ada Venn"}]
FEW_SHOT = FewShotPromptTemplate(
    examples=EXAMPLES,
    example_prompt=PromptTemplate.from_template("Question: {q}\nAnswer: {a}"),
    prefix="Answer as in the examples.",
    suffix="{context}\n\nQuestion: {input}\nAnswer:",
    input_variables=["context", "input"],
)
FEW_SHOT_CHAT = ChatPromptTemplate.from_messages(
    [
        ("system", "Answer as in the examples."),
        FewShotChatMessagePromptTemplate(
            examples=EXAMPLES,
            example_prompt=ChatPromptTemplate.from_messages([("human", "{q}"), ("ai", "{a}")]),
        ),
        ("human", "{context}\n\n{input}"),
    ]
)
NUMBERED = PromptTemplate.from_template("[{n}]\n{page_content}")


def mustache(hole: str) -> ChatPromptTemplate:
    return ChatPromptTemplate.from_messages(
        [("system", "Answer from this.\n\n" + hole), ("human", "{{input}}")],
        template_format="mustache",
    )


JINJA = PromptTemplate.from_template(
    "{{ context }}\n\nQuestion: {{ input }}", template_format="jinja2"
)


@dataclass(frozen=True)
class Case:
    """A chain; `reason` is what a reply says where documents do not reach the prompt verbatim.

    `calls`: how often it has to be called before every document is reused.
    """

    name: str
    make: Callable[[BaseChatModel, list[Document]], Chain]
    reason: str = ""
    calls: int = 1


CASES = [
    Case("LCEL with format_docs", filled(PROMPT)),
    Case("LCEL, jinja2", filled(JINJA)),
    Case("LCEL, mustache without escapes", filled(mustache("{{{context}}}"))),
    Case("create_stuff_documents_chain", stuffed(PROMPT)),
    Case("document prompt with metadata", stuffed(PROMPT, NUMBERED)),
    Case("create_retrieval_chain", retrieval),
    Case("history-aware retrieval", history_aware),
    Case("multi-query retrieval", multi_query),
    Case("map-reduce", classic("map_reduce")),
    # Two prompts, and a document has to have been in both; the second begins with the answer so
    # far, so that what its documents are encoded after has to be learned first.
    Case("refine", classic("refine"), calls=5),
    Case("few-shot examples", filled(FEW_SHOT)),
    Case("few-shot chat examples", filled(FEW_SHOT_CHAT)),
    Case("LCEL, mustache", filled(mustache("{{context}}")), "HTML-escaped"),
    Case("LCEL, str(documents)", filled(PROMPT, str), "repr-escaped"),
    Case(
        "LCEL, JSON",
        filled(PROMPT, lambda docs: json.dumps([d.page_content for d in docs])),
        "JSON-escaped",
    ),
]


def name_of(case: Case) -> str:
    return case.name


class Ear(BaseCallbackHandler):
    """Hears every message that a chain's model gives."""

    def __init__(self) -> None:
        self.messages: list[AIMessage] = []

    def on_llm_end(self, response: LLMResult, **_: Any) -> None:
        message = response.generations[0][0].message  # type: ignore[union-attr]
        assert isinstance(message, AIMessage)
        self.messages.append(message)


def heard(case: Case, llm: BaseChatModel, documents: list[Document]) -> list[AIMessage]:
    ear = Ear()
    case.make(llm, documents).invoke({"input": QUESTION}, config={"callbacks": [ear]})
    return ear.messages


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_document_tokens_are_all_reused_when_they_come_again_or_the_reply_says_why_not(
    case: Case,
) -> None:
    llm = ChatPromptCache(engine=tiny_engine(), max_tokens=LENGTH, temperature=0)
    llm.cache_documents(DOCUMENTS, progress=False)
    orders = [DOCUMENTS, SHUFFLED, [*SHUFFLED[1:], SHUFFLED[0]]]
    for call in range(case.calls + 1):
        messages = heard(case, llm, orders[call % len(orders)])
    whole = sum(llm.get_num_tokens(document.page_content) for document in DOCUMENTS)
    share = sum(tokens_reused(message.response_metadata) for message in messages) / whole
    notes = [note for m in messages for note in m.response_metadata["notes"]]
    print(f"{case.name:34} {share:6.0%}  {notes[:1] if case.reason else ''}")
    if case.reason:
        assert share == 0
        assert sum(case.reason in note for note in notes) == len(DOCUMENTS)
    else:
        assert share == 1
        assert not [note for note in notes if "not recognised" in note]


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_greedy_answers_without_reuse_equal_those_of_the_chain_on_plain_transformers(
    case: Case,
) -> None:
    engine = tiny_engine()
    llm = ChatPromptCache(engine=engine, max_tokens=LENGTH, temperature=0, reuse=NoReuse())
    plain = PlainChat(model=model("llama"), tokenizer=byte_tokenizer(), max_tokens=LENGTH)
    for documents in (DOCUMENTS, SHUFFLED):
        expected = [message.content for message in heard(case, plain, documents)]
        assert [message.content for message in heard(case, llm, documents)] == expected
