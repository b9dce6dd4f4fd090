"""Compiles the native part of promptcache when it is installed, where there is a C compiler.

Without one the package is whole, too: operators of torch do the same work, in more passes.
"""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import subprocess
import sysconfig
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from packaging.tags import platform_tags

NATIVE = Path("core/promptcache/native")
MADE = "moves.so"
FLAGS = ["-std=gnu11", "-O3", "-ffp-contract=off", "-fPIC"]
X86 = ["-mavx2", "-mfma"]
"""Whatever lacks them goes without the native part, which asks the processor."""


class NativeHook(BuildHookInterface):
    """Builds `moves.so` from its source: into a wheel, or beside it for an editable install."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Before a wheel is made, or an editable install."""
        if self.target_name != "wheel" or platform.system() not in {"Linux", "Darwin"}:
            return
        folder = Path(self.root) / NATIVE
        self._folder = tempfile.mkdtemp(prefix="promptcache-")
        made = Path(self._folder) / MADE
        failure = compiled(folder / "moves.c", made)
        if version == "editable":
            with suppress(OSError):  # of another source, perhaps, which the loader notices
                (folder / MADE).unlink(missing_ok=True)
            failure = failure or copied(made, folder / MADE)
        if failure:
            self.app.display_warning(f"promptcache: modules move by torch alone, since {failure}")
            return
        if version != "editable":
            build_data["force_include"][str(made)] = f"promptcache/native/{MADE}"
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{next(platform_tags())}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """After it was made."""
        if hasattr(self, "_folder"):
            shutil.rmtree(self._folder, ignore_errors=True)


def compiled(source: Path, made: Path) -> str:
    """Compile to `made`, with OpenMP where the compiler has it; why that failed, "" if it did not.

    What is made says of which source it is: the loader takes no other.
    """
    part = made.with_suffix(".o")
    flags = [*FLAGS, *(X86 if platform.machine() in {"x86_64", "AMD64"} else [])]
    flags.append(f"-DSOURCE={zlib.crc32(source.read_bytes())}u")
    shared = ["-dynamiclib", "-undefined", "dynamic_lookup"]
    linked = shared if platform.system() == "Darwin" else ["-shared"]
    failure = ""
    for command in _compilers():
        for more in (["-fopenmp"], []):
            failure = _failed([*command, *flags, *more, "-c", str(source), "-o", str(part)])
            failure = failure or _failed([*command, *linked, str(part), "-o", str(made)])
            if not failure:
                return ""
    return failure


def copied(made: Path, to: Path) -> str:
    """Put a file in its place at once; why that failed, "" if it did not."""
    beside = to.with_suffix(f".{os.getpid()}")
    try:
        shutil.copy(made, beside)
        beside.replace(to)
    except OSError as error:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
        return str(error)
    return ""


def _compilers() -> Iterator[list[str]]:
    """The user's choice, or Python's own and then the system's."""
    if chosen := os.environ.get("CC"):
        yield shlex.split(chosen)
        return
    own = shlex.split(str(sysconfig.get_config_var("CC") or "cc"))
    yield own
    if own != ["cc"]:
        yield ["cc"]


def _failed(command: list[str]) -> str:
    """What a command said last where it failed, else ""."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        return f"there is no C compiler ({error})"
    said = done.stderr.strip().splitlines() or [f"{command[0]} ended with {done.returncode}"]
    return said[-1] if done.returncode else ""
