"""LlamaIndex's chat messages: roles, blocks, cache points, calls of tools, and what is refused."""

from __future__ import annotations

import json
from functools import cache
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llama_index.core.base.llms.types import (
    AudioBlock,
    CacheControl,
    ContentBlock,
    DocumentBlock,
    ImageBlock,
    ThinkingBlock,
    ToolCallBlock,
    VideoBlock,
)
from llama_index.core.llms import CachePoint, ChatMessage, MessageRole, TextBlock
from pydantic import BaseModel

from llama_index_promptcache import PromptCacheLLM
from llama_index_promptcache.messages import ROLES, to_engine
from promptcache.errors import PromptError, TemplateError
from support.rag import tiny_engine
from support.scripted import call, tool_engine

POINT = CachePoint(cache_control=CacheControl(type="ephemeral"))
PIXEL = b"\x89PNG\r\n\x1a\n"
FIRST = "The lighthouse of Arven is 31 metres tall and painted white."
SECOND = "Mira Tollen plays the viola in Ostmark every summer."


def text(*texts: str) -> list[ContentBlock]:
    return [TextBlock(text=each) for each in texts]


def llm(**options: Any) -> PromptCacheLLM:
    return PromptCacheLLM(engine=tiny_engine(**options), max_new_tokens=1, temperature=0)


def said(content: Any) -> str:
    """All the text of a message's content, as the engine takes it."""
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


def modules(content: Any) -> list[str]:
    """The texts of a message's content that are modules of their own."""
    return [part["text"] for part in content if "cache_control" in part]


def prompt_of(asked: PromptCacheLLM, messages: list[ChatMessage]) -> str:
    with asked.engine.recording() as replies:
        asked.chat(messages)
    return "".join(span.text for span in replies[0].trace)


def test_every_role_has_one_in_the_chat_template() -> None:
    assert ROLES.keys() == set(MessageRole)
    messages = [ChatMessage("x", role=role) for role in MessageRole if ROLES[role] != "tool"]
    for message in messages:
        prompt = prompt_of(llm(), [message, ChatMessage("y")])
        assert f"<|{ROLES[message.role]}|>x" in prompt


def test_turns_stand_in_the_prompt_as_the_chat_template_writes_them() -> None:
    messages = [
        ChatMessage("a", role=MessageRole.SYSTEM),
        ChatMessage("b", role=MessageRole.USER),
        ChatMessage("c", role=MessageRole.CHATBOT),
        ChatMessage("d", role=MessageRole.USER),
    ]
    assert prompt_of(llm(), messages) == (
        "<s><|system|>a</s><|user|>b</s><|assistant|>c</s><|user|>d</s><|assistant|>"
    )


BLOCKS = st.lists(
    st.one_of(
        st.text(alphabet="ab \n", max_size=4).map(lambda each: TextBlock(text=each)),
        st.just(POINT),
        st.just(ThinkingBlock(content="Hm.")),
    ),
    max_size=8,
)


@given(BLOCKS)
def test_the_text_of_a_message_is_its_content_wherever_cache_points_stand(
    blocks: list[ContentBlock],
) -> None:
    message = ChatMessage(blocks=blocks)
    [told] = to_engine([message])
    assert said(told["content"]) == (message.content or "")
    assert told["content"] == "" or modules(told["content"]) == list(ended_by_points(blocks))


def ended_by_points(blocks: list[ContentBlock]) -> list[str]:
    found, run = [], []
    for block in blocks:
        if isinstance(block, TextBlock):
            run.append(block.text)
        elif isinstance(block, CachePoint):
            found += ["\n".join(run)] if run else []
            run = []
    return found


@cache
def marked() -> PromptCacheLLM:
    return llm()


@settings(deadline=None)
@given(BLOCKS)
def test_no_place_of_a_cache_point_changes_a_prompt(blocks: list[ContentBlock]) -> None:
    spoken = [*blocks, TextBlock(text="Well?")]
    expected = f"<s><|user|>{ChatMessage(blocks=spoken).content}</s><|assistant|>"
    assert prompt_of(marked(), [ChatMessage(blocks=spoken)]) == expected


