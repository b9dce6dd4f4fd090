"""From what is asked to its answer: streams, and the replies to prompts that are asked at once.

Puts options, pipeline and reading of answers together; what each does is its own business.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from promptcache.batching import ROWS, Batching
from promptcache.clock import Clock
from promptcache.errors import PromptCacheError, PromptError, kind_of
from promptcache.misses import Misses
from promptcache.model.defaults import config_stop_strings
from promptcache.model.runner import ModelRunner
from promptcache.options import RequestOptions
from promptcache.pipeline import Pipeline, Prefilled
from promptcache.planning import Laid
from promptcache.recording import Recordings
from promptcache.reply import Reply, Stage
from promptcache.segments import Segment
from promptcache.served import ServedModel
from promptcache.stream import Stream
from promptcache.text.calling import Calling
from promptcache.text.callstream import answer_text
from promptcache.turns import Turn, Turns

T = TypeVar("T")
HEARD = "a streamer can hear one answer at a time only"


@dataclass(frozen=True, slots=True)
class Asked:
    """A prompt as segments, and how its answer is read.

    `strip` says that white space at the answer's ends is none of it; `continues` that the prompt
    holds an earlier answer; `calling` how the answer calls tools.
    """

    segments: Sequence[Segment]
    strip: bool
    continues: bool = False
    calling: Calling | None = None


class Answering:
    """Answers what is asked of one engine. Safe to use from several threads."""

    def __init__(
        self,
        served: ServedModel,
        runner: ModelRunner,
        pipeline: Pipeline,
        batching: Batching,
        misses: Misses,
        recordings: Recordings,
        turns: Turns,
        *,
        bare: bool,
    ) -> None:
        self._served = served
        self._runner = runner
        self._pipeline = pipeline
        self._batching = batching
        self._misses = misses
        self._recordings = recordings
        self._turns = turns
        self._bare = bare

    def stream(self, asked: Asked, clock: Clock, options: Mapping[str, Any]) -> Stream:
        """The answer as it comes, its first token chosen."""
        parsed = self._parsed(options)
        clock.lap(Stage.PARSE)
        laid = self._laid(asked, parsed)
        clock.lap(Stage.LAYOUT)
        turn = self._turn(1, clock)
        try:
            prefilled = self._pipeline.prefill(laid, clock)
            return self._begun(asked, parsed, prefilled, clock, turn.end)
        except BaseException:
            turn.end()
            raise

    def batch(
        self,
        prompts: Iterable[T],
        read: Callable[[T], Asked],
        clock: Clock,
        options: Mapping[str, Any],
    ) -> list[Reply]:
        """The whole answers to `prompts`, which `read` makes into what is asked; in their order.

        An error in a prompt is raised before anything is computed, and says which one it is.
        """
        if isinstance(prompts, str | Mapping) or not isinstance(prompts, Iterable):
            raise PromptError(f"the prompts are {kind_of(prompts)}; expected a list of them")
        given = list(prompts)
        parsed = self._parsed(options)
        asked = []
        for number, prompt in enumerate(given, start=1):
            with _named(number, len(given)):
                asked.append(read(prompt))
        clock.lap(Stage.PARSE)
        laid = []
        for number, each in enumerate(asked, start=1):
            with _named(number, len(given)):
                laid.append(self._laid(each, parsed))
        clock.lap(Stage.LAYOUT)
        return self._answers(asked, parsed, laid, clock)

    def _answers(
        self, asked: Sequence[Asked], options: RequestOptions, laid: Sequence[Laid], clock: Clock
    ) -> list[Reply]:
        """The answers to prompts that were laid out: together, or one after the other."""
        alone: dict[int, str] = {}
        if len(laid) > 1:
            heard = HEARD if options.generation.get("streamer") is not None else None
            reasons = [heard or self._batching.reason_against(each) for each in laid]
            alone = {number: why for number, why in enumerate(reasons) if why is not None}
        replies: dict[int, Reply] = {}
        together = [number for number in range(len(laid)) if number not in alone]
        rows = min(ROWS, self._turns.most or ROWS)
        groups = [together[first : first + rows] for first in range(0, len(together), rows)]
        for numbers in [*groups, *([number] for number in alone)]:
            with ExitStack() as streams:
                mine = clock.waited() if replies else clock
                streams.callback(self._turn(len(numbers), mine).end)
                if len(numbers) == 1:
                    one = _noted(laid[numbers[0]], alone.get(numbers[0]))
                    prefilled = [self._pipeline.prefill(one, mine)]
                else:
                    prefilled = self._batching.prefill([laid[n] for n in numbers], mine)
                begun = [
                    streams.enter_context(self._begun(asked[number], options, row, mine))
                    for number, row in zip(numbers, prefilled, strict=True)
                ]
                while going := [stream for stream in begun if not stream.finished]:
                    for stream in going:
                        stream.advance()
                for number, stream in zip(numbers, begun, strict=True):
                    replies[number] = stream.reply
        return [replies[number] for number in range(len(laid))]

    def _turn(self, count: int, clock: Clock) -> Turn:
        """So many turns, once they are free; waiting counts to no stage."""
        turn = self._turns.take(count)
        if self._turns.most is not None:
            clock.idle()
        return turn

    def _parsed(self, options: Mapping[str, Any]) -> RequestOptions:
        return RequestOptions.parse(options, self._served.reuse, self._served.default_new_tokens)

    def _laid(self, asked: Asked, options: RequestOptions) -> Laid:
        """The prompt laid out, with what there will be to say about it."""
        return self._pipeline.lay(
            asked.segments,
            options.policy,
            room=options.max_new_tokens,
            window=options.window,
            bare=self._bare,
            continues=asked.continues,
            notes=lambda: (
                *options.notes,
                *self._misses.lines(options.expected, asked.segments, options.passages),
            ),
        )

    def _begun(
        self,
        asked: Asked,
        options: RequestOptions,
        prefilled: Prefilled,
        clock: Clock,
        ended: Callable[[], None] | None = None,
    ) -> Stream:
        """The answer to a prompt that was prefilled, its first token chosen."""
        served = self._served
        stop = options.stop or config_stop_strings(served.model)
        stream = Stream(
            prefilled,
            clock,
            answer_text(served.tokenizer, stop, strip=asked.strip, calling=asked.calling),
            self._runner,
            options={**options.generation, "max_new_tokens": prefilled.room},
            seed=options.seed,
            model=served.name,
            policy=str(options.policy),
            ended=ended,
        )
        self._recordings.add(stream)
        return stream


@contextmanager
def _named(number: int, count: int) -> Iterator[None]:
    """Let an error say which prompt it is about."""
    try:
        yield
    except PromptCacheError as error:
        error.args = (f"prompt {number} of {count}: {error}",)
        raise


def _noted(laid: Laid, why: str | None) -> Laid:
    """The prompt, with a note on why it is answered by itself."""
    if why is None:
        return laid
    notes, line = laid.notes, f"answered by itself, not together with its batch: {why}"
    return replace(laid, notes=lambda: (*notes(), line))
