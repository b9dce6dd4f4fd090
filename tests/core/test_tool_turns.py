"""Tools through the engine: what is reused over turns, and calls in the reply."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from core.text.test_tools import LOOK, STOP
from core.text.tool_templates import LLAMA_31, MISTRAL_V3, QWEN_CODER, QWEN_TOOLS
from promptcache import NoReuse, PromptCache, Reply
from promptcache.errors import OptionError, TemplateError
from support.library import DOCUMENTS
from support.scripted import Script, call, roomy_model, tool_engine
from support.words import byte_tokenizer

SYSTEM = {"role": "system", "content": "Answer from the documents, and be brief."}


def asked(question: str) -> dict[str, Any]:
    return {"role": "user", "content": question}


def search(*order: int, query: str = "mills") -> list[dict[str, Any]]:
    """A call and its result: some documents."""
    function = {"name": "look", "arguments": {"query": query}}
    call = {"type": "function", "id": "abcdefghi", "function": function}
    text = "\n\n".join(DOCUMENTS[i] for i in order)
    return [
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "name": "look", "tool_call_id": "abcdefghi", "content": text},
    ]


def answer(engine: PromptCache, messages: list[dict[str, Any]], **options: Any) -> Reply:
    options = {"tools": [LOOK, STOP], "max_new_tokens": 2, **options}
    return engine.generate_messages(messages, **options)


def preamble(reply: Reply) -> tuple[str, set[str]]:
    """The text of the preamble, and how it came about."""
    spans = [span for span in reply.trace if span.module == "preamble"]
    return "".join(span.text for span in spans), {str(span.provenance) for span in spans}


@pytest.mark.parametrize("template", [QWEN_TOOLS, QWEN_CODER, LLAMA_31])
def test_system_message_and_tools_are_reused_over_turns_and_conversations(template: str) -> None:
    engine = tool_engine(template)
    engine.cache_documents(DOCUMENTS, progress=False)
    turns = [
        [SYSTEM, asked("What of mills?")],
        [SYSTEM, asked("What of mills?"), *search(0, 1)],
        [SYSTEM, asked("And towers?"), *search(1, 2, query="towers")],
        [SYSTEM, asked("Bridges?"), *search(2, 0, query="bridges")],
    ]
    replies = [answer(engine, messages) for messages in turns]
    fronts = [preamble(reply) for reply in replies]
    assert [found for _, found in fronts] == [{"encoded"}, {"exact"}, {"exact"}, {"exact"}]
    (text,) = {text for text, _ in fronts}
    for part in ("Answer from the documents", "Look something up.", "stop"):
        assert part in text
    assert "mills" not in text
    assert replies[-1].usage.encoded == 0
    assert [s.text for s in replies[-1].trace if str(s.provenance) == "approximate"] == [
        DOCUMENTS[2], DOCUMENTS[0]
    ]  # fmt: skip


@pytest.mark.parametrize("template", [QWEN_TOOLS, QWEN_CODER, LLAMA_31, MISTRAL_V3])
def test_under_no_reuse_answers_are_those_of_plain_transformers(template: str) -> None:
    engine = tool_engine(template)
    engine.cache_documents(DOCUMENTS, progress=False)
    messages = [SYSTEM, asked("And towers?"), *search(1, 2, query="towers")]
    reply = answer(engine, messages, reuse=NoReuse(), max_new_tokens=12, do_sample=False)
    ids = engine.tokenizer.apply_chat_template(
        messages, tools=[LOOK, STOP], add_generation_prompt=True, return_dict=False
    )
    plain = roomy_model().generate(
        torch.tensor([ids]), max_new_tokens=12, do_sample=False, pad_token_id=0
    )
    assert reply.usage.input_tokens == len(ids)
    assert list(reply.token_ids) == plain[0, len(ids) :].tolist()


def test_tools_that_stand_in_the_first_question_are_reused_up_to_its_text() -> None:
    engine = tool_engine(LLAMA_31)
    first, second = (
        answer(engine, [SYSTEM, asked(question)]) for question in ("Mills?", "Towers?")
    )
    assert preamble(first)[0] == preamble(second)[0]
    assert "Look something up." in preamble(first)[0]
    assert preamble(second)[1] == {"exact"}


def test_other_tools_are_another_preamble() -> None:
    engine = tool_engine()
    messages = [SYSTEM, asked("Mills?")]
    replies = [answer(engine, messages, tools=tools) for tools in ([LOOK], [STOP], [LOOK])]
    assert [preamble(reply)[1] for reply in replies] == [{"encoded"}, {"encoded"}, {"exact"}]


def test_the_replys_calls_are_those_of_its_text() -> None:
    engine = tool_engine()
    script = Script(lambda _: f"So.\n{call('look', query='mills')}<tool_call>x")
    reply = answer(engine, [asked("Hi")], logits_processor=[script], max_new_tokens=200)
    assert reply.text == "So."
    assert [(c.name, c.arguments) for c in reply.tool_calls] == [("look", {"query": "mills"})]
    assert [c.text for c in reply.invalid_tool_calls] == ["<tool_call>x"]
    plain = engine.generate_messages([asked("Hi")], logits_processor=[script], max_new_tokens=200)
    assert plain.tool_calls == ()
    assert plain.text.startswith("So.\n<tool_call>")


def test_a_stop_string_ends_what_is_read_for_calls() -> None:
    engine = tool_engine()
    script = Script(lambda _: f"So.\n{call('look', query='mills')} and more STOP no")
    stream = engine.stream_messages(
        [asked("Hi")], tools=[LOOK], stop=["STOP"], logits_processor=[script], max_new_tokens=200
    )
    with stream:
        assert "".join(stream) == stream.reply.text == "So.\nand more"
        assert len(stream.reply.tool_calls) == 1


def test_marks_that_are_special_tokens_are_seen() -> None:
    tokenizer = byte_tokenizer.__wrapped__(MISTRAL_V3)
    tokenizer.add_special_tokens({"additional_special_tokens": ["[TOOL_CALLS]"]})
    engine = PromptCache(roomy_model(), tokenizer)
    wanted = tokenizer.encode(
        'Well, [TOOL_CALLS] [{"name": "stop", "arguments": {}}]</s>', add_special_tokens=False
    )

    def script(ids: Any, scores: Any) -> Any:
        scores = scores.new_full(scores.shape, -1e9)
        scores[0, wanted[ids.shape[1] - length]] = 0.0
        return scores

    for choice, opened in ((None, 0), ("any", len('[TOOL_CALLS] [{"name": "'))):
        length = answer(engine, [asked("Hi")], tool_choice=choice).usage.input_tokens
        if opened:
            wanted = tokenizer.encode('stop", "arguments": {}}]</s>', add_special_tokens=False)
        reply = answer(
            engine, [asked("Hi")], tool_choice=choice, logits_processor=[script], max_new_tokens=99
        )
        assert [c.name for c in reply.tool_calls] == ["stop"]
        assert reply.text == ("" if opened else "Well,")


def test_tools_are_refused_where_they_cannot_be_served() -> None:
    engine = PromptCache(roomy_model(), byte_tokenizer())
    with pytest.raises(TemplateError, match="takes none"):
        answer(engine, [asked("Hi")])
    with pytest.raises(OptionError, match="tool_choice='any' needs tools"):
        answer(engine, [asked("Hi")], tools=None, tool_choice="any")
