"""On what something was measured: model, dtype, device, threads, and the versions of it all."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from promptcache import native
from promptcache.bench.models import Subject

PACKAGES = ("promptcache", "torch", "transformers")


@dataclass(frozen=True, slots=True)
class Setting:
    """What all rows of a run have in common."""

    model: str
    dtype: str
    device: str
    threads: int
    versions: Mapping[str, str]

    @classmethod
    def of(cls, subject: Subject, more: Iterable[str] = ()) -> Setting:
        """The setting now; `more` are packages whose versions count, beside the usual ones."""
        return cls(
            subject.name,
            subject.dtype,
            device_name(subject.device),
            torch.get_num_threads(),
            versions(more),
        )


def versions(more: Iterable[str] = ()) -> dict[str, str]:
    """What the figures depend on beside the machine, the commit included where there is one."""
    found = {"python": platform.python_version()}
    if commit := _commit():
        found["commit"] = commit
    for package in (*PACKAGES, *more):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    found["moves"] = "native" if native.usable() else "torch"
    return found


def device_name(device: torch.device) -> str:
    """What a device is."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{_processor()}, {device.type}"


@cache
def _commit() -> str:
    """The commit that this package was checked out at, marked where files differ from it."""
    folder = Path(__file__).parent
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()


@cache
def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()
