"""What of the text in front of a template's first variable its documents are encoded behind.

They come behind the variable's value, and are encoded without it. A label ("Question:"), a heading
or an unfinished sentence in front of the variable goes with the value: right in front of a document
it would say that the document is the value.
"""

from __future__ import annotations

from re import compile as compiled

_CLOSING = r"""(?:["'’”»)\]*_]|</\w+>)*"""
_END = compiled(rf"""(?<!\S)[^\s.]+[^\s\d.][.!?…]+{_CLOSING}(?=\s|$)|[。！？।]+{_CLOSING}""")
"""Where a sentence ends: behind a word, not a number, a letter or "e.g."."""
_LABEL = compiled(r"[:：]\W*\Z")


def whole_sentences(text: str) -> str:
    """The text up to a variable without the rest of its last line that ends no sentence.

    Nor with labels and rules on the lines above it, nor white space at the end: tokenizers join it
    to what follows.
    """
    above, line_break, line = text.rstrip().rpartition("\n")
    ends = [match.end() for match in _END.finditer(line)]
    if ends:
        return above + line_break + line[: ends[-1]]
    lines = above.rstrip().split("\n")
    while lines and (not any(map(str.isalnum, lines[-1])) or _LABEL.search(lines[-1])):
        lines.pop()
    return "\n".join(lines).rstrip()