def test_what_a_cache_point_ends_is_reused_in_another_order() -> None:
    asked = llm(conversations=False)
    for role in (MessageRole.SYSTEM, MessageRole.USER):
        counts = []
        for texts in permutations([FIRST, SECOND]):
            blocks = [block for each in texts for block in (*text(each), POINT)]
            response = asked.chat([ChatMessage(blocks=blocks, role=role), ChatMessage("Well?")])
            details = response.raw["usage"]["prompt_tokens_details"]
            counts.append(details["cache_creation_tokens"])
            reused = {s["text"] for s in response.raw["provenance"] if s["module"] is not None}
        assert counts[0] > 0
        assert counts[1] == 0
        assert reused.issuperset({FIRST, SECOND})


def test_a_cached_text_is_reused_where_a_later_message_has_it_without_a_point() -> None:
    asked = llm(conversations=False)
    asked.chat([ChatMessage(blocks=[*text(FIRST), POINT, *text("Well?")])])
    spans = asked.chat([ChatMessage(f"{FIRST}\nAnd now?")]).raw["provenance"]
    assert [span["provenance"] for span in spans if span["text"] == FIRST] == ["exact"]


@pytest.mark.parametrize(
    "block",
    [
        ImageBlock(image=PIXEL, image_mimetype="image/png"),
        AudioBlock(audio=b"x", format="wav"),
        VideoBlock(video=b"x", video_mimetype="video/mp4"),
        DocumentBlock(data=b"x", document_mimetype="application/pdf", title="x"),
    ],
)
@pytest.mark.parametrize("template", [True, False])
async def test_what_is_no_text_is_refused_by_the_number_of_its_message(
    block: ContentBlock, template: bool
) -> None:
    asked = llm() if template else llm(template=None)
    messages = [ChatMessage("Look."), ChatMessage(blocks=[*text("Here:"), block])]
    expected = f"message 2 holds an? {type(block).__name__}; promptcache serves text only"
    with pytest.raises(PromptError, match=expected):
        asked.chat(messages)
    with pytest.raises(PromptError, match=expected):
        await asked.achat(messages)


def test_thoughts_of_earlier_answers_are_left_out() -> None:
    thought = ChatMessage(
        role=MessageRole.ASSISTANT, blocks=[ThinkingBlock(content="Hm."), *text("Yes.")]
    )
    assert prompt_of(llm(), [ChatMessage("a"), thought, ChatMessage("b")]) == (
        "<s><|user|>a</s><|assistant|>Yes.</s><|user|>b</s><|assistant|>"
    )


# Calls of tools.

ASKED = {"query": "mills"}


class OpenAICall(BaseModel):
    """A call as OpenAI's client has it."""

    id: str
    function: dict[str, Any]


def calling(**said: Any) -> ChatMessage:
    return ChatMessage(role=MessageRole.ASSISTANT, **said)


def with_arguments(arguments: object) -> dict[str, Any]:
    return {"id": "1", "function": {"name": "look", "arguments": arguments}}


CALLS = {
    "block": calling(blocks=[ToolCallBlock(tool_call_id="1", tool_name="look", tool_kwargs=ASKED)]),
    "block with JSON": calling(
        blocks=[ToolCallBlock(tool_call_id="1", tool_name="look", tool_kwargs=json.dumps(ASKED))]
    ),
    "dict": calling(content="", additional_kwargs={"tool_calls": [with_arguments(ASKED)]}),
    "dict with JSON": calling(
        content=None, additional_kwargs={"tool_calls": [with_arguments(json.dumps(ASKED))]}
    ),
    "object": calling(
        content="",
        additional_kwargs={"tool_calls": [OpenAICall(**with_arguments(json.dumps(ASKED)))]},
    ),
    "both": calling(
        blocks=[ToolCallBlock(tool_call_id="1", tool_name="look", tool_kwargs=ASKED)],
        additional_kwargs={"tool_calls": [with_arguments(ASKED)]},
    ),
}
RESULT = ChatMessage("A mill.", role=MessageRole.TOOL, additional_kwargs={"tool_call_id": "1"})


