"""Templates rendered by transformers itself and by ChatTemplate, for tests to compare."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from core.text.tiny_tokenizers import make
from promptcache.segments import Kind, Message, Segment
from promptcache.text.chat import ChatTemplate
from promptcache.text.merge import merge_roles

TOKENIZER = make("byte-level BPE")


def module(name: str, text: str) -> Segment:
    return Segment(text, Kind.MODULE, module=name)


def text_message(role: str | None, text: str) -> Message:
    """A message whose whole content is plain text."""
    return Message(role, (Segment(text),) if text else ())


def chat(template: str, **kwargs: Any) -> ChatTemplate:
    return ChatTemplate(TOKENIZER, kwargs, chat_template=template, now=datetime(2026, 3, 4))


def own_rendering(template: str, messages: list[Message], **kwargs: Any) -> str:
    plain = [{"role": m.role, "content": m.text} for m in merge_roles(messages)]
    kwargs = {"date_string": "04 Mar 2026", "add_generation_prompt": True} | kwargs
    return str(
        TOKENIZER.apply_chat_template(plain, chat_template=template, tokenize=False, **kwargs)
    )
