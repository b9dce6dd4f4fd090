"""A conversation with the embedded model: every turn computes itself alone."""

from __future__ import annotations

from functools import cache
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
from langchain_core.prompts import ChatPromptTemplate

from langchain_promptcache import ChatPromptCache
from langchain_promptcache.demo.library import shipped_library
from promptcache import PromptCache

TURNS = [
    "When was it founded?", "Who founded it?", "Where is it?", "How large is it?",
    "What does it show?", "Who leads it?", "When does it open?", "Is entry free?",
    "How many rooms has it?", "What is next to it?",
]  # fmt: skip


@cache
def engine() -> PromptCache:
    return PromptCache.from_pretrained("pocket")


def details(message: AIMessage) -> dict[str, Any]:
    assert message.usage_metadata is not None
    return {**message.usage_metadata, **message.usage_metadata["input_token_details"]}


def test_each_of_ten_turns_computes_its_own_tokens_and_nothing_before_them() -> None:
    llm = ChatPromptCache(engine=engine(), temperature=0, max_tokens=12)
    texts = [document.page_content for document in shipped_library().load()[:3]]
    llm.cache_documents(texts, progress=False)
    system = "Answer from the documents.\n\n" + "\n\n".join(texts)
    history: list[BaseMessage] = [SystemMessage(system)]
    before = 0
    print("\nturn  prompt  computed  answer")
    for number, question in enumerate(TURNS):
        history.append(HumanMessage(question))
        message = llm.invoke(history)
        usage = details(message)
        computed = usage["input_tokens"] - usage["cache_read"]
        print(f"{number:4} {usage['input_tokens']:7} {computed:9} {usage['output_tokens']:7}")
        if number:
            assert computed == usage["input_tokens"] - before
            assert message.response_metadata["notes"] == []
        # The last token of an answer was chosen, and nothing was computed after it.
        before = usage["input_tokens"] + usage["output_tokens"] - 1
        history.append(message)


def test_a_chain_with_history_and_the_same_documents_goes_on_where_it_was() -> None:
    prompt = ChatPromptTemplate.from_messages(
        [
            ("system", "Answer from the documents.\n\n{context}"),
            ("placeholder", "{history}"),
            ("human", "{input}"),
        ]
    )
    llm = ChatPromptCache(engine=engine(), temperature=0, max_tokens=12)
    shelf = shipped_library().load()[3:6]
    llm.cache_documents(shelf, prompt=prompt, progress=False)
    context = "\n\n".join(document.page_content for document in shelf)
    history: list[BaseMessage] = []
    for question in TURNS[:3]:
        given = {"context": context, "history": history, "input": question}
        message = (prompt | llm).invoke(given)
        history += [HumanMessage(question), message]
    usage = details(message)
    assert usage["cache_creation"] == 0
    assert usage["input_tokens"] - usage["cache_read"] < 30
    spans = message.response_metadata["provenance"]
    assert [s["module"] for s in spans if s["provenance"] != "new"].count("conversation") >= 1
