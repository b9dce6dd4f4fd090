"""Expected attention states, as users ask for them: what modules are encoded after."""

from __future__ import annotations

from dataclasses import dataclass

from promptcache.errors import OptionError, kind_of

DECOYS = (
    "The train leaves the station at eight every morning.",
    "She put the letters on the table and went out.",
    "Water boils sooner in the mountains than by the sea.",
    "They walked along the river until it grew dark.",
    "The old clock in the hall has not worked for years.",
    "Bread, butter and a little salt were all we had.",
    "He opened the window because the room was warm.",
    "Nobody remembered who had painted the fence green.",
)
"""Everyday sentences about nothing that a user's documents tell of. Part of every key."""
BEHIND = "\n\n"
"""What stands between a decoy and the module, as between two documents."""


@dataclass(frozen=True, slots=True)
class Expected:
    """Encode each module after its preamble and every one of `decoys`, and keep the mean.

    What a module's tokens attend to in a prompt is not known when it is encoded; the mean over
    several unrelated texts is nearer to what it will be than the states after the preamble alone.
    Encoding takes as many times longer as there are decoys; requests take no longer, and the
    states no more room. Raises OptionError when there are none, or one is no text.
    """

    decoys: tuple[str, ...] = DECOYS

    def __post_init__(self) -> None:
        if isinstance(self.decoys, str) or not self.decoys:
            raise OptionError(f"decoys={self.decoys!r}: Expected takes several texts, at least one")
        for decoy in self.decoys:
            if not isinstance(decoy, str) or not decoy.strip():
                raise OptionError(
                    f"decoys has {kind_of(decoy)}, {decoy!r:.80}; expected texts that say something"
                )

    @property
    def texts(self) -> tuple[str, ...]:
        """The decoys as they stand before a module."""
        return tuple(decoy + BEHIND for decoy in self.decoys)


CONTEXTS = ("preamble", "expected", "bare")
Wanted = str | Expected
"""How users name an encoding context."""


def checked_context(given: object, *, of_engine: bool = True) -> Wanted:
    """The encoding context that was asked for. OptionError for any other."""
    names = CONTEXTS if of_engine else CONTEXTS[:2]
    if isinstance(given, Expected) or (isinstance(given, str) and given in names):
        return given
    listed = ", ".join(map(repr, names))
    where = "" if of_engine or given != "bare" else "; 'bare' is set where the engine is made"
    raise OptionError(f"context={given!r:.80} is none of {listed}, and no Expected(...){where}")
