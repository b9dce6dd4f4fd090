"""Expected attention states, as users ask for them: what modules are encoded after."""

from __future__ import annotations

from dataclasses import dataclass

from promptcache.errors import OptionError, kind_of

DECOYS = (
    "",
    "What is the capital of the country?",
    "Who wrote the book?",
    "Marlow is a small town on a lake. It has a market and two schools.",
    "The old library was built by a family of traders. It is open every day.",
)
"""What stands between a preamble and a module: nothing, a question or another document. They are
about nothing that a user's documents tell of, and part of every key.
"""
UNRELATED = "The train leaves the station at eight every morning."
"""An everyday sentence about nothing that a user's documents tell of: what depends on what stands
before it differs behind this one.
"""
BEHIND = "\n\n"
"""What stands between a decoy that is not empty and the module, as between two documents."""


@dataclass(frozen=True, slots=True)
class Expected:
    """Encode each module after its preamble and every one of `decoys`, and keep the mean.

    What a module's tokens attend to in a prompt is not known when it is encoded; the mean over
    several cases is nearer to what it will be than the states after the preamble alone. A decoy is
    an unrelated text; an empty one is the case that the module follows its preamble at once.
    Encoding takes as many times longer as there are decoys; requests take no longer, and the
    states no more room. Raises OptionError when none of them says something, or one is no text.
    """

    decoys: tuple[str, ...] = DECOYS

    def __post_init__(self) -> None:
        if isinstance(self.decoys, str) or not self.decoys:
            raise OptionError(f"decoys={self.decoys!r}: Expected takes several texts, at least one")
        for decoy in self.decoys:
            if not isinstance(decoy, str) or (decoy and not decoy.strip()):
                raise OptionError(
                    f"decoys has {kind_of(decoy)}, {decoy!r:.80}; expected texts that say "
                    "something, or empty ones"
                )
        if not any(self.decoys):
            raise OptionError(f"decoys={self.decoys!r}: at least one of them has to say something")

    @property
    def texts(self) -> tuple[str, ...]:
        """The decoys as they stand before a module."""
        return tuple(decoy and decoy + BEHIND for decoy in self.decoys)


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
