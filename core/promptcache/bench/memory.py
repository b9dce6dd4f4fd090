"""`promptcache bench scale`, second half: peak memory of requests at once over the same modules.

Each case runs in a process of its own, which prints what it found: what one case leaves behind in
memory is nothing to the next. The peak is counted from the moment when the modules are encoded,
and holds them; the weights are not in it. Counts a CPU's memory.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from transformers import DynamicCache

from promptcache.bench.baselines import forward
from promptcache.bench.models import subject
from promptcache.bench.orders import shuffled
from promptcache.bench.prompts import Library, PlainText, Questions, new_engine
from promptcache.bench.resident import forget_peak, peak_resident, resident
from promptcache.bench.rounds import check_count, threads_set
from promptcache.bench.rows import MemoryRow, Spread
from promptcache.bench.setting import Setting
from promptcache.engine import PromptCache
from promptcache.errors import PromptCacheError
from promptcache.reply import Reply

CASE = "requests at once"
BATCH = "batch_text"
"""The method that answers several prompts at once, where there is one."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Requests of `new` tokens over `documents` of `tokens` tokens, with answers of `answer`.

    One at a time and each of `requests` at once, `repeats` times. Raises OptionError for counts
    that make no sense.
    """

    model: str = "0.4b"
    dtype: str = "bfloat16"
    threads: int = 1
    documents: int = 20
    tokens: int = 256
    new: int = 32
    answer: int = 4
    requests: tuple[int, ...] = (8,)
    repeats: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("threads", "documents", "tokens", "new", "answer", "repeats"):
            check_count(name, getattr(self, name))
        for count in self.requests:
            check_count("requests", count)


def batches() -> bool:
    """Whether engines can serve several requests at once."""
    return hasattr(PromptCache, BATCH)


def measure(plan: Plan) -> list[MemoryRow]:
    """A row for one request, and for each number of requests at once that engines can serve."""
    counts = dict.fromkeys((1, *(plan.requests if batches() else ())))
    found = {count: [_in_a_process(plan, count) for _ in range(plan.repeats)] for count in counts}
    peaks = {
        count: Spread.of([each["peak_bytes"] for each in runs]).median
        for count, runs in found.items()
    }
    return [
        MemoryRow(
            **runs[0]["setting"],
            case=CASE,
            repeats=plan.repeats,
            requests=count,
            module_tokens=runs[0]["module_tokens"],
            new_tokens=runs[0]["new_tokens"],
            output_tokens=plan.answer,
            weights_bytes=runs[0]["weights_bytes"],
            peak_bytes=round(peaks[count]),
            ratio=peaks[count] / peaks[1],
        )
        for count, runs in found.items()
    ]


def _in_a_process(plan: Plan, count: int) -> dict[str, Any]:
    """What a process of its own found. Raises PromptCacheError with what it said when it failed."""
    command = [
        sys.executable,
        "-m",
        "promptcache.bench.memory",
        json.dumps(asdict(plan)),
        str(count),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise PromptCacheError(f"the process with {count} requests at once failed: {last}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def peak(plan: Plan, count: int) -> dict[str, Any]:
    """What `count` requests at once take in this process, in bytes; it is to be a fresh one."""
    with threads_set(plan.threads):
        model = subject(plan.model, plan.dtype, "cpu")
        weights = sum(tensor.nbytes for tensor in model.model.parameters())
        forward(model, [1] * 32, DynamicCache())  # what torch needs to compute at all
        before = resident()
        engine = new_engine(model)
        library = Library.of(engine.count_tokens, plan.documents, plan.tokens, plan.seed)
        form, rng = PlainText(), random.Random(plan.seed)
        form.register(engine, library, encode=True)
        questions = Questions(engine.count_tokens, plan.new, plan.seed)
        prompts = [
            form.prompt(library, shuffled(plan.documents, rng), questions.next())
            for _ in range(count)
        ]
        forget_peak()
        replies = _served(engine, prompts, plan.answer)
        return {
            "setting": asdict(Setting.of(model)),
            "weights_bytes": weights,
            "peak_bytes": peak_resident() - before,
            "module_tokens": replies[0].usage.reused_tokens,
            "new_tokens": replies[0].usage.computed_tokens,
        }


def _served(engine: PromptCache, prompts: Sequence[str], answer: int) -> Sequence[Reply]:
    if len(prompts) == 1:
        return [engine.generate_text(prompts[0], max_new_tokens=answer)]
    batch: Any = getattr(engine, BATCH)
    replies: Sequence[Reply] = batch(prompts, max_new_tokens=answer)
    return replies


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    sys.stdout.write(json.dumps(peak(Plan(**given | {"requests": ()}), int(sys.argv[2]))) + "\n")
