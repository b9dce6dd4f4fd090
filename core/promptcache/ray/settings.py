"""What can be set where a cluster is described: the `args` of the application in Serve's file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from promptcache.errors import OptionError, valid
from promptcache.ray.routing import BOUND, REMEMBERED
from promptcache.reuse.named import policy
from promptcache.server.limits import Limits

if TYPE_CHECKING:
    from promptcache.store import Store


class Settings(BaseModel):
    """As for `promptcache serve`; `concurrency`, `queue` and `memory` are those of one replica.

    `routing` sends requests to the replica that holds
    most of their modules, or balances them as Ray Serve does. `attempts` is how many replicas a
    request may be lost with before it fails.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)

    model: str
    store: str | list[str] = Field(default_factory=list)
    memory: str | None = None
    budget: str | None = None
    compression: str | None = None
    name: str | None = None
    keys: Path | None = None
    reuse: str = "Modular"
    context: str = "preamble"
    device: str | None = None
    dtype: str = "auto"
    continuous_batching: bool = True
    concurrency: int = 8
    queue: int = 64
    timeout: float = 300.0
    max_body: int = 16 * 1024**2
    window: int | None = None
    routing: Literal["modules", "balanced"] = "modules"
    bound: float = BOUND
    remembered: int = REMEMBERED
    attempts: int = Field(3, ge=1)

    @property
    def limits(self) -> Limits:
        """The limits of one replica. Raises OptionError for one that lets nothing through."""
        return Limits(self.concurrency, self.queue, self.timeout, self.max_body, self.window, 0)

    @property
    def tiers(self) -> list[Store | str] | None:
        """Where attention states are kept, the fastest first, None for memory alone.

        Raises OptionError for what are no bytes, and for a budget without a folder to have it.
        """
        from promptcache.server.command import tiers  # loads torch, which only replicas need

        places = [self.store] if isinstance(self.store, str) else self.store
        return tiers(places, self.memory, self.budget)

    @property
    def options(self) -> dict[str, Any]:
        """What every engine is made with. Raises OptionError for a reuse policy there is not."""
        return {
            "reuse": policy(self.reuse),
            "context": self.context,
            "compression": self.compression,
            "continuous_batching": self.continuous_batching,
        }


def settings_of(given: Mapping[str, Any]) -> Settings:
    """The settings, of values that may be text. Raises OptionError for what is none of them."""
    try:
        return Settings.model_validate(dict(given))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = str(first["loc"][0])
        if first["type"] == "extra_forbidden":
            raise OptionError(
                f"there is no setting {name[:80]!r}{valid(name, Settings.model_fields)}"
            ) from None
        if first["type"] == "missing":
            raise OptionError(
                f"the setting {name!r} is missing; docs/scaling.md has them"
            ) from None
        said = first["msg"][0].lower() + first["msg"][1:]
        raise OptionError(f"{name}={first['input']!r:.80}: {said}") from None
