"""Schemas, documents and modules over HTTP, and that each namespace has its own."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from promptcache.errors import OptionError
from promptcache.library import encoding
from promptcache.server.app import create_app
from promptcache.server.door import METRICS
from promptcache.server.keys import Keys, add_key
from support.serving import (
    CHAT,
    OTHER,
    PROMPT,
    SCHEMA,
    TEXT,
    app_with_keys,
    asked,
    client_of,
    marked,
    tiny_engines,
)

LIBRARY = '<schema name="library"><user><collection name="docs"/></user></schema>'


def cached(said: dict[str, Any]) -> int:
    count = said["usage"]["prompt_tokens_details"]["cached_tokens"]
    assert isinstance(count, int)
    return count


async def test_documents_are_encoded_and_then_recognised_in_plain_prompts() -> None:
    texts = [f"Document {n} says that {n} times {n} is {n * n}." for n in range(70)]
    async with client_of(create_app(tiny_engines())) as client:
        await client.put("/v1/schemas/library", content=LIBRARY)
        body = {"documents": texts, "schema": "library", "progress": True}
        response = await client.post("/v1/documents", json=body)
        lines = [json.loads(line) for line in response.text.splitlines()]
        said = (await client.post(CHAT, json=asked(f"{texts[60]}\n\n{texts[3]}\n\nQ?"))).json()
        again = (await client.post("/v1/documents", json={**body, "progress": False})).json()
    assert [line["done"] for line in lines] == [0, 32, 64, 70]
    assert (lines[-1]["added"], lines[-1]["encoded"], lines[-1]["total"]) == (70, 70, 70)
    assert (again["known"], again["encoded"], again["keys"]) == (70, 0, lines[-1]["keys"])
    assert cached(said) >= len(texts[60]) + len(texts[3])


async def test_documents_may_have_names_that_markup_uses() -> None:
    async with client_of(create_app(tiny_engines())) as client:
        await client.put("/v1/schemas/library", content=LIBRARY)
        body = {"documents": {"arven": TEXT, "mira": OTHER}, "schema": "library"}
        await client.post("/v1/documents", json=body)
        prompt = '<prompt schema="library"><docs><doc key="mira"/></docs>Q?</prompt>'
        said = (await client.post("/v1/pml", json={"prompt": prompt, "max_tokens": 2})).json()
        unknown = prompt.replace("mira", "moira")
        refused = await client.post("/v1/pml", json={"prompt": unknown, "max_tokens": 2})
    assert OTHER in [span["text"] for span in said["trace"]]
    assert refused.status_code == 400
    assert "moira" in refused.json()["error"]["message"]


async def test_modules_are_listed_and_deleted_one_by_one_or_all() -> None:
    async with client_of(create_app(tiny_engines())) as client:
        await client.put("/v1/schemas/trip", content=SCHEMA)
        await client.post(CHAT, json=asked([marked(TEXT)]))
        before = (await client.get("/v1/modules")).json()["data"]
        deleted = await client.delete("/v1/modules/trip.miami")
        missing = await client.delete("/v1/modules/trip.miami")
        after = (await client.get("/v1/modules")).json()["data"]
        rest = await client.delete("/v1/modules")
        nothing = (await client.get("/v1/modules")).json()["data"]
        anew = (await client.post("/v1/pml", json={"prompt": PROMPT, "max_tokens": 2})).json()
    assert sorted(module["tokens"] for module in before) == [13, len(TEXT)]
    assert deleted.json() == {"object": "module", "name": "trip.miami", "deleted": True}
    assert missing.status_code == 404
    assert [module["tokens"] for module in after] == [len(TEXT)]
    assert rest.json()["deleted"] == 1
    assert nothing == []
    assert anew["usage"]["encoded"] == 13


async def test_a_schema_is_put_under_its_own_name_and_encoded_when_asked() -> None:
    async with client_of(create_app(tiny_engines())) as client:
        wrong = await client.put("/v1/schemas/trap", content=SCHEMA)
        broken = await client.put("/v1/schemas/trip", content=SCHEMA.replace("</module>", ""))
        later = await client.put("/v1/schemas/trip?encode=false", content=SCHEMA)
        neither = await client.put("/v1/schemas/trip?encode=perhaps", content=SCHEMA)
        said = (await client.post("/v1/pml", json={"prompt": PROMPT, "max_tokens": 2})).json()
    assert "is called 'trip'" in wrong.json()["error"]["message"]
    assert "line 1, column" in broken.json()["error"]["message"]
    assert {wrong.status_code, broken.status_code, neither.status_code} == {400}
    assert neither.json()["error"]["param"] == "encode"
    assert later.json()["modules"] == []
    assert said["usage"]["encoded"] == 13


async def test_a_namespace_neither_reuses_lists_nor_deletes_what_another_has(
    tmp_path: Path,
) -> None:
    app, (first, second) = app_with_keys(tmp_path, "first", "second")
    body = asked([marked(TEXT), {"type": "text", "text": " Q?"}])
    async with client_of(app, first) as mine, client_of(app, second) as theirs:
        await mine.put("/v1/schemas/trip", content=SCHEMA)
        await mine.post("/v1/documents", json={"documents": {"mira": OTHER}})
        await mine.post(CHAT, json=body)
        listed = (await mine.get("/v1/modules")).json()["data"]
        assert (await theirs.get("/v1/modules")).json()["data"] == []
        for module in listed:
            assert (await theirs.delete(f"/v1/modules/{module['name']}")).status_code == 404
        assert (await theirs.delete("/v1/modules")).json()["deleted"] == 0
        asking = await theirs.post("/v1/pml", json={"prompt": PROMPT})
        assert "there is no schema 'trip'" in asking.json()["error"]["message"]
        put = (await theirs.put("/v1/schemas/trip?encode=false", content=SCHEMA)).json()
        assert put["modules"] == []
        fresh = (await theirs.post(CHAT, json=body)).json()
        assert cached(fresh) < len(TEXT)
        assert cached((await theirs.post(CHAT, json=body)).json()) >= len(TEXT)
        keys = {module["key"] for module in (await theirs.get("/v1/modules")).json()["data"]}
        assert keys.isdisjoint(module["key"] for module in listed)
        await theirs.delete("/v1/modules")
        assert (await mine.get("/v1/modules")).json()["data"] == listed
        assert cached((await mine.post(CHAT, json=body)).json()) >= len(TEXT)


async def test_without_a_known_key_nothing_is_served_but_health(tmp_path: Path) -> None:
    app, (key, watcher) = app_with_keys(tmp_path, "first", METRICS)
    addresses = [
        ("POST", CHAT), ("POST", "/v1/completions"), ("POST", "/v1/pml"), ("GET", "/v1/models"),
        ("GET", "/v1/models/tiny"), ("PUT", "/v1/schemas/trip"), ("POST", "/v1/documents"),
        ("GET", "/v1/modules"), ("DELETE", "/v1/modules"), ("DELETE", "/v1/modules/a"),
        ("GET", "/metrics"),
    ]  # fmt: skip
    for wrong in (None, "", "pc-wrong", key[:-1], key.upper()):
        async with client_of(app, wrong) as client:
            for method, address in addresses:
                response = await client.request(method, address, content=b"{}")
                assert response.status_code == 401, address
                assert response.json()["error"]["code"] == "invalid_api_key"
            assert (await client.get("/healthz")).json() == {"status": "ok"}
    async with client_of(app, key) as client:
        assert (await client.get("/metrics")).status_code == 403
        assert (await client.get("/v1/models")).status_code == 200
    async with client_of(app, watcher) as client:
        assert "promptcache_requests_total" in (await client.get("/metrics")).text


def test_a_file_of_keys_has_no_key_in_it_and_is_for_its_owner_alone(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    keys = {add_key(file, name): name for name in ("legal", "legal", "sales")}
    assert len(keys) == 3
    assert file.stat().st_mode & 0o777 == 0o600
    read = Keys.read(file)
    assert read.namespaces == ["legal", "sales"]
    for key, namespace in keys.items():
        assert read.namespace_of(key) == namespace
        assert key not in file.read_text()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no key"),
        ("# remark\nlegal secret\n", "line 2 of the keys file"),
        ("le/gal sha256:" + "0" * 64, "line 1 of the keys file"),
        (None, "cannot be read"),
    ],
)
def test_a_file_of_keys_that_cannot_be_used_is_one_sentence(
    tmp_path: Path, text: str | None, message: str
) -> None:
    if text is not None:
        (tmp_path / "keys").write_text(text)
    with pytest.raises(OptionError, match=message):
        Keys.read(tmp_path / "keys")


async def test_requests_that_miss_the_same_module_wait_for_one_encoding(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    encoded: list[int] = []
    encode = encoding.encode

    def counted(runner: Any, traits: Any, rows: Any, *rest: Any) -> Any:
        encoded.extend(map(len, rows))
        return encode(runner, traits, rows, *rest)

    monkeypatch.setattr(encoding, "encode", counted)
    body = asked([marked(TEXT), {"type": "text", "text": " Q?"}], trace=True)
    async with client_of(create_app(tiny_engines())) as client:
        responses = await asyncio.gather(*(client.post(CHAT, json=body) for _ in range(4)))
    said = [response.json() for response in responses]
    assert encoded.count(len(TEXT)) == 1
    assert len({each["choices"][0]["message"]["content"] for each in said}) == 1
