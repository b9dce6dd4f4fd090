"""Elements and texts -> markup, laid out so that reading it settles no text differently.

The inverse of `whitespace.py`: a line break goes only where reading drops it or makes it the one
space that stands there anyway, and `xml:space="preserve"` only where an edge would change.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from promptcache.pml.checks import ROLES
from promptcache.pml.xml import BLANK

_MESSAGES = ("schema", *ROLES)
_BLOCKS = ("module", "union", "collection", *ROLES)
"""Elements that a line break may part from the text beside them."""
_INLINE = ("param", "text")
_IN_TEXT = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "\r": "&#13;"})
_IN_ATTRIBUTE = _IN_TEXT | str.maketrans({'"': "&quot;", "\n": "&#10;", "\t": "&#9;"})


@dataclass(slots=True)
class Tag:
    """An element to be written."""

    name: str
    attributes: dict[str, str] = field(default_factory=dict)
    children: list[Tag | str] = field(default_factory=list)
    verbatim: bool = False
    """Whether its text is kept as it is wherever the element stands (an argument, base64)."""


def render(tag: Tag, indent: str = "", *, preserved: bool = False) -> str:
    """The element's markup; `preserved` says that white space is kept around it."""
    attributes = dict(tag.attributes)
    if not preserved and _needs_preserve(tag):
        attributes["xml:space"] = "preserve"
        preserved = True
    start = tag.name + "".join(
        f' {name}="{value.translate(_IN_ATTRIBUTE)}"' for name, value in attributes.items()
    )
    if not tag.children:
        return f"<{start}/>"
    is_block = not preserved and any(
        isinstance(child, Tag) and child.name not in _INLINE for child in tag.children
    )
    inner = indent + "  "
    parts: list[str] = []
    before: Tag | str | None = None
    for child in tag.children:
        if is_block and _may_break(tag, before, child):
            parts.append(f"\n{inner}")
        parts.append(
            child.translate(_IN_TEXT)
            if isinstance(child, str)
            else render(child, inner, preserved=preserved)
        )
        before = child
    if is_block and _may_break(tag, before, None):
        parts.append(f"\n{indent}")
    return f"<{start}>{''.join(parts)}</{tag.name}>"


def _needs_preserve(tag: Tag) -> bool:
    """Whether reading would settle the white space at an edge of one of its texts differently."""
    if tag.verbatim:
        return False
    for number, child in enumerate(tag.children):
        if not isinstance(child, str):
            continue
        body = child.strip(BLANK)
        after = tag.children[number + 1] if number + 1 < len(tag.children) else None
        front = child.removeprefix(" ") if number or tag.name not in _MESSAGES else child
        kept = front.removesuffix(" ") if _leaves_space(after) else front
        if not body or kept != body:
            return True
    return False


def _leaves_space(after: Tag | str | None) -> bool:
    """Whether a space before the element stays at the end of the text."""
    return isinstance(after, Tag) and after.name in ("param", "collection")


def _may_break(tag: Tag, before: Tag | str | None, after: Tag | str | None) -> bool:
    """Whether a line break may be read between two children; None is the element's edge."""
    match before, after:
        case str(), Tag():
            return after.name in (*ROLES, "scaffold") or (
                after.name in _BLOCKS
                and (before.endswith(" ") if _leaves_space(after) else _begins_spaced(after))
            )
        case Tag(), str():
            return before.name in _BLOCKS and after.startswith(" ")
        case None, str():
            return tag.name in _MESSAGES or after.startswith(" ")
        case str(), None:
            return tag.name in (*_MESSAGES, "prompt")
        case _:
            return True


def _begins_spaced(tag: Tag) -> bool:
    """Whether the text that the element begins with has one space at its front, as it is read."""
    if tag.name == "union":
        return all(isinstance(child, Tag) and _begins_spaced(child) for child in tag.children)
    if tag.verbatim or tag.name != "module" or not tag.children or _needs_preserve(tag):
        return False
    first = tag.children[0]
    return first.startswith(" ") if isinstance(first, str) else _begins_spaced(first)
