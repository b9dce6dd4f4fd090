"""Wheels: with the native part where a C compiler is at hand, and whole without it."""

from __future__ import annotations

import importlib.util
import shutil
import sys
import warnings
import zipfile
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hatchling.builders.wheel import WheelBuilder

from promptcache import native

ROOT = Path(__file__).parent.parent
NATIVE = Path("core/promptcache/native")
MADE = "promptcache/native/moves.so"
_SPEC = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
assert _SPEC is not None and _SPEC.loader is not None
hatch_build = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(hatch_build)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What a wheel is made of, as far as it matters here."""
    for name in ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / NATIVE).mkdir(parents=True)
    (tmp_path / NATIVE.parent / "__init__.py").touch()
    for name in ("__init__.py", "moves.c"):
        shutil.copy(ROOT / NATIVE / name, tmp_path / NATIVE / name)
    for name in ("langchain_promptcache", "llama_index_promptcache"):
        (tmp_path / "integrations" / name).mkdir(parents=True)
        (tmp_path / "integrations" / name / "__init__.py").touch()
    return tmp_path


def wheel(checkout: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (made,) = WheelBuilder(str(checkout)).build(directory=str(checkout / "dist"))
    return Path(made)


def _loads(library: Path) -> bool:
    with patch.object(native, "COMPILED", library):
        native._loaded.cache_clear()
        try:
            return native.usable()
        finally:
            native._loaded.cache_clear()


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_a_wheel_has_the_native_part_and_is_for_its_platform(checkout: Path) -> None:
    made = wheel(checkout)
    with zipfile.ZipFile(made) as packed:
        packed.extract(MADE, checkout)
    assert _loads(checkout / MADE), "what it calls is there once torch is"
    assert made.stem.split("-")[-3:-1] == ["py3", "none"]
    assert not made.stem.endswith("-any")
    left = {file.name for file in (checkout / NATIVE).iterdir()}
    assert left == {"__init__.py", "moves.c"}, "a wheel leaves its source as it was"


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_an_editable_install_has_it_beside_its_source(checkout: Path) -> None:
    (checkout / NATIVE / "moves.so").write_bytes(b"of an earlier source")
    hook = hatch_build.NativeHook(str(checkout), {}, None, None, str(checkout), "wheel")
    build_data: dict[str, Any] = {"force_include": {}}
    hook.initialize("editable", build_data)
    hook.finalize("editable", build_data, "")
    assert not build_data["force_include"] and not build_data["pure_python"]
    assert _loads(checkout / NATIVE / "moves.so")


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_the_systems_compiler_is_tried_where_pythons_own_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(hatch_build.sysconfig, "get_config_var", lambda name: "/nowhere/gcc -O9")
    assert hatch_build.compiled(ROOT / NATIVE / "moves.c", tmp_path / "moves.so") == ""
    assert _loads(tmp_path / "moves.so")


def test_a_source_that_cannot_be_written_to_is_installed_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tmp_path / "made"
    made.write_bytes(b"")
    assert "File name too long" in hatch_build.copied(made, tmp_path / ("x" * 300))
    assert "nowhere" in hatch_build.copied(made, tmp_path / "nowhere" / "moves.so")
    monkeypatch.setenv("CC", "/nowhere/cc")
    why = hatch_build.compiled(ROOT / NATIVE / "moves.c", tmp_path / "moves.so")
    assert "no C compiler" in why and "/nowhere/cc" in why
    monkeypatch.setenv("CC", f"{sys.executable} -c 'raise ValueError(7)'")
    why = hatch_build.compiled(ROOT / NATIVE / "moves.c", tmp_path / "moves.so")
    assert why == "ValueError: 7"


@pytest.mark.parametrize("compiler", ["/nowhere/cc", "false"])
def test_without_a_compiler_a_wheel_is_made_of_python_alone(
    checkout: Path, compiler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", compiler)
    (checkout / NATIVE / "moves.so").write_bytes(b"of an earlier source")
    made = wheel(checkout)
    assert made.stem.endswith("py3-none-any")
    assert MADE not in zipfile.ZipFile(made).namelist()
