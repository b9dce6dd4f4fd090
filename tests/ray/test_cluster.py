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
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.serving import CHAT, asked, marked

pytest.importorskip("ray.serve", reason="Ray Serve is not installed: the extra ray")

import ray
import yaml
from ray import serve
from ray.serve.context import _get_global_client
from ray.serve.schema import (
    DeploymentDetails,
    ReplicaDetails,
    ServeDeploySchema,
    ServeInstanceDetails,
)

from promptcache.prompts import key_of
from promptcache.ray.ring import Ring
from promptcache.ray.wire import Asked, Whole

PAGE = Path(__file__).parents[2] / "docs" / "scaling.md"
TOPICS, REQUESTS = 4, 80
"""Topics of two documents each; a request is about both documents of one topic."""
MEMORY = 6_200_000
"""Bytes of attention states that a replica holds. All documents take 8.2 million, those of half the
topics 4.1 million, and what prompts and answers computed the rest at most."""
PATIENCE = {
    "RAY_SERVE_QUEUE_LENGTH_RESPONSE_DEADLINE_S": "10",
    "RAY_SERVE_MAX_QUEUE_LENGTH_RESPONSE_DEADLINE_S": "10",
}
"""Else a replica counts as full that did not say within 0.1 s how many requests it has, and where
requests go depends on what else the machine does."""
Topic = tuple[str, str]
"""The texts that are asked about together."""


def configuration(**args: Any) -> dict[str, Any]:
    """The page's file, with other arguments."""
    [block] = re.findall(r"^```yaml\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.M)
    read: dict[str, Any] = yaml.safe_load(block)
    read["applications"][0]["args"].update(args)
    return read


def document(name: str) -> str:
    """A text of about 400 tokens."""
    rooms = "".join(
        f" Room {n} of {name} is {n + 3} metres long and has {n} doors." for n in range(18)
    )
    return f"Record {name}: the house {name} stands by the river, and its bell is old.{rooms}"


def topics(replicas: list[str]) -> list[Topic]:
    """Topics whose documents are at home with each replica in turn."""
    ring = Ring(replicas)
    names = (f"house{n}" for n in count())
    made = []
    for n in range(TOPICS):
        home = replicas[n % len(replicas)]
        mine = (text for text in map(document, names) if ring.home(f"/{key_of(text)}") == home)
        made.append((next(mine), next(mine)))
    return made


def requests(topics: list[Topic], number: int, seed: int = 1) -> list[dict[str, Any]]:
    """Chats about topics, of which few are asked for most (Zipf's law)."""
    rng = random.Random(seed)
    weights = [1 / (rank + 1) for rank in range(len(topics))]
    return [about(rng.choices(topics, weights)[0], rng) for _ in range(number)]


def about(topic: Topic, rng: random.Random) -> dict[str, Any]:
    question = {"type": "text", "text": f"\n\nHow many {rng.choice(['rooms', 'doors'])}?"}
    content = [*map(marked, rng.sample(topic, 2)), question]
    return asked(content, max_tokens=2, trace=True)


@dataclass
class Cluster:
    """An application that runs, and the file that it was made of."""

    file: dict[str, Any]
    client: httpx.Client

    def deploy(self, number: int) -> None:
        """Have so many replicas, and wait for them."""
        described = deepcopy(self.file)
        [replica] = described["applications"][0]["deployments"]
        replica["autoscaling_config"]["min_replicas"] = number
        replica["ray_actor_options"]["num_cpus"] = 1
        client = _get_global_client()
        client.deploy_apps(ServeDeploySchema.model_validate(described), _blocking=False)
        wait(lambda: self._has(number))

    def _has(self, number: int) -> bool:
        found = serve.status().applications.get("promptcache")
        assert found is None or found.status != "DEPLOY_FAILED", found.message
        if found is None or found.status != "RUNNING":
            return False
        return len(self.processes()) == number == len(self.ask_each(HEALTH))

    def processes(self) -> set[int | None]:
        return {replica.pid for replica in self.replicas() if replica.state == "RUNNING"}

    def deployment(self) -> DeploymentDetails:
        said = ServeInstanceDetails.model_validate(_get_global_client().get_serve_details())
        return said.applications["promptcache"].deployments["Replica"]

    def replicas(self) -> list[ReplicaDetails]:
        return self.deployment().replicas

    def ask_each(self, asked: Asked) -> list[Whole]:
        """The answers of all replicas."""
        handle = serve.get_deployment_handle("Replica", "promptcache")
        answers: list[Whole] = handle.broadcast("whole", asked).results()
        return answers

    def ask(self, body: dict[str, Any]) -> list[str]:
        """Where the look-ups of a request ended; there has to be an answer."""
        response = self.client.post(CHAT, json=body)
        assert response.status_code == 200, response.text
        return lookups(response.json())


def wait(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 600
    while not true():
        assert time.monotonic() < end
        time.sleep(0.2)


HEALTH = Asked("GET", "/healthz")


def lookups(answer: dict[str, Any]) -> list[str]:
    """The tier of each document's states, "encoded" where there were none."""
    assert answer["usage"]["completion_tokens"] > 0
    return [
        "encoded" if span["provenance"] == "encoded" else span["tier"]
        for span in answer["promptcache"]["trace"]
        if span["module"] and span["text"].startswith("Record")
    ]


def free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


@contextmanager
def running(folder: Path) -> Iterator[Cluster]:
    """Two replicas over one store, reached by its URL."""
    port = free_port()
    short = tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True)
    with short as temporary:  # of a short name: sockets are in it
        ray.init(
            num_cpus=4,
            include_dashboard=False,
            object_store_memory=100 * 1024**2,
            log_to_driver=False,
            logging_level="ERROR",
            _node_ip_address="127.0.0.1",
            _temp_dir=temporary,
            _system_config={"worker_niceness": 0},  # else 15: replicas stand still beside others
        )
        try:
            serve.start(http_options={"host": "127.0.0.1", "port": port})
            file = configuration(model="pocket", store=f"file://{folder}", memory=MEMORY)
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=300) as client:
                cluster = Cluster(file, client)
                cluster.deploy(2)
                yield cluster
        finally:
            serve.shutdown()
            ray.shutdown()


