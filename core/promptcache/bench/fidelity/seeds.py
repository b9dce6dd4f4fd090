"""Samples of several seeds over one model, in turn or side by side in processes."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace

from promptcache.bench.fidelity.engines import counts
from promptcache.bench.fidelity.questions import Question
from promptcache.bench.fidelity.running import Found, Plan, run
from promptcache.bench.fidelity.samples import Draw, questions
from promptcache.bench.models import Subject, subject
from promptcache.bench.rounds import check_count, threads_set


@dataclass(frozen=True, slots=True)
class Work:
    """What is measured for each seed: what is drawn, put to a model that a process can load.

    Without `shuffle` each sample is asked once, its documents in their own order.
    """

    model: str
    dtype: str
    device: str | None
    threads: int
    plan: Plan
    draw: Draw
    shuffle: bool = True


def threads_of(jobs: int, asked: int | None, usual: int) -> int:
    """The threads of each job: those asked for, or its share of the cores, at most `usual`.

    Raises OptionError for fewer than one job.
    """
    check_count("jobs", jobs)
    return asked if asked is not None else max(1, min(usual, (os.cpu_count() or 1) // jobs))


def of_seeds(work: Work, seeds: Sequence[int], measured: Subject, jobs: int, label: str) -> Found:
    """What was answered for all seeds; `measured` is the work's model, which one job runs on.

    Several jobs load it again, each in a process of its own. Raises what `run` raises.
    """
    drawn = [replace(work, draw=replace(work.draw, seed=seed)) for seed in dict.fromkeys(seeds)]
    if jobs == 1 or len(drawn) == 1:
        return _together([_of_seed(each, measured, label) for each in drawn])
    spawning = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(jobs, len(drawn)), mp_context=spawning) as pool:
        return _together(list(pool.map(_in_process, drawn, [label] * len(drawn))))


def _in_process(work: Work, label: str) -> Found:
    return _of_seed(work, subject(work.model, work.dtype, work.device, endless=False), label)


def _of_seed(work: Work, measured: Subject, label: str) -> Found:
    def asked() -> Iterator[Sequence[Question]]:
        for pair in questions(work.draw, counts(measured)[1]):
            yield pair if work.shuffle else pair[:1]

    name = f"{label}, seed {work.draw.seed}"
    with threads_set(work.threads):
        return run(measured, work.plan, asked(), count=work.draw.count, label=name)


def _together(parts: Sequence[Found]) -> Found:
    return Found(
        [each for part in parts for each in part.answered],
        {policy: why for part in parts for policy, why in part.refused.items()},
        [reason for part in parts for reason in part.left_out],
    )
