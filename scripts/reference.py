"""Write docs/cli.md from the command line's own help, and docs/errors.md from the exceptions.

`python scripts/reference.py`; a test fails while a page differs from what this makes.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import typer
from typer.cli import get_docs_for_click

from promptcache import DiskStore, FirstK, MemoryStore, errors
from promptcache.cli import app
from promptcache.errors import MissingExtraError, PromptCacheError
from promptcache.model.load import load
from promptcache.pml import find_schema, parse_prompt, parse_schema

DOCS = Path(__file__).parent.parent / "docs"
MADE = "<!-- Made by scripts/reference.py. -->\n\n"
_SCHEMAS = {"trip": parse_schema('<schema name="trip"/>')}
EXAMPLES: dict[str, tuple[str, Callable[[], object]]] = {
    "PMLSyntaxError": (
        """parse_schema('<schema name="trip"><modul name="plan"/></schema>')""",
        lambda: parse_schema('<schema name="trip"><modul name="plan"/></schema>'),
    ),
    "PMLReferenceError": (
        """cache.generate('<prompt schema="tripp">What should I pack?</prompt>')""",
        lambda: find_schema(parse_prompt('<prompt schema="tripp">What?</prompt>'), _SCHEMAS),
    ),
    "OptionError": ("FirstK(-1)", lambda: FirstK(-1)),
    "ModelError": ("""PromptCache.from_pretrained("./nowhere")""", lambda: load("./nowhere")),
    "StoreError": (
        """DiskStore("/dev/null/cache", 10**9)""",
        lambda: DiskStore("/dev/null/cache", 10**9),
    ),
    "BudgetError": ("MemoryStore(0)", lambda: MemoryStore(0)),
    "MissingExtraError": (
        "import langchain_promptcache",
        lambda: _raise(MissingExtraError("langchain_promptcache", "langchain")),
    ),
}
"""What raises an error of each kind that takes no model to be raised, as written and as run."""


def cli_page() -> str:
    """Every command with its arguments and options."""
    command = typer.main.get_group(app)
    context = typer.Context(command, info_name="promptcache")
    text = get_docs_for_click(obj=command, ctx=context, name="promptcache", title="Command line")
    helps = "* `--help`: Show this message and exit.\n"  # every command has it
    text = re.sub(r"\*\*Options\*\*:\n\n" + re.escape(helps) + "\n", "", text).replace(helps, "")
    return MADE + text.rstrip() + "\n"


def errors_page() -> str:
    """The tree of exceptions, and a section for each of them."""
    title, _, rest = (errors.__doc__ or "").partition("\n\n")
    tree, _, said = rest.partition("\n\n")
    parts = [f"# Errors\n\n{title}\n\n```text\n{inspect.cleandoc(tree)}\n```\n\n{said.strip()}\n"]
    parts.append(
        "All are in `promptcache.errors`; `from promptcache import PromptCacheError` is enough to "
        "catch them.\nThe command line prints the message and ends with status 1.\n"
    )
    return MADE + "\n".join([*parts, *_sections()])


def _sections() -> Iterator[str]:
    for name, kind in vars(errors).items():
        if not (inspect.isclass(kind) and issubclass(kind, PromptCacheError)):
            continue
        base = kind.__base__
        of = "" if kind is PromptCacheError or base is None else f"A `{base.__name__}`. "
        text = f"## {name}\n\n{of}{inspect.getdoc(kind)}\n"
        if name in EXAMPLES:
            written, raising = EXAMPLES[name]
            text += f"\n```text\n>>> {written}\n{name}: {_message(raising, kind)}\n```\n"
        yield text


def _message(raising: Callable[[], object], kind: type[PromptCacheError]) -> str:
    try:
        raising()
    except PromptCacheError as error:
        if type(error) is kind:
            return str(error)
        raise
    raise RuntimeError(f"no {kind.__name__}")


def _raise(error: Exception) -> None:
    raise error


PAGES = {DOCS / "cli.md": cli_page, DOCS / "errors.md": errors_page}

if __name__ == "__main__":
    for path, page in PAGES.items():
        path.write_text(page(), encoding="utf-8")
