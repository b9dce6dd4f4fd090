"""Token ids into text as they come: whole characters only, and nothing of a stop string.

Knows the tokenizer and the stop strings, not the model.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import groupby

from transformers import PreTrainedTokenizerBase

REPLACEMENT = "\ufffd"


class TextStream:
    """Turns the token ids of one answer into text, at a cost per token that does not grow.

    Text is held back while it ends in an unfinished character or might be the beginning of a stop
    string. What follows the first stop string, itself included, is dropped. With `strip`, white
    space before the first visible character is dropped too. Special tokens have no text, but for
    those that are `shown`. Calls of tools are text here; see `callstream`.
    """

    calls: tuple[()] = ()
    invalid: tuple[()] = ()

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        stop: Sequence[str] = (),
        *,
        strip: bool = False,
        shown: Collection[int] = (),
    ) -> None:
        self._tokenizer = tokenizer
        self._stop = tuple(stop)
        self._longest = max(map(len, stop), default=0)
        self._strip = strip
        self._shown = frozenset(shown)
        self._window: list[int] = []
        self._given = 0
        """How much of the window's text has been taken over into `_held`."""
        self._held = ""
        """Text that is whole, but might be the beginning of a stop string."""
        self.met_stop = False
        """Whether a stop string has come."""
        self.text = ""
        """Everything that was given out."""

    def push(self, token: int) -> str:
        """Add a token; the text that is certain now and was not before."""
        if self.met_stop:
            return ""
        self._window.append(token)
        text = self._decoded()
        if not text.endswith(REPLACEMENT):
            self._take(text)
        return self._released()

    def finish(self) -> str:
        """The text that was held back, when no more tokens come."""
        if self.met_stop:
            return ""
        self._take(self._decoded())
        released = self._released()
        return released if self.met_stop else released + self._give(self._held)

    def _decoded(self) -> str:
        if not self._shown:
            return str(self._tokenizer.decode(self._window, skip_special_tokens=True))
        return "".join(
            str(self._tokenizer.decode(list(run), skip_special_tokens=not shown))
            for shown, run in groupby(self._window, self._shown.__contains__)
        )

    def _take(self, text: str) -> None:
        """Hold what is new in the window's text, and keep the window short.

        The token before the new ones stays in the window: some tokenizers write a token
        differently at the beginning of a text.
        """
        new = text[self._given :]
        if self._strip and not self.text and not self._held:
            new = new.lstrip()
        self._held += new
        self._window = self._window[-1:]
        self._given = len(self._decoded())

    def _released(self) -> str:
        """The part of the held text that no later token turns into a stop string."""
        cut = min((at for stop in self._stop if (at := self._held.find(stop)) >= 0), default=None)
        if cut is not None:
            self.met_stop = True
            return self._give(self._held[:cut])
        for start in range(max(0, len(self._held) - self._longest + 1), len(self._held)):
            if any(stop.startswith(self._held[start:]) for stop in self._stop):
                return self._give(self._held[:start])
        return self._give(self._held)

    def _give(self, text: str) -> str:
        self._held = self._held[len(text) :]
        self.text += text
        return text
