"""`promptcache bench serve`: how many requests a server answers in a second, on one machine.

Against the same requests one by one through an engine, and against transformers' own continuous
batching, in turns in one run. The server is a process of its own, asked over HTTP; whoever is not
asked waits, so all have the machine for themselves in turn.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import NamedTuple

from transformers import GenerationConfig
from transformers.generation.configuration_utils import ContinuousBatchingConfig

from promptcache.bench.models import Subject, subject
from promptcache.bench.prompts import SCHEMA, Library, Pml, Questions, asked, new_engine
from promptcache.bench.rounds import Case, Sample, check_count, interleaved, threads_set
from promptcache.bench.rows import ServeRow, Spread
from promptcache.bench.serving.process import ServerProcess
from promptcache.bench.setting import Setting
from promptcache.engine import PromptCache
from promptcache.errors import OptionError
from promptcache.remote.engine import RemoteEngine

log = logging.getLogger("promptcache")

SERVED = "promptcache serve"
ALONE = "promptcache, one by one"
THEIRS = "transformers, continuous batching"
PAGE = 64
"""Tokens of a page of transformers' cache."""
AT_ONCE = 2048
"""Tokens that a step of transformers computes at most."""


@dataclass(frozen=True, slots=True)
class Plan:
    """`requests` of `documents` out of `library`, of `tokens` tokens each, with a question of
    `new` tokens and answers of `answer`; a server is asked by each number of `clients` at once.

    Raises OptionError for counts that make no sense.
    """

    model: str = "0.4b"
    dtype: str = "bfloat16"
    threads: int = 1
    requests: int = 16
    clients: tuple[int, ...] = (1, 8)
    documents: int = 4
    library: int = 8
    tokens: int = 256
    new: int = 32
    answer: int = 16
    repeats: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("threads", "requests", "documents", "tokens", "new", "answer", "repeats"):
            check_count(name, getattr(self, name))
        for count in self.clients:
            check_count("clients", count)
        if self.library < self.documents:
            raise OptionError(f"library={self.library} has not {self.documents} documents")


class Key(NamedTuple):
    """What a case is a case of."""

    case: str
    clients: int


class Requests:
    """The prompts of one run after the other, no two of them the same."""

    def __init__(self, plan: Plan, engine: PromptCache) -> None:
        self.library = Library.of(engine.count_tokens, plan.library, plan.tokens, plan.seed)
        self._plan = plan
        self._rng = random.Random(plan.seed)
        self._questions = Questions(engine.count_tokens, plan.new, plan.seed)

    def next(self) -> list[str]:
        """The prompts of one run, in PML."""
        plan = self._plan
        orders = [
            self._rng.sample(range(plan.library), plan.documents) for _ in range(plan.requests)
        ]
        return [Pml().prompt(self.library, order, self._questions.next()) for order in orders]


def measure(plan: Plan, *, progress: bool = True) -> list[ServeRow]:
    """The rows of a plan. Raises PromptCacheError where no server can be started."""
    with threads_set(plan.threads), TemporaryDirectory() as folder:
        measured = subject(plan.model, plan.dtype, "cpu")
        measured.model.save_pretrained(folder)
        measured.tokenizer.save_pretrained(folder)
        engine = new_engine(measured)
        requests = Requests(plan, engine)
        Pml().register(engine, requests.library, encode=True)
        options = ["--dtype", plan.dtype, "--concurrency", str(max(plan.clients))]
        with ServerProcess(str(Path(folder)), options, threads=plan.threads) as server:
            remote = RemoteEngine(server.url)
            remote.add_schema(SCHEMA)
            remote.cache_documents(requests.library.named, schema="bench", progress=False)
            theirs = ContinuousBatching(measured, engine, plan)
            cases = [
                *(_served(remote, requests, plan, clients) for clients in plan.clients),
                Case(Key(ALONE, 1), _timed(requests, lambda p: _one_by_one(engine, p, plan))),
            ]
            if theirs.works(requests.next()):
                run = _timed(requests, theirs.answer)
                cases.append(Case(Key(THEIRS, plan.requests), run))
            for case in cases:
                case.run()  # to warm up; not counted
            samples = interleaved(
                cases,
                plan.repeats,
                plan.repeats,
                random.Random(plan.seed),
                label="serve",
                progress=progress,
            )
            theirs.close()
        return _rows(plan, Setting.of(measured), samples)


