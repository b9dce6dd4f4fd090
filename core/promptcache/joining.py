"""Segments as they are tokenised: neighbours that a tokenizer should see together are one.

Knows no tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

from promptcache.segments import Kind, Segment


def merged(segments: Sequence[Segment]) -> list[Segment]:
    """The segments, with neighbouring text of no module joined.

    A space that a template writes in front of a content goes with it: tokenizers take it for the
    beginning of a word, and a model's answer has its tokens so.
    """
    joint: list[Segment] = []
    for key, group in groupby(segments, key=_alike):
        items = list(group)
        if key is None or len(items) == 1:
            joint.extend(items)
        else:
            text = "".join(item.text for item in items)
            joint.append(Segment(text, items[0].kind, preamble=key[1], note=key[2], leads=key[3]))
    for place in range(1, len(joint)):
        before, content = joint[place - 1 : place + 1]
        if _leads(before, content):
            joint[place - 1] = replace(before, text=before.text[:-1])
            joint[place] = replace(content, text=" " + content.text)
    return joint


def _alike(segment: Segment) -> tuple[str, bool, str | None, bool] | None:
    own = segment.module is not None or segment.bond is not None
    if own or segment.kind not in (Kind.TEXT, Kind.CONTROL):
        return None
    return str(segment.kind), segment.preamble, segment.note, segment.leads


def _leads(before: Segment, content: Segment) -> bool:
    """Whether `before` is text of a template that ends in a space of the content after it.

    A module's first text keeps its tokens; inside a module, both are its own.
    """
    return (
        before.kind is Kind.CONTROL
        and content.kind in (Kind.TEXT, Kind.MODULE)
        and before.preamble == content.preamble
        and before.module == content.module
        and len(before.text) > 1
        and before.text.endswith(" ")
        and not content.text[:1].isspace()
    )
