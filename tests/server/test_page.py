"""docs/serving.md: its Python and its requests run, its commands have the options they show."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import typer.main
import uvicorn

from promptcache.cli import app as commands
from promptcache.model.load import load
from promptcache.server.app import create_app
from promptcache.server.engines import Engines

PAGE = (Path(__file__).parents[2] / "docs" / "serving.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.M)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    model, tokenizer = load("pocket")
    app = create_app(Engines(model, tokenizer, name="pocket"))
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    thread = Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    thread.join()


def test_the_pages_python_runs(port: int) -> None:
    scope: dict[str, Any] = {}
    for block in 2 * blocks("python"):
        exec(compile(block.replace(":8000", f":{port}"), "serving.md", "exec"), scope)
    answer = scope["answer"]
    assert answer.choices[0].message.content == "1931"
    assert answer.usage.prompt_tokens_details.cached_tokens > 0
    message = scope["message"]
    assert message.text == "412 metres"
    assert message.usage_metadata["input_token_details"]["cache_read"] > 0
    assert any(span["module"] for span in message.response_metadata["provenance"])


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_the_pages_requests_are_answered(port: int) -> None:
    [block] = blocks("sh")
    requests = [part for part in re.split(r"^(?=curl )", block, flags=re.M) if part]
    said = []
    for request in requests:
        ran = subprocess.run(
            ["bash", "-c", request.replace(":8000", f":{port}")],
            capture_output=True,
            text=True,
            check=True,
        )
        said.append(json.loads(ran.stdout))
    documents, schema, reply, modules, deleted = said
    assert documents["added"] == 2
    assert [module["name"] for module in schema["modules"]] == ["library.bridge", "library.museum"]
    assert reply["text"] == "412 metres"
    assert {module["name"] for module in modules["data"]} >= {"library.bridge", "library.museum"}
    assert deleted["deleted"] is True


def test_the_pages_commands_have_the_options_that_it_shows() -> None:
    known = typer.main.get_command(commands)
    shown = re.findall(r"^promptcache (\w+)(.*)$", PAGE, re.M)
    assert {name for name, _ in shown} == {"serve", "key"}
    for name, arguments in [*shown, ("serve", " ".join(re.findall(r"`(--[a-z-]+)", PAGE)))]:
        options = {o for p in known.commands[name].params for o in [*p.opts, *p.secondary_opts]}  # type: ignore[attr-defined]
        assert set(re.findall(r"--[a-z-]+", arguments)) <= options
    defaults = {o: p.default for p in known.commands["serve"].params for o in p.opts}  # type: ignore[attr-defined]
    for option, value in re.findall(r"`(--[a-z-]+) (\d+)`", PAGE):
        assert float(defaults[option]) == float(value)
