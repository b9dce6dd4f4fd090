"""Texts packed into as few as fit so many tokens: whole, or cut where they cannot be."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence

log = logging.getLogger("promptcache")

SEPARATOR = "\n\n"
"""What stands between two texts of one prompt."""
NEAR = 4
"""A cut may give up one part in so many of what would fit, to fall between lines or words."""


class Pack(str):
    """A packed text that knows its parts, since it may have to be packed again."""

    chunks: tuple[str, ...] = ()

    @classmethod
    def of(cls, chunks: Iterable[str]) -> Pack:
        """These texts as one."""
        parts = tuple(chunks)
        pack = cls(SEPARATOR.join(parts))
        pack.chunks = parts
        return pack


class Texts(list[str]):
    """Texts that a template shows as themselves, and not as the repr of a list."""

    def __str__(self) -> str:
        return SEPARATOR.join(self)


class Packer:
    """Packs texts. `size` counts the tokens of one."""

    def __init__(self, size: Callable[[str], int]) -> None:
        self.size = size

    def packed(
        self, texts: Iterable[str], room: int, split: Callable[[str], Iterable[str]]
    ) -> list[str]:
        """The texts, joined to as few as fit `room` tokens each, none of them blank.

        Those that were packed before are packed anew. `split` cuts a text that does not fit alone.
        """
        chunks = [chunk for text in texts for chunk in _unpacked(text)]
        pieces = [piece for chunk in chunks for piece in self._cut(chunk, room, split)]
        return list(self._joined(pieces, room))

    def shortened(self, text: str, room: int) -> str:
        """The text as far as it fits `room` tokens, cut between lines or words if it can be."""
        size = self.size(text)
        if size <= room:
            return text
        low, high = 0, len(text)
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self.size(text[:middle]) <= room else (low, middle - 1)
        kept = text[: _good_end(text, low)].rstrip()
        log.warning(
            "a text of %d tokens is cut after %d of its %d characters: the prompt has room for "
            "%d tokens. Retrieve fewer nodes, or use response_mode='compact': %.60r",
            size,
            len(kept),
            len(text),
            room,
            text,
        )
        return kept

    def _cut(self, chunk: str, room: int, split: Callable[[str], Iterable[str]]) -> list[str]:
        """The chunk itself, or its parts where it does not fit alone."""
        size = self.size(chunk)
        if size <= room:
            return [chunk]
        log.warning(
            "a text of %d tokens is cut: the prompt has room for %d. Its parts reuse nothing of "
            "it; split documents into smaller nodes: %.60r",
            size,
            room,
            chunk,
        )
        return [part for part in split(chunk) if part.strip()]

    def _joined(self, chunks: Sequence[str], room: int) -> Iterator[str]:
        """Chunks that fit alone, joined greedily."""
        between = self.size(SEPARATOR)
        packs: list[list[str]] = []
        size = 0
        for chunk in chunks:
            alone = self.size(chunk)
            # The sum of the parts is near enough to go on with, and exact only by chance; the
            # whole is counted where it decides.
            size += between + alone
            if packs and size > room:
                size = self.size(SEPARATOR.join([*packs[-1], chunk]))
            if packs and size <= room:
                packs[-1].append(chunk)
            else:
                packs.append([chunk])
                size = alone
        for pack in packs:
            yield from self._fitting(pack, room)

    def _fitting(self, pack: Sequence[str], room: int) -> Iterator[str]:
        """A pack whose parts fit together by their sum, in as many texts as it really takes."""
        while pack:
            end = len(pack)
            while end > 1 and self.size(SEPARATOR.join(pack[:end])) > room:
                end -= 1
            yield Pack.of(pack[:end])
            pack = pack[end:]


def _unpacked(text: str) -> list[str]:
    """The chunks of a text that was packed before, or the text; without those that are blank."""
    chunks = text.chunks if isinstance(text, Pack) else (text,)
    return [chunk.strip() for chunk in chunks if chunk.strip()]


def _good_end(text: str, most: int) -> int:
    """Where to cut a text of which `most` characters fit: at a blank line, a line end, a space."""
    for mark in (SEPARATOR, "\n", " "):
        end = text.rfind(mark, most - most // NEAR, most + len(mark))
        if end >= 0:
            return end
    return most
