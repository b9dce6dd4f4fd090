"""Questions of pocket's corpus: names and values that its training never saw, kind by kind.

Each sample has a generator of its own, made of the seed and its number, so that one can be looked
at again alone. The prompts are worded as chains word them; every other one in a wording that was
held out of the training.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from promptcache.bench.fidelity.questions import About, Chat
from promptcache.bench.rounds import check_count
from promptcache.errors import OptionError, valid
from promptcache.pml import Collection, Role, Schema, Text
from promptcache.pocket.chat import messages
from promptcache.pocket.corpus import QuestionKind, Sample, Shape, make_sample
from promptcache.pocket.data import choose_wording
from promptcache.pocket.evaluate import MAX_ANSWER, MAX_PROMPT
from promptcache.pocket.prompts import Wording
from promptcache.templates import whole_sentences

KINDS: tuple[QuestionKind, ...] = ("fact", "compare", "follow", "absent", "stranger")
"""Of one document, of two documents twice, and not to be answered twice."""
DOCUMENTS = (2, 4, 8, 16)
MANY = 8
"""Documents beyond which each has few facts, so that a prompt has room for them all."""
TRAINED = "in training"
"""What the wordings that pocket's training showed are called, all together ..."""
TRAINED_FIRST = "in training: question first"
"""... but for those that ask before the documents."""
TRIES = 500
"""Samples that are drawn, at most, for one of the kind that is wanted."""
Count = Callable[[Sequence[tuple[str, str]]], int]
"""How many tokens a prompt of chat messages has, by role and content."""


@dataclass(frozen=True, slots=True)
class Draw:
    """What is drawn: `count` samples, in turn of every kind with every number of documents.

    Raises OptionError for counts and kinds that there are not.
    """

    count: int = 200
    kinds: tuple[str, ...] = KINDS
    documents: tuple[int, ...] = DOCUMENTS
    seed: int = 0
    longest: int = MAX_PROMPT

    def __post_init__(self) -> None:
        check_count("samples", self.count)
        check_count("seed", self.seed, least=0)
        for number in self.documents:
            check_count("documents", number, least=2)
        for kind in self.kinds:
            if kind not in KINDS:
                raise OptionError(f"unknown kind of question {kind!r}{valid(kind, KINDS)}")
        if not self.kinds or not self.documents:
            raise OptionError("there is nothing to draw without a kind and a number of documents")

    @property
    def strata(self) -> list[tuple[str, int]]:
        """Every kind with every number of documents."""
        return [(kind, number) for number in self.documents for kind in self.kinds]


def questions(draw: Draw, count: Count) -> Iterator[list[Chat]]:
    """Samples, each as two questions: its documents in their own order, and in another one.

    Raises OptionError where no prompt of a kind is short enough.
    """
    strata = draw.strata
    for number in range(draw.count):
        kind, documents = strata[number % len(strata)]
        held_out = (number // len(strata)) % 2 == 1
        yield _drawn(draw, number, kind, documents, held_out, count)


def _drawn(
    draw: Draw, number: int, kind: str, documents: int, held_out: bool, count: Count
) -> list[Chat]:
    rng = np.random.default_rng((draw.seed, number))
    shape = _shape(kind, documents)
    for _ in range(TRIES):
        sample = make_sample(rng, shape, "test")
        if sample.turns[0].kind != kind:
            continue
        wording = choose_wording(rng, held_out)
        order = _another_order(rng, documents)
        shuffled = replace(sample, documents=tuple(sample.documents[place] for place in order))
        asked = [_chat(each, wording, draw.seed, number) for each in (sample, shuffled)]
        if count(asked[0].messages) <= draw.longest:
            return asked
    raise OptionError(
        f"no sample of kind {kind!r} with {documents} documents has at most {draw.longest} tokens"
    )


def _shape(kind: str, documents: int) -> Shape:
    """Samples that are likely of a kind."""
    return Shape(
        documents=(documents, documents),
        facts=(1, 3) if documents > MANY else (3, 6),
        unanswerable=1.0 if kind in ("absent", "stranger") else 0.0,
        two_documents={"compare": 1.0, "follow": 2.0}.get(kind, 0.0),
    )


def _another_order(rng: np.random.Generator, count: int) -> list[int]:
    order = list(range(count))
    while order == list(range(count)):
        order = [int(place) for place in rng.permutation(count)]
    return order


def _chat(sample: Sample, wording: Wording, seed: int, number: int) -> Chat:
    turn = sample.turns[0]
    told = [(m.role, m.content) for m in messages(sample, wording) if m.role != "assistant"]
    about = About(
        turn.question,
        kind=turn.kind,
        documents=len(sample.documents),
        wording=_called(wording),
        seed=seed,
        number=number,
        right=(turn.answer,),
    )
    documents = tuple(document.text for document in sample.documents)
    return Chat(about, tuple(told), documents, MAX_ANSWER, _front(wording))


def _called(wording: Wording) -> str:
    """What rows call a wording."""
    if wording.held_out:
        return wording.name
    return TRAINED_FIRST if wording.asked_first else TRAINED


def _front(wording: Wording) -> Schema | None:
    """What prompts that ask first have in common before their documents, as integrations take it
    from their templates: whole sentences up to the question.
    """
    if not wording.asked_first:
        return None
    before = whole_sentences(wording.user.partition("{question}")[0])
    documents = Collection("documents")
    user = Role("user", (Text(before), documents) if before else (documents,))
    if not wording.system:
        return Schema("asked-first", (user,))
    return Schema("asked-first", (Role("system", (Text(wording.system),)), user))
