"""LangChain agents with a retriever tool, and what their later turns reuse."""

from __future__ import annotations

from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.documents import Document
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.prompts import PromptTemplate
from langchain_core.tools import BaseTool, create_retriever_tool
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import BaseModel

from langchain_promptcache.messages import to_engine
from promptcache import PromptCache
from support.rag import DOCUMENTS, Shelf, reused
from support.scripted import ANSWER, call, scripted, tool_engine

SYSTEM = "You answer questions about lighthouses, music and museums."
MORE = Document("The harbour of Selm is frozen from December to the middle of March.")
TITLED = PromptTemplate.from_template("<source>{page_content}</source>")


def respond(prompt: str) -> str:
    """Search first, answer when there is a result."""
    if prompt.endswith("</tool_response><|im_end|>\n"):
        return "It is 31 metres tall."
    question = prompt.rpartition("<|im_start|>user\n")[2].removesuffix("<|im_end|>\n")
    return call("search_library", query=question)


def search(shelf: Shelf, **options: Any) -> BaseTool:
    return create_retriever_tool(
        shelf,
        "search_library",
        "Search the documents of the library.",
        response_format="content_and_artifact",
        **options,
    )


def answers(messages: list[Any]) -> list[AIMessage]:
    return [message for message in messages if isinstance(message, AIMessage)]


def front(message: AIMessage) -> set[str]:
    """How the system prompt and the tools in an answer's prompt came about."""
    spans = message.response_metadata["provenance"]
    found = [span for span in spans if span["module"] == "preamble"]
    assert sum(span["tokens"] for span in found) > 500  # a byte each: more than the system prompt
    return {span["provenance"] for span in found}


@pytest.fixture
def engine() -> PromptCache:
    return tool_engine()


@pytest.mark.parametrize("document_prompt", [None, TITLED])
def test_an_agent_reuses_documents_system_prompt_and_tools_over_turns(
    engine: PromptCache, document_prompt: PromptTemplate | None
) -> None:
    shelf = Shelf(documents=DOCUMENTS)
    tool = search(shelf, document_prompt=document_prompt)
    agent = create_agent(scripted(respond, engine), [tool], system_prompt=SYSTEM)
    state = agent.invoke({"messages": [HumanMessage("How tall is the lighthouse?")]})
    (result,) = [m for m in state["messages"] if isinstance(m, ToolMessage)]
    assert result.artifact == DOCUMENTS
    asked, answered = answers(state["messages"])
    assert asked.tool_calls[0]["args"] == {"query": "How tall is the lighthouse?"}
    assert answered.text == "It is 31 metres tall."
    assert (front(asked), front(answered)) == ({"encoded"}, {"exact"})
    assert answered.usage_metadata["input_token_details"]["cache_creation"] > 0

    shelf.documents = [MORE, *reversed(DOCUMENTS)]
    state = agent.invoke({"messages": [*state["messages"], HumanMessage("And when is it cold?")]})
    *_, asked, answered = answers(state["messages"])
    assert front(asked) == front(answered) == {"exact"}
    assert reused(asked, DOCUMENTS, engine) == reused(answered, DOCUMENTS, engine) == 1

    shelf.documents = [DOCUMENTS[1], MORE]
    fresh = agent.invoke({"messages": [HumanMessage("Who plays the viola in winter?")]})
    asked, answered = answers(fresh["messages"])
    assert front(asked) == front(answered) == {"exact"}
    assert reused(answered, shelf.documents, engine) == 1
    assert answered.usage_metadata["input_token_details"]["cache_creation"] == 0


def test_an_agents_prompts_are_those_of_the_template_itself(engine: PromptCache) -> None:
    llm, tool = scripted(respond, engine), search(Shelf(documents=DOCUMENTS))
    state = create_agent(llm, [tool], system_prompt=SYSTEM).invoke(
        {"messages": [HumanMessage("How tall is it?")]}
    )
    told = to_engine([SystemMessage(SYSTEM), *state["messages"][:-1]])
    own = engine.tokenizer.apply_chat_template(
        told, tools=[convert_to_openai_tool(tool)], add_generation_prompt=True, tokenize=False
    )
    assert llm.generation_kwargs["logits_processor"][0].prompts[-1] + ANSWER == own


async def test_an_asynchronous_agent_streams_its_answer(engine: PromptCache) -> None:
    llm = scripted(respond, engine).model_copy(update={"streaming": True})
    agent = create_agent(llm, [search(Shelf(documents=DOCUMENTS))], system_prompt=SYSTEM)
    asked = {"messages": [HumanMessage("How tall is it?")]}
    pieces = [
        chunk.text
        async for chunk, about in agent.astream(asked, stream_mode="messages")
        if about["langgraph_node"] == "model"
    ]
    assert "".join(pieces) == "It is 31 metres tall."
    assert len([piece for piece in pieces if piece]) > 5


class Height(BaseModel):
    """A height that was found."""

    metres: int


def test_an_agent_gives_a_value_of_a_schema(engine: PromptCache) -> None:
    def found(prompt: str) -> str:
        return call("Height", metres=31) if "</tool_response>" in prompt else respond(prompt)

    tools = [search(Shelf(documents=DOCUMENTS))]
    agent = create_agent(scripted(found, engine), tools, response_format=Height)
    state = agent.invoke({"messages": [HumanMessage("How tall is it?")]})
    assert state["structured_response"] == Height(metres=31)
