"""The page in a browser: a request made by keyboard and its trace seen, keys, focus, contrast."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest
import uvicorn

from promptcache.model.load import load
from promptcache.server.app import create_app
from promptcache.server.engines import Engines
from promptcache.server.keys import Keys, add_key
from support.markup import HOSTILE
from support.serving import CHAT, asked, marked

pytest.importorskip("websockets", reason="needs websockets")
from support.chromium import CHROMIUM, Browser

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")

MUSEUM = "The Halvern Museum was founded in 1931. It stands in the town of Orlec."
BRIDGE = "The Orlec Bridge is 412 metres long. Its colour is dark green."
QUESTION = "When was the Halvern Museum founded?"
READY = "document.getElementById('page')?.hidden === false"
FOCUSED = "(document.activeElement.id || document.activeElement.textContent.trim())"
FIRST = "document.querySelector('#requests > li')"
CONTRASTS = """(() => {
  const parse = (said) => said.match(/[0-9.]+/g).map(Number);
  const linear = (part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  const light = ([r, g, b]) =>
    0.2126 * linear(r / 255) + 0.7152 * linear(g / 255) + 0.0722 * linear(b / 255);
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const fill = parse(getComputedStyle(at).backgroundColor);
      if (fill.length === 3 || fill[3] === 1) return fill;
    }
    throw new Error("nothing behind");
  };
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const found = [];
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement;
    if (!texts.currentNode.textContent.trim() || !element.checkVisibility()) continue;
    const pair = [light(parse(getComputedStyle(element).color)), light(behind(element))];
    const ratio = (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
    found.push([ratio, texts.currentNode.textContent.slice(0, 40)]);
  }
  return found;
})()"""


@contextmanager
def running(keys: Keys | None = None) -> Iterator[str]:
    """The address of a server with the embedded model."""
    model, tokenizer = load("pocket")
    app = create_app(Engines(model, tokenizer, name="pocket"), keys=keys)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", ws="none"))
    thread = Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with running() as address:
        yield address


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    with Browser(tmp_path / "profile") as browser:
        yield browser
        browser.value("0")  # whatever was reported until now
        assert browser.problems == []


def ask_outside(address: str, *documents: str, **more: Any) -> str:
    """A request of another client; its name."""
    body = asked([*map(marked, documents), {"type": "text", "text": QUESTION}], **more)
    response = httpx.post(f"{address}{CHAT}", json=body, timeout=60)
    return response.headers["X-Request-Id"]


def fields(browser: Browser, **values: str) -> None:
    for name, said in values.items():
        browser.value(f"document.getElementById('{name}').focus()")
        browser.value("document.activeElement.select()")
        browser.write(said)


def test_a_request_is_made_by_keyboard_alone_and_its_trace_is_seen(
    browser: Browser, address: str
) -> None:
    browser.open(f"{address}/")
    browser.until(READY)
    reached = []
    while not reached or reached[-1] != "Ask":
        browser.press("Tab")
        reached.append(browser.value(FOCUSED))
        if reached[-1] == "documents":
            browser.write(f"{MUSEUM}\n---\n{BRIDGE}")
        if reached[-1] == "prompt":
            browser.write(QUESTION)
    assert reached == ["live", "kind", "documents", "prompt", "most", "reuse", "Ask"]
    browser.press("Enter")
    browser.until("document.getElementById('answer').textContent === '1931'")
    browser.until(f"{FIRST}.querySelector('.trace .pc-text .pc-span')")
    assert browser.value(f"{FIRST}.querySelector('details').open")
    assert browser.value(FOCUSED) == "Ask"
    shown = f"[...{FIRST}.querySelectorAll('.pc-encoded.pc-span')].map((s) => s.textContent)"
    assert browser.value(shown)[1:] == [MUSEUM, BRIDGE]
    browser.press("Enter")
    browser.until("document.querySelectorAll('#requests > li').length >= 2")
    browser.until(f"{FIRST}.querySelector('.trace .pc-text .pc-span')")
    assert browser.value(shown) == []
    reused = f"{FIRST}.querySelector('.pc-span.pc-exact, .pc-span.pc-approximate')"
    new = f"{FIRST}.querySelector('.pc-span.pc-new')"
    colours = [browser.value(f"getComputedStyle({e}).backgroundColor") for e in (reused, new)]
    assert colours[0] != colours[1]
    sign = browser.value(f"getComputedStyle({reused}, '::before').content")
    assert sign.strip('"') in ("=", "≈")
    browser.value(f"{FIRST}.querySelector('summary').focus()")
    assert "1931" in browser.value(FOCUSED)
    browser.press("Space")
    browser.until(f"!{FIRST}.querySelector('details').open")


def test_what_was_refused_is_said_and_stays_among_the_requests(
    browser: Browser, address: str
) -> None:
    browser.open(f"{address}/")
    browser.until(READY)
    browser.value(
        "(() => { const kind = document.getElementById('kind'); kind.value = 'pml';"
        " kind.dispatchEvent(new Event('change')); })()"
    )
    assert browser.value("document.querySelector('.documents').hidden")
    fields(browser, prompt='<prompt schema="x"><a</prompt>')
    browser.value("document.querySelector('#ask button').click()")
    browser.until("document.getElementById('answer').textContent.includes('line 1, column')")
    browser.until(f"{FIRST}.textContent.includes('failed, 400')")
    assert browser.value("document.getElementById('charts').textContent.includes('failed')")


def test_hostile_texts_are_shown_as_texts_and_run_nothing(browser: Browser, address: str) -> None:
    name = ask_outside(address, HOSTILE.replace("alert(", "window.hurt=("))
    browser.open(f"{address}/#request-{name}")
    item = f"document.getElementById('request-{name}')"
    browser.until(f"{item}?.querySelector('.trace .pc-span')")
    assert browser.value("typeof window.hurt") == "undefined"
    assert browser.value(f"{item}.querySelectorAll('script, style, img').length") == 0
    assert browser.value(f"{item}.textContent.includes('</style> & \\' <img src=x onerror=y>')")
    assert "1" in browser.value(f"{item}.querySelector('summary').textContent")
    assert browser.value(f"document.activeElement === {item}.querySelector('summary')")


def test_what_is_unfolded_stays_and_keeps_the_focus_while_requests_come(
    browser: Browser, address: str
) -> None:
    name = ask_outside(address, MUSEUM)
    browser.open(f"{address}/#request-{name}")
    item = f"document.getElementById('request-{name}')"
    browser.until(f"{item}?.querySelector('.trace .pc-span')")
    browser.value(f"{item}.querySelector('.pc-span').focus()")
    for _ in range(21):  # more than are kept
        latest = ask_outside(address, BRIDGE, max_tokens=1)
    browser.until(f"document.getElementById('request-{latest}')")
    assert browser.value(f"{item}.querySelector('.pc-span') === document.activeElement")
    browser.value(f"{item}.querySelector('details').open = false")
    browser.until(f"!{item}")
    assert browser.value("document.querySelectorAll('#requests > li').length") == 20


def test_the_page_is_kept_up_to_date_unless_its_reader_wants_it_to_stand_still(
    browser: Browser, address: str
) -> None:
    browser.open(f"{address}/")
    browser.until(READY)
    browser.value("document.getElementById('live').click()")
    browser.value("refresh().then(refresh)")  # what was asked for before is here then
    name = ask_outside(address, MUSEUM)
    time.sleep(3)
    assert browser.value(f"document.getElementById('request-{name}')") is None
    browser.value("document.getElementById('live').click()")
    browser.until(f"document.getElementById('request-{name}')")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_text_is_legible_and_everything_fits_a_narrow_window(
    browser: Browser, address: str, theme: str
) -> None:
    browser.show_as(theme)
    name = ask_outside(address, MUSEUM, BRIDGE)
    ask_outside(address, BRIDGE)
    httpx.post(f"{address}{CHAT}", json={"messages": 5})
    browser.open(f"{address}/#request-{name}")
    browser.until(f"document.querySelector('#request-{name} .trace .pc-span')")
    browser.value("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    browser.until("[...document.querySelectorAll('#requests .trace')].every((t) => t.innerHTML)")
    found = browser.value(CONTRASTS)
    assert len(found) > 100
    assert [text for ratio, text in found if ratio < 4.5] == []
    dark = browser.value("getComputedStyle(document.body).backgroundColor") == "rgb(22, 25, 29)"
    assert dark == (theme == "dark")
    browser.be_wide(360)
    assert browser.value("document.documentElement.scrollWidth") <= 360


def test_everything_that_can_have_the_focus_has_a_name(browser: Browser, address: str) -> None:
    name = ask_outside(address, MUSEUM)
    browser.open(f"{address}/#request-{name}")
    browser.until(f"document.querySelector('#request-{name} .trace .pc-span')")
    browser.do("Accessibility.enable")
    nodes = browser.do("Accessibility.getFullAXTree")["nodes"]
    said: dict[str, list[str]] = {}
    for node in nodes:
        role = node.get("role", {}).get("value", "")
        told = {p["name"]: p["value"].get("value") for p in node.get("properties", ())}
        named = node.get("name", {}).get("value", "")
        said.setdefault(role, []).append(named)
        if told.get("focusable") and role not in ("RootWebArea", "generic", "mark"):
            assert named, node
    assert said["heading"] == [
        "promptcache", "Now", "Ask", "Hit rate and time to first token", "Modules",
        "Last requests",
    ]  # fmt: skip
    assert len([image for image in said["image"] if "each request" in image]) == 2
    assert "columnheader" in said
    assert "rowheader" in said


def test_a_key_opens_its_namespace_and_leaves_no_trace_when_it_is_forgotten(
    browser: Browser, tmp_path: Path
) -> None:
    keys = {name: add_key(tmp_path / "keys", name) for name in ("first", "second")}
    with running(Keys.read(tmp_path / "keys")) as address:
        body = asked([marked(MUSEUM), {"type": "text", "text": QUESTION}])
        header = {"Authorization": f"Bearer {keys['first']}"}
        httpx.post(f"{address}{CHAT}", json=body, headers=header, timeout=60)
        browser.open(f"{address}/")
        for key, wanted in (("pc-wrong", "not known"), (keys["first"], "")):
            browser.until("document.getElementById('unlock')?.hidden === false")
            fields(browser, key=key)
            browser.press("Enter")
            browser.until(f"document.getElementById('said').textContent.includes('{wanted}')")
        browser.until(READY)
        browser.until(FIRST)
        assert "first" in browser.value("document.getElementById('now').textContent")
        browser.do("Page.reload")
        browser.until(READY)
        assert browser.value("location.href") == f"{address}/"
        assert browser.value("document.cookie + Object.keys(localStorage).join()") == ""
        assert browser.do("Network.getCookies")["cookies"] == []
        browser.value("document.getElementById('forget').click()")
        browser.until("document.getElementById('unlock')?.hidden === false")
        browser.until("document.getElementById('said').textContent.includes('asks for an API key')")
        assert MUSEUM not in browser.value("document.documentElement.innerHTML")
        assert browser.value("Object.keys(sessionStorage).join()") == ""
        fields(browser, key=keys["second"])
        browser.press("Enter")
        browser.until(READY)
        assert browser.value("document.querySelectorAll('#requests > li').length") == 0
        assert "Halvern" not in browser.value("document.documentElement.innerHTML")