@pytest.mark.parametrize("form", CALLS)
def test_a_call_and_its_result_stand_in_the_prompt_in_the_templates_own_form(form: str) -> None:
    asked = PromptCacheLLM(engine=tool_engine(), max_new_tokens=1)
    prompt = prompt_of(asked, [ChatMessage("Hi"), CALLS[form], RESULT])
    assert prompt == (
        "<|im_start|>user\nHi<|im_end|>\n"
        f"<|im_start|>assistant\n{call('look', **ASKED)}<|im_end|>\n"
        "<|im_start|>user\n<tool_response>\nA mill.\n</tool_response><|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_a_result_has_the_id_and_the_name_of_its_call() -> None:
    _, called, answered = to_engine([ChatMessage("Hi"), CALLS["block"], RESULT])
    assert answered["tool_call_id"] == called["tool_calls"][0]["id"]
    assert answered["name"] == "look"


def test_text_and_several_calls_keep_their_order() -> None:
    blocks = [
        *text("I look."),
        ToolCallBlock(tool_call_id="1", tool_name="look", tool_kwargs={}),
        ToolCallBlock(tool_call_id="2", tool_name="see", tool_kwargs=ASKED),
    ]
    [told] = to_engine([calling(blocks=blocks)])
    assert told["content"] == "I look."
    functions = [each["function"] for each in told["tool_calls"]]
    assert functions == [
        {"name": "look", "arguments": {}},
        {"name": "see", "arguments": ASKED},
    ]


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (
            calling(blocks=[ToolCallBlock(tool_name="look", tool_kwargs="{x")]),
            "message 2 calls 'look' with '{x', which is no JSON",
        ),
        (
            calling(content="", additional_kwargs={"tool_calls": [with_arguments("{x")]}),
            "message 2 calls 'look' with '{x', which is no JSON",
        ),
        (
            calling(content="", additional_kwargs={"tool_calls": [{"name": "look"}]}),
            "message 2 has {'name': 'look'} among its tool_calls; expected",
        ),
        (
            calling(content="", additional_kwargs={"tool_calls": [5]}),
            "message 2 has 5 among its tool_calls; expected",
        ),
        (
            calling(content="", additional_kwargs={"tool_calls": [with_arguments([1])]}),
            "expected a JSON object",
        ),
    ],
)
def test_a_call_that_cannot_be_read_is_one_sentence(message: ChatMessage, expected: str) -> None:
    asked = PromptCacheLLM(engine=tool_engine(), max_new_tokens=1)
    with pytest.raises(PromptError, match=expected.replace("{", r"\{")) as raised:
        asked.chat([ChatMessage("Hi"), message])
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("is_chat_model", [None, False])
def test_what_is_no_message_is_refused_in_a_sentence(is_chat_model: bool | None) -> None:
    llm = PromptCacheLLM(engine=tiny_engine(), max_new_tokens=1, is_chat_model=is_chat_model)
    with pytest.raises(PromptError, match="message 2 is a dict; expected a ChatMessage, for "):
        llm.chat([ChatMessage("Hi"), {"role": "user", "content": "Hi"}])  # type: ignore[list-item]
    with pytest.raises(PromptError, match="the messages are an int; expected a list of Chat"):
        to_engine(5)  # type: ignore[arg-type]


@pytest.mark.parametrize("prompt", ["Hello {context_str}", 3])
@pytest.mark.parametrize("is_chat_model", [None, False])
def test_a_prompt_that_is_no_template_is_refused_in_a_sentence(
    prompt: Any, is_chat_model: bool | None
) -> None:
    llm = PromptCacheLLM(engine=tiny_engine(), max_new_tokens=1, is_chat_model=is_chat_model)
    with pytest.raises(TemplateError, match=r"^the prompt is an? (str|int); expected a prompt"):
        llm.cache_documents(["A page."], prompt, progress=False)
