"""Chat messages in the order and with the roles that chat templates take."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import chain

from promptcache.errors import TemplateError
from promptcache.segments import Kind, Message, Segment

_ROLE = re.compile(r"[A-Za-z_][\w.-]*\Z")


def merge_roles(messages: Iterable[Message], separator: str = "\n\n") -> list[Message]:
    """`messages` with neighbours of equal role made one, `separator` between their texts.

    Results of tools, and messages that carry more than text, stay as they are.
    """
    merged: list[Message] = []
    for message in messages:
        last = merged[-1] if merged else None
        if (
            last is None
            or last.role != message.role
            or message.role in (None, "tool")
            or last.fields
            or message.fields
        ):
            merged.append(message)
        else:
            between = _between(last.segments, message.segments, separator)
            joint = tuple(chain(last.segments, between, message.segments))
            merged[-1] = replace(last, segments=joint)
    return merged


def _between(
    left: Sequence[Segment], right: Sequence[Segment], separator: str
) -> tuple[Segment, ...]:
    """The separator as a segment: part of a module, or a scaffold, when both neighbours are."""
    if not (left and right and separator):
        return ()
    preamble = left[-1].preamble and right[0].preamble
    bond = left[-1].bond if left[-1].bond == right[0].bond else None
    if left[-1].module is not None and left[-1].module == right[0].module:
        return (Segment(separator, Kind.MODULE, left[-1].module, preamble=preamble, bond=bond),)
    return (Segment(separator, preamble=preamble, bond=bond),)


def check_roles(messages: Sequence[Message]) -> None:
    """Raise TemplateError where only some messages have a role, or one that is no word."""
    roles = [message.role for message in messages]
    if None in roles and any(role is not None for role in roles):
        raise TemplateError(
            f"{roles.count(None)} of {len(roles)} messages have no role: give every message one "
            "(then the chat template is used), or none of them"
        )
    for role in roles:
        if role is not None and not _ROLE.match(role):
            raise TemplateError(
                f"{role!r} is no role: a role is a word such as system, user or assistant"
            )
