"""Real replicas on Ray Serve: who is asked for what, one that is killed, one that comes later."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import socket
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.serving import CHAT, marked

pytest.importorskip("ray.serve", reason="Ray Serve is not installed: the extra ray")

import ray
import yaml
from ray import serve
from ray.serve.context import _get_global_client
from ray.serve.schema import ServeDeploySchema

from promptcache.ray.wire import Asked

PAGE = Path(__file__).parents[2] / "docs" / "scaling.md"
CLIENTS = 3
TOPICS, EACH = 4, 3
"""Topics of the documents, and documents of each: a request is about two of one topic."""
REQUESTS = 150
MEMORY = 4_400_000
"""Bytes of attention states that a replica holds: fewer than all documents have, and some of them
are taken by what prompts and answers computed, for the next turn."""


def configuration(**args: Any) -> dict[str, Any]:
    """The page's file, with other arguments."""
    [block] = re.findall(r"^```yaml\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.M)
    read: dict[str, Any] = yaml.safe_load(block)
    read["applications"][0]["args"].update(args)
    return read


def documents(kind: str) -> list[list[str]]:
    """Documents by topic, of about 150 tokens each."""
    return [[document(f"{kind}{topic}{n}") for n in range(EACH)] for topic in range(TOPICS)]


def document(name: str) -> str:
    rooms = "".join(
        f" Room {n} of {name} is {n + 3} metres long and has {n} doors." for n in range(7)
    )
    return f"Record {name}: the house {name} stands by the river, and its bell is old.{rooms}"


def requests(kind: str, count: int, seed: int = 1) -> list[dict[str, Any]]:
    """Chats about two documents of a topic; few topics are asked for most (Zipf's law)."""
    rng = random.Random(seed)
    weights = [1 / (rank + 1) for rank in range(TOPICS)]
    made = []
    for number in range(count):
        [topic] = rng.choices(documents(kind), weights)
        question = {"type": "text", "text": f"\n\nQuestion {number}: how many rooms are there?"}
        content = [*map(marked, rng.sample(topic, 2)), question]
        message = {"role": "user", "content": content}
        made.append({"messages": [message], "max_tokens": 4, "temperature": 0, "trace": True})
    return made


@dataclass
class Cluster:
    """An application that runs, and the file that it was made of."""

    file: dict[str, Any]
    client: httpx.Client
    folder: Path

    def deploy(self, replicas: int) -> None:
        """Have so many replicas, and wait for them."""
        described = deepcopy(self.file)
        described["applications"][0]["deployments"] = [
            {"name": "Replica", "num_replicas": replicas, "ray_actor_options": {"num_cpus": 1}}
        ]
        client = _get_global_client()
        client.deploy_apps(ServeDeploySchema.model_validate(described), _blocking=False)
        wait(self._runs)
        wait(lambda: len(self.processes()) == replicas)
        wait(lambda: len(self.answers_of_all()) == replicas)

    def _runs(self) -> bool:
        found = serve.status().applications.get("promptcache")
        assert found is None or found.status != "DEPLOY_FAILED", found.message
        return found is not None and found.status == "RUNNING"

    def answers_of_all(self) -> list[Any]:
        handle = serve.get_deployment_handle("Replica", "promptcache")
        answers: list[Any] = handle.broadcast("whole", Asked("GET", "/healthz")).results()
        return answers

    def processes(self) -> list[int]:
        """The replicas' processes: children of the raylet that has its sockets in our folder."""
        found = {int(folder.name): cmdline(folder) for folder in Path("/proc").glob("[0-9]*")}
        ours = {
            pid for pid, name in found.items() if "/raylet " in name and str(self.folder) in name
        }
        return sorted(
            pid
            for pid, name in found.items()
            if name.startswith("ray::ServeReplica:promptcache:Replica") and parent(pid) in ours
        )

    def ask_all(self, bodies: list[dict[str, Any]]) -> list[str]:
        """Where the look-ups of these requests ended, some of them asked at once."""
        with ThreadPoolExecutor(CLIENTS) as clients:
            answers = list(clients.map(self.ask, bodies))
        return [tier for answer in answers for tier in lookups(answer)]

    def ask(self, body: dict[str, Any]) -> dict[str, Any]:
        """The answer, which there has to be."""
        response = self.client.post(CHAT, json=body)
        assert response.status_code == 200, response.text
        said: dict[str, Any] = response.json()
        assert said["usage"]["completion_tokens"] > 0
        return said


def wait(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 600
    while not true():
        assert time.monotonic() < end
        time.sleep(0.5)


def cmdline(folder: Path) -> str:
    with suppress(OSError):
        return (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
    return ""


def parent(pid: int) -> int:
    with suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return 0


def lookups(answer: dict[str, Any]) -> list[str]:
    """The tier of each document's states, "encoded" where there were none."""
    return [
        "encoded" if span["provenance"] == "encoded" else span["tier"]
        for span in answer["promptcache"]["trace"]
        if span["module"] and span["text"].startswith("Record")
    ]


def free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


def begin_ray(folder: str) -> None:
    """Start Ray, on this machine alone."""
    ray.init(
        num_cpus=4,
        include_dashboard=False,
        object_store_memory=100 * 1024**2,
        log_to_driver=False,
        logging_level="ERROR",
        _node_ip_address="127.0.0.1",
        _temp_dir=folder,
        _system_config={"worker_niceness": 0},  # else 15: replicas stand still beside others
    )


@contextmanager
def running(folder: Path) -> Iterator[Cluster]:
    """Two replicas over one store, reached by its URL."""
    port = free_port()
    short = tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True)
    with short as temporary:  # of a short name: sockets are in it
        begin_ray(temporary)
        try:
            serve.start(http_options={"host": "127.0.0.1", "port": port})
            file = configuration(model="pocket", store=f"file://{folder}", memory=MEMORY)
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=300) as client:
                cluster = Cluster(file, client, Path(temporary))
                cluster.deploy(2)
                yield cluster
        finally:
            serve.shutdown()
            ray.shutdown()


@pytest.mark.stress  # three models and Ray's own processes: minutes where other tests run beside
def test_replicas_are_asked_for_what_they_hold_and_survived_and_warmed_by_the_store(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with running(tmp_path) as cluster:
        routed, random_ones = looked_up(cluster)
        with_one_that_is_killed(cluster)
        with_one_that_comes_later(cluster)
    with capsys.disabled():
        print(f"\nlook-ups, by modules: {routed}, at random: {random_ones}")
    assert routed.total() == random_ones.total() == 2 * REQUESTS
    assert routed["memory"] >= 0.9 * routed.total()
    assert routed["memory"] > random_ones["memory"]


def looked_up(cluster: Cluster) -> tuple[Counter[str], Counter[str]]:
    """Where look-ups end as requests are routed, and if each goes to any replica."""
    routed = Counter(cluster.ask_all(requests("a", REQUESTS)))
    return routed, Counter(at_random(requests("b", REQUESTS)))


def with_one_that_is_killed(cluster: Cluster) -> None:
    before = cluster.processes()
    bodies = requests("a", 40, seed=2)
    with ThreadPoolExecutor(CLIENTS) as clients:
        answers = [clients.submit(cluster.ask, body) for body in bodies]
        answers[10].result()
        os.kill(before[0], signal.SIGKILL)
        for answer in answers:
            answer.result()
    wait(lambda: len(cluster.processes()) == 2)
    assert cluster.processes() != before


def with_one_that_comes_later(cluster: Cluster) -> None:
    cluster.deploy(3)
    tiers = cluster.ask_all(requests("a", 60, seed=3))
    assert "remote" in tiers
    assert "encoded" not in tiers


def at_random(bodies: list[dict[str, Any]]) -> list[str]:
    """Where look-ups end if each request goes to any of the replicas: past the ingress."""
    answer = serve.get_deployment_handle("Replica", "promptcache").options(method_name="whole")
    tiers = []
    for number, body in enumerate(bodies):
        asked = Asked("POST", CHAT, body=json.dumps(body).encode(), modules=(f"any {number}",))
        tiers += lookups(json.loads(answer.remote(asked).result().body))
    return tiers
