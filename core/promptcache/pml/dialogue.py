"""Segments in prompt order -> messages: who is speaking when. Knows no schema and no markup."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from promptcache.segments import Kind, Message, Segment


@dataclass(frozen=True, slots=True)
class Speaker:
    """A role element of the schema or the prompt. Two elements are two, whatever their role."""

    role: str
    element: str


@dataclass(slots=True)
class _Turn:
    role: str | None
    speaker: Speaker | None
    segments: list[Segment] = field(default_factory=list)
    opened: bool = False
    """Whether the prompt itself has an element for it, so that it is a message without text too."""


class Dialogue:
    """Gathers segments into messages.

    - Where neither schema nor prompt has a role element, all text is one message without a role.
    - Otherwise each role element is a message, and what stands outside them is the user's: it
      goes on with the message before it if that is a user's, and begins a user message after an
      assistant's or a system's. A role element of the user's, in turn, goes on with a message
      begun that way.
    - A message begun that way starts with a word: one space at its front is left out, because
      it would part the word from nothing, and because many chat templates trim what they are
      given. (A user element keeps it.)
    """

    def __init__(self, *, has_roles: bool) -> None:
        self._has_roles = has_roles
        self._turns: list[_Turn] = []

    def add(self, segment: Segment, speaker: Speaker | None) -> None:
        """Append a segment, said by a role element or outside all of them."""
        turn = self._turn(speaker)
        begins = not any(before.text for before in turn.segments)
        if speaker is None and turn.role and begins and segment.kind is Kind.TEXT:
            segment = replace(segment, text=segment.text.removeprefix(" "))
        if segment.text or segment.kind is Kind.ARGUMENT:
            turn.segments.append(segment)

    def open(self, speaker: Speaker) -> None:
        """Make what a role element of the prompt says a message, even if it says nothing."""
        self._turn(speaker).opened = True

    def _turn(self, speaker: Speaker | None) -> _Turn:
        role = (speaker.role if speaker else "user") if self._has_roles else None
        if self._turns:
            last = self._turns[-1]
            same = None in (speaker, last.speaker) or speaker == last.speaker
            if role == last.role and same:
                last.speaker = last.speaker or speaker
                return last
        self._turns.append(_Turn(role, speaker))
        return self._turns[-1]

    def messages(self) -> tuple[Message, ...]:
        """The messages, without those that nothing was said in and that the prompt has not."""
        return tuple(
            Message(turn.role, tuple(turn.segments))
            for turn in self._turns
            if turn.segments or turn.opened
        )
