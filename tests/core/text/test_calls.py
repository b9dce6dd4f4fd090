"""Calls of tools in answers: every form that is read, and what is left alone."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptcache.text.callforms import MARKS, TAG
from promptcache.text.calls import Answer, content_end, read_calls

TOOLS = {"look": {"query": {"type": "string"}, "n": {"type": "integer"}}, "stop": {}}
LOOK = {"query": "mills", "n": 2}
ONE = [("look", LOOK)]
TWO = [("look", LOOK), ("stop", {})]


def calls(answer: Answer) -> list[tuple[str, object]]:
    return [(call.name, call.arguments) for call in answer.calls]


@pytest.mark.parametrize(
    ("text", "expected", "content"),
    [
        ('<tool_call>\n{"name": "look", "arguments": {"query": "mills", "n": 2}}\n</tool_call>',
         ONE, ""),
        ('I look.\n<tool_call>{"name": "look", "arguments": {"query": "mills", "n": 2}}'
         '</tool_call>\n<tool_call>\n{"name": "stop"}\n</tool_call>', TWO, "I look."),
        ('<tool_call>\n{"name": "look", "arguments": "{\\"query\\": \\"mills\\", \\"n\\": 2}"}',
         ONE, ""),
        ('<tool_call>{"name": "look", "arguments": {"query": "mills", "n": 2}}'
         '<tool_call>{"name": "stop"}</tool_call>', TWO, ""),
        ('<tool_call>\n<function=look>\n<parameter=query>\nmills\n</parameter>\n<parameter=n>\n2\n'
         '</parameter>\n</function>\n</tool_call>\n<tool_call>\n<function=stop>\n</function>\n'
         '</tool_call>', TWO, ""),
        ('<think>A <tool_call> may help.</think>\n\n<tool_call>\n{"name": "stop"}\n</tool_call>',
         [("stop", {})], "<think>A <tool_call> may help.</think>"),
        ('<function=look>{"query": "mills", "n": 2}</function>', ONE, ""),
        ('<function=look>{"query": "mills", "n": 2}</function><function=stop></function>', TWO, ""),
        ('[TOOL_CALLS] [{"name": "look", "arguments": {"query": "mills", "n": 2}}, '
         '{"name": "stop", "arguments": {}}]', TWO, ""),
        ('[TOOL_CALLS]look[ARGS]{"query": "mills", "n": 2}[TOOL_CALLS]stop[CALL_ID]a1[ARGS]{}',
         TWO, ""),
        ('[TOOL_CALLS]look{"query": "mills", "n": 2}stop{}', TWO, ""),
        ('<tool_call>look\n<arg_key>query</arg_key>\n<arg_value>mills</arg_value>\n'
         '<arg_key>n</arg_key>\n<arg_value>2</arg_value>\n</tool_call>\n<tool_call>stop\n'
         '</tool_call>', TWO, ""),
        ("I look.<|tool_call_start|>[look(query='mills', n=2), stop()]<|tool_call_end|>",
         TWO, "I look."),
        ('<|tool_call>call:look{query:<|"|>mills<|"|>,n:2}<tool_call|>'
         '<|tool_call>call:stop{}<tool_call|>', TWO, ""),
        ('{"name": "look", "parameters": {"query": "mills", "n": 2}}', ONE, ""),
        ('<|python_tag|>{"name": "look", "parameters": {"query": "mills", "n": 2}}; '
         '{"name": "stop", "parameters": {}}', TWO, ""),
        ('{"type": "function", "function": {"name": "stop", "parameters": {}}}',
         [("stop", {})], ""),
        ('\n[{"name": "look", "arguments": {"query": "mills", "n": 2}}]', ONE, ""),
        ('{"parameters": {"query": "mills", "n": 2}, "name": "look"}', ONE, ""),
    ],
)  # fmt: skip
def test_every_form_is_read(text: str, expected: list[object], content: str) -> None:
    answer = read_calls(text, MARKS, TOOLS)
    assert (calls(answer), answer.content, answer.invalid) == (expected, content, ())
    assert len({call.id for call in answer.calls}) == len(expected)


def test_the_models_own_id_is_kept_and_a_new_one_is_what_mistral_takes() -> None:
    text = '[TOOL_CALLS] [{"name": "a", "id": "x1"}, {"name": "b"}]'
    first, second = read_calls(text, MARKS, TOOLS).calls
    assert first.id == "x1"
    assert len(second.id) == 9 and second.id.isalnum()


@pytest.mark.parametrize(
    ("text", "reason", "name"),
    [
        ('<tool_call>\n{"name": "look", "argum', "not valid JSON: Unterminated string", None),
        ('<tool_call>\n{"arguments": {}}\n</tool_call>', "has no name", None),
        ('<tool_call>\n{"name": "look", "arguments": [1]}\n</tool_call>', "not a JSON object",
         "look"),
        ("<tool_call>look, please</tool_call>", "not valid JSON", None),
        ("<|tool_call_start|>[look(mills)]<|tool_call_end|>", "not a list in Python", None),
        ("<|tool_call_start|>[look(query={1})]<|tool_call_end|>", "not a list in Python", None),
        ("<|tool_call_start|>[look(", "not a list in Python", None),
        ('<|tool_call>call:look{query:<|"|>mi', "not call:name{...}", None),
        ("<|tool_call>call:look{query:mills}<tool_call|>", "not call:name{...}", None),
        ('<tool_call>{"name": "look"} and more</tool_call>', "follows the call", None),
        ("<function=look>mills</function>", "neither JSON nor", "look"),
        ('<function=look>{"query": }</function>', "not valid JSON", "look"),
        ('<function=look>{"n": 2} and more</function>', "follows the call", "look"),
        ('[TOOL_CALLS] [{"name": "look", "arg', "not valid JSON", None),
        ('[TOOL_CALLS]look[ARGS]{"query": ', "not valid JSON", "look"),
        ("[TOOL_CALLS] 5", "has no name", None),
        ("<function=look>", "ends before the call", "look"),
        ("<function=look><parameter=query>mi", "ends before the call", "look"),
        ("<tool_call>\n<function=look>\n<parameter=query>\nmi", "ends before the call", "look"),
        ("<tool_call>\n<function=look>\n<parameter=query>\nmills\n</parameter>\n",
         "ends before the call", "look"),
        ("<tool_call>stop", "ends before the call", "stop"),
        ("<tool_call>look<arg_key>query</arg_key><arg_value>mills</arg_value>",
         "ends before the call", "look"),
        ("<tool_call>look<arg_key>query</arg_key><arg_value>mi", "not valid JSON", None),
    ],
)  # fmt: skip
def test_a_marked_call_that_cannot_be_read_says_why(
    text: str, reason: str, name: str | None
) -> None:
    answer = read_calls("Well.\n" + text, MARKS, TOOLS)
    (invalid,) = answer.invalid
    assert (answer.content, answer.calls) == ("Well.", ())
    assert (invalid.text, invalid.name) == (text, name)
    assert reason in invalid.reason


def test_braced_strings_may_hold_anything() -> None:
    said = 'a "quoted" {b: c},\nd'
    text = f'<|tool_call>call:look{{query:<|"|>{said}<|"|>,more:[{{x:<|"|>1<|"|>}}]}}<tool_call|>'
    assert calls(read_calls(text, MARKS, TOOLS)) == [
        ("look", {"query": said, "more": [{"x": "1"}]})
    ]


def test_a_call_that_can_be_read_survives_one_that_cannot() -> None:
    answer = read_calls('<tool_call>x</tool_call><tool_call>{"name": "stop"}', MARKS, TOOLS)
    assert calls(answer) == [("stop", {})]
    assert len(answer.invalid) == 1


@pytest.mark.parametrize(
    "text",
    [
        "Plain.", "", '{"name": "Mira", "age": 3}', '{"names": []}', "[1, 2]", "{x}",
        'I would write {"name": "stop"}.', '{"name": "stop"} I think.', "a < b",
    ],
)  # fmt: skip
def test_what_calls_no_tool_is_content(text: str) -> None:
    assert read_calls(text, MARKS, TOOLS) == Answer(text)


def test_only_the_models_own_marks_count() -> None:
    text = 'The format is [TOOL_CALLS] [{"name": "stop"}].'
    assert read_calls(text, (TAG,), TOOLS) == Answer(text)


def test_an_answer_that_had_to_call_is_a_call_or_an_invalid_one() -> None:
    assert calls(read_calls('{"name": "else"}', (), TOOLS, forced=True)) == [("else", {})]
    (invalid,) = read_calls('{"name": "else', (), TOOLS, forced=True).invalid
    assert invalid.text == '{"name": "else'


def test_arguments_may_spell_the_marks() -> None:
    for form in (
        '<tool_call>{{"name": "look", "arguments": {}}}</tool_call>',
        "<function=look>{}</function>",
        "[TOOL_CALLS]look[ARGS]{}",
    ):
        spelt = "</think> </tool_call> </function> [TOOL_CALLS] <tool_call> <function=stop>{}"
        said = json.dumps({"query": f"{spelt}</function>"})
        marks = tuple(mark for mark in MARKS if form.startswith(mark))
        answer = read_calls(form.format(said).replace("{{", "{"), marks, TOOLS)
        assert calls(answer) == [("look", json.loads(said))]


pieces = st.lists(
    st.sampled_from(
        [*MARKS, '{"name": "stop"}', "</tool_call>", "</think>", " ", "\n", "Hi", "<tool", "{",
         '"name"', "[", ";", '{"parameters": {}, "name": "stop"}',
         '{"id": "1", "name": "stop"}']
    ),
    max_size=8,
)  # fmt: skip


@given(pieces, st.sets(st.sampled_from(MARKS)))
def test_what_is_streamed_as_content_is_content(parts: list[str], marks: set[str]) -> None:
    text = "".join(parts)
    content = read_calls(text, tuple(marks), TOOLS).content
    certain = 0
    for end in range(len(text) + 1):
        now = content_end(text[:end], tuple(marks))
        assert now >= certain
        certain = now
    assert content.startswith(text[:certain])
