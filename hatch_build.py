"""Compiles the native part of promptcache when it is installed, where there is a C compiler.

Without one the package is whole, too: operators of torch do the same work, in more passes.
"""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from packaging.tags import platform_tags

NATIVE = Path("core/promptcache/native")
FLAGS = ["-std=gnu11", "-O3", "-ffp-contract=off", "-fPIC"]
X86 = ["-mavx2", "-mfma"]
"""Whatever lacks them goes without the native part, which asks the processor."""


class NativeHook(BuildHookInterface):
    """Builds `moves.so` beside its source, and takes it into a wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Before a wheel is made, or an editable install."""
        if self.target_name != "wheel" or platform.system() not in {"Linux", "Darwin"}:
            return
        folder = Path(self.root) / NATIVE
        if not compiled(folder):
            self.app.display_warning("promptcache: no C compiler, so modules move by torch alone")
            return
        build_data["artifacts"].append(f"/{NATIVE}/moves.so")
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{next(platform_tags())}"


def compiled(folder: Path) -> bool:
    """Whether `moves.so` could be built in this folder, with OpenMP where the compiler has it."""
    made = folder / "moves.so"
    part, whole = folder / "moves.o", folder / "moves.part"
    command = shlex.split(os.environ.get("CC") or str(sysconfig.get_config_var("CC") or "cc"))
    flags = [*FLAGS, *(X86 if platform.machine() in {"x86_64", "AMD64"} else [])]
    shared = ["-dynamiclib", "-undefined", "dynamic_lookup"]
    linked = shared if platform.system() == "Darwin" else ["-shared"]
    try:
        for more in (["-fopenmp"], []):
            built = [*command, *flags, *more, "-c", str(folder / "moves.c"), "-o", str(part)]
            if _ran(built) and _ran([*command, *linked, str(part), "-o", str(whole)]):
                whole.replace(made)
                return True
    finally:
        part.unlink(missing_ok=True)
        whole.unlink(missing_ok=True)
    made.unlink(missing_ok=True)  # of another source, perhaps
    return False


def _ran(command: list[str]) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False
