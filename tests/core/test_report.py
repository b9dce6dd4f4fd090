"""A reply in plain values."""

from __future__ import annotations

import json

from promptcache.reply import Reply, Stage, Usage
from promptcache.report import SHOWN, report_of
from promptcache.trace import Provenance, Span, Trace

LONG = "The lighthouse is 31 metres tall. " * 4
SPANS = (
    Span("Hi", 1, 0, Provenance.NEW),
    Span(LONG, 40, 1, Provenance.APPROXIMATE, module="tower", tier="memory"),
)
REPLY = Reply(
    text="31 metres",
    usage=Usage(approximate=40, new=1, output_tokens=3),
    trace=Trace(SPANS, ("a note",)),
    ttft=0.5,
    timings={Stage.PARSE: 0.1, Stage.LOOKUP: 0.2},
    finish_reason="stop",
    token_ids=(1, 2, 3),
    model="pocket",
    policy="Modular()",
)


def test_a_report_is_plain_values_that_json_keeps() -> None:
    report = report_of(REPLY)
    assert json.loads(json.dumps(report)) == report
    assert report["timings"] == {"parse": 0.1, "look up": 0.2}
    assert report["notes"] == ["a note"]


def test_a_span_is_told_with_the_beginning_of_its_text() -> None:
    short, long = report_of(REPLY)["provenance"]
    assert short["text"] == "Hi"
    assert len(long["text"]) == SHOWN
    assert LONG.startswith(long["text"][:-1])
    assert (long["start"], long["tokens"], long["module"]) == (1, 40, "tower")
