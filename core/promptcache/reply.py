"""What a request gives back: text, usage, timings and the provenance of every token."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from promptcache.html import Html, block, element, joined
from promptcache.text.callforms import InvalidCall, ToolCall
from promptcache.trace import Trace
from promptcache.trace.html import trace_html

if TYPE_CHECKING:
    from promptcache.model.decode import FinishReason


class Stage(StrEnum):
    """The stages of a request before its first token, in order."""

    PARSE = "parse"
    """Markup, template and recognition: from the string to segments."""
    LAYOUT = "layout"
    """Tokens and positions."""
    LOOKUP = "look up"
    """Finding modules in the store; encoding the missing ones."""
    CHECK = "check"
    """The reuse policy's choice, and the pass over the model's first layers if it asks for one."""
    ASSEMBLE = "assemble"
    """Moving modules to their places."""
    PREFILL = "prefill"
    """The forward over everything that is not reused."""
    SAMPLE = "sample"
    """Choosing the first token."""

    def __repr__(self) -> str:
        return repr(self.value)


@dataclass(frozen=True, slots=True)
class Usage:
    """How many tokens came from where; the counts of the prompt add up to `input_tokens`.

    exact: reused, with attention states equal to a full prefill's; approximate: reused from a
    module that was encoded apart; encoded: missing from the cache, encoded as a module for this
    request and kept; recomputed: part of a module, computed again as the reuse policy says;
    new: part of no module.

    `checked` counts no tokens of the prompt but work beside theirs: what the reuse policy had the
    model's first layers run over to choose, in tokens that go through all layers.
    """

    exact: int = 0
    approximate: int = 0
    encoded: int = 0
    recomputed: int = 0
    new: int = 0
    output_tokens: int = 0
    checked: float = 0.0

    @property
    def input_tokens(self) -> int:
        """Tokens of the whole prompt."""
        return self.reused_tokens + self.computed_tokens

    @property
    def reused_tokens(self) -> int:
        """Prompt tokens whose attention states were at hand."""
        return self.exact + self.approximate

    @property
    def computed_tokens(self) -> int:
        """Prompt tokens that the model had to run over."""
        return self.encoded + self.recomputed + self.new


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer, and all there is to know about how it came about.

    `text` is what it says; the tools that it calls are `tool_calls`, or, where a call cannot be
    read, `invalid_tool_calls`. `ttft` is the time from the call to the first token, `timings` its
    stages, all in seconds.
    """

    text: str
    usage: Usage
    trace: Trace
    ttft: float
    timings: Mapping[Stage, float]
    finish_reason: FinishReason
    token_ids: tuple[int, ...] = field(repr=False)
    model: str = ""
    policy: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    invalid_tool_calls: tuple[InvalidCall, ...] = ()

    def _repr_html_(self) -> str:
        return block(reply_html(self))


def reply_html(reply: Reply) -> Html:
    """The inside of a reply's HTML form: the answer, its times, and its trace."""
    stages = ", ".join(f"{stage} {_duration(took)}" for stage, took in reply.timings.items())
    times = f"first token after {_duration(reply.ttft)}" + (f" ({stages})" if stages else "")
    return joined(
        (
            element("p", reply.text, class_="pc-text"),
            element("p", times, class_="pc-quiet"),
            trace_html(reply.trace.spans, reply.trace.warnings),
        )
    )


def _duration(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.1f} ms"
