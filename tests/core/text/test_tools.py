"""Tools in chat templates: descriptions, calls and results are rendered, and stay content."""

from __future__ import annotations

from re import fullmatch
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.text.rendering import TOKENIZER, chat
from core.text.short_templates import CHATML
from core.text.tiny_tokenizers import make
from core.text.tool_templates import LLAMA_31, MISTRAL_V3, QWEN_TOOLS, TOOL_TEMPLATES
from promptcache.contexts import Contexts
from promptcache.errors import OptionError, PromptError, TemplateError
from promptcache.prompts import Prompts
from promptcache.segments import Kind, Segment, joined
from promptcache.text.calling import Callings
from promptcache.text.calls import read_calls
from promptcache.text.chat import ChatTemplate
from promptcache.text.tools import short_id

LOOK = {
    "type": "function",
    "function": {
        "name": "look",
        "description": "Look something up.",
        "parameters": {
            "type": "object",
            "properties": {"query": {"type": "string"}},
            "required": ["query"],
        },
    },
}
STOP = {"type": "function", "function": {"name": "stop", "description": "Stop.",
        "parameters": {"type": "object", "properties": {}}}}  # fmt: skip
ASKED = {"role": "user", "content": "How tall?"}
DOCUMENT = "The lighthouse is 31 metres tall."


def called(arguments: dict[str, Any], name: str = "look") -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return {"type": "function", "id": "abcdefghi", "function": function}


def exchange(arguments: dict[str, Any], result: str = DOCUMENT) -> list[dict[str, Any]]:
    return [
        {"role": "system", "content": "Be kind to everyone who asks."},
        ASKED,
        {"role": "assistant", "content": "", "tool_calls": [called(arguments)]},
        {"role": "tool", "name": "look", "tool_call_id": "abcdefghi", "content": result},
    ]


def prompts(template: str) -> Prompts:
    return Prompts(chat(template), Contexts())


def recognise(text: str) -> list[Segment]:
    before, found, after = text.partition(DOCUMENT)
    parts = [Segment(before), Segment(found, Kind.MODULE, "d") if found else Segment(""),
             Segment(after)]  # fmt: skip
    return [part for part in parts if part.text]


def segments(
    template: str, messages: list[dict[str, Any]], tools: list[Any] | None
) -> tuple[Segment, ...]:
    return prompts(template).from_messages(messages, recognise, tools)


def own(template: str, messages: list[dict[str, Any]], tools: list[Any] | None) -> str:
    return str(
        TOKENIZER.apply_chat_template(
            messages, tools=tools, chat_template=template, tokenize=False,
            add_generation_prompt=True,
        )
    )  # fmt: skip


@pytest.mark.parametrize("name", TOOL_TEMPLATES)
def test_an_exchange_with_a_tool_is_rendered_as_the_template_does(name: str) -> None:
    template = TOOL_TEMPLATES[name]
    messages = exchange({"query": 'a "mill"\nin Zürich', "n": 2})
    found = segments(template, messages, [LOOK, STOP])
    assert joined(found) == own(template, messages, [LOOK, STOP])
    if name != "Mistral":
        assert [s.text for s in found if s.kind is Kind.MODULE] == [DOCUMENT]


spelled = st.text(st.sampled_from("ab \n\"\\'{}<é")) | st.sampled_from(
    ["<|im_end|>", "</s> x", "a</think><tool_call>", "[INST]", "<s>"]
)
values = st.recursive(
    spelled | st.integers() | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(spelled, inner, max_size=2),
    max_leaves=4,
)


@pytest.mark.parametrize("name", TOOL_TEMPLATES)
def test_nothing_in_calls_and_tools_becomes_control(name: str) -> None:
    template = TOOL_TEMPLATES[name]
    source = prompts(template)
    neutral = source.from_messages(exchange({"q": "x"}), recognise, [LOOK])
    marks = [t for t in TOKENIZER.get_added_vocab() if t.strip()]
    expected = {mark: control(neutral).count(mark) for mark in marks}

    @settings(max_examples=40, deadline=None)
    @given(st.dictionaries(spelled, values, max_size=2), spelled, spelled)
    def check(arguments: dict[str, Any], result: str, description: str) -> None:
        messages = exchange(arguments, result)
        function = {**LOOK["function"], "description": description or "-"}
        tools = [{**LOOK, "function": function}]
        found = source.from_messages(messages, recognise, tools)
        assert joined(found) == own(template, messages, tools)
        for mark, times in expected.items():
            assert control(found).count(mark) <= times

    check()


