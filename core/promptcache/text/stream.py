"""Token ids into text as they come: whole characters only, and nothing of a stop string.

Knows the tokenizer and the stop strings, not the model.
"""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

REPLACEMENT = "�"


class TextStream:
    """Turns the token ids of one answer into text.

    Text is held back while it ends in an unfinished character or might be the beginning of a stop
    string. What follows the first stop string, itself included, is dropped. With `strip`, white
    space before the first visible character is dropped too.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, stop: Sequence[str] = (), *, strip: bool = False
    ) -> None:
        self._tokenizer = tokenizer
        self._stop = tuple(stop)
        self._strip = strip
        self._ids: list[int] = []
        self._emitted = 0
        self.met_stop = False
        """Whether a stop string has come."""
        self.text = ""
        """Everything that was given out."""

    def push(self, token: int) -> str:
        """Add a token; the text that is certain now and was not before."""
        if self.met_stop:
            return ""
        self._ids.append(token)
        text = self._decoded()
        cut = min((at for stop in self._stop if (at := text.find(stop)) >= 0), default=None)
        if cut is not None:
            self.met_stop = True
            return self._emit(text[:cut])
        return self._emit(text[: self._certain(text)])

    def finish(self) -> str:
        """The text that was held back, when no more tokens come."""
        return "" if self.met_stop else self._emit(self._decoded())

    def _decoded(self) -> str:
        text = str(self._tokenizer.decode(self._ids, skip_special_tokens=True))
        return text.lstrip() if self._strip else text

    def _certain(self, text: str) -> int:
        """How much of `text` later tokens cannot change or turn into a stop string."""
        end = len(text.rstrip(REPLACEMENT)) if text.endswith(REPLACEMENT) else len(text)
        longest = max((len(stop) for stop in self._stop), default=0)
        for start in range(max(0, end - longest + 1), end):
            if any(stop.startswith(text[start:end]) for stop in self._stop):
                return start
        return end

    def _emit(self, text: str) -> str:
        new = text[self._emitted :]
        self._emitted = max(self._emitted, len(text))
        self.text += new
        return new
