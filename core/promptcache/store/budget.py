"""How many bytes a tier may hold: what a user says, or a share of what the machine has."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import torch

from promptcache.errors import BudgetError
from promptcache.store.folder import Folder


def default_budget(device: torch.device) -> int:
    """A quarter of the memory that the device has, in bytes."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory // 4)
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 4


def default_disk_budget(folder: Path) -> int:
    """A quarter of what the folder's disk has free for states, in bytes, at least one.

    What the folder holds already counts as free, so that a restart does not shrink the budget.
    """
    held = Folder(folder, 0).nbytes
    return max(1, (shutil.disk_usage(folder).free + held) // 4)


def checked_budget(budget: object, what: str) -> int:
    """The budget. BudgetError for what is not a positive number of bytes."""
    if isinstance(budget, bool) or not isinstance(budget, int) or budget <= 0:
        raise BudgetError(
            f"the {what} budget is {budget!r}; it must be a positive number of bytes, for "
            "example 2 * 1024**3. To run without a cache, use reuse=NoReuse()."
        )
    return budget
