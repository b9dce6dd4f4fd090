"""The code in README and docs: a test runs every block, and every command is one that there is."""

from __future__ import annotations

import importlib.util
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from promptcache import PromptCache
from promptcache.cli import app
from promptcache.store import Tiers
from support.rag import tiny_engine

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMANDS = ""
"""Blocks without a language: commands, which are looked at here."""
RUN = {
    ("README.md", "python"): "test_structure.py",
    ("index.md", "python"): "test_structure.py",
    ("how-it-works.md", "python"): "test_structure.py",
    ("cli.md", "console"): "test_reference.py",
    ("errors.md", "text"): "test_reference.py",
    ("langchain.md", "python"): "langchain/test_page.py",
    ("langchain.md", "xml"): "langchain/test_page.py",
    ("llama-index.md", "python"): "llama_index/test_page.py",
    ("llama-index.md", "xml"): "llama_index/test_page.py",
    ("pml.md", "python"): "core/pml/test_docs_examples.py",
    ("pml.md", "xml"): "core/pml/test_docs_examples.py",
    ("pml.md", "text"): "core/pml/test_docs_examples.py",
    ("scaling.md", "yaml"): "ray/test_cluster.py",
    ("security.md", "python"): "core/test_security_page.py",
    ("serving.md", "python"): "server/test_page.py",
    ("serving.md", "sh"): "server/test_page.py",
    ("store.md", "python"): "test_documented_code.py",
}
"""Which test runs the blocks of a page that are in a language, or makes them."""
MADE_FROM_HELP = "cli.md"


def blocks(page: Path) -> list[tuple[str, str]]:
    """The language and the text of each block between fences."""
    return re.findall(r"^```([a-z]*)\n(.*?)^```$", page.read_text("utf-8"), re.DOTALL | re.M)


def command_lines(page: Path) -> Iterator[str]:
    """Commands in blocks, fenced or indented."""
    text = page.read_text("utf-8")
    fenced = [block for language, block in blocks(page) if language == COMMANDS]
    indented = re.findall(r"^ {4}((?:promptcache|make|pip|python|serve) .*)$", text, re.M)
    yield from indented
    for block in fenced:
        yield from (line for line in block.splitlines() if line)


def command_of(words: list[str]) -> tuple[Any, list[str]]:
    """The command that these words name, and what they give to it."""
    command: Any = typer.main.get_command(app)
    while (commands := getattr(command, "commands", None)) is not None:
        name, *words = words
        assert name in commands, f"there is no command {name!r}"
        command = commands[name]
    return command, words


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_block_of_code_is_run_by_a_test(page: Path) -> None:
    for language, _ in blocks(page):
        if language == COMMANDS:
            continue
        assert (page.name, language) in RUN, f"no test runs {language!r} in {page.name}"
        test = (ROOT / "tests" / RUN[page.name, language]).read_text("utf-8")
        assert page.name in test


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_that_is_shown_is_one_that_there_is(page: Path) -> None:
    for line in command_lines(page):
        program, *words = shlex.split(line, comments=True)
        if program == "promptcache":
            command, given = command_of(words)
            command.make_context(command.name, given)  # raises for what it does not take
        elif program == "make":
            assert re.search(rf"^{words[0]}:", (ROOT / "Makefile").read_text("utf-8"), re.M)
        elif program == "pip":
            check_extras(words)
        elif program == "python":
            assert words[0] == "-m"
            assert importlib.util.find_spec(words[1]) is not None
        else:
            assert (program, page.name) == ("serve", "scaling.md"), line  # Ray's


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_in_a_sentence_has_the_options_that_it_is_said_to_have(page: Path) -> None:
    if page.name == MADE_FROM_HELP:
        return
    for said in re.findall(r"`promptcache ([a-z][^`]*)`", page.read_text("utf-8")):
        words = [word for word in said.split() if word != "..."]
        if "|" in words or "\\|" in words:
            continue
        command, given = command_of(words)
        options = {name for p in command.params for name in [*p.opts, *p.secondary_opts]}
        assert {word for word in given if word.startswith("--")} <= options, said


def check_extras(words: list[str]) -> None:
    """Installing names extras that the distribution has."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert words[0] == "install"
    for names in re.findall(r"\[(.*?)\]", " ".join(words)):
        assert set(names.split(",")) <= set(project["optional-dependencies"])


def test_the_pages_of_places_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(PromptCache, "from_pretrained", lambda _, **given: tiny_engine(**given))
    python = [b for language, b in blocks(ROOT / "docs" / "store.md") if language == "python"]
    scope: dict[str, object] = {}
    stores = []
    for block in python:
        exec(compile(block.replace("/var/cache", str(tmp_path)), "store.md", "exec"), scope)
        cache = scope["cache"]
        assert isinstance(cache, PromptCache)
        assert isinstance(cache.store, Tiers)
        stores.append([tier.tier for tier in cache.store.tiers])
    assert stores == [["memory", "disk"], ["memory", "disk", "remote"], ["memory", "disk"]]
    cache.cache_documents(["Mira Tollen plays the viola."], preamble="Read: ", progress=False)
    cache.store.flush(60)
    assert len(list((tmp_path / ".cache" / "promptcache").glob("*.kv.safetensors"))) == 2
