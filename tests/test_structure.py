"""The shape of the project: layers, exports, documentation that is executed."""

from __future__ import annotations

import ast
import asyncio
import importlib
import inspect
import re
import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from promptcache import errors

ROOT = Path(__file__).parent.parent
CORE = ROOT / "core" / "promptcache"
LAYERS = [
    "errors", "html", "segments", "kv", "rotate", "native", "decoys", "pml", "text", "store",
    "layout", "laying", "room", "model", "reuse", "library", "conversations", "trace", "reply",
    "report", "background", "beside", "clock", "turns", "memory", "account", "headers",
    "contexts", "messages", "prompts", "templates", "options", "joining", "expectations",
    "ranking", "planning", "pipeline", "batching", "placing", "marks", "misses", "chunks",
    "cached", "shelf", "holdings", "refining", "stream", "recording", "served", "answering",
    "asking", "engine", "remote", "observing", "parameters", "pocket", "bench", "store_commands",
    "server", "ray", "cli",
]  # fmt: skip
"""Low to high: a file imports only from its own layer and from those before it."""
UPWARD = {("model", "pocket")}
"""The one way up: the name "pocket" is resolved where models are loaded."""
FRAMEWORKS = {"langchain", "langchain_classic", "langchain_core", "langchain_text_splitters"} | {
    "langgraph",
    "llama_index",
}
PACKAGES = ["promptcache", "langchain_promptcache", "llama_index_promptcache"]


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(CORE.rglob("*.py")):
        relative = path.relative_to(CORE).with_suffix("")
        if relative.name != "__init__" or len(relative.parts) > 1:
            yield relative.parts[0], path


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path} has a relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_every_file_imports_only_from_its_layer_and_those_below() -> None:
    for layer, path in modules():
        assert layer in LAYERS, f"{path} is in no layer"
        for name in imported(path):
            parts = name.split(".")
            if parts[0] == "promptcache" and len(parts) > 1 and parts[1] in LAYERS:
                lower = LAYERS.index(parts[1]) <= LAYERS.index(layer)
                assert lower or (layer, parts[1]) in UPWARD, f"{path} imports {name}"


def test_core_never_imports_a_framework() -> None:
    for _, path in modules():
        roots = {name.split(".")[0] for name in imported(path)}
        assert not roots & FRAMEWORKS, path
        assert not roots & set(PACKAGES[1:]) or path.name == "cli.py", path


def test_markup_and_text_segments_need_no_torch() -> None:
    for layer, path in modules():
        if layer in (
            "errors",
            "html",
            "segments",
            "pml",
            "headers",
            "contexts",
            "prompts",
            "templates",
            "trace",
            "layout",
            "laying",
        ):
            assert not [n for n in imported(path) if n.split(".")[0] == "torch"], path


def test_clients_of_a_server_and_what_stands_before_replicas_load_no_torch() -> None:
    light = ["remote.engine", "ray.ingress", "ray.register", "ray.routing", "ray.settings"]
    names = ", ".join(f"promptcache.{name}" for name in light)
    said = f"import sys, {names}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", said], check=False).returncode == 0


def test_every_exported_name_is_listed_before_it_was_asked_for() -> None:
    said = "import promptcache as p; assert not set(p.__all__) - set(dir(p))"
    assert subprocess.run([sys.executable, "-c", said], check=False).returncode == 0


@pytest.mark.parametrize("name", PACKAGES)
def test_exported_names_are_sorted_and_exist(name: str) -> None:
    module = importlib.import_module(name)
    assert list(module.__all__) == sorted(module.__all__)
    assert all(getattr(module, exported) is not None for exported in module.__all__)


def test_every_exported_name_has_a_docstring() -> None:
    for name in PACKAGES:
        module = importlib.import_module(name)
        for exported in module.__all__:
            assert inspect.getdoc(getattr(module, exported)), f"{name}.{exported}"


def test_the_error_tree_in_the_docstring_is_the_one_in_the_code() -> None:
    shown = set(re.findall(r"\b\w+Error\b", errors.__doc__ or ""))
    defined = {
        name
        for name, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, errors.PromptCacheError)
    }
    assert shown == defined


def test_architecture_says_what_each_file_says_of_itself() -> None:
    scope = runpy.run_path(str(ROOT / "scripts" / "architecture.py"))
    expected = scope["page"]()
    assert "| `engine.py` |" in expected
    assert scope["PAGE"].read_text() == expected, "run: python scripts/architecture.py"


def test_every_file_says_in_a_sentence_what_it_is_for() -> None:
    scope = runpy.run_path(str(ROOT / "scripts" / "architecture.py"))
    for row in list(scope["rows"]())[1:]:
        assert re.fullmatch(r"\| `[\w/]+\.py` \| .{15,140}[.?:] \|\n", row), row


@pytest.fixture
def _settings_restored() -> Iterator[None]:
    """LlamaIndex's settings are global, and hold on to the model that a page gives them.

    The event loop that it would make, and leave open, is made and closed here.
    """
    from llama_index.core import Settings

    before = Settings._llm
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    asyncio.set_event_loop(None)
    loop.close()
    Settings._llm = before


@pytest.mark.usefixtures("_settings_restored")
@pytest.mark.parametrize("page", ["README.md", "docs/index.md", "docs/how-it-works.md"])
def test_python_blocks_of_a_page_run_one_after_another(page: str) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(), re.DOTALL | re.M)
    assert blocks
    scope: dict[str, Any] = {"__name__": "page"}
    for block in blocks:
        exec(compile(block, page, "exec"), scope)
    if "reply" in scope:
        assert "412 metres" in scope["reply"].text  # a reader who tries it sees the right answer
