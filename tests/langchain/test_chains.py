"""Unchanged chains with only the model swapped: what they reuse, and what they answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import pytest
from langchain_classic.chains import create_retrieval_chain
from langchain_classic.chains.combine_documents import create_stuff_documents_chain
from langchain_core.documents import Document
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import BasePromptTemplate, ChatPromptTemplate, PromptTemplate
from langchain_core.runnables import Runnable, RunnablePassthrough

from core.text.short_templates import GEMMA_3, LLAMA_2, LLAMA_3, MISTRAL, QWEN_3
from langchain_promptcache import ChatPromptCache
from langchain_promptcache.demo.plain import PlainChat
from promptcache import NoReuse, PromptCache
from support.rag import DOCUMENTS, PROMPT, QUESTION, Ear, Shelf, reused, tiny_engine
from support.words import TEMPLATE, byte_tokenizer
from support.zoo import model

SHUFFLED = [DOCUMENTS[2], DOCUMENTS[0], DOCUMENTS[1]]
LENGTH = 12
HUB = ChatPromptTemplate.from_template(
    "Answer briefly.\nQuestion: {input} \nContext: {context} \nAnswer:"
)
HISTORY = ChatPromptTemplate.from_messages(
    [
        ("system", "Answer from the context and what was said.\n\n{context}"),
        ("placeholder", "{chat_history}"),
        ("human", "{input}"),
    ]
)
README = ChatPromptTemplate.from_messages(
    [("system", "Answer from the documents.\n\n{context}"), ("human", "{input}")]
)
BRIEF = ChatPromptTemplate.from_messages(
    [("system", "Be brief."), ("human", "{input}\n\n{context}")]
)
PLAIN = PromptTemplate.from_template("{context}\n\nQuestion: {input}\nAnswer:")
BARE = ChatPromptTemplate.from_template("{context}\n\nQuestion: {input}")
ASKED = ChatPromptTemplate.from_template("Question: {input}\n\n{context}")
LABEL = PromptTemplate.from_template("Text:\n{page_content}")
TITLE = PromptTemplate.from_template("Title: {title}\n{page_content}\n(end)")
STRANGER = Document("Nobody registered this text about the harbour of Selm.")
SAID = [HumanMessage("Is it white?"), AIMessage("Yes.")]

Make = Callable[[BaseChatModel, list[Document]], Runnable[Any, Any]]


def stuff(
    prompt: BasePromptTemplate[Any],
    document_prompt: PromptTemplate | None = None,
    *,
    before: Sequence[Document] = (),
) -> Make:
    """A chain that puts documents, those of `before` first, into a prompt."""

    def make(llm: BaseChatModel, documents: list[Document]) -> Runnable[Any, Any]:
        put = [
            Document(document.page_content, metadata={"title": document.page_content[:9]})
            for document in (*before, *documents)
        ]
        given = RunnablePassthrough.assign(context=lambda _: put, chat_history=lambda _: SAID)
        chosen = {"document_prompt": document_prompt} if document_prompt else {}
        return given | create_stuff_documents_chain(llm, prompt, **chosen)

    return make


def retrieval(llm: BaseChatModel, documents: list[Document]) -> Runnable[Any, Any]:
    combine = create_stuff_documents_chain(llm, PROMPT)
    return create_retrieval_chain(Shelf(documents=documents), combine) | itemgetter("answer")


def format_docs(documents: list[Document]) -> str:
    return "\n\n".join(document.page_content for document in documents)


def lcel(llm: BaseChatModel, documents: list[Document]) -> Runnable[Any, Any]:
    retrieved = itemgetter("input") | Shelf(documents=documents) | format_docs
    given = {"context": retrieved, "input": itemgetter("input")}
    return given | PROMPT | llm | StrOutputParser()


def lcel_with_plain_prompt(llm: BaseChatModel, documents: list[Document]) -> Runnable[Any, Any]:
    given = RunnablePassthrough.assign(context=lambda _: format_docs(documents))
    return given | PLAIN | llm | StrOutputParser()


@dataclass(frozen=True)
class Case:
    """A chain, and what stands right in front of its documents in every one of its prompts.

    follows: the first document follows what the prompt's schema declares, with nothing between.
    """

    name: str
    make: Make
    prompt: BasePromptTemplate[Any]
    follows: bool = True


CASES = [
    Case("stuff", stuff(PROMPT), PROMPT),
    Case("history", stuff(HISTORY), HISTORY),
    Case("labelled", stuff(PROMPT, LABEL), PROMPT, follows=False),
    Case("titled", stuff(PROMPT, TITLE), PROMPT, follows=False),
    Case("question first", stuff(HUB), HUB, follows=False),
    Case("retrieval", retrieval, PROMPT),
    Case("lcel", lcel, PROMPT),
    Case("lcel with a plain prompt", lcel_with_plain_prompt, PLAIN),
    Case("readme", stuff(README), README),
    Case("readme titled", stuff(README, TITLE), README, follows=False),
    Case("readme after a stranger", stuff(README, before=[STRANGER]), README, follows=False),
    Case(
        "readme titled, after a stranger",
        stuff(README, TITLE, before=[STRANGER]),
        README,
        follows=False,
    ),
    Case("brief, question first", stuff(BRIEF), BRIEF, follows=False),
    Case("no text, titled", stuff(BARE, TITLE), BARE, follows=False),
    Case("nothing but the question first", stuff(ASKED), ASKED, follows=False),
]


def name_of(case: Case) -> str:
    return case.name


@pytest.fixture(params=CASES, ids=name_of)
def case(request: pytest.FixtureRequest) -> Case:
    chosen: Case = request.param
    return chosen


@pytest.fixture
def engine() -> PromptCache:
    return tiny_engine()


def answered(
    case: Case, llm: ChatPromptCache, documents: list[Document], question: str = QUESTION
) -> AIMessage:
    ear = Ear()
    case.make(llm, documents).invoke({"input": question}, config={"callbacks": [ear]})
    return ear.message


def test_documents_that_were_registered_are_all_reused_from_the_second_call_on(
    case: Case, engine: PromptCache
) -> None:
    llm = ChatPromptCache(engine=engine, max_tokens=1)
    llm.cache_documents(DOCUMENTS, progress=False)
    assert reused(answered(case, llm, DOCUMENTS), DOCUMENTS, engine) == 0
    second = answered(case, llm, SHUFFLED)
    assert reused(second, DOCUMENTS, engine) == 1
    assert second.usage_metadata["input_token_details"]["cache_creation"] == 0


def test_documents_cached_for_a_prompt_are_all_reused_in_the_first_call(
    case: Case, engine: PromptCache
) -> None:
    llm = ChatPromptCache(engine=engine, max_tokens=1)
    cached = llm.cache_documents(DOCUMENTS, prompt=case.prompt, progress=False)
    assert cached.encoded == len(DOCUMENTS)
    for documents, question in ((DOCUMENTS, QUESTION), (SHUFFLED, "And who plays?")):
        message = answered(case, llm, documents, question)
        assert reused(message, DOCUMENTS, engine) == 1
        assert message.usage_metadata["input_token_details"]["cache_creation"] == 0


def test_the_preamble_of_a_prompts_schema_is_that_of_the_chains_prompts(
    case: Case, engine: PromptCache
) -> None:
    llm = ChatPromptCache(engine=engine, max_tokens=1)
    llm.cache_documents(DOCUMENTS, prompt=case.prompt, progress=False)
    spans = answered(case, llm, DOCUMENTS).response_metadata["provenance"]
    preamble = [span for span in spans if span["module"] == "preamble"]
    assert {span["provenance"] for span in preamble} == {"exact"}
    modules = [s for s in spans if s["module"] not in (None, "preamble")]
    follows = modules[0]["start"] == sum(span["tokens"] for span in preamble)
    assert follows == (modules[0]["provenance"] == "exact") == case.follows


def test_greedy_answers_without_reuse_are_those_of_plain_transformers(
    case: Case, engine: PromptCache
) -> None:
    llm = ChatPromptCache(engine=engine, max_tokens=LENGTH, temperature=0, reuse=NoReuse())
    llm.cache_documents(DOCUMENTS, progress=False)
    plain = PlainChat(model=model("llama"), tokenizer=byte_tokenizer(), max_tokens=LENGTH)
    asked = {"input": QUESTION}
    for documents in (DOCUMENTS, SHUFFLED):
        expected = case.make(plain, documents).invoke(asked)
        assert case.make(llm, documents).invoke(asked) == expected


@pytest.mark.parametrize("template", [TEMPLATE, LLAMA_3, LLAMA_2, GEMMA_3, QWEN_3, MISTRAL])
def test_documents_cached_for_a_prompt_are_reused_under_every_chat_template(
    template: str, case: Case
) -> None:
    if template == MISTRAL and case.prompt in (PROMPT, HISTORY, README, BRIEF):
        pytest.skip("the template has no system role")
    engine = tiny_engine(template)
    llm = ChatPromptCache(engine=engine, max_tokens=1)
    llm.cache_documents(DOCUMENTS, prompt=case.prompt, progress=False)
    message = answered(case, llm, SHUFFLED)
    assert reused(message, DOCUMENTS, engine) == 1
    assert message.usage_metadata["input_token_details"]["cache_creation"] == 0
