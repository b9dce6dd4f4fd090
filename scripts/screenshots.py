"""Take the pictures in docs/images: forms that notebooks show, and the page of the server.

Needs `chromium` and Pillow: `python scripts/screenshots.py`.
"""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import uvicorn
from PIL import Image, ImageChops

from promptcache import FirstK, PromptCache
from promptcache.model.load import load
from promptcache.server.app import create_app
from promptcache.server.engines import Engines

IMAGES = Path(__file__).parent.parent / "docs" / "images"
LIBRARY = Path(__file__).parent.parent / "core" / "promptcache" / "demo" / "library"
SCHEMA = """
<schema name="library">
  <system>Answer from the documents.</system>
  <user>
    <module name="rules">The answers are short. They name <param name="what" len="8"/>.</module>
    <union default="calm"><module name="calm"> Be calm.</module>
      <module name="quick"> Be quick.</module></union>
    <collection name="documents"/>
  </user>
</schema>
"""
PAGE = """<!doctype html><meta charset="utf-8"><body style="margin:0;background:{page}">{shown}
<script>document.querySelector(".pc-encoded[tabindex]")?.focus()</script>"""
"""With the focus on a span, whose facts are shown then."""
SIZES = {"trace": (900, 835), "schema": (900, 450)}
PAGE_SIZE = 900, 2570
THEMES = {"light": ("#ffffff", 1), "dark": ("#111111", 0)}
"""What stands around a form, and what Chromium calls the theme."""
PAGE_COLOURS = {"light": "#ffffff", "dark": "#16191d"}


def forms() -> dict[str, str]:
    """The HTML forms of a reply with spans of every kind, and of its schema."""
    cache = PromptCache.from_pretrained("pocket")
    schema = cache.add_schema(SCHEMA)
    files = [LIBRARY / f"{name}.md" for name in ("halorin-museum", "garnach", "gorumden-foods")]
    kept = {file.stem: file.read_text() for file in files}
    first, *others = kept
    cache.cache_documents({name: kept[name] for name in others}, schema="library", progress=False)
    ask = '<prompt schema="library"><rules what="a town"/><calm/>\n\n<documents>{}</documents>\n\n'
    ask += "In which town is the Halorin Museum located?</prompt>"
    named = "".join(f'<doc key="{name}"/>' for name in others)
    cache.generate(ask.format(named), max_new_tokens=1)
    cache.cache_documents({first: kept[first]}, progress=False)
    reply = cache.generate(
        ask.format(f'{named}<doc key="{first}"/>'), max_new_tokens=16, reuse=FirstK(6)
    )
    return {"trace": reply._repr_html_(), "schema": schema._repr_html_()}


@contextmanager
def served() -> Iterator[str]:
    """The address of a server's page, with a request unfolded, after some requests."""
    model, tokenizer = load("pocket")
    with tempfile.TemporaryDirectory() as folder:
        app = create_app(Engines(model, tokenizer, name="pocket", store=folder))
        server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
        thread = Thread(target=server.run)
        thread.start()
        while not server.started:
            time.sleep(0.05)
        address = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        try:
            yield f"{address}/#request-{ask_around(address)}"
        finally:
            server.should_exit = True
            thread.join()


def ask_around(address: str) -> str:
    """Ask a server about documents in many orders, and once what it refuses; the last request."""
    texts = [file.read_text() for file in sorted(LIBRARY.glob("*.md"))[:8]]
    fresh = (LIBRARY / "halorin-museum.md").read_text()
    chance = random.Random(1)
    with httpx.Client(base_url=address, timeout=60) as client:

        def asked(documents: list[str], **more: Any) -> httpx.Response:
            blocks: list[dict[str, Any]] = []
            for text in documents:
                mark = {"cache_control": {"type": "ephemeral"}}
                blocks += [{"type": "text", "text": text, **mark}, {"type": "text", "text": "\n\n"}]
            blocks.append({"type": "text", "text": "In which town is the Halorin Museum located?"})
            body = {"messages": [{"role": "user", "content": blocks}], "temperature": 0, **more}
            return client.post("/v1/chat/completions", json={"max_tokens": 12, **body})

        for _ in range(24):
            asked(chance.sample(texts, 3))
        asked(texts, reuse="Magic")
        for _ in range(24):
            asked(chance.sample(texts, 3))
        last = asked([*chance.sample(texts, 2), fresh], reuse="FirstK(6)")
        return last.headers["X-Request-Id"]


def take(chromium: str, shown: str, theme: str, size: tuple[int, int], file: Path) -> None:
    """One picture of one form."""
    colour, _ = THEMES[theme]
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "page.html"
        page.write_text(PAGE.format(page=colour, shown=shown), encoding="utf-8")
        photograph(chromium, page.as_uri(), theme, size, file, colour)


def photograph(
    chromium: str, address: str, theme: str, size: tuple[int, int], file: Path, colour: str
) -> None:
    """One picture of what is at an address, as far down as there is anything on its colour."""
    subprocess.run(
        [
            chromium,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            "--virtual-time-budget=6000",
            f"--blink-settings=preferredColorScheme={THEMES[theme][1]}",
            f"--window-size={size[0]},{size[1]}",
            f"--screenshot={file}",
            address,
        ],
        check=True,
        capture_output=True,
    )
    image = Image.open(file).convert("RGB")
    blank = Image.new("RGB", image.size, colour)
    _, _, _, end = ImageChops.difference(image, blank).getbbox() or (0, 0, *image.size)
    image.crop((0, 0, image.width, end + 8)).quantize(256).save(file, optimize=True)


def main() -> None:
    """Take all of them."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("this needs chromium")
    IMAGES.mkdir(exist_ok=True)
    for name, shown in forms().items():
        for theme in THEMES:
            take(chromium, shown, theme, SIZES[name], IMAGES / f"{name}-{theme}.png")
    with served() as address:
        for theme, colour in PAGE_COLOURS.items():
            file = IMAGES / f"page-{theme}.png"
            photograph(chromium, address, theme, PAGE_SIZE, file, colour)


if __name__ == "__main__":
    main()