def _served(remote: RemoteEngine, requests: Requests, plan: Plan, clients: int) -> Case[Key]:
    def answer(prompts: Sequence[str]) -> None:
        with ThreadPoolExecutor(clients) as threads:
            replies = threads.map(
                lambda p: remote.generate(p, max_new_tokens=plan.answer, temperature=0), prompts
            )
            assert {reply.usage.output_tokens for reply in replies} == {plan.answer}

    return Case(Key(SERVED, clients), _timed(requests, answer))


def _one_by_one(engine: PromptCache, prompts: Sequence[str], plan: Plan) -> None:
    for prompt in prompts:
        engine.generate(prompt, max_new_tokens=plan.answer, temperature=0)


def _timed(requests: Requests, answer: Callable[[Sequence[str]], None]) -> Callable[[], Sample]:
    def run() -> Sample:
        prompts = requests.next()
        since = perf_counter()
        answer(prompts)
        return Sample(perf_counter() - since)

    return run


class ContinuousBatching:
    """transformers' continuous batching, its cache allocated once."""

    def __init__(self, measured: Subject, engine: PromptCache, plan: Plan) -> None:
        logging.getLogger("ContinuousBatchingLogger").setLevel(logging.ERROR)
        self._model, self._engine, self._plan = measured.model, engine, plan
        self._generation = GenerationConfig(
            max_new_tokens=plan.answer, do_sample=False, eos_token_id=-1, pad_token_id=0
        )

    def works(self, prompts: Sequence[str]) -> bool:
        """Whether it runs here; the log says why not."""
        try:
            self.answer(prompts)
        except Exception as error:  # whatever this version raises on this machine
            log.warning("transformers' continuous batching does not run here: %r", error)
            return False
        return True

    def answer(self, prompts: Sequence[str]) -> None:
        """Answer the prompts, the very same tokens as an engine's."""
        ids = [list(asked(self._engine, Pml(), prompt).ids) for prompt in prompts]
        pages = -(-(max(map(len, ids)) + self._plan.answer) // PAGE) + 1
        done = self._model.generate_batch(
            ids,
            generation_config=self._generation,
            continuous_batching_config=ContinuousBatchingConfig(
                page_size=PAGE,
                num_blocks=pages * self._plan.requests,
                max_batch_tokens=AT_ONCE,
                max_requests_per_batch=self._plan.requests,
            ),
            persistent_manager=True,
        )
        lengths = [len(output.generated_tokens) for output in done.values()]
        assert lengths == [self._plan.answer] * len(prompts), lengths

    def close(self) -> None:
        """Give the cache back."""
        self._model.destroy_cached_continuous_batching_manager()


def _rows(plan: Plan, setting: Setting, samples: dict[Key, list[Sample]]) -> list[ServeRow]:
    spreads = {
        key: Spread.of([plan.requests / sample.seconds for sample in found])
        for key, found in samples.items()
    }
    alone = spreads[Key(ALONE, 1)].median
    return [
        ServeRow(
            **asdict(setting),
            case=key.case,
            repeats=spread.count,
            clients=key.clients,
            requests=plan.requests,
            module_tokens=plan.documents * plan.tokens,
            new_tokens=plan.new,
            output_tokens=plan.answer,
            requests_per_second=spread.median,
            low=spread.low,
            high=spread.high,
            ratio=spread.median / alone,
        )
        for key, spread in spreads.items()
    ]
