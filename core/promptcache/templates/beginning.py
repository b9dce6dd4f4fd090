"""What of the text in front of a template's first variable its documents are encoded behind.

They come behind the variable's value, and are encoded without it. A label ("Question:"), a heading
or an unfinished sentence in front of the variable goes with the value: right in front of a document
it would say that the document is the value.
"""

from __future__ import annotations

from re import compile as compiled

_END = compiled(r"""[.!?…。！？]["'’”)\]]*(?=\s|$)""")
"""Where a sentence ends."""


def whole_sentences(text: str) -> str:
    """The text up to a variable without the rest of its last line that ends no sentence.

    White space at the end goes, too: tokenizers join it to what follows.
    """
    above, line_break, line = text.rstrip().rpartition("\n")
    ends = [match.end() for match in _END.finditer(line)]
    return above + line_break + line[: ends[-1]] if ends else above.rstrip()
