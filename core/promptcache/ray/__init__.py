"""One engine for each of many machines, on Ray Serve: `serve run promptcache.ray:app model=...`.

`routing` decides which replica a request goes to, `naming` what it names, and `simulation` what a
cluster of any size would need. Ray is imported when the application is made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from promptcache.errors import MissingExtraError

if TYPE_CHECKING:
    from ray.serve import Application


def app(args: dict[str, Any]) -> Application:
    """The application that Ray Serve runs, of the settings in `args`; see docs/scaling.md.

    Raises OptionError for a setting that there is not, or one that lets nothing through, and
    MissingExtraError where Ray Serve is not installed.
    """
    try:
        from promptcache.ray.deploying import application
        from promptcache.ray.settings import settings_of
    except ModuleNotFoundError as error:
        raise MissingExtraError("promptcache.ray", "ray") from error
    return application(settings_of(args))
