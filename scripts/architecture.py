"""Rewrite the table of docs/architecture.md from the files' own first sentences."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "architecture.md"
PACKAGES = {"": ROOT / "core" / "promptcache"} | {
    f"{name}/": ROOT / "integrations" / name
    for name in ("langchain_promptcache", "llama_index_promptcache")
}
TABLE = re.compile(r"(?<=<!-- files -->\n).*?(?=<!-- /files -->)", re.DOTALL)


def rows() -> Iterator[str]:
    """One row for each file: its name and the first sentence of its docstring."""
    yield "| file | what it is for |\n|---|---|\n"
    for prefix, folder in PACKAGES.items():
        for path in sorted(folder.rglob("*.py")):
            docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
            sentence = re.split(r"(?<=[.?])\s", docstring, maxsplit=1)[0].replace("\n", " ")
            sentence = sentence.replace("|", r"\|")
            yield f"| `{prefix}{path.relative_to(folder)}` | {sentence} |\n"


def page() -> str:
    """The page with its table as it should be."""
    table = "".join(rows())
    return TABLE.sub(lambda _: table, PAGE.read_text())


if __name__ == "__main__":
    PAGE.write_text(page())
