"""How many tokens an answer has room for."""

from __future__ import annotations

from promptcache.errors import PromptError


def room_for(tokens: int, asked: int, window: int | None, given: int | None = None) -> int:
    """The tokens of an answer to a prompt of `tokens`, `asked` at most.

    `window` is how many tokens the model holds, `given` how many a request is allowed; None is no
    limit. Raises PromptError for a prompt that is empty or leaves no room.
    """
    if not tokens:
        raise PromptError("the prompt is empty: there is nothing to generate from")
    limits = [limit for limit in (window, given) if limit is not None]
    if not limits:
        return asked
    held = min(limits)
    if tokens >= held:
        whose = "the model's window" if held == window else "the window that was set"
        raise PromptError(
            f"the prompt has {tokens} tokens; {whose} holds {held}, the answer included"
        )
    return min(asked, held - tokens)


def shortage(room: int, asked: int) -> tuple[str, ...]:
    """What there is to say where an answer may not be as long as was asked."""
    if room >= asked:
        return ()
    return (f"the window leaves {room} tokens for the answer; {asked} were asked for",)
