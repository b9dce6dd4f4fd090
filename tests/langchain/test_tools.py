"""Tools on the chat model: bound, called, streamed, answered, and structured output by them."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.documents import Document
from langchain_core.exceptions import OutputParserException
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)
from langchain_core.tools import tool
from pydantic import BaseModel, Field

from core.text.tool_templates import MISTRAL_V3
from langchain_promptcache import ChatPromptCache
from langchain_promptcache.messages import to_engine
from promptcache.errors import OptionError, TemplateError
from support.rag import DOCUMENTS, reused, tiny_engine
from support.scripted import call, scripted, tool_engine

LOOK = call("look", query="mills")


@tool
def look(query: str) -> str:
    """Look something up."""
    return query


class Stop(BaseModel):
    """Stop everything."""

    why: str = Field(description="the reason")


def whole(chunks: Any) -> AIMessageChunk:
    found = list(chunks)
    return sum(found[1:], found[0])


def calls(message: AIMessage) -> list[tuple[str, dict[str, Any]]]:
    return [(c["name"], c["args"]) for c in message.tool_calls]


async def test_calls_are_the_same_however_the_model_is_asked() -> None:
    llm = scripted(f"I look.\n{LOOK}\n{call('Stop', why='é')}").bind_tools([look, Stop])
    messages = [
        llm.invoke("Hi"),
        await llm.ainvoke("Hi"),
        whole(llm.stream("Hi")),
        whole([chunk async for chunk in llm.astream("Hi")]),
        llm.batch(["Hi"])[0],
    ]
    for message in messages:
        assert calls(message) == [("look", {"query": "mills"}), ("Stop", {"why": "é"})]
        assert message.text == "I look."
        assert len({c["id"] for c in message.tool_calls}) == 2


def test_no_part_of_a_call_is_streamed_as_text() -> None:
    llm = scripted(f"I look.\n{LOOK}").bind_tools([look])
    chunks = list(llm.stream("Hi"))
    assert "".join(chunk.text for chunk in chunks) == "I look."
    assert len([chunk for chunk in chunks if chunk.text]) > 3
    assert [bool(chunk.tool_call_chunks) for chunk in chunks] == [False] * (len(chunks) - 1) + [
        True
    ]


@pytest.mark.parametrize("text", ['<tool_call>\n{"name": "look", "arg', "<tool_call>x</tool_call>"])
async def test_a_call_that_cannot_be_read_says_why(text: str) -> None:
    llm = scripted(f"Hm.{text}").bind_tools([look])
    for message in (llm.invoke("Hi"), await llm.ainvoke("Hi"), whole(llm.stream("Hi"))):
        assert (message.text, message.tool_calls) == ("Hm.", [])
        (invalid,) = message.invalid_tool_calls
        assert invalid["args"] == text
    assert "not valid JSON" in llm.invoke("Hi").invalid_tool_calls[0]["error"]


@pytest.mark.parametrize(
    ("choice", "names"),
    [("any", ["look"]), ("required", ["look"]), (True, ["look"]), ("look", ["look"]),
     ({"type": "function", "function": {"name": "look"}}, ["look"]), ("auto", ["look"]),
     (None, ["look"]), ("none", [])],
)  # fmt: skip
def test_tool_choice_is_kept(choice: Any, names: list[str]) -> None:
    message = scripted(LOOK).bind_tools([look, Stop], tool_choice=choice).invoke("Hi")
    assert [c["name"] for c in message.tool_calls] == names
    assert message.text == ("" if names else LOOK)


def test_a_call_that_must_be_made_and_is_cut_off_is_invalid() -> None:
    llm = scripted(LOOK).bind_tools([look], tool_choice="any", max_tokens=3)
    for message in (llm.invoke("Hi"), whole(llm.stream("Hi"))):
        assert (message.text, message.tool_calls) == ("", [])
        assert len(message.invalid_tool_calls) == 1


def test_answers_without_calls_stay_as_they_are() -> None:
    for text in ("Hello!", '{"name": "Mira", "age": 3}', "a < b"):
        llm = scripted(text).bind_tools([look])
        assert llm.invoke("Hi").text == whole(llm.stream("Hi")).text == text


@pytest.mark.parametrize(
    ("tools", "options", "said"),
    [
        ("look", {}, "tools is 'look'; expected a list of tools"),
        ([5], {}, "tool 1, 5, is not a LangChain tool"),
        ([{"type": "web_search_preview"}], {}, "runs at a provider"),
        ([look], {"tool_choice": "loo"}, "tool_choice='loo' is no tool; did you mean 'look'"),
        ([], {"tool_choice": "any"}, "needs tools, and there are none"),
    ],
)
def test_what_cannot_be_bound_is_one_sentence(tools: Any, options: Any, said: str) -> None:
    with pytest.raises(OptionError, match=said) as raised:
        scripted("x").bind_tools(tools, **options)
    assert "\n" not in str(raised.value)


def test_a_model_whose_template_takes_no_tools_says_so() -> None:
    llm = ChatPromptCache(engine=tiny_engine(), max_tokens=4)
    for bind in (lambda: llm.bind_tools([look]), lambda: llm.with_structured_output(Stop)):
        with pytest.raises(TemplateError, match="this model's chat template takes none"):
            bind()


def test_calls_and_results_go_back_as_the_template_writes_them() -> None:
    llm = scripted("Done.")
    asked = AIMessage(
        [{"type": "text", "text": "I look."}, {"type": "tool_use", "id": "1", "name": "look"}],
        tool_calls=[{"name": "look", "args": {"query": "mills"}, "id": "1", "type": "tool_call"}],
    )
    result = ToolMessage("A mill.", tool_call_id="1")
    llm.bind_tools([look]).invoke([SystemMessage("Be kind."), HumanMessage("Hi"), asked, result])
    script = llm.generation_kwargs["logits_processor"][0]
    assert script.prompts[-1].endswith(
        "<|im_start|>user\nHi<|im_end|>\n"
        f"<|im_start|>assistant\nI look.\n{LOOK}<|im_end|>\n"
        "<|im_start|>user\n<tool_response>\nA mill.\n</tool_response><|im_end|>\n"
    )


def test_a_result_has_the_name_of_its_tool_and_an_unread_call_is_what_was_written() -> None:
    unread = {"name": None, "args": "<tool_call>x", "id": None, "error": "y"}
    asked = {"name": "look", "args": {}, "id": "1", "type": "tool_call"}
    told = to_engine(
        [
            AIMessage("Hm.", invalid_tool_calls=[{**unread, "type": "invalid_tool_call"}]),
            AIMessage("", tool_calls=[asked]),
            ToolMessage("", tool_call_id="1"),
            AIMessage([{"type": "text", "text": "Hm."}, {**unread, "type": "invalid_tool_call"}]),
        ]
    )
    assert told[0]["content"] == "Hm.\n<tool_call>x"
    assert told[2]["name"] == "look"
    assert told[3]["content"] == [{"type": "text", "text": "Hm."}, "\n<tool_call>x"]


@pytest.mark.parametrize("given", ["abcdefghi", "1", "call_Ao02pnFYXD6GN1yzc0uXPsvF"])
def test_ids_from_elsewhere_serve_a_template_that_takes_only_its_own(given: str) -> None:
    llm = ChatPromptCache(engine=tool_engine(MISTRAL_V3), max_tokens=2).bind_tools([look])
    asked = AIMessage("", tool_calls=[{"name": "look", "args": {}, "id": given}])
    messages = [HumanMessage("Hi"), asked, ToolMessage("A mill.", tool_call_id=given)]
    spans = llm.invoke(messages).response_metadata["provenance"]
    called, answered = (told.get("tool_call_id") or told["tool_calls"][0]["id"]
                        for told in to_engine(messages)[1:])  # fmt: skip
    assert called == answered and len(called) == 9
    assert any("A mill." in span["text"] for span in spans)


def test_documents_that_a_tool_gives_beside_its_text_are_reused() -> None:
    engine = tool_engine()
    llm = scripted("Done.", engine).bind_tools([look])
    asked = {"name": "look", "args": {"query": "mills"}, "id": "1", "type": "tool_call"}
    text = "\n\n".join(document.page_content for document in DOCUMENTS)
    messages = [
        HumanMessage("Hi"),
        AIMessage("", tool_calls=[asked]),
        ToolMessage(text, tool_call_id="1", artifact=DOCUMENTS),
    ]
    first, second = llm.invoke(messages), llm.invoke([HumanMessage("Well?"), *messages[1:]])
    assert first.usage_metadata["input_token_details"]["cache_creation"] > 0
    assert reused(second, DOCUMENTS, engine) == 1
    assert not any("was expected" in note for note in second.response_metadata["notes"])


def test_a_document_that_a_tool_left_out_is_noted() -> None:
    llm = scripted("Done.").bind_tools([look])
    asked = {"name": "look", "args": {}, "id": "1", "type": "tool_call"}
    result = ToolMessage("Nothing.", tool_call_id="1", artifact=[Document("A mill that stands.")])
    message = llm.invoke([HumanMessage("Hi"), AIMessage("", tool_calls=[asked]), result])
    notes = message.response_metadata["notes"]
    assert [note for note in notes if "'A mill that stands.' was expected" in note]


JSON_SCHEMA = {"title": "Stop", "type": "object", "properties": {"why": {"type": "string"}}}


@pytest.mark.parametrize("schema", [Stop, JSON_SCHEMA])
def test_structured_output_is_a_value_of_the_schema(schema: Any) -> None:
    llm = scripted(call("Stop", why="rain")).with_structured_output(schema)
    expected = Stop(why="rain") if schema is Stop else {"why": "rain"}
    assert llm.invoke("Hi") == expected
    assert list(llm.stream("Hi"))[-1] == expected


@pytest.mark.parametrize("schema", [Stop, JSON_SCHEMA])
def test_json_that_the_prompt_asks_for_is_read_from_the_text(schema: Any) -> None:
    llm = scripted('```json\n{"why": "rain"}\n```')
    structured = llm.with_structured_output(schema, method="json_mode")
    expected = Stop(why="rain") if schema is Stop else {"why": "rain"}
    assert structured.invoke("Answer in JSON.") == expected


def test_an_answer_that_does_not_fit_is_an_error_or_the_parsing_error() -> None:
    cut = scripted(call("Stop", why="rain")).model_copy(update={"max_tokens": 3})
    with pytest.raises(OutputParserException, match="no call that can be read"):
        cut.with_structured_output(Stop).invoke("Hi")
    result = cut.with_structured_output(Stop, include_raw=True).invoke("Hi")
    assert result["parsed"] is None
    assert isinstance(result["raw"], AIMessage)
    assert isinstance(result["parsing_error"], OutputParserException)
    fits = scripted(call("Stop", why="x")).with_structured_output(Stop, include_raw=True)
    result = fits.invoke("Hi")
    assert (result["parsed"], result["parsing_error"]) == (Stop(why="x"), None)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"method": "json"}, "method='json' is none; did you mean 'json_mode'"),
        ({"tools": []}, "with_structured_output does not take tools"),
    ],
)
def test_structured_output_takes_no_other_options(options: Any, said: str) -> None:
    with pytest.raises(OptionError, match=said):
        scripted("x").with_structured_output(Stop, **options)


def test_what_hosted_models_promise_is_taken_and_its_meaning_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    llm = scripted(call("Stop", why="rain"))
    chain = llm.with_structured_output(Stop, method="json_schema", strict=True)
    assert chain.invoke("Hi") == Stop(why="rain")
    assert caplog.text.count("what does not fit is an error") == 2
    assert llm.bind_tools([Stop], strict=True).invoke("Hi").tool_calls


def test_thoughts_of_earlier_answers_are_left_out() -> None:
    thoughts = [
        {"type": "thinking", "thinking": "Hm."},
        {"type": "reasoning", "reasoning": "Hm."},
        {"type": "text", "text": "Yes."},
    ]
    [message] = to_engine([AIMessage(thoughts)])  # type: ignore[arg-type]
    assert message["content"] == [{"type": "text", "text": "Yes."}]
