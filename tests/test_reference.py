"""Pages that are made of the code: the command line's help, and the errors."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / "scripts" / "reference.py"


@pytest.mark.parametrize("name", ["cli.md", "errors.md"])
def test_a_page_says_what_the_code_says(name: str) -> None:
    pages = runpy.run_path(str(SCRIPT))["PAGES"]
    ((path, page),) = [(path, page) for path, page in pages.items() if path.name == name]
    assert path.read_text(encoding="utf-8") == page(), "run: python scripts/reference.py"
