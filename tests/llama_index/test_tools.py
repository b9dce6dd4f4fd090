"""Tools on PromptCacheLLM: called, answered, structured output by them, agents; and what takes
their place for a model whose chat template knows of none.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from llama_index.core.agent.react import ReActChatFormatter, ReActOutputParser
from llama_index.core.agent.workflow import AgentWorkflow, FunctionAgent, ReActAgent, ToolCallResult
from llama_index.core.base.llms.types import ToolCallBlock
from llama_index.core.llms import ChatMessage, ChatResponse, MessageRole
from llama_index.core.program import FunctionCallingProgram, LLMTextCompletionProgram
from llama_index.core.prompts import PromptTemplate
from llama_index.core.query_engine import (
    RetrieverQueryEngine,
    RouterQueryEngine,
    SubQuestionQueryEngine,
)
from llama_index.core.question_gen import LLMQuestionGenerator
from llama_index.core.schema import QueryBundle, TextNode
from llama_index.core.selectors import LLMSingleSelector
from llama_index.core.tools import FunctionTool, QueryEngineTool, ToolMetadata
from pydantic import BaseModel, Field

from llama_index_promptcache import PromptCacheLLM
from llama_index_promptcache.messages import to_engine
from promptcache import PromptCache
from promptcache.errors import OptionError, TemplateError
from support.llama import Shelf
from support.rag import tiny_engine
from support.scripted import ANSWER, Respond, Script, call, tool_engine

# LlamaIndex's agents use what its workflows and pydantic have deprecated.
pytestmark = pytest.mark.filterwarnings(
    "ignore::pydantic.warnings.PydanticDeprecatedSince20",
    "ignore::pydantic.warnings.PydanticDeprecatedSince211",
    "ignore:is_running called from within a step",
)

WITHOUT_TOOLS = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LOOK = call("look", query="mills")
BOTH = f"{LOOK}\n{call('count', upto=3)}"


def look(query: str) -> str:
    """Look something up."""
    return f"{query} found"


async def count(upto: int) -> str:
    """Count to a number."""
    return str([*range(1, upto + 1)])


class Stop(BaseModel):
    """Stop everything."""

    why: str = Field(description="the reason")


TOOLS = [FunctionTool.from_defaults(look), FunctionTool.from_defaults(async_fn=count)]
WHY = PromptTemplate("Why {when}?")
STOPPED = call("Stop", why="rain")


class Scripted:
    """An LLM that answers as the script says, and the prompts that it was given."""

    def __init__(self, respond: Respond | str, template: str | None = None, **settings: Any):
        self._script = Script(respond if callable(respond) else lambda _: respond)
        engine = tool_engine() if template is None else tool_engine(template)
        self.llm = PromptCacheLLM(
            engine=engine,
            generate_kwargs={"logits_processor": [self._script]},
            **{"max_new_tokens": 400, **settings},
        )

    @property
    def prompts(self) -> list[str]:
        return self._script.prompts


def calls(response: ChatResponse) -> list[tuple[str, dict[str, Any]]]:
    blocks = [b for b in response.message.blocks if isinstance(b, ToolCallBlock)]
    return [(block.tool_name, dict(block.tool_kwargs)) for block in blocks]


async def in_four_forms(
    llm: PromptCacheLLM, *args: Any, **options: Any
) -> dict[str, list[ChatResponse]]:
    stream = await llm.astream_chat_with_tools(*args, **options)
    return {
        "chat": [llm.chat_with_tools(*args, **options)],
        "achat": [await llm.achat_with_tools(*args, **options)],
        "stream": list(llm.stream_chat_with_tools(*args, **options)),
        "astream": [piece async for piece in stream],
    }


async def test_calls_are_the_same_however_the_model_is_asked() -> None:
    llm = Scripted(f"I look.\n{BOTH}").llm
    forms = await in_four_forms(llm, TOOLS, "Hi", allow_parallel_tool_calls=True)
    for *_, response in forms.values():
        assert calls(response) == [("look", {"query": "mills"}), ("count", {"upto": 3})]
        assert response.message.content == "I look."
        selected = llm.get_tool_calls_from_response(response)
        assert [(c.tool_name, c.tool_kwargs) for c in selected] == calls(response)
        assert len({c.tool_id for c in selected}) == 2
        assert json.loads(json.dumps(response.message.additional_kwargs)) == (
            response.message.additional_kwargs
        )


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"allow_parallel_tool_calls": True}, ["look", "count"]),
        ({"allow_parallel_tool_calls": False}, ["look"]),
        ({}, ["look"]),
    ],
)
async def test_an_answer_has_several_calls_only_where_they_are_allowed(
    options: dict[str, Any], names: list[str]
) -> None:
    for *_, response in (await in_four_forms(Scripted(BOTH).llm, TOOLS, "Hi", **options)).values():
        assert [name for name, _ in calls(response)] == names
        told = response.message.additional_kwargs["tool_calls"]
        assert [each["function"]["name"] for each in told] == names


async def test_no_part_of_a_call_is_streamed_as_text() -> None:
    forms = await in_four_forms(Scripted(f"I look.\n{LOOK}").llm, TOOLS, "Hi")
    for name in ("stream", "astream"):
        *pieces, last = forms[name]
        assert "".join(piece.delta for piece in pieces) == "I look."
        assert len(pieces) > 3
        assert not any(calls(piece) for piece in pieces)
        assert (last.delta, len(calls(last))) == ("", 1)


@pytest.mark.parametrize("said", ["Hm.", ""])
async def test_a_call_that_cannot_be_read_is_text_in_every_form(said: str) -> None:
    unread = "<tool_call>x</tool_call>"
    forms = await in_four_forms(Scripted(f"{said}{unread}").llm, TOOLS, "Hi")
    for pieces in forms.values():
        assert pieces[-1].message.content == f"{said}\n{unread}".strip()
        assert calls(pieces[-1]) == []
        if len(pieces) > 1:
            assert "".join(piece.delta for piece in pieces) == pieces[-1].message.content


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"tool_required": True}, ["look"]),
        ({"tool_required": True, "tool_choice": None}, ["look"]),
        ({"tool_choice": "required"}, ["look"]),
        ({"tool_choice": "look"}, ["look"]),
        ({"tool_required": True, "tool_choice": "none"}, []),
        ({"tool_choice": "none"}, []),
        ({}, ["look"]),
    ],
)
async def test_whether_a_tool_has_to_be_called_is_kept(
    options: dict[str, Any], names: list[str]
) -> None:
    made = Scripted(LOOK)
    for *_, response in (await in_four_forms(made.llm, TOOLS, "Hi", **options)).values():
        assert [name for name, _ in calls(response)] == names
        spoken = response.raw["usage"]["completion_tokens"]
        # An answer that must call a tool is begun for the model.
        forced = "tool_required" in options or options.get("tool_choice") in ("required", "look")
        begun = spoken < len(LOOK) - 15
        assert begun == (forced and bool(names))


def test_tools_stand_in_the_prompt_as_the_template_writes_them() -> None:
    made = Scripted("Done.")
    history = [ChatMessage("Be kind.", role=MessageRole.SYSTEM)]
    made.llm.chat_with_tools(TOOLS, ChatMessage("Hi"), chat_history=history)
    own = made.llm.engine.tokenizer.apply_chat_template(
        to_engine([*history, ChatMessage("Hi")]),
        tools=[tool.metadata.to_openai_tool() for tool in TOOLS],
        add_generation_prompt=True,
        tokenize=False,
    )
    assert made.prompts[-1] + ANSWER == own
    assert history == [ChatMessage("Be kind.", role=MessageRole.SYSTEM)]


def test_an_answer_with_calls_goes_back_as_the_model_wrote_it() -> None:
    made = Scripted(f"I look.\n{LOOK}")
    answer = made.llm.chat_with_tools(TOOLS, "Hi").message
    [selected] = made.llm.get_tool_calls_from_response(ChatResponse(message=answer))
    about = {"tool_call_id": selected.tool_id}
    result = ChatMessage("A mill.", role=MessageRole.TOOL, additional_kwargs=about)
    made.llm.chat_with_tools(TOOLS, chat_history=[ChatMessage("Hi"), answer, result])
    assert made.prompts[1] == (
        f"{made.prompts[0]}{ANSWER}I look.\n{LOOK}<|im_end|>\n"
        "<|im_start|>user\n<tool_response>\nA mill.\n</tool_response><|im_end|>\n"
    )


def test_without_tools_it_is_a_chat() -> None:
    made = Scripted("Hello.")
    for options in ({}, {"tool_required": True}):
        assert made.llm.chat_with_tools([], "Hi", **options).message.content == "Hello."
    assert len(made.prompts) == 1
    with pytest.raises(ValueError, match=r"the answer calls no tool: 'Hello\.'"):
        made.llm.get_tool_calls_from_response(made.llm.chat_with_tools([], "Hi"))


def test_tools_go_with_messages_of_a_template_that_hold_documents() -> None:
    made = Scripted("Hello.")
    messages = made.llm._get_messages(
        PromptTemplate("Use {context_str} for {query_str}"),
        context_str="The lighthouse of Arven is 31 metres tall and painted white.",
        query_str="it",
    )
    for tools in ([], [TOOLS[0].metadata.to_openai_tool()]):
        assert made.llm.chat(messages, tools=tools).message.content == "Hello."
    assert made.llm.chat(messages, tool_choice="none").message.content == "Hello."


@pytest.mark.parametrize(
    ("tools", "options", "said"),
    [
        ([look], {}, "is no tool; expected for example a FunctionTool"),
        (TOOLS, {"tool_choice": "loo"}, "tool_choice='loo' is no tool; did you mean 'look'"),
    ],
)
def test_what_is_no_tool_is_one_sentence(tools: Any, options: dict[str, Any], said: str) -> None:
    with pytest.raises(OptionError, match=said) as raised:
        Scripted("x").llm.chat_with_tools(tools, "Hi", **options)
    assert "\n" not in str(raised.value)


async def test_a_tool_is_predicted_and_called() -> None:
    llm = Scripted(BOTH).llm
    for response in (
        llm.predict_and_call(TOOLS, "Hi"),
        await llm.apredict_and_call(TOOLS, "Hi"),
    ):
        assert response.response == "mills found"
        assert len(response.sources) == 1
    both = await llm.apredict_and_call(TOOLS, "Hi", allow_parallel_tool_calls=True)
    assert both.response == "mills found\n\n[1, 2, 3]"


# Structured output.


async def structured(llm: PromptCacheLLM) -> list[Any]:
    """A prediction in each form that LlamaIndex has for one."""
    *_, streamed = llm.stream_structured_predict(Stop, WHY, when="now")
    stream = await llm.astream_structured_predict(Stop, WHY, when="now")
    *_, astreamed = [each async for each in stream]
    return [
        llm.structured_predict(Stop, WHY, when="now"),
        await llm.astructured_predict(Stop, WHY, when="now"),
        streamed,
        astreamed,
        llm.as_structured_llm(Stop).complete("Why now?").raw,
        (await llm.as_structured_llm(Stop).achat([ChatMessage("Why now?")])).raw,
    ]


async def test_structured_output_is_a_call_of_its_schema() -> None:
    made = Scripted(STOPPED)
    assert await structured(made.llm) == [Stop(why="rain")] * 6
    assert all('"name": "Stop"' in prompt for prompt in made.prompts)


@pytest.mark.parametrize("options", [{"template": WITHOUT_TOOLS}, {"pydantic_program_mode": "llm"}])
async def test_structured_output_is_read_from_text_where_there_are_no_tools(
    options: dict[str, Any],
) -> None:
    made = Scripted('{"why": "rain"}', **options)
    assert await structured(made.llm) == [Stop(why="rain")] * 6
    assert all("<tools>" not in prompt for prompt in made.prompts)


def test_programs_run() -> None:
    llm = Scripted(STOPPED).llm
    program = FunctionCallingProgram.from_defaults(Stop, prompt=WHY, llm=llm)
    assert program(when="now") == Stop(why="rain")
    text = LLMTextCompletionProgram.from_defaults(
        output_cls=Stop, prompt=WHY, llm=Scripted('{"why": "rain"}').llm
    )
    assert text(when="now") == Stop(why="rain")


# Agents.


def respond(prompt: str) -> str:
    """Look first, answer when there is a result."""
    found = prompt.endswith("</tool_response><|im_end|>\n")
    return "The mill stands in Kolt." if found else LOOK


def agent(llm: PromptCacheLLM, **options: Any) -> FunctionAgent:
    return FunctionAgent(tools=TOOLS, llm=llm, system_prompt="You find mills.", **options)


@pytest.mark.parametrize("streaming", [True, False])
async def test_a_function_agent_calls_its_tools_and_answers(streaming: bool) -> None:
    made = Scripted(respond)
    handler = agent(made.llm, streaming=streaming).run("Where is it?")
    heard = [event async for event in handler.stream_events()]
    results = [event for event in heard if isinstance(event, ToolCallResult)]
    assert [(r.tool_name, r.tool_output.content) for r in results] == [("look", "mills found")]
    assert str(await handler) == "The mill stands in Kolt."
    assert "You find mills." in made.prompts[0] and '"name": "count"' in made.prompts[0]
    assert made.prompts[1].startswith(f"{made.prompts[0]}{ANSWER}{LOOK}<|im_end|>\n")


async def test_an_agents_second_prompt_reuses_all_of_its_first() -> None:
    made = Scripted(respond)
    with made.llm.engine.recording() as replies:
        await agent(made.llm).run("Where is it?")
    first, second = (reply.usage for reply in replies)
    assert second.reused_tokens >= first.input_tokens - 1
    assert second.computed_tokens < 200 < first.computed_tokens


async def test_a_workflow_of_agents_hands_over() -> None:
    def hand_over(prompt: str) -> str:
        if "You write poems." in prompt:
            return "Roses are red."
        return call("handoff", to_agent="poet", reason="a poem is wanted")

    made = Scripted(hand_over)
    finder = FunctionAgent(
        name="finder", description="Finds.", tools=TOOLS, llm=made.llm, can_handoff_to=["poet"],
        system_prompt="You find mills.",
    )  # fmt: skip
    poet = FunctionAgent(
        name="poet", description="Writes.", llm=made.llm, system_prompt="You write poems."
    )
    workflow = AgentWorkflow(agents=[finder, poet], root_agent="finder")
    assert str(await workflow.run("Write a poem.")) == "Roses are red."


async def test_an_agent_gives_a_value_of_a_schema() -> None:
    def answer(prompt: str) -> str:
        return STOPPED if '"name": "Stop"' in prompt else respond(prompt)

    output = await agent(Scripted(answer).llm, output_cls=Stop).run("Where is it?")
    assert output.get_pydantic_model(Stop) == Stop(why="rain")


async def test_an_agent_that_must_call_a_tool_first_does() -> None:
    made = Scripted(respond)
    with made.llm.engine.recording() as replies:
        await agent(made.llm, initial_tool_choice="look").run("Where is it?")
    assert len(replies[0].token_ids) < len(LOOK) - 15
    assert [c.name for c in replies[0].tool_calls] == ["look"]


# A model whose template takes no tools.


@pytest.fixture
def plain() -> PromptCacheLLM:
    return PromptCacheLLM(engine=tiny_engine(), max_new_tokens=4)


@pytest.mark.parametrize(
    ("engine", "settings"),
    [
        (tiny_engine, {}),
        (lambda: tiny_engine(None), {"is_chat_model": True}),
        (tool_engine, {"messages_to_prompt": lambda messages: "x"}),
    ],
)
async def test_a_model_that_is_not_told_of_tools_says_so(
    engine: Callable[[], PromptCache], settings: dict[str, Any]
) -> None:
    llm = PromptCacheLLM(engine=engine(), max_new_tokens=4, **settings)
    assert not llm.metadata.is_function_calling_model
    with pytest.raises(TemplateError, match="tools were given, but") as raised:
        llm.chat_with_tools(TOOLS, "Hi")
    assert "\n" not in str(raised.value)
    with pytest.raises(TemplateError, match="tools were given, but"):
        await llm.achat_with_tools(TOOLS, "Hi")
    assert llm.chat_with_tools([], "Hi").message.content is not None


def test_a_text_model_calls_no_functions() -> None:
    assert Scripted("x").llm.metadata.is_function_calling_model
    assert not Scripted("x", is_chat_model=False).llm.metadata.is_function_calling_model


REASONED = 'Thought: I need a tool.\nAction: look\nAction Input: {"query": "mills"}\n'


def reasoned(prompt: str) -> str:
    if "Observation: mills found" in prompt:
        return "Thought: I can answer without using any more tools.\nAnswer: In Kolt."
    return REASONED


async def test_without_tools_in_the_template_agents_reason_in_text() -> None:
    made = Scripted(reasoned, WITHOUT_TOOLS)
    workflow = AgentWorkflow.from_tools_or_functions([look], llm=made.llm)
    assert isinstance(workflow.agents[workflow.root_agent], ReActAgent)
    assert str(await workflow.run("Where is the mill?")) == "In Kolt."


async def test_without_tools_in_the_template_a_tool_is_called_by_reasoning() -> None:
    """With the formatter and the parser named, which LlamaIndex takes to be given here."""
    made = Scripted(reasoned, WITHOUT_TOOLS)
    parts = {"react_chat_formatter": ReActChatFormatter(), "output_parser": ReActOutputParser()}
    called = await made.llm.apredict_and_call(TOOLS, "Where is the mill?", **parts)
    assert called.response == "mills found"


# Engines that ask the model for a choice.

NODES = [TextNode(text="The mill of Kolt is a museum."), TextNode(text="The inn has 31 rooms.")]


def engines(llm: PromptCacheLLM) -> list[QueryEngineTool]:
    return [
        QueryEngineTool(
            query_engine=RetrieverQueryEngine.from_args(Shelf([node]), llm=llm),
            metadata=ToolMetadata(name=name, description=f"Knows the {name}."),
        )
        for name, node in zip(["mill", "inn"], NODES, strict=True)
    ]


async def test_a_router_asks_the_engine_that_the_model_selects() -> None:
    def select(prompt: str) -> str:
        if "Knows the mill." in prompt:
            return json.dumps([{"choice": 2, "reason": "It is about rooms."}])
        return "31 rooms." if "The inn has 31 rooms." in prompt else "No."

    made = Scripted(select)
    router = RouterQueryEngine(
        selector=LLMSingleSelector.from_defaults(made.llm),
        query_engine_tools=engines(made.llm),
        llm=made.llm,
    )
    assert str(router.query("How many rooms?")) == "31 rooms."
    assert str(await router.aquery("How many rooms?")) == "31 rooms."


def divide(prompt: str) -> str:
    """Two questions; an answer to each; and one of both."""
    if "The mill of Kolt" in prompt:
        return "A museum."
    if "The inn has" in prompt:
        return "31 rooms."
    if "Response: A museum." in prompt and "Response: 31 rooms." in prompt:
        return "A museum with 31 rooms."
    items = [{"sub_question": f"What is the {n}?", "tool_name": n} for n in ("mill", "inn")]
    return f"```json\n{json.dumps({'items': items})}\n```"


def test_a_question_is_divided_among_engines() -> None:
    made = Scripted(divide)
    engine = SubQuestionQueryEngine.from_defaults(
        engines(made.llm),
        llm=made.llm,
        question_gen=LLMQuestionGenerator.from_defaults(made.llm),
        use_async=False,
        verbose=False,
    )
    assert str(engine.query("What is there?")) == "A museum with 31 rooms."


async def test_questions_are_generated_alike_in_an_event_loop() -> None:
    generator = LLMQuestionGenerator.from_defaults(Scripted(divide).llm)
    tools: Sequence[ToolMetadata] = [ToolMetadata(name=n, description=n) for n in ("mill", "inn")]
    query = QueryBundle("What is there?")
    expected = generator.generate(tools, query)
    assert [question.tool_name for question in expected] == ["mill", "inn"]
    assert await generator.agenerate(tools, query) == expected
