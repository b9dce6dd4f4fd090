"""Functions that format prompts -> texts that know which parts of them the format wrote.

Such functions spell control tokens (`<|user|>`), which in a text of one piece are content as any.
What they write is told from what they are given by calling them once more, with marks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Generic, TypeVar

from llama_index.core.llms import ChatMessage, TextBlock

from llama_index_promptcache.marking import Marks
from promptcache import Frame
from promptcache.templates import Fixed, Variable, whole_sentences

T = TypeVar("T")
Parts = tuple[str | Frame, ...]


class FramedPrompt(str):
    """A prompt, and its parts: those of its format, and what stands in it."""

    __slots__ = ("parts",)
    parts: Parts

    @classmethod
    def of(cls, parts: Iterable[str | Frame]) -> FramedPrompt:
        """The prompt that consists of these parts."""
        known = tuple(parts)
        prompt = cls("".join(map(_text, known)))
        prompt.parts = known
        return prompt


class Formatting(Generic[T]):
    """A function that formats prompts, in one of the two ways below, and what it made last.

    A class, since templates of LlamaIndex's pickle what they are filled with.
    """

    def __init__(self, way: Callable[[Callable[[T], str], T], str], function: Callable[[T], str]):
        self._way = way
        self._function = function
        self.made = ""

    def __call__(self, said: T) -> str:
        """What the function makes of it."""
        self.made = self._way(self._function, said)
        return self.made


def parts_of(prompt: str) -> str | Parts:
    """A prompt as the engine takes it."""
    return prompt.parts if isinstance(prompt, FramedPrompt) else prompt


def within(prompt: str, inner: str) -> str:
    """A prompt that holds another one, whose parts it keeps."""
    if not isinstance(inner, FramedPrompt) or inner not in prompt:
        return prompt
    before, _, after = prompt.partition(inner)
    return FramedPrompt.of(part for part in (before, *inner.parts, after) if part)


def beginning(prompt: str, length: int, *, interrupted: bool = False) -> str | Parts:
    """The first `length` characters of a prompt, as the engine takes them.

    Without an unfinished sentence at their end where a value `interrupted` it.
    """
    begun: list[str | Frame] = []
    for part in prompt.parts if isinstance(prompt, FramedPrompt) else (prompt,):
        text = _text(part)[:length]
        if text:
            begun.append(Frame(text) if isinstance(part, Frame) else text)
        length -= len(text)
    if interrupted and begun and isinstance(last := begun[-1], str):
        begun[-1:] = filter(None, [whole_sentences(last)])
    return tuple(begun) if isinstance(prompt, FramedPrompt) else "".join(map(_text, begun))


def formatted_text(function: Callable[[str], str], prompt: str) -> str:
    """What a `completion_to_prompt` makes of a prompt."""
    return _formatted(lambda texts: function(texts[0]), function(prompt), [prompt])


def formatted_messages(
    function: Callable[[Sequence[ChatMessage]], str], messages: Sequence[ChatMessage]
) -> str:
    """What a `messages_to_prompt` makes of messages."""

    def marked(texts: Sequence[str]) -> str:
        return function([_saying(m, text) for m, text in zip(messages, texts, strict=True)])

    return _formatted(marked, function(messages), [m.content or "" for m in messages])


def _formatted(function: Callable[[Sequence[str]], str], said: str, texts: Sequence[str]) -> str:
    """What was said, with its parts where the function only puts texts into others."""
    marks = Marks([str(number) for number in range(len(texts))])
    try:
        found = list(marks.parts(function(marks.all)))
    except Exception:  # whatever a function does with other texts than it was made for
        return said
    whole = all(isinstance(part, Fixed | Variable) for part in found)
    if not whole or not any(isinstance(part, Fixed) for part in found):
        return said
    framed = FramedPrompt.of(
        Frame(part.text) if isinstance(part, Fixed) else texts[int(part.name)]
        for part in found
        if isinstance(part, Fixed | Variable)
    )
    return framed if framed == said else said


def _saying(message: ChatMessage, text: str) -> ChatMessage:
    return message.model_copy(update={"blocks": [TextBlock(text=text)]})


def _text(part: str | Frame) -> str:
    return part.text if isinstance(part, Frame) else part