def control(found: tuple[Segment, ...]) -> str:
    return "\0".join(s.text for s in found if s.kind is Kind.CONTROL)


def test_a_message_that_calls_tools_is_merged_with_no_other() -> None:
    said = {"role": "assistant", "content": "Well."}
    messages = [*exchange({"query": "x"}), said, said]
    found = segments(QWEN_TOOLS, messages, [LOOK])
    merged = [*messages[:-2], {"role": "assistant", "content": "Well.\n\nWell."}]
    assert joined(found) == own(QWEN_TOOLS, merged, [LOOK])
    both = [messages[0], messages[1], messages[2], messages[2]]
    assert joined(segments(QWEN_TOOLS, both, [LOOK])) == own(QWEN_TOOLS, both, [LOOK])


def test_arguments_may_be_given_as_json_text() -> None:
    call = {"function": {"name": "look", "arguments": '{"query": "x"}'}}
    messages = [ASKED, {"role": "assistant", "content": None, "tool_calls": [call]}]
    (mine,) = [s for s in segments(QWEN_TOOLS, messages, None) if '"x"' in s.text]
    assert '"arguments": {"query": "x"}' in mine.text


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ({"tool_calls": "look"}, "the tool_calls of message 1 are 'look'"),
        ({"tool_calls": ["look"]}, "tool call 1 of message 1 is 'look'; expected"),
        ({"tool_calls": [{"function": {"arguments": {}}}]}, "tool call 1 of message 1 is"),
        ({"tool_calls": [{"type": "code", "function": {"name": "a"}}]}, "of type 'code'"),
        ({"tool_calls": [{"function": {"name": "a", "arguments": "{"}}]}, "are not valid JSON"),
        ({"tool_calls": [{"function": {"name": "a", "arguments": [1]}}]}, "are \\[1\\]; expected"),
        ({"tool_calls": [called({"a": {1}})]}, "message 1 holds what JSON cannot"),
        ({"tool_calls": [called({"a": "\ud800"})]}, "message 1 holds what JSON cannot"),
        ({"name": 5}, "the name of message 1 is 5"),
        ({"tool_call": []}, None),
        ({"tool_call": [1]}, "'tool_call', which is not passed on; did you mean 'tool_call"),
    ],
)
def test_what_is_no_call_is_refused_in_a_sentence(message: Any, said: str | None) -> None:
    messages = [{"role": "assistant", "content": "x", **message}]
    if said is None:
        segments(QWEN_TOOLS, messages, None)
        return
    with pytest.raises(PromptError, match=said) as caught:
        segments(QWEN_TOOLS, messages, None)
    assert "\n" not in str(caught.value)


def test_a_template_that_would_drop_calls_is_refused() -> None:
    with pytest.raises(TemplateError, match="message 3 calls tools, which this model's chat"):
        segments(CHATML, exchange({}), None)


def test_a_templates_own_refusal_of_calls_is_passed_on() -> None:
    two = exchange({})
    two[2]["tool_calls"] *= 2
    with pytest.raises(TemplateError, match="only supports single tool-calls"):
        segments(LLAMA_31, two, [LOOK])


@pytest.mark.parametrize("name", TOOL_TEMPLATES)
def test_system_message_and_tools_are_the_preamble_where_they_stand_in_front(name: str) -> None:
    template = TOOL_TEMPLATES[name]
    first = segments(template, exchange({"query": "mills"}), [LOOK])
    second = segments(template, exchange({"query": "towers"})[:2], [LOOK])
    one, other = (joined(s for s in found if s.preamble) for found in (first, second))
    if name == "Mistral":  # its tools stand before the last question, and everything follows it
        assert "look" not in other or "How tall?" not in other
        return
    assert one == other
    assert "Be kind" in one and "Look something up." in one
    assert "How tall?" not in one


def test_a_document_in_the_system_message_ends_the_preamble() -> None:
    messages = [{"role": "system", "content": f"Read this: {DOCUMENT}"}, ASKED]
    found = segments(QWEN_TOOLS, messages, [LOOK])
    assert joined(s for s in found if s.preamble) == "<|im_start|>system\nRead this: "


OPENINGS = {
    "Qwen 2.5": ('<tool_call>\n{"name": "', '<tool_call>\n{"name": "look", "arguments":'),
    "Qwen Coder": ("<tool_call>\n<function=", "<tool_call>\n<function=look>"),
    "Llama 3.1": ('{"name": "', '{"name": "look", "parameters":'),
    "Mistral": ('[TOOL_CALLS] [{"name": "', '[TOOL_CALLS] [{"name": "look", "arguments":'),
}


