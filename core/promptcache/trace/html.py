"""A trace in a notebook: coloured spans with their facts on hover and focus, a legend, a table.

Long texts are folded. What hovering shows is in the table, too, for readers without a pointer and
for pages that drop styles.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from promptcache.html import Html, element, joined, rows_table
from promptcache.trace.spans import Provenance, Span
from promptcache.trace.terminal import short_name, shortened

FOLD = 400
"""Characters of the longest span that is shown whole."""
HEAD = 160
"""Characters of a longer one that are shown unfolded."""


def trace_html(spans: Sequence[Span], warnings: Sequence[str]) -> Html:
    """The inside of a trace's HTML form."""
    counts = counted(spans)
    notes = (element("p", element("b", "note: "), warning) for warning in warnings)
    return joined(
        (
            _summary(counts),
            _bar(counts),
            _legend(counts, noted=sum(span.note is not None for span in spans)),
            element("div", *map(_span, spans), class_="pc-text"),
            *notes,
            _table(spans),
        )
    )


def counted(spans: Sequence[Span]) -> dict[Provenance, int]:
    """Tokens by provenance; those of a reused span that were computed again count as that."""
    counts = dict.fromkeys(Provenance, 0)
    for span in spans:
        counts[Provenance.RECOMPUTED] += span.recomputed
        counts[span.provenance] += span.tokens - span.recomputed
    return counts


def _summary(counts: Mapping[Provenance, int]) -> Html:
    total = sum(counts.values())
    reused = counts[Provenance.EXACT] + counts[Provenance.APPROXIMATE]
    return element(
        "p",
        element("b", f"{reused:,} of {total:,} tokens reused"),
        f", {total - reused:,} computed",
    )


def _bar(counts: Mapping[Provenance, int]) -> Html:
    parts, total = [], 0
    for provenance, tokens in counts.items():
        if tokens:
            place = {"x": total, "width": tokens, "height": 1}
            parts.append(element("rect", class_=f"pc-{provenance}", **place))
            total += tokens
    said = ", ".join(f"{provenance} {tokens}" for provenance, tokens in counts.items())
    return element(
        "svg",
        *parts,
        class_="pc-bar",
        role="img",
        aria_label=f"tokens: {said}",
        viewBox=f"0 0 {max(total, 1)} 1",
        preserveAspectRatio="none",
    )


def _legend(counts: Mapping[Provenance, int], noted: int) -> Html:
    lines = [
        element(
            "li",
            element("b", str(provenance), class_=f"pc-key pc-{provenance}"),
            f" {_tokens(tokens)} ",
            element("span", f"({provenance.meaning})", class_="pc-quiet"),
        )
        for provenance, tokens in counts.items()
    ]
    if noted:
        spans = "1 span" if noted == 1 else f"{noted:,} spans"
        why = element("span", "(hover, or see the table)", class_="pc-quiet")
        lines.append(
            element("li", element("b", "!", class_="pc-key"), f" {spans} with a reason ", why)
        )
    return element("ul", *lines, class_="pc-legend")


def _span(span: Span) -> Html:
    missed = " pc-missed" if span.note else ""
    return element(
        "span",
        _folded(span.text),
        class_=f"pc-span pc-{span.provenance}{missed}",
        tabindex=0,
        data_facts="\n".join(_facts(span)),
    )


def _folded(text: str) -> Html:
    if len(text) <= FOLD:
        return joined((text,))
    hidden = f"… {len(text) - HEAD:,} characters"
    rest = element("span", text[HEAD:], class_="pc-rest")
    rest = element("details", element("summary", hidden), rest, class_="pc-fold")
    return joined((text[:HEAD], rest))


def _facts(span: Span) -> Iterator[str]:
    yield f"{span.provenance}: {span.provenance.meaning}"
    yield f"{_tokens(span.tokens)} from position {span.start:,}"
    if 0 < span.recomputed < span.tokens:
        yield f"{_tokens(span.recomputed)} of them computed again"
    for name, value in (
        ("module", span.module),
        ("context", span.context),
        ("tier", span.tier),
        ("key", span.key),
        ("why", span.note),
    ):
        if value:
            yield f"{name} {value}"


def _table(spans: Sequence[Span]) -> Html:
    heads = ("position", "tokens", "provenance", "module", "context", "tier", "key", "text", "why")
    rows = (
        (
            f"{span.start:,}",
            f"{span.tokens:,}",
            _provenance(span),
            *_origin(span),
            shortened(span.text),
            span.note or "",
        )
        for span in spans
    )
    title = f"{len(spans):,} spans, one by one" if len(spans) != 1 else "1 span"
    table = element("div", rows_table(heads, rows, numbers=2), class_="pc-wide")
    return element("details", element("summary", title), table)


def _origin(span: Span) -> tuple[str, ...]:
    key = (span.key or "")[:16]
    return short_name(span.module or ""), span.context or "", span.tier or "", key


def _provenance(span: Span) -> str:
    if 0 < span.recomputed < span.tokens:
        return f"{span.provenance} ({span.recomputed} recomputed)"
    return str(span.provenance)


def _tokens(count: int) -> str:
    return "1 token" if count == 1 else f"{count:,} tokens"
