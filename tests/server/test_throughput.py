"""`promptcache bench serve`: a row for a server, for one by one, and for transformers' batching."""

from __future__ import annotations

import pytest

from promptcache.bench.page import render
from promptcache.bench.serving import throughput
from promptcache.bench.tables import terminal_table
from promptcache.errors import OptionError


def test_each_way_to_answer_the_same_requests_has_a_row() -> None:
    plan = throughput.Plan(
        model="pocket",
        dtype="float32",
        requests=2,
        clients=(1, 2),
        documents=2,
        library=2,
        tokens=24,
        new=12,
        answer=2,
        repeats=1,
    )
    rows = {(row.case, row.clients): row for row in throughput.measure(plan, progress=False)}
    assert set(rows) == {
        (throughput.SERVED, 1), (throughput.SERVED, 2), (throughput.ALONE, 1),
        (throughput.THEIRS, 2),
    }  # fmt: skip
    alone = rows[throughput.ALONE, 1]
    assert alone.ratio == 1
    for row in rows.values():
        assert row.requests_per_second > 0
        assert row.ratio == pytest.approx(row.requests_per_second / alone.requests_per_second)
    assert terminal_table(list(rows.values())).row_count == 4
    assert "## Requests a second" in render(list(rows.values()))


@pytest.mark.parametrize("wrong", [{"requests": 0}, {"clients": (0,)}, {"library": 3}])
def test_counts_that_make_no_sense_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(OptionError, match=next(iter(wrong))):
        throughput.Plan(**wrong)  # type: ignore[arg-type]
