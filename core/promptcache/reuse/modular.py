"""The paper's policy: no cached token is computed again."""

from __future__ import annotations

from dataclasses import dataclass

from promptcache.reuse.policy import ReusePolicy


@dataclass(frozen=True, slots=True)
class Modular(ReusePolicy):
    """Use every module's attention states as they are (Gim et al., MLSys 2024, section 3)."""
