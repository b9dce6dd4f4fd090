"""The simulation of clusters: what it counts, and what docs/scaling.md shows of it."""

from __future__ import annotations

import re
import runpy
import shlex
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from promptcache.errors import OptionError
from promptcache.ray.simulated import ROUTINGS, Machine, simulate
from promptcache.ray.simulation import print_needs
from promptcache.ray.workload import Workload

ROOT = Path(__file__).parents[2]
SMALL = Workload(documents=2_000, each=3, rate=20.0)


@pytest.mark.parametrize("routing", ROUTINGS)
def test_with_room_for_everything_one_replica_encodes_each_document_once(routing: str) -> None:
    asked = [key for _, keys in islice(SMALL.requests(seed=3), 300) for key in keys]
    roomy = Machine(memory=10**12, module=10**6)
    counted = simulate(
        SMALL, roomy, replicas=1, routing=routing, warm=0, measured=300, ahead=False, seed=3
    )
    assert counted.encoded == len(set(asked))
    assert counted.hits == len(asked) - len(set(asked))
    assert counted.read == 0
    assert counted.asked == {"replica 0": 300}


def test_a_request_waits_for_what_is_read_encoded_and_copied_and_for_those_before() -> None:
    alone = Workload(documents=100, topic=2, each=2, rate=0.001)
    machine = Machine(
        memory=100, module=10, read=5.0, copy=20.0, encode=7.0, prefill=1.0, answer=3.0, places=1
    )
    first = simulate(alone, machine, replicas=1, routing="random", warm=0, measured=1)
    assert first.ttft == [pytest.approx(2 * 10 / 5.0 + 1.0 + 2 * 10 / 20.0)]
    encoded = simulate(
        alone, machine, replicas=1, routing="random", warm=0, measured=1, ahead=False
    )
    assert encoded.ttft == [pytest.approx(1.0 + 2 * 10 / 20.0 + 2 * 7.0)]
    busy = Workload(documents=2, topic=2, each=2, rate=1e9)
    held = simulate(busy, machine, replicas=1, routing="random", warm=1, measured=1)
    # The place is free when the answer before has ended, and everything is in memory then.
    assert held.ttft == [pytest.approx(6.0 + 3.0 + 2.0)]


def test_routing_by_modules_finds_more_in_memory_than_any_replica_would() -> None:
    machine = Machine(memory=300, module=1, places=4)
    shares = {}
    for routing in ROUTINGS:
        counted = simulate(SMALL, machine, replicas=5, routing=routing, warm=2000, measured=1000)
        assert counted.lookups == 3 * 1000 == 3 * sum(counted.asked.values())
        shares[routing] = counted.hits / counted.lookups
    assert shares["modules"] > 1.2 * shares["balanced"]
    assert shares["modules"] > 1.2 * shares["random"]


def test_topics_are_asked_for_by_zipfs_law() -> None:
    workload = Workload(documents=1000, topic=1, each=1, zipf=1.0)
    asked = Counter(keys[0] for _, keys in islice(workload.requests(), 20_000))
    assert 1.7 < asked[0] / asked[1] < 2.1  # the continuous law: log(2) over log(3/2)
    assert set(asked) <= set(range(1000))
    even = Workload(documents=10, topic=1, each=1, zipf=0.0)
    assert max(Counter(k[0] for _, k in islice(even.requests(), 5000)).values()) < 650


def test_what_cannot_be_simulated_is_refused() -> None:
    with pytest.raises(OptionError, match="topic=2"):
        Workload(topic=2, each=3)
    with pytest.raises(OptionError, match="rate=0"):
        Workload(rate=0)
    with pytest.raises(OptionError, match="routing='best'"):
        simulate(SMALL, Machine(), replicas=1, routing="best", warm=0, measured=1)


def test_the_page_shows_what_the_present_code_says() -> None:
    scope = runpy.run_path(str(ROOT / "scripts" / "scaling.py"))
    page = scope["PAGE"].read_text()
    assert f"<!-- simulated by {scope['code']()} -->" in page, "run: python scripts/scaling.py"
    app = typer.Typer()
    app.command()(print_needs)
    blocks = list(scope["BLOCK"].finditer(page))
    assert len(blocks) > 2
    assert all("| modules |" in block[0] for block in blocks)
    ran = CliRunner().invoke(app, shlex.split(blocks[-1][2]))
    assert ran.exit_code == 0
    [shown] = re.findall(r"^```\n\n(.*)<!-- /simulation -->", blocks[-1][0], re.DOTALL | re.M)
    assert ran.output.strip() == shown.strip()
