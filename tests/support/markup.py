"""What tests of markup share: a reader as strict as browsers are lenient, and hostile text."""

from __future__ import annotations

from html.parser import HTMLParser

HOSTILE = """<script>alert("1")</script> </style> & ' <img src=x onerror=y> ]]> ümlaut\n\ttab"""
VOID = {"br", "hr", "img", "input", "link", "meta"}


class Page(HTMLParser):
    """What a browser makes of a form: its elements, its texts by class; fails if tags do not match.

    `texts` has the text in elements of each class, without what says that a text is folded.
    """

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, str] = {}
        self._open: list[tuple[str, list[str]]] = []
        self.feed(markup)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        assert len(attributes) == len(attrs)
        self.elements.append((tag, attributes))
        if tag not in VOID:
            self._open.append((tag, (attributes.get("class") or tag).split()))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        around = {name for _, names in self._open for name in names}
        if {"pc-fold", "summary"} <= around:
            return
        for name in around:
            self.texts[name] = self.texts.get(name, "") + data
