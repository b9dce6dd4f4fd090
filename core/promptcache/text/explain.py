"""Why a document that was expected in a prompt was not found there.

Guesses by trying: each known way of spoiling a text is applied to the document, and looked for.
This file knows nothing of how documents are registered.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator

_SMALLEST_PART = 32
"""Characters of a document that are not in a prompt by chance."""

_ESCAPED = re.compile(r"""\\(?:x[0-9a-f]{2}|u[0-9a-fA-F]{4}|U000[0-9a-f]{5}|[nrtbf'"\\/])""")
_SIGNS = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f"}


def why_not_found(text: str, document: str) -> str | None:
    """A reason in one sentence, or None when none of the known ones fits."""
    document = document.strip()
    for spoiled, reason in _spoiled(document):
        if spoiled != document and spoiled in text:
            return reason
    if " ".join(document.split()) in " ".join(text.split()):
        return "its whitespace was changed"
    if document.casefold() in text.casefold():
        return "its upper and lower case was changed"
    part = _longest_part(text, document)
    if part < _SMALLEST_PART:
        return None
    return f"cut: {part:,} of its {len(document):,} characters are there in one piece"


def unescaped(text: str) -> Iterator[str]:
    """`text` as it was before something escaped it, for each known way that may have been used."""
    if "&" in text:
        yield html.unescape(text)
    if "\\" in text:
        yield (
            _ESCAPED.sub(_unescape, text)
            .encode("utf-16", "surrogatepass")
            .decode("utf-16", "replace")
        )


def _unescape(match: re.Match[str]) -> str:
    said = match[0][1:]
    return chr(int(said[1:], 16)) if said[0] in "xuU" else _SIGNS.get(said, said)


def _spoiled(document: str) -> Iterator[tuple[str, str]]:
    escaped = "HTML-escaped: a mustache template does that to {{name}}, not to {{{name}}}"
    yield html.escape(document), escaped
    yield html.escape(document, quote=False), escaped
    yield html.escape(document, quote=False).replace('"', "&quot;"), escaped
    yield html.escape(document).replace("&#x27;", "&#39;"), escaped
    as_repr = "repr-escaped: a list or an object was put into the prompt instead of its text"
    yield repr(document)[1:-1], as_repr
    yield repr(document + "'\"")[1:-4], as_repr
    as_json = "JSON-escaped: it was put into the prompt as a JSON string"
    yield json.dumps(document)[1:-1], as_json
    yield json.dumps(document, ensure_ascii=False)[1:-1], as_json
    yield document.replace("\n", "\r\n"), "its line ends were changed"
    yield document.replace("\r\n", "\n"), "its line ends were changed"


def _longest_part(text: str, document: str) -> int:
    """The size of the longest part of `document` in `text`, if it is twice _SMALLEST_PART.

    Shorter ones are found where they begin or end the document.
    """
    longest = max(_beginning(text, document), _beginning(text[::-1], document[::-1]))
    at = 0
    while at + _SMALLEST_PART <= len(document):
        seed = document[at : at + _SMALLEST_PART]
        place = text.find(seed)
        if place < 0:
            at += _SMALLEST_PART
            continue
        before = agreement(text[:place][::-1], document[:at][::-1])
        after = agreement(text[place:], document[at:])
        longest = max(longest, before + after)
        at += max(after, _SMALLEST_PART)
    return longest


def _beginning(text: str, document: str) -> int:
    """How many characters of the document's beginning stand somewhere in `text`."""
    low, high = 0, len(document)
    while low < high:
        middle = (low + high + 1) // 2
        if document[:middle] in text:
            low = middle
        else:
            high = middle - 1
    return low


def agreement(left: str, right: str) -> int:
    """How many characters two texts share from their start."""
    low, high = 0, min(len(left), len(right))
    while low < high:
        middle = (low + high + 1) // 2
        if left[:middle] == right[:middle]:
            low = middle
        else:
            high = middle - 1
    return low
