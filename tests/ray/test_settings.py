"""What can be set of a cluster, as files and command lines give it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from promptcache.errors import MissingExtraError, OptionError
from promptcache.ray import app
from promptcache.ray.settings import settings_of
from promptcache.store import MemoryStore


def test_settings_may_be_text_as_a_command_line_gives_them() -> None:
    read = settings_of({"model": "pocket", "store": "/tmp/x", "memory": "1000", "keys": "keys"})
    memory, folder = read.tiers or ()
    assert isinstance(memory, MemoryStore)
    assert memory.budget == 1000
    assert folder == "/tmp/x"
    assert read.keys == Path("keys")
    assert settings_of({"model": "pocket", "store": ["/a", "s3://b"]}).tiers == ["/a", "s3://b"]
    assert settings_of({"model": "pocket", "memory": 2000}).memory == "2000"
    assert settings_of({"model": "pocket", "timeout": "2.5"}).limits.timeout == 2.5


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "'model' is missing"),
        ({"model": "pocket", "stores": "/a"}, "did you mean 'store'"),
        ({"model": "pocket", "routing": "best"}, "routing='best'"),
        ({"model": "pocket", "attempts": 0}, "attempts=0"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_by_name(given: dict[str, Any], said: str) -> None:
    with pytest.raises(OptionError, match=said):
        settings_of(given)


def test_values_that_cannot_be_are_refused() -> None:
    with pytest.raises(OptionError, match="'much'"):
        _ = settings_of({"model": "pocket", "memory": "much"}).tiers
    with pytest.raises(OptionError, match="best"):
        _ = settings_of({"model": "pocket", "reuse": "best"}).options
    with pytest.raises(OptionError, match="concurrency=0"):
        _ = settings_of({"model": "pocket", "concurrency": 0}).limits


def test_without_ray_the_application_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "promptcache.ray.deploying", raising=False)
    with pytest.raises(MissingExtraError, match=r"pip install 'promptcache\[ray\]'"):
        app({"model": "pocket"})
