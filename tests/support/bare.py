"""Processes that import single files of promptcache and none of what the whole of it needs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import promptcache

SHELLS = """
import sys, types
for name in ("promptcache", "promptcache.store"):
    shell = types.ModuleType(name)
    shell.__path__ = [sys.argv.pop(1)]
    sys.modules[name] = shell
"""
"""Packages without what their own `__init__` imports."""


def bare(script: str, *arguments: object) -> subprocess.Popen[str]:
    """A process that runs `script`; its output comes in lines."""
    core = Path(promptcache.__file__).parent
    given = [str(argument) for argument in (core, core / "store", *arguments)]
    command = [sys.executable, "-c", SHELLS + script, *given]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