@pytest.mark.parametrize("name", TOOL_TEMPLATES)
def test_a_call_that_must_be_made_begins_as_the_templates_own(name: str) -> None:
    callings = Callings(chat(TOOL_TEMPLATES[name]))
    tools = [LOOK, STOP]
    free = callings.of(tools)
    assert free is not None and free.opened == ""
    any_, named = (callings.of(tools, choice) for choice in ("any", "look"))
    assert any_ is not None and named is not None
    assert (any_.opened, named.opened) == OPENINGS[name]
    assert (
        callings.of([LOOK], "required")
        == callings.of([LOOK], True)
        == callings.of([LOOK], {"type": "function", "function": {"name": "look"}})
        == callings.of([LOOK], "look")
    )
    rendered = own(TOOL_TEMPLATES[name], exchange({"query": "x"})[:3], tools)
    answer = rendered[rendered.index(any_.opened.strip()) :]
    read = read_calls(answer.split("<|im_end|>")[0].removesuffix("</s>").split("<|eot|>")[0],
                      free.marks, free.parameters)  # fmt: skip
    assert [(call.name, call.arguments) for call in read.calls] == [("look", {"query": "x"})]


def test_special_tokens_of_a_call_are_shown() -> None:
    tokenizer = make("byte-level BPE", chat_template=MISTRAL_V3)
    tokenizer.add_special_tokens({"additional_special_tokens": ["[TOOL_CALLS]", "[INST]"]})
    calling = Callings(ChatTemplate(tokenizer)).of([LOOK])
    assert calling is not None
    assert calling.shown == {tokenizer.convert_tokens_to_ids("[TOOL_CALLS]")}


def test_a_generation_prompt_that_opens_a_thought_has_it_closed_before_a_call() -> None:
    thinking = QWEN_TOOLS.removesuffix("{% endif %}") + "<think>\n{% endif %}"
    calling = Callings(chat(thinking)).of([LOOK], "look")
    assert calling is not None
    assert calling.opened == '\n</think>\n\n<tool_call>\n{"name": "look", "arguments":'


def test_an_empty_thought_of_the_templates_own_is_not_written_twice() -> None:
    thinking = QWEN_TOOLS.removesuffix("{% endif %}") + "<think>\n{% endif %}"
    closing = "{%- for call in m.tool_calls %}"
    thinking = thinking.replace(closing, "{{ '\\n<think></think>' }}" + closing)
    calling = Callings(chat(thinking)).of([LOOK], "look")
    assert calling is not None
    assert calling.opened == '</think>\n<tool_call>\n{"name": "look", "arguments":'


def test_a_form_of_calls_that_is_not_read_is_refused() -> None:
    strange = QWEN_TOOLS.replace("<tool_call>", "<do>").replace("</tool_call>", "</do>")
    with pytest.raises(TemplateError, match="in a form that is not read, '<do>") as caught:
        Callings(chat(strange)).of([LOOK])
    assert "\n" not in str(caught.value)
    assert Callings(chat(strange)).of([LOOK], "none") is None


def test_no_calls_are_looked_for_where_none_are_wanted() -> None:
    assert Callings(chat(QWEN_TOOLS)).of([LOOK], "none") is None
    assert Callings(chat(CHATML)).of(None) is None


@pytest.mark.parametrize(
    ("template", "tools", "choice", "said"),
    [
        (QWEN_TOOLS, [LOOK], "loook", "tool_choice='loook' is no tool; did you mean 'look'?"),
        (QWEN_TOOLS, [LOOK], 3, "tool_choice=3 is no tool"),
        (QWEN_TOOLS, [LOOK], {"type": "any"}, "is no tool"),
        (QWEN_TOOLS, None, "any", "tool_choice='any' needs tools"),
        ("{{ tools }}{{ messages[0].content }}", [LOOK], "any", "needs a chat template that"),
    ],
)
def test_a_choice_that_cannot_be_kept_is_refused(
    template: str, tools: Any, choice: Any, said: str
) -> None:
    with pytest.raises(OptionError, match=said.replace("?", r"\?")) as caught:
        Callings(chat(template)).of(tools, choice)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("given", ["call_8Qm3", "toolu_01A09q90qw90lq917835lq9", "\ud800"])
def test_any_id_of_a_call_has_a_short_one_that_stands_for_it(given: str) -> None:
    short = short_id(given)
    assert short is not None
    assert fullmatch("[A-Za-z0-9]{9}", short)
    assert short_id(given) == short == short_id(short)
    assert short_id(f"{given}x") != short


def test_no_id_of_a_call_stays_none() -> None:
    assert short_id(None) is None
