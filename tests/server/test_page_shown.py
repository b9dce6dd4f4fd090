"""The page at `/`: what it shows and to whom, that texts stay texts, and what it keeps at most."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from promptcache import Provenance, Reply, Span, Trace, Usage
from promptcache.html import DARK, LIGHT
from promptcache.server.app import create_app
from promptcache.server.limits import Limits
from promptcache.server.page import history as kept
from promptcache.server.page.history import Histories
from promptcache.server.page.requests import request_page
from promptcache.server.visits import Visit
from support.markup import HOSTILE, Page
from support.serving import (
    CHAT,
    OTHER,
    PROMPT,
    SCHEMA,
    TEXT,
    Fixed,
    Held,
    app_with_keys,
    asked,
    client_of,
    marked,
    tiny_engines,
    until,
)

OVERVIEW = "/page/parts/overview"
FILES = ("/", "/page/style.css", "/page/script.js", "/page/icon.svg")
LOCAL = "http://127.0.0.1:8000"


async def shown(client: httpx.AsyncClient, query: str = "") -> str:
    response = await client.get(f"{LOCAL}{OVERVIEW}{query}")
    assert response.status_code == 200, response.text
    return response.text


async def request_shown(client: httpx.AsyncClient, name: str) -> str:
    response = await client.get(f"{LOCAL}/page/requests/{name}")
    assert response.status_code == 200, response.text
    return response.text


def cells(markup: str, part: str) -> list[list[str]]:
    """The rows of the table in a part of the page."""
    inside = markup.partition(f'data-part="{part}"')[2].partition("</table>")[0]
    rows = re.findall(r"<tr>(.*?)</tr>", inside)
    return [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in rows]


def names(markup: str) -> list[str]:
    return re.findall(r'<li id="request-(\w+)"', markup)


async def test_the_frame_says_that_nothing_from_elsewhere_is_loaded_and_asks_for_nothing() -> None:
    async with client_of(create_app(tiny_engines())) as client:
        sent = [await client.get(address) for address in (*FILES, f"{LOCAL}{OVERVIEW}")]
        missing = await client.get("/page/page.html")
    for response in sent:
        assert response.status_code == 200
        policy = response.headers["Content-Security-Policy"].split("; ")
        assert "default-src 'none'" in policy
        assert {part for part in policy if part.endswith("'self'")} == {
            f"{kind}-src 'self'" for kind in ("script", "style", "img", "connect")
        }
        assert "unsafe" not in response.headers["Content-Security-Policy"]
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Cache-Control"] == "no-store"
        assert not re.search(r"(?<!xmlns=\")https?://", response.text)
        assert "url(" not in response.text
    frame = Page(sent[0].text.replace("<!doctype html>", ""))
    for tag, attributes in frame.elements:
        assert not [name for name in attributes if name == "style" or name.startswith("on")]
        loaded = attributes.get("src") or (attributes.get("href") if tag == "link" else "")
        assert not loaded or f"/{loaded}" in FILES
    assert missing.status_code == 404


async def test_every_field_has_a_label_every_part_a_heading_and_every_table_its_heads() -> None:
    async with client_of(create_app(tiny_engines())) as client:
        await client.post(CHAT, json=asked([marked(TEXT)]))
        frame = Page((await client.get("/")).text.replace("<!doctype html>", ""))
        parts = Page(await shown(client))
    labelled = {attributes.get("for") for tag, attributes in frame.elements if tag == "label"}
    wrapped = {"live"}
    fields = {a["id"] for tag, a in frame.elements if tag in ("input", "select", "textarea")}
    assert fields - wrapped <= labelled
    ids = [attributes["id"] for _, attributes in frame.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for tag, attributes in frame.elements:
        if tag == "section":
            assert attributes["aria-labelledby"] in ids
        if attributes.get("tabindex") is not None:
            assert attributes["tabindex"] == "0"
            assert attributes["aria-label"]
    placed = {attributes.get("data-part") for _, attributes in parts.elements}
    assert placed - {None} <= set(ids)
    heads = [attributes for tag, attributes in parts.elements if tag == "th"]
    assert heads
    assert all(attributes.get("scope") in ("col", "row") for attributes in heads)
    charts = [attributes for tag, attributes in parts.elements if tag == "svg"]
    assert [attributes["role"] for attributes in charts] == ["img", "img"]
    assert all("request" in (attributes["aria-label"] or "") for attributes in charts)


async def test_modules_are_shown_by_size_tier_and_hits_and_figures_by_request() -> None:
    body = asked([marked(TEXT), {"type": "text", "text": " Q?"}])
    async with client_of(create_app(tiny_engines())) as client:
        await client.put("/v1/schemas/trip", content=SCHEMA)
        for _ in range(3):
            await client.post(CHAT, json=body)
        said = (await client.post(CHAT, json=body)).json()["usage"]
        listed = (await client.get("/v1/modules")).json()["data"]
        page = await shown(client)
        by_name = await shown(client, "?by=name")
        wrong = await client.get(f"{LOCAL}{OVERVIEW}?by=colour")
    _, *rows = cells(page, "modules")
    assert [row[2] for row in rows] == [str(len(TEXT)), "13"]
    assert [row[4:] for row in rows] == [["3", "1"], ["0", "0"]]
    [taken] = [module["places"] for module in listed if module["tokens"] == len(TEXT)]
    assert list(taken) == ["memory"]
    assert rows[0][3] == f"memory {taken['memory'] / 1e3:.1f} kB"
    assert [row[0] for row in cells(by_name, "modules")[1:]] == sorted(row[0] for row in rows)
    _, *figures = cells(page, "figures")
    cached = said["prompt_tokens_details"]["cached_tokens"]
    assert figures[0][2:] == [str(cached), str(said["prompt_tokens"])]
    assert len(figures) == 4
    assert figures[-1][2] < figures[0][2]
    assert "of the prompt tokens of 4 requests were reused" in page
    assert wrong.status_code == 400
    assert "valid" in wrong.json()["error"]["message"]


async def test_a_request_is_found_by_its_name_with_its_answer_and_its_trace() -> None:
    async with client_of(create_app(tiny_engines())) as client:
        await client.put("/v1/schemas/trip", content=SCHEMA)
        responses = [
            await client.post(CHAT, json=asked([marked(TEXT)], stream=True)),
            await client.post("/v1/completions", json={"prompt": TEXT, "max_tokens": 4}),
            await client.post("/v1/pml", json={"prompt": PROMPT, "max_tokens": 4}),
        ]
        listed = names(await shown(client))
        pages = [Page(await request_shown(client, r.headers["X-Request-Id"])) for r in responses]
        unknown = await client.get(f"{LOCAL}/page/requests/{'0' * 32}")
    assert listed == [response.headers["X-Request-Id"] for response in reversed(responses)]
    assert TEXT in pages[0].texts["pc-text"]
    assert responses[1].json()["choices"][0]["text"] in pages[1].texts["pc-text"]
    assert "Miami is hot." in pages[2].texts["pc-exact"]
    assert "exact" in pages[2].texts["pc-legend"]
    assert unknown.status_code == 404


async def test_what_failed_is_shown_with_where_and_why() -> None:
    held = Held(free=2)
    app = create_app(Fixed(held.engine()), limits=Limits(timeout=1.0))
    async with client_of(app) as client:
        broken = {"prompt": '<prompt schema="trip"><miami</prompt>'}
        failed = [
            await client.post("/v1/pml", json=broken),
            await client.post(CHAT, json=asked("Hi", n=2)),
            await client.post(CHAT, json={**asked("Tell me.", max_tokens=900), "stream": True}),
        ]
        held.go.set()
        page = await shown(client)
        pages = [await request_shown(client, r.headers["X-Request-Id"]) for r in failed]
        await client.get("/v1/nothing")
        assert names(await shown(client)) == names(page)
    assert len(names(page)) == 3
    assert "failed, 400" in page
    assert "3 failed" in page
    for said in ("POST /v1/pml", "line 1, column"):
        assert said in pages[0]
    for said in (f"POST {CHAT}", ">n<", "is not supported"):
        assert said in pages[1]
    assert "was not there after 1 s" in pages[2]


async def test_requests_under_way_are_counted_and_places_are_told() -> None:
    held = Held()
    app = create_app(Fixed(held.engine()), limits=Limits(concurrency=1))
    async with client_of(app) as client:
        tasks = [asyncio.create_task(client.post(CHAT, json=asked(str(n)))) for n in range(2)]
        await until(held.begun.is_set)
        page = await shown(client)
        while "1 run, 1 wait" not in page:
            await asyncio.sleep(0.01)
            page = await shown(client)
        assert "2 requests, the longest for" in page
        held.go.set()
        await asyncio.gather(*tasks)
        page = await shown(client)
    assert "0 run, 0 wait" in page
    assert "no request" in page


async def test_hostile_texts_are_shown_and_never_are_markup() -> None:
    schema = SCHEMA.replace("Miami is hot.", "&lt;b onclick='x()'>Miami&lt;/b>")
    async with client_of(create_app(tiny_engines())) as client:
        plain = {tag for tag, _ in Page(await shown(client)).elements}
        await client.put("/v1/schemas/trip", content=schema)
        answered = [
            await client.post(CHAT, json=asked([marked(HOSTILE)])),
            await client.post("/v1/pml", json={"prompt": PROMPT, "max_tokens": 4}),
            await client.post("/v1/pml", json={"prompt": f"<prompt>{HOSTILE}"}),
            await client.post(CHAT, json=asked("Hi", reuse=HOSTILE)),
        ]
        page = await shown(client)
        pages = [await request_shown(client, r.headers["X-Request-Id"]) for r in answered]
    assert {tag for tag, _ in Page(page).elements} <= plain | {"li", "details", "q", "strong", "tr",
        "td", "th", "time", "code", "summary", "ol"}  # fmt: skip
    assert HOSTILE in Page(pages[0]).texts["pc-text"]
    for markup in (page, *pages):
        read = Page(markup)
        tags = {tag for tag, _ in read.elements}
        assert not tags & {"script", "style", "img", "a", "iframe", "form"}
        attributes = {name for _, given in read.elements for name in given}
        assert not {name for name in attributes if name == "style" or name.startswith("on")}


async def test_a_key_shows_what_is_its_namespaces_and_nothing_that_others_share(
    tmp_path: Path,
) -> None:
    app, (first, second) = app_with_keys(tmp_path, "first", "second")
    async with client_of(app, first) as mine, client_of(app, second) as theirs:
        answered = await mine.post(CHAT, json=asked([marked(TEXT)]))
        failed = await mine.post("/v1/pml", json={"prompt": "<secret"})
        await theirs.post(CHAT, json=asked([marked(OTHER)]))
        page, other = await shown(mine), await shown(theirs)
        assert len(names(page)) == 2
        assert len(names(other)) == 1
        assert "1 request were reused" in other
        for markup in (page, other):
            assert "queue" not in markup
            assert "store" not in markup
        for response in (answered, failed):
            name = response.headers["X-Request-Id"]
            assert name not in other
            await request_shown(mine, name)
            assert (await theirs.get(f"/page/requests/{name}")).status_code == 404
        assert cells(page, "modules")[1:] != cells(other, "modules")[1:]
        assert len(cells(other, "modules")) == 2
    for key in (None, "pc-wrong"):
        async with client_of(app, key) as nobody:
            assert [(await nobody.get(address)).status_code for address in FILES] == [200] * 4
            for address in (OVERVIEW, f"/page/requests/{names(page)[0]}"):
                refused = await nobody.get(f"{LOCAL}{address}")
                assert refused.status_code == 401
                assert TEXT not in refused.text


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8000", 200), ("localhost", 200), ("[::1]:8000", 200), ("10.0.0.7", 200),
        ("evil.example", 403), ("127.0.0.1.evil.example", 403), ("localhost.evil.example", 403),
        ("", 403), ("[::1", 403), ("[::1].evil.example", 403), ("a" * 300, 403),
    ],
)  # fmt: skip
async def test_without_keys_no_name_that_a_site_could_have_reads_the_page(
    host: str, status: int
) -> None:
    async with client_of(create_app(tiny_engines())) as client:
        await client.post(CHAT, json=asked(TEXT))
        said = await client.get(OVERVIEW, headers={"Host": host})
        [name] = names(await shown(client))
        one = await client.get(f"/page/requests/{name}", headers={"Host": host})
    assert (said.status_code, one.status_code) == (status, status)


def visit_of(text: str, *, namespace: str = "", key: str = "a-1") -> Visit:
    span = Span(text, 10, 0, Provenance.EXACT, module="m", tier="memory", key=key)
    reply = Reply("", Usage(exact=10), Trace((span,)), 0.1, {}, "stop", tuple(range(50)))
    return Visit("POST", CHAT, namespace=namespace, reply=reply, status=200)


def ended(histories: Histories, visit: Visit) -> None:
    histories.begun(visit)
    histories.ended(visit)


def test_what_is_kept_is_bounded_however_much_is_asked() -> None:
    histories = Histories(recent=20)
    for number in range(6000):
        ended(histories, visit_of("x" * 1000, key=f"a-{number}"))
    history = histories.of("")
    assert len(history) == 20
    assert len(history.figures) == kept.FIGURES
    assert len(history.uses) == kept.MODULES
    assert "a-5999" in history.uses
    for _ in range(20):
        ended(histories, visit_of("x" * (kept.CHARACTERS // 4)))
    assert len(history) == 3
    assert history.characters <= kept.CHARACTERS
    assert histories.under_way("") == []


def test_a_request_longer_than_all_that_is_kept_is_listed_without_its_texts() -> None:
    histories = Histories(recent=20)
    ended(histories, visit_of("x" * 10))
    long = visit_of("secret " * kept.CHARACTERS)
    ended(histories, long)
    assert next(histories.of("").latest()).id == long.id
    assert "are not kept here" in request_page(long)
    assert "secret" not in request_page(long)
    assert histories.of("").uses["a-1"].hits == 2


async def test_a_server_that_is_to_keep_no_requests_keeps_figures_alone() -> None:
    app = create_app(tiny_engines(), limits=Limits(recent=0))
    async with client_of(app) as client:
        said = await client.post(CHAT, json=asked(TEXT))
        page = await shown(client)
        one = await client.get(f"{LOCAL}/page/requests/{said.headers['X-Request-Id']}")
    assert names(page) == []
    assert len(cells(page, "figures")) == 2
    assert one.status_code == 404


def test_the_style_has_no_colours_but_those_of_the_themes() -> None:
    style = (Path(kept.__file__).parent / "style.css").read_text()
    used = set(re.findall(r"var\(--pc-([a-z-]+)\)", style))
    known: dict[str, Any] = {"page": 0, "ink": 0, "quiet": 0, "line": 0}
    known |= {f"{kind}-edge": 0 for kind in LIGHT.edges}
    assert used <= set(known)
    assert not re.search(r"#[0-9a-f]{3,8}\b(?=[;}\s])|rgb|hsl", style)
    texts = set(re.findall(r"(?<![-\w])color:([^;}]+)", style))
    assert texts == {"var(--pc-ink)", "var(--pc-quiet)"}
    assert LIGHT.page != DARK.page
