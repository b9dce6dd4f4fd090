"""HTML elements as values: text is escaped when it is put into one, so that none is forgotten."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape


class Html(str):
    """Markup. Every other string is text, and is escaped where it meets markup."""

    __slots__ = ()


def joined(children: Iterable[str]) -> Html:
    """One piece of markup after the other."""
    return Html("".join(c if isinstance(c, Html) else escape(c) for c in children))


def element(name: str, *children: str, **attributes: str | int | bool) -> Html:
    """An element with its children. `class_` is `class`, and `data_key` is `data-key`.

    An attribute that is True has no value; one that is False or empty is left out.
    """
    said = "".join(
        f" {key.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{_quoted(value)}"')
        for key, value in attributes.items()
        if value is not False and value != ""
    )
    return Html(f"<{name}{said}>{joined(children)}</{name}>")


def facts_table(facts: Mapping[str, str]) -> Html:
    """Names and what they say, side by side."""
    lines = (
        element("tr", element("th", name, scope="row"), element("td", said))
        for name, said in facts.items()
    )
    return element("table", element("tbody", *lines))


def rows_table(heads: Sequence[str], rows: Iterable[Sequence[str]], numbers: int = 0) -> Html:
    """A row below the other; what stands in the first `numbers` columns is set to the right."""
    head = element("tr", *(element("th", name, scope="col") for name in heads))
    lines = (
        element(
            "tr",
            *(
                element("td", said, class_="pc-number" if place < numbers else "")
                for place, said in enumerate(row)
            ),
        )
        for row in rows
    )
    return element("table", element("thead", head), element("tbody", *lines))


def _quoted(value: str | int) -> str:
    # A line break in an attribute stays one only as a reference, for whoever rewraps the markup.
    return escape(str(value), quote=True).replace("\n", "&#10;")