def test_replicas_are_asked_for_what_they_hold_and_survived_and_warmed_by_the_store(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in PATIENCE.items():
        monkeypatch.setenv(name, value)
    with running(tmp_path) as cluster:
        scaling = cluster.deployment().deployment_config.autoscaling_config
        [described] = cluster.file["applications"][0]["deployments"]
        assert scaling.items() >= {**described["autoscaling_config"], "min_replicas": 2}.items()
        first = [replica.replica_id for replica in cluster.replicas()]
        known = topics(first)
        asked_for = requests(known, REQUESTS)
        at_random = Counter(tier for n, body in enumerate(asked_for) for tier in ask_any(n, body))
        assert cluster.client.delete("/v1/modules").status_code == 200
        routed = Counter(tier for body in asked_for for tier in cluster.ask(body))
        with capsys.disabled():
            print(f"\nlook-ups, by modules: {routed}, at random: {at_random}")
        assert routed.total() == at_random.total() == 2 * REQUESTS
        assert routed["memory"] >= 0.9 * routed.total()
        assert routed["memory"] > at_random["memory"]
        kill_one_while_it_is_asked(cluster, requests(known, 30, seed=2))
        cluster.deploy(3)
        newcomers_are_warmed_by_the_store(cluster, known, set(first))
        figures = cluster.client.get("/metrics").text
        named = re.findall(r'promptcache_running\{replica="(\w+)"\}', figures)
        assert sorted(named) == sorted(replica.replica_id for replica in cluster.replicas())


def ask_any(number: int, body: dict[str, Any]) -> list[str]:
    """Where look-ups end if a request goes to any of the replicas: past the ingress."""
    handle = serve.get_deployment_handle("Replica", "promptcache").options(method_name="whole")
    sent = Asked("POST", CHAT, body=json.dumps(body).encode(), modules=(f"any {number}",))
    return lookups(json.loads(handle.remote(sent).result().body))


def kill_one_while_it_is_asked(cluster: Cluster, bodies: list[dict[str, Any]]) -> None:
    """End a replica with requests on it, all of which are answered, and wait until Ray knows."""
    first = cluster.replicas()[0].pid
    with ThreadPoolExecutor(3) as clients:
        answers = [clients.submit(cluster.ask, body) for body in bodies]
        answers[5].result()
        os.kill(first, signal.SIGKILL)
        assert all(len(answer.result()) == 2 for answer in answers)
    wait(lambda: first not in cluster.processes())


def newcomers_are_warmed_by_the_store(cluster: Cluster, known: list[Topic], old: set[str]) -> None:
    """Two replicas read what others have encoded, and hold it from then on."""
    for topic in known[:2]:  # for which they have room
        body = json.dumps(about(topic, random.Random(3))).encode()
        for tier in ("remote", "memory"):
            answers = cluster.ask_each(Asked("POST", CHAT, body=body))
            new = [json.loads(answer.body) for answer in answers if answer.replica not in old]
            assert [lookups(answer) for answer in new] == [[tier, tier]] * 2
