"""A real server under load, killed under load, and with two tenants: short forms of the stress."""

from __future__ import annotations

from pathlib import Path

import pytest

from promptcache.bench.serving import killed, load, tenants
from promptcache.errors import OptionError


def test_answers_under_load_are_those_of_one_by_one_and_malformed_requests_disturb_nothing() -> (
    None
):
    report = load.run(load.Plan(clients=8, seconds=5, documents=40, questions=20, malformed=100))
    assert report.faultless, report.lines()
    assert report.refused == 100
    assert max(report.running) > 1
    assert len(report.lines()) == 6


def test_a_server_killed_under_load_leaves_on_the_disk_what_the_next_one_reuses(
    tmp_path: Path,
) -> None:
    report = killed.run(tmp_path, "pocket", clients=4, documents=20, seconds=1.5)
    assert report.reused > 2, report.lines()
    assert report.again == 0, report.lines()


def test_no_first_request_of_a_tenant_is_served_by_what_another_has_cached(tmp_path: Path) -> None:
    report = tenants.run(tmp_path, "pocket", texts=6)
    assert (report.shared, report.reused) == (0, 0)
    assert (len(report.cached), len(report.others), len(report.own)) == (3, 3, 6)


def test_the_chance_of_a_difference_is_that_of_mann_and_whitney() -> None:
    interleaved = [float(n) for n in range(0, 40, 2)], [float(n) for n in range(1, 40, 2)]
    assert tenants.mann_whitney(*interleaved) > 0.7
    assert tenants.mann_whitney([0.1, 0.2, 0.3, 0.4], [1.1, 1.2, 1.3, 1.4]) == pytest.approx(
        0.0209, abs=1e-4
    )


def test_a_load_of_nothing_is_refused() -> None:
    with pytest.raises(OptionError, match="clients=0"):
        load.Plan(clients=0)
