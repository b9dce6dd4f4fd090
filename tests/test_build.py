"""Wheels: with the native part where a C compiler is at hand, and whole without it."""

from __future__ import annotations

import shutil
import warnings
import zipfile
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

ROOT = Path(__file__).parent.parent
NATIVE = Path("core/promptcache/native")
MADE = "promptcache/native/moves.so"


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


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_a_wheel_has_the_native_part_and_is_for_its_platform(checkout: Path) -> None:
    made = wheel(checkout)
    assert MADE in zipfile.ZipFile(made).namelist()
    assert made.stem.split("-")[-3:-1] == ["py3", "none"]
    assert not made.stem.endswith("-any")
    assert not list((checkout / NATIVE).glob("*.o"))


@pytest.mark.parametrize("compiler", ["/nowhere/cc", "false"])
def test_without_a_compiler_a_wheel_is_made_of_python_alone(
    checkout: Path, compiler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", compiler)
    (checkout / NATIVE / "moves.so").write_bytes(b"of an earlier source")
    made = wheel(checkout)
    assert made.stem.endswith("py3-none-any")
    assert MADE not in zipfile.ZipFile(made).namelist()
