"""Pins over HTTP: what is pinned stays, within what a namespace may pin."""

from __future__ import annotations

from pathlib import Path

from promptcache.server.app import create_app
from promptcache.server.engines import Engines
from promptcache.server.keys import Keys
from promptcache.store import DiskStore, MemoryStore, Tiers
from support.serving import SCHEMA, app_with_keys, client_of, tiny_engines
from support.words import byte_tokenizer
from support.zoo import model

TEXTS = [f"Document {n} says that {n} times {n} is {n * n}." for n in range(100, 112)]
LIBRARY = '<schema name="library"><user><collection name="docs"/></user></schema>'


def engines_with(store: MemoryStore | Tiers) -> Engines:
    return Engines(
        model("llama"), byte_tokenizer(), name="tiny", store=store, options={"conversations": False}
    )


async def test_a_pinned_module_stays_while_others_go_until_it_is_unpinned() -> None:
    async with client_of(create_app(tiny_engines())) as client:
        await client.put("/v1/schemas/trip", content=SCHEMA)
        [module] = (await client.get("/v1/modules")).json()["data"]
        [nbytes] = module["places"].values()
    engines = engines_with(MemoryStore(16 * nbytes))
    async with client_of(create_app(engines)) as client:
        await client.put("/v1/schemas/trip", content=SCHEMA)
        await client.put("/v1/schemas/library", content=LIBRARY)
        said = (await client.post("/v1/modules/trip.miami/pin")).json()
        assert said == {"object": "module", "name": "trip.miami", "pinned": True}
        body = {"documents": TEXTS, "schema": "library"}
        assert (await client.post("/v1/documents", json=body)).json()["not_kept"] > 0
        listed = (await client.get("/v1/modules")).json()["data"]
        assert [m["name"] for m in listed if m["pinned"]] == ["trip.miami"]
        engines.store.evict()
        listed = (await client.get("/v1/modules")).json()["data"]
        assert [module["name"] for module in listed] == ["trip.miami"]
        said = (await client.post("/v1/modules/miami/unpin")).json()
        assert said["pinned"] is False
        engines.store.evict()
        assert (await client.get("/v1/modules")).json()["data"] == []
        for verb in ("pin", "unpin"):
            gone = await client.post(f"/v1/modules/trip.miami/{verb}")
            assert gone.status_code == 404
            assert "trip.miami" in gone.json()["error"]["message"]


async def test_what_is_pinned_is_read_from_the_disk_into_memory(tmp_path: Path) -> None:
    engines = engines_with(Tiers(MemoryStore(10**7), DiskStore(tmp_path, 10**7)))
    assert isinstance(engines.store, Tiers)
    async with client_of(create_app(engines)) as client:
        await client.put("/v1/schemas/trip", content=SCHEMA)
        engines.store.flush(60)
        engines.store.evict()
        [before] = (await client.get("/v1/modules")).json()["data"]
        await client.post("/v1/modules/trip.miami/pin")
        engines.store.evict()
        [after] = (await client.get("/v1/modules")).json()["data"]
    assert set(before["places"]) == {"disk"}
    assert set(after["places"]) == {"memory", "disk"}


async def test_pins_take_half_of_memory_at_most_and_each_namespace_its_part_of_that(
    tmp_path: Path,
) -> None:
    app, (first, second) = app_with_keys(tmp_path, "first", "second")
    async with client_of(app, first) as mine:
        await mine.put("/v1/schemas/trip", content=SCHEMA)
        [module] = (await mine.get("/v1/modules")).json()["data"]
        [nbytes] = module["places"].values()
    app = create_app(engines_with(MemoryStore(11 * nbytes)), keys=Keys.read(tmp_path / "keys"))
    other = SCHEMA.replace("trip", "tour").replace("hot", "wet")
    third = SCHEMA.replace("trip", "tram").replace("hot", "dry")
    async with client_of(app, first) as mine, client_of(app, second) as theirs:
        for name, schema in (("trip", SCHEMA), ("tour", other), ("tram", third)):
            await mine.put(f"/v1/schemas/{name}", content=schema)
        await theirs.put("/v1/schemas/trip", content=SCHEMA)
        pinned = [await mine.post(f"/v1/modules/{s}.miami/pin") for s in ("trip", "tour", "tour")]
        assert [response.status_code for response in pinned] == [200, 200, 200]
        refused = await mine.post("/v1/modules/tram.miami/pin")
        assert refused.status_code == 409
        assert "unpin others first" in refused.json()["error"]["message"]
        assert (await theirs.post("/v1/modules/trip.miami/pin")).status_code == 200
        assert (await theirs.post("/v1/modules/tram.miami/pin")).status_code == 404
        await mine.post("/v1/modules/tour.miami/unpin")
        assert (await mine.post("/v1/modules/tram.miami/pin")).status_code == 200
        listed = (await theirs.get("/v1/modules")).json()["data"]
        assert [module["pinned"] for module in listed] == [True]
