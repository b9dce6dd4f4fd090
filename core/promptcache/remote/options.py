"""The options of a request, as a server takes them; those that no server takes are refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from promptcache.errors import OptionError, valid
from promptcache.options import checked_policy

NAMES = {
    "max_new_tokens": "max_tokens",
    **{
        name: name
        for name in (
            "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "seed", "stop",
            "window",
        )
    },
}  # fmt: skip
"""Plain options, and what the server calls them."""
LISTS = ("expected", "passages", "notes")


def body_of(options: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a request with these options.

    Raises OptionError for an option that cannot be asked of a server; what its value may be is
    the server's to say.
    """
    body: dict[str, Any] = {}
    for name, value in options.items():
        if value is None:
            continue
        if name in NAMES:
            body[NAMES[name]] = value
        elif name in LISTS:
            body[name] = value if isinstance(value, str) else list(value)
        elif name == "reuse":
            body[name] = str(checked_policy(value, None))
        elif name == "do_sample" and value is False:
            body["temperature"] = 0
        else:
            known = [*NAMES, *LISTS, "reuse"]
            raise OptionError(
                f"{name}= cannot be asked of a server{valid(name, known, what='options')}"
            )
    return body
