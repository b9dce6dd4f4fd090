"""An ingress over replicas in this process: what reaches all of them, and what survives one."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from promptcache.ray.register import Register
from promptcache.ray.replica import Replica
from promptcache.ray.wire import Asked, Version, whole
from promptcache.server.app import create_app
from promptcache.server.door import METRICS
from promptcache.server.keys import Keys, add_key
from support.cluster import Here, client_of
from support.serving import CHAT, OTHER, PROMPT, SCHEMA, TEXT, asked, events, marked, tiny_engines

TWICE = ("lost with a request, for the 1.", "lost with a request, for the 2.")


def two() -> Here:
    return Here([tiny_engines(), tiny_engines()])


def said(response: httpx.Response) -> str:
    assert response.status_code == 200, response.text
    return str(response.json()["choices"][0]["message"]["content"])


async def test_a_schema_is_known_to_every_replica_and_to_those_that_come_later() -> None:
    cluster = two()
    async with client_of(cluster) as client:
        assert (await client.put("/v1/schemas/trip", content=SCHEMA)).status_code == 200
        late = Replica(create_app(tiny_engines()), cluster.since)
        cluster.replicas.append(late)
        body = {"prompt": PROMPT, "max_tokens": 4, "temperature": 0}
        texts = set()
        for turn in range(3):
            cluster.chosen = turn
            texts.add((await client.post("/v1/pml", json=body)).json()["text"])
    assert len(texts) == 1


async def test_documents_are_recognised_by_every_replica_and_name_where_requests_go() -> None:
    cluster = two()
    async with client_of(cluster) as client, client_of(cluster) as other:
        await client.post("/v1/documents", json={"documents": [TEXT], "preamble": "Read this."})
        for turn in range(2):
            cluster.chosen = turn
            answer = await other.post(CHAT, json=asked(f"{TEXT} Well?", trace=True))
            spans = answer.json()["promptcache"]["trace"]
            assert TEXT in [span["text"] for span in spans if span["module"]]
    assert len(cluster.asked[-1].modules) == 1
    assert cluster.asked[-1].modules == cluster.asked[-2].modules


async def test_modules_are_listed_of_all_replicas_and_deleted_on_all() -> None:
    cluster = two()
    async with client_of(cluster) as client:
        for turn, text in enumerate((TEXT, OTHER)):
            cluster.chosen = turn
            await client.post(CHAT, json=asked([marked(text), marked("A text of both.")]))
        listed = (await client.get("/v1/modules")).json()["data"]
        assert len(listed) == 3
        [mine] = [module["name"] for module in listed if module["begins"].startswith("Mira")]
        assert (await client.delete(f"/v1/modules/{mine}")).json()["deleted"] is True
        assert len((await client.get("/v1/modules")).json()["data"]) == 2
        assert (await client.delete("/v1/modules/nothing")).status_code == 404


async def test_pins_and_forgotten_documents_reach_all_replicas() -> None:
    cluster = two()
    async with client_of(cluster) as client:
        await client.post("/v1/documents", json={"documents": [TEXT, OTHER]})
        for turn in range(2):
            cluster.chosen = turn
            await client.post(CHAT, json=asked(f"{TEXT} {OTHER} Well?"))
        [name] = [m["name"] for m in (await client.get("/v1/modules")).json()["data"]
                  if m["begins"].startswith("Mira")]  # fmt: skip
        assert (await client.post(f"/v1/modules/{name}/pin")).json()["pinned"] is True
        for replica in cluster.replicas:
            listed = await whole(replica.answer(Asked("GET", "/v1/modules")))
            assert b'"pinned":true' in listed.body
        gone = await client.post("/v1/documents/forget", json={"documents": [TEXT]})
        assert gone.json() == {"forgotten": 1}
        found = await client.post("/v1/documents/find", json={"text": f"{TEXT} {OTHER}"})
        assert found.json() == {"documents": [OTHER]}
        await client.post(CHAT, json=asked(f"{TEXT} {OTHER} And now?"))
    assert len(cluster.asked[-1].modules) == 1


async def test_a_request_whose_replica_is_lost_is_answered_by_another(
    caplog: pytest.LogCaptureFixture,
) -> None:
    cluster = two()
    async with client_of(cluster) as client:
        right = said(await client.post(CHAT, json=asked("Tell me.")))
        cluster.losing, cluster.after = 2, 1  # when the answer has begun, and is not there yet
        assert said(await client.post(CHAT, json=asked("Tell me."))) == right
        cluster.losing, cluster.after = 1, 0
        streamed = await client.post(CHAT, json=asked("Tell me.", stream=True))
        deltas = [event["choices"][0]["delta"].get("content", "") for event in events(streamed)]
        assert "".join(deltas) == right
        cluster.losing = 3
        refused = await client.post(CHAT, json=asked("Tell me."))
    assert refused.status_code == 503
    assert "lost with 3 replicas" in refused.json()["error"]["message"]
    assert all(line in caplog.text for line in TWICE)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT, asked("Tell me.", stream=True)),
        ("/v1/documents", {"documents": [TEXT] * 40, "preamble": "Read.", "progress": True}),
    ],
)
async def test_a_stream_that_is_lost_after_it_began_ends_with_an_error(
    path: str, body: dict[str, object]
) -> None:
    cluster = two()
    async with client_of(cluster) as client:
        cluster.losing, cluster.after = 1, 2
        lost = await client.post(path, json=body)
    lines = [line.removeprefix("data: ") for line in lost.text.split("\n") if line]
    last = [line for line in lines if line != "[DONE]"][-1]
    assert json.loads(last)["error"]["code"] == "replica_lost"
    assert len(cluster.asked) == 1


async def test_a_register_that_was_lost_is_given_what_an_ingress_knows() -> None:
    cluster = two()
    async with client_of(cluster) as client:
        await client.put("/v1/schemas/trip", content=SCHEMA)
        await client.get("/v1/models")  # it learns of its own change with its next request
        cluster.register = Register()
        cluster.replicas.append(Replica(create_app(tiny_engines()), cluster.since))
        cluster.chosen = 2
        body = {"prompt": PROMPT, "max_tokens": 4}
        assert (await client.post("/v1/pml", json=body)).status_code == 200


async def test_namespaces_are_kept_apart_and_unknown_keys_stay_outside(tmp_path: Path) -> None:
    key = [add_key(tmp_path / "keys", name) for name in ("one", "two")]
    keys = Keys.read(tmp_path / "keys")
    cluster = Here([tiny_engines()], keys)
    async with (
        client_of(cluster, keys, key[0]) as one,
        client_of(cluster, keys, key[1]) as other,
        client_of(cluster, keys) as nobody,
    ):
        await one.post(CHAT, json=asked([marked(TEXT)]))
        assert len((await one.get("/v1/modules")).json()["data"]) == 1
        assert (await other.get("/v1/modules")).json()["data"] == []
        for path in ("/v1/modules", "/v1/models", "/metrics", "/"):
            assert (await nobody.get(path)).status_code == 401
        assert (await nobody.get("/healthz")).status_code == 200
        for path in ("/", "/nothing"):
            assert (await one.get(path)).status_code == 404
        assert (await one.get("/metrics")).status_code == 403
        too_long = await one.post(CHAT, content=b"x" * 100_001)
    assert too_long.status_code == 413
    assert {request.namespace for request in cluster.asked} == {"one"}


async def test_figures_are_those_of_every_replica_by_its_name(tmp_path: Path) -> None:
    key = add_key(tmp_path / "keys", METRICS)
    keys = Keys.read(tmp_path / "keys")
    cluster = Here([tiny_engines(), tiny_engines()], keys)
    async with client_of(cluster, keys, key) as client:
        for turn, count in enumerate((1, 2)):
            cluster.chosen = turn
            for n in range(count):
                await client.post(CHAT, json=asked([marked(TEXT)], max_tokens=n + 3))
        page = await client.get("/metrics")
    assert page.status_code == 200
    found = {family.name: family for family in text_string_to_metric_families(page.text)}
    of_chats = {
        sample.labels["replica"]: sample.value
        for sample in found["promptcache_requests"].samples
        if sample.labels["path"] == CHAT
    }
    assert of_chats == {"r0": 1, "r1": 2}
    tokens = {s.labels["replica"]: s.value for s in found["promptcache_output_tokens"].samples}
    assert tokens == {"r0": 3, "r1": 7}
    counted = [s for s in found["promptcache_ttft_seconds"].samples if s.name.endswith("_count")]
    assert {s.labels["replica"]: s.value for s in counted} == {"r0": 1, "r1": 2}


def test_of_equal_changes_the_register_keeps_the_last() -> None:
    register = Register()
    first = register.add([Asked("PUT", "/v1/schemas/a", body=b"1"), Asked("POST", "/v1/documents")])
    last = register.add([Asked("PUT", "/v1/schemas/a", body=b"2")])
    assert register.since(last) == (last, [])
    assert [change.body for change in register.since(first)[1]] == [b"2"]
    assert [change.method for change in register.since(Version())[1]] == ["POST", "PUT"]
