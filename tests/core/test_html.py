"""HTML forms: whole, escaped, with nothing to load, and legible in both themes."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import cast

import pytest

from promptcache import CachedDocuments, Provenance, Reply, Span, Stream, Trace, Usage
from promptcache.html import CSS, DARK, LIGHT, SCOPE, Theme
from promptcache.pml import parse_prompt, parse_schema
from promptcache.recording import Recording
from promptcache.reply import Stage
from support.markup import HOSTILE, Page

LONG = "A long document. " * 60


def trace_of(text: str) -> Trace:
    spans = tuple(
        Span(text, 10, 10 * place, provenance, module=text, tier="memory", key=text, note=text)
        for place, provenance in enumerate(Provenance)
    )
    return Trace(spans, (text,))


def reply_of(text: str) -> Reply:
    return Reply(
        text,
        Usage(exact=10),
        trace_of(text),
        1.25,
        {Stage.PREFILL: 0.012},
        "stop",
        (1,),
    )


def schema_form() -> str:
    schema = parse_schema(
        '<schema name="s"><system>Rules.</system><module name="m"><text encoding="base64">'
        "PGI+Ym9sZDwvYj4=</text><param name='p' len='3' default='&lt;i>'/></module>"
        '<union><module name="u">One.</module></union><collection name="c" separator="&lt;hr>"/>'
        '<module name="n" cache="false">Two.</module><scaffold name="t" modules="m u"/></schema>'
    )
    return schema._repr_html_()


def prompt_form() -> str:
    prompt = parse_prompt(
        '<prompt schema="s"><m p="&lt;i>"/><c><doc key="&lt;b>"/></c>&lt;script>What?'
        "<user>Then?</user></prompt>"
    )
    return prompt._repr_html_()


def recording_form(text: str) -> str:
    recording = Recording()
    recording.add(cast(Stream, SimpleNamespace(reply=reply_of(text))))
    return recording._repr_html_()


FORMS = {
    "trace": lambda text: trace_of(text)._repr_html_(),
    "empty trace": lambda _: Trace(())._repr_html_(),
    "reply": lambda text: reply_of(text)._repr_html_(),
    "recording": recording_form,
    "schema": lambda _: schema_form(),
    "prompt": lambda _: prompt_form(),
    "documents": lambda _: CachedDocuments(added=3, encoded=2, nbytes=10)._repr_html_(),
}


@pytest.mark.parametrize("text", [HOSTILE, LONG], ids=["hostile", "long"])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_whole_escapes_what_it_shows_and_loads_nothing(form: str, text: str) -> None:
    page = Page(FORMS[form](text))
    tags = {tag for tag, _ in page.elements}
    table = {"table", "thead", "tbody", "tr", "th", "td"}
    plain = {"div", "p", "b", "ul", "li", "span", "style", "details", "summary"}
    assert tags <= table | plain | {"svg", "rect"}
    names = {name for _, attributes in page.elements for name in attributes}
    assert names <= {
        "class", "tabindex", "data-facts", "role", "aria-label", "scope", "open",
        "viewbox", "preserveaspectratio", "x", "width", "height",
    }  # fmt: skip
    assert page.elements[0] == ("div", {"class": SCOPE})


@pytest.mark.parametrize("text", [HOSTILE, LONG], ids=["hostile", "long"])
def test_a_trace_shows_the_prompt_verbatim(text: str) -> None:
    assert Page(trace_of(text)._repr_html_()).texts["pc-text"] == text * len(Provenance)


def test_a_schema_and_a_prompt_show_all_that_they_hold() -> None:
    shown = Page(schema_form()).texts["pc-tree"]
    for said in ("Rules.", "<b>bold</b>", "up to 3 tokens, else '<i>'", "One.", "'<hr>'", "m, u"):
        assert said in shown
    assert "computed each time" in shown
    asked = Page(prompt_form()).texts["pc-tree"]
    for said in ("argument p", "<i>", "<b>", "<script>What?", "Then?"):
        assert said in asked


def test_long_texts_are_folded_and_short_ones_are_not() -> None:
    def folds(text: str) -> int:
        page = Page(trace_of(text)._repr_html_())
        return sum(attributes.get("class") == "pc-fold" for _, attributes in page.elements)

    assert folds(LONG) == len(Provenance)
    assert folds(HOSTILE) == 0


def test_every_provenance_is_in_the_legend_with_its_tokens() -> None:
    spans = (
        Span("a", 100, 0, Provenance.EXACT),
        Span("b", 50, 100, Provenance.APPROXIMATE, recomputed=8),
        Span("c", 30, 150, Provenance.ENCODED),
        Span("d", 5, 180, Provenance.RECOMPUTED, recomputed=5),
        Span("e", 1, 185, Provenance.NEW),
    )
    shown = Page(Trace(spans)._repr_html_()).texts
    for said in ("100", "42", "30", "13"):
        assert f"{said} tokens (" in shown["pc-legend"]
    assert "new 1 token (" in shown["pc-legend"]
    assert "142 of 186 tokens reused" in shown["b"]
    for provenance in Provenance:
        assert provenance.meaning in shown["pc-legend"]


def test_hovering_says_tier_key_tokens_and_reason_and_the_table_says_so_too() -> None:
    span = Span(
        "text", 7, 9, Provenance.NEW, module="guide.owl", tier="disk", key="abc123", note="was cut"
    )
    page = Page(Trace((span,))._repr_html_())
    facts = next(a["data-facts"] for _, a in page.elements if "data-facts" in a)
    assert facts is not None
    for said in ("7 tokens", "position 9", "guide.owl", "tier disk", "key abc123", "why was cut"):
        assert said in facts
    for said in ("guide.owl", "disk", "abc123", "was cut"):
        assert said in page.texts["td"]
    assert "! 1 span with a reason" in page.texts["pc-legend"]


def test_every_rule_of_the_style_is_scoped() -> None:
    plain = re.sub(r"@media[^{]*\{(.*?\})\}", r"\1", CSS)
    selectors = [s for rule in re.findall(r"([^{}]+)\{", plain) for s in rule.split(",")]
    assert len(selectors) > 20
    assert all(f".{SCOPE}" in selector for selector in selectors)
    assert "url(" not in CSS
    assert "@import" not in CSS


def luminance(colour: str) -> float:
    """Relative luminance, as WCAG 2.2 defines it."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    darker, lighter = sorted(map(luminance, (one, other)))
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_texts_have_a_contrast_of_aa_and_marks_stand_out(theme: Theme) -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert set(theme.fills) == set(theme.edges) == set(map(str, Provenance))
    assert contrast(theme.quiet, theme.page) >= 4.5
    for fill in (theme.page, *theme.fills.values()):
        assert contrast(theme.ink, fill) >= 4.5
    for provenance in Provenance:
        assert contrast(theme.edges[provenance], theme.page) >= 3
        assert contrast(theme.edges[provenance], theme.fills[provenance]) >= 3
    assert theme.variables() in CSS
