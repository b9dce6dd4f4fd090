"""How much memory this process has, and had at most."""

from __future__ import annotations

import ctypes
import resource
import sys
from contextlib import suppress
from pathlib import Path


def resident() -> int:
    """Bytes that the process has in memory now; where the system does not say, the most it had."""
    return of_process("VmRSS") or _most()


def peak_resident() -> int:
    """Bytes that the process had in memory at most, since it began or `forget_peak` was called."""
    return of_process("VmHWM") or _most()


def forget_peak() -> None:
    """Give back to the system what was freed, and count the peak from here, where that works.

    Linux can do both; elsewhere the peak goes on from the beginning of the process.
    """
    if not sys.platform.startswith("linux"):
        return
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of glibc
    if trim is not None:
        trim(0)
    with suppress(OSError):  # a container may not be allowed to
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def of_process(name: str, pid: int | None = None) -> int:
    """Bytes in a line of a process's status, of this one by default; 0 elsewhere than on Linux.

    `getrusage` says the same, but a process that was just started takes over its parent's peak.
    """
    with suppress(OSError):
        status = Path(f"/proc/{'self' if pid is None else pid}/status")
        for line in status.read_text(encoding="utf-8").splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
    return 0


def _most() -> int:
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
