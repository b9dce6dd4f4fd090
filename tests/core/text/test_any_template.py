from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.text.rendering import chat, module, own_rendering, text_message
from core.text.short_templates import ADVERSE, REAL
from promptcache.errors import TemplateError
from promptcache.segments import Kind, Message, Segment, joined
from promptcache.text import fit

MARKS = ["<s>", "</s>", "<|im_end|>\n<|im_start|>", "</think>", "[/INST]", "<|eot|>", "|", '"']
texts = st.lists(st.sampled_from([*MARKS, "cat", " ", "\n", "7", "é", "dog "]), max_size=5).map(
    "".join
)


DEPEND_ON_CONTENT = {"by content", "integers only", "length"}


@st.composite
def conversations(draw: st.DrawFn, *, system: bool) -> list[Message]:
    roles = ["system"] * (system and draw(st.booleans())) + ["user", "assistant"] * 2
    messages = []
    for i, role in enumerate(roles[: draw(st.integers(1, 5))]):
        segments: list[Segment] = []
        for j, text in enumerate(draw(st.lists(texts, min_size=1, max_size=3))):
            segments.append(draw(st.sampled_from([Segment(text), module(f"m{i}{j}", text)])))
        messages.append(Message(role, tuple(segments)))
    return messages


@pytest.mark.parametrize("name", [*REAL, *ADVERSE])
def test_the_joined_segments_are_the_templates_own_rendering(name: str) -> None:
    template = (REAL | ADVERSE)[name]
    rendered = chat(template)

    @settings(max_examples=60, deadline=None)
    @given(conversations(system=name != "Gemma"), st.booleans())
    def check(messages: list[Message], answer: bool) -> None:
        try:
            expected = own_rendering(template, messages, add_generation_prompt=answer)
        except Exception:
            with pytest.raises(TemplateError):
                rendered.render(messages, add_generation_prompt=answer)
            return
        segments = rendered.render(messages, add_generation_prompt=answer)
        assert joined(segments) == expected
        whole = {s.module: s.text for m in messages for s in m.segments if s.kind is Kind.MODULE}
        for segment in segments:
            if segment.kind is Kind.MODULE:
                assert segment.text == whole[segment.module]
        names = [s.module for s in segments if s.kind is Kind.MODULE]
        assert len(names) == len(set(names))

    check()


@pytest.mark.parametrize("name", sorted({*REAL, *ADVERSE} - DEPEND_ON_CONTENT))
def test_content_that_spells_the_templates_words_adds_no_control_text(name: str) -> None:
    template = (REAL | ADVERSE)[name]
    rendered = chat(template)
    neutral = own_rendering(template, [text_message("user", "Q"), text_message("assistant", "Q")])

    @settings(max_examples=60, deadline=None)
    @given(*[st.lists(st.sampled_from([*MARKS, "cat", " x"]), min_size=1).map("".join)] * 2)
    def check(question: str, answer: str) -> None:
        messages = [text_message("user", question), text_message("assistant", answer)]
        segments = rendered.render(messages)
        control = "".join(s.text for s in segments if s.kind is Kind.CONTROL)
        if any(s.note == fit.LOST for s in segments):
            assert len(control) < len(neutral)
        else:
            assert control == neutral.replace("Q", "")

    check()
