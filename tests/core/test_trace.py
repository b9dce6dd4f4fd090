"""The forms of a trace: a table, coloured text, HTML."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console

from promptcache import PromptCache, Provenance, Reply, Span, Stage, Trace, Usage
from support.words import byte_tokenizer
from support.zoo import model

DOCUMENT = "A document with <b>markup</b> & [brackets] in it."


@pytest.fixture(scope="module")
def trace() -> Trace:
    cache = PromptCache(model("llama"), byte_tokenizer())
    cache.cache_documents([DOCUMENT], progress=False)
    ask = [{"role": "user", "content": f"Read this: {DOCUMENT} [bold]What?[/bold]"}]
    cache.generate_messages(ask, max_new_tokens=1)
    return cache.generate_messages(ask, max_new_tokens=1).trace


def test_the_table_has_a_line_for_every_span(trace: Trace) -> None:
    assert len(str(trace).splitlines()) == len(trace) + 1
    assert "exact" in str(trace)
    assert "What?" in str(trace)


def test_a_reply_that_is_printed_whole_does_not_bury_its_answer(trace: Trace) -> None:
    reply = Reply("Yes.", Usage(new=5), trace, 0.5, {Stage.PREFILL: 0.5}, "stop", (1,))
    assert len(repr(reply)) < 400
    assert "{'prefill': 0.5}" in repr(reply)


def test_the_coloured_form_shows_the_prompt_verbatim_with_a_legend(trace: Trace) -> None:
    console = Console(width=200, record=True, color_system="truecolor", file=StringIO())
    console.print(trace)
    shown = console.export_text()
    assert DOCUMENT in shown
    assert "[bold]What?[/bold]" in shown
    for provenance in Provenance:
        assert provenance.meaning in shown


def test_the_html_form_escapes_content_and_says_more_on_hover(trace: Trace) -> None:
    html = trace._repr_html_()
    assert "&lt;b&gt;markup&lt;/b&gt; &amp;" in html
    assert "<b>markup" not in html
    assert "tier memory" in html
    assert "context preamble" in html


def test_the_table_cuts_no_number_and_names_modules_in_short() -> None:
    name = "prompt-8f56be0b.context_str.9a51024c95f57578"
    spans = [
        Span("The lighthouse of Arven. " * 9, 123, 45_678, Provenance.EXACT, module=name),
        Span("What?", 5, 45_801, Provenance.NEW),
    ]
    first, second, third = str(Trace(tuple(spans))).splitlines()
    assert first.split() == ["position", "tokens", "provenance", "module", "text"]
    assert second.split()[:5] == ["45678", "123", "exact", "context_str.9a51024c…", "The"]
    assert third.split() == ["45801", "5", "new", "What?"]
    noted = str(Trace((*spans, replace(spans[1], note="it is not registered"))))
    assert "it is not registered" in noted and "45678" in noted
