"""An answer's text as it comes, without the calls of tools in it.

What may turn out to be a call is held back until that is known; the calls are there at the end.
Knows how calls look in this answer, not the model or its template.
"""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from promptcache.text.callforms import InvalidCall, ToolCall
from promptcache.text.calling import Calling
from promptcache.text.calls import content_end, read_calls
from promptcache.text.stream import TextStream


def answer_text(
    tokenizer: PreTrainedTokenizerBase,
    stop: Sequence[str],
    *,
    strip: bool,
    calling: Calling | None = None,
) -> TextStream | CallStream:
    """What turns the tokens of an answer into its text, calls taken out where it may have some."""
    if calling is None:
        return TextStream(tokenizer, stop, strip=strip)
    return CallStream(TextStream(tokenizer, stop, strip=strip, shown=calling.shown), calling)


class CallStream:
    """Takes the place of the TextStream that it reads from, for an answer that may call tools."""

    def __init__(self, raw: TextStream, calling: Calling) -> None:
        self._raw = raw
        self._calling = calling
        self.text = ""
        """The content that was given out."""
        self.calls: tuple[ToolCall, ...] = ()
        """The calls, once the answer has ended."""
        self.invalid: tuple[InvalidCall, ...] = ()

    @property
    def met_stop(self) -> bool:
        """Whether a stop string has come."""
        return self._raw.met_stop

    def push(self, token: int) -> str:
        """Add a token; the content that is certain now and was not before."""
        if self.met_stop:
            return ""
        self._raw.push(token)
        if self.met_stop:
            return self._end()
        if self._calling.opening:
            return ""
        text = self._raw.text
        return self._give(text[: content_end(text, self._calling.marks)])

    def finish(self) -> str:
        """The rest of the content, when no more tokens come."""
        if self.met_stop:
            return ""
        self._raw.finish()
        return self._end()

    def _end(self) -> str:
        calling = self._calling
        answer = read_calls(
            calling.opened + self._raw.text,
            calling.marks,
            calling.parameters,
            forced=bool(calling.opening),
        )
        self.calls, self.invalid = answer.calls, answer.invalid
        return self._give(answer.content)

    def _give(self, content: str) -> str:
        new = content[len(self.text) :]
        self.text = content
        return new
