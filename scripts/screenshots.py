"""Take the pictures in docs/images: what notebooks show of a reply and of a schema.

Needs `chromium` and Pillow: `python scripts/screenshots.py`.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image, ImageChops

from promptcache import FirstK, PromptCache

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
THEMES = {"light": ("#ffffff", 1), "dark": ("#111111", 0)}


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


def take(chromium: str, shown: str, theme: str, size: tuple[int, int], file: Path) -> None:
    """One picture of one form."""
    colour, preferred = THEMES[theme]
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "page.html"
        page.write_text(PAGE.format(page=colour, shown=shown), encoding="utf-8")
        subprocess.run(
            [
                chromium,
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--hide-scrollbars",
                f"--blink-settings=preferredColorScheme={preferred}",
                f"--window-size={size[0]},{size[1]}",
                f"--screenshot={file}",
                page.as_uri(),
            ],
            check=True,
            capture_output=True,
        )
    image = Image.open(file).convert("RGB")
    blank = Image.new("RGB", image.size, colour)
    _, _, _, end = ImageChops.difference(image, blank).getbbox() or (0, 0, *image.size)
    image.crop((0, 0, image.width, end + 8)).quantize(64).save(file, optimize=True)


def main() -> None:
    """Take all of them."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("this needs chromium")
    IMAGES.mkdir(exist_ok=True)
    for name, shown in forms().items():
        for theme in THEMES:
            take(chromium, shown, theme, SIZES[name], IMAGES / f"{name}-{theme}.png")


if __name__ == "__main__":
    main()
