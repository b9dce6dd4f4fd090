"""The demo: a retrieval chain over a folder of documents, timed with and without reuse.

What it measures and shows is in `tour`; this file checks only that it can run.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from promptcache.errors import MissingExtraError

if TYPE_CHECKING:
    from rich.console import Console

NEEDED = ("langchain_classic", "langchain_text_splitters")


def run(docs: Path | None, model: str, console: Console, questions: Sequence[str] = ()) -> int:
    """Run the demo on a folder of `.md` and `.txt` files, or on the library that ships with it.

    Asks `questions`, or the library's own. Returns an exit status: 1 when an answer that is known
    was not given. Raises PromptCacheError for a folder or model that cannot be used.
    """
    if any(find_spec(name) is None for name in NEEDED):
        raise MissingExtraError("the demo", "demo")
    from langchain_promptcache.demo.tour import tour

    return tour(docs, model, console, questions)
