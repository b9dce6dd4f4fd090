"""Samples of the corpus: documents about invented entities, and questions on them.

Everything is drawn from one `numpy` generator, so that a seed gives the same samples always.
This file knows nothing about prompts (`prompts.py`, `chat.py`) or tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np

from promptcache.pocket import names
from promptcache.pocket.people import PEOPLE, PERSON
from promptcache.pocket.places import PLACES
from promptcache.pocket.split import Side
from promptcache.pocket.values import value
from promptcache.pocket.world import Attribute, Kind

KINDS: tuple[Kind, ...] = PLACES + PEOPLE
T = TypeVar("T")

UNANSWERABLE = "The documents do not say."

# fact: stated in one document. absent: the document on this entity does not say. stranger: no
# document on this entity. compare, follow: two documents are needed. mention: the other way round,
# from a value to the entity. tell: the answer is a sentence. These two are asked in training only,
# where they teach whom a value belongs to.
QuestionKind = Literal["fact", "absent", "stranger", "compare", "follow", "mention", "tell"]

MENTIONS = (
    "Which document mentions {v}?",
    "Who or what is linked to {v}?",
    "What does the document with {v} tell of?",
)


@dataclass(frozen=True, slots=True)
class Document:
    """A text about one entity; `facts` maps the index of an attribute of `kind` to its value."""

    name: str
    kind: Kind
    facts: dict[int, str]
    text: str
    sentences: dict[int, str]  # of each fact, with the name

    @property
    def title(self) -> str:
        """The name without its article."""
        return self.name.removeprefix("the ")


@dataclass(frozen=True, slots=True)
class Turn:
    """One question, its answer, and the name of the kind of value that is asked for."""

    question: str
    answer: str
    kind: QuestionKind
    value: str
    lead: str = ""  # what stands before the value, where the answer is a sentence


@dataclass(frozen=True, slots=True)
class Sample:
    """Documents and the questions that are asked on them, one after another."""

    documents: tuple[Document, ...]
    turns: tuple[Turn, ...]


@dataclass(frozen=True, slots=True)
class Shape:
    """How large samples are and what is asked; ranges include both ends."""

    documents: tuple[int, int] = (2, 8)
    facts: tuple[int, int] = (3, 6)
    turns: tuple[int, int] = (1, 1)
    unanswerable: float = 0.17
    two_documents: float = 0.0
    mentions: float = 0.0
    tells: float = 0.0
    alike: float = 0.0  # share of samples whose documents are all of one kind
    shared: bool = False  # documents of one kind tell of the same attributes
    pronouns: float = 0.6  # at most this share of names gives way to a pronoun
    asked_first: float = 0.1  # share of prompts that put the question before the documents


def _choose(rng: np.random.Generator, items: Sequence[T]) -> T:
    return items[int(rng.random() * len(items))]


def _between(rng: np.random.Generator, ends: tuple[int, int]) -> int:
    return ends[0] + int(rng.random() * (ends[1] - ends[0] + 1))


def _upper(text: str) -> str:
    return text[0].upper() + text[1:]


def new_name(rng: np.random.Generator, kind: Kind, side: Side) -> str:
    """Return a name for an entity of `kind`."""
    return names.person(rng, side) if kind.personal else names.named(rng, side, kind.forms)


def write_document(
    rng: np.random.Generator, kind: Kind, name: str, facts: dict[int, str], most: float = 0.6
) -> Document:
    """Tell `facts` (in their order) about `name` in plain sentences."""
    pronoun = _choose(rng, kind.pronouns)
    pronouns = rng.random() * most  # how often this author avoids the name
    stated = {i: _choose(rng, kind.attributes[i].statements) for i in facts}
    sentences = [stated[i].replace("{v}", v) for i, v in facts.items()]
    if rng.random() < 0.5:
        sentences.insert(0, _choose(rng, kind.intros))
    if rng.random() < 0.3:
        sentences.insert(1 + int(rng.random() * len(sentences)), _choose(rng, kind.asides))
    told = []
    for place, sentence in enumerate(sentences):
        avoid = place > 0 and rng.random() < pronouns
        subject = pronoun if avoid else name
        told.append(_upper(sentence.replace("{E}", subject).replace("{e}", name)))
    named = {i: _upper(t.replace("{E}", name).replace("{e}", name)) for i, t in stated.items()}
    return Document(name, kind, facts, " ".join(told), named)


def _attributes(rng: np.random.Generator, kind: Kind, shape: Shape) -> list[int]:
    count = min(_between(rng, shape.facts), len(kind.attributes) - 1)
    return [int(i) for i in rng.permutation(len(kind.attributes))[:count]]


def _document(
    rng: np.random.Generator,
    kind: Kind,
    name: str,
    shape: Shape,
    side: Side,
    chosen: list[int] | None = None,
) -> Document:
    chosen = _attributes(rng, kind, shape) if chosen is None else chosen
    facts = {i: value(rng, kind.attributes[i].value, side) for i in chosen}
    return write_document(rng, kind, name, facts, shape.pronouns)


def _documents(rng: np.random.Generator, shape: Shape, side: Side) -> list[Document]:
    count = _between(rng, shape.documents)
    # Retrieved documents are often alike: half of the samples hold two kinds at most.
    luck = rng.random()
    variety = 1 if luck < shape.alike else 2 if luck < max(shape.alike, 0.5) else count
    kinds = [_choose(rng, KINDS) for _ in range(variety)]
    same = {kind.name: _attributes(rng, kind, shape) for kind in kinds} if shape.shared else {}
    return [
        _document(rng, kind, new_name(rng, kind, side), shape, side, same.get(kind.name))
        for kind in (_choose(rng, kinds) for _ in range(count))
    ]


def _ask(rng: np.random.Generator, attribute: Attribute, name: str) -> str:
    return _choose(rng, attribute.questions).replace("{e}", name)


def _fact(rng: np.random.Generator, documents: list[Document]) -> Turn:
    document = _choose(rng, documents)
    index = _choose(rng, list(document.facts))
    attribute = document.kind.attributes[index]
    question = _ask(rng, attribute, document.name)
    return Turn(question, document.facts[index], "fact", attribute.value)


def _mention(rng: np.random.Generator, documents: list[Document]) -> Turn:
    document = _choose(rng, documents)
    index = _choose(rng, list(document.facts))
    question = _choose(rng, MENTIONS).replace("{v}", document.facts[index])
    return Turn(question, document.name, "mention", document.kind.attributes[index].value)


def _tell(rng: np.random.Generator, documents: list[Document]) -> Turn:
    document = _choose(rng, documents)
    index = _choose(rng, list(document.facts))
    attribute = document.kind.attributes[index]
    question = "In a sentence: " + _ask(rng, attribute, document.name)
    lead = document.sentences[index].partition("{v}")[0].strip()
    answer = document.sentences[index].replace("{v}", document.facts[index])
    return Turn(question, answer, "tell", attribute.value, lead)


def _unanswerable(rng: np.random.Generator, documents: list[Document], side: Side) -> Turn:
    document = _choose(rng, documents)
    kind = document.kind
    if rng.random() < 0.4:
        name = new_name(rng, kind, side)
        attribute = _choose(rng, kind.attributes)
        return Turn(_ask(rng, attribute, name), UNANSWERABLE, "stranger", attribute.value)
    missing = [i for i in range(len(kind.attributes)) if i not in document.facts]
    told = [i for i in missing if any(d.kind is kind and i in d.facts for d in documents)]
    index = _choose(rng, told if told and rng.random() < 0.5 else missing)
    attribute = kind.attributes[index]
    return Turn(_ask(rng, attribute, document.name), UNANSWERABLE, "absent", attribute.value)


def _size(text: str) -> float:
    return float(text.split(maxsplit=1)[0].replace(",", ""))


def _compare(rng: np.random.Generator, documents: list[Document]) -> Turn | None:
    """Ask which of two documents' entities has the smaller or larger value."""
    pairs = [
        (a, b, i)
        for a in documents
        for b in documents
        if a is not b and a.kind is b.kind
        for i in a.facts
        if i in b.facts and a.kind.attributes[i].compare and _size(a.facts[i]) != _size(b.facts[i])
    ]
    if not pairs:
        return None
    a, b, index = _choose(rng, pairs)
    attribute = a.kind.attributes[index]
    wording, smaller = _choose(rng, attribute.compare)
    first = (_size(a.facts[index]) < _size(b.facts[index])) == smaller
    question = wording.replace("{a}", a.name).replace("{b}", b.name)
    return Turn(question, (a if first else b).name, "compare", attribute.value)


def _follow(
    rng: np.random.Generator, documents: list[Document], shape: Shape, side: Side
) -> Turn | None:
    """Put the document of a person that another document names in, and ask about that person."""
    leads = [
        (d, i)
        for d in documents
        for i in d.facts
        if d.kind.attributes[i].role and all(d.facts[i] != other.name for other in documents)
    ]
    places = [p for p, d in enumerate(documents) if len(documents) > 1]
    if not leads or not places:
        return None
    source, index = _choose(rng, leads)
    place = _choose(rng, [p for p in places if documents[p] is not source])
    target = _document(rng, PERSON, source.facts[index], shape, side)
    documents[place] = target
    asked = _choose(rng, list(target.facts))
    attribute = PERSON.attributes[asked]
    role = source.kind.attributes[index].role.replace("{e}", source.name)
    return Turn(_ask(rng, attribute, role), target.facts[asked], "follow", attribute.value)


def make_sample(rng: np.random.Generator, shape: Shape, side: Side) -> Sample:
    """Draw one sample whose names and values all lie on `side`."""
    documents = _documents(rng, shape, side)
    turns: list[Turn] = []
    if rng.random() < shape.two_documents / 2:  # first, since it changes the documents
        turn = _follow(rng, documents, shape, side)
        turns += [turn] if turn else []
    seen = {turn.question for turn in turns}
    for _ in range(_between(rng, shape.turns) - len(turns)):
        luck = rng.random()
        drawn: Turn | None = None
        if luck < shape.unanswerable:
            drawn = _unanswerable(rng, documents, side)
        elif luck < shape.unanswerable + shape.two_documents / 2:
            drawn = _compare(rng, documents)
        elif luck > 1 - shape.mentions:
            drawn = _mention(rng, documents)
        elif luck > 1 - shape.mentions - shape.tells:
            drawn = _tell(rng, documents)
        drawn = drawn or _fact(rng, documents)
        # A fact is asked once only, or its second answer could be read off the first.
        told = [t.answer for t in turns if t.kind in ("fact", "tell")]
        known = any(drawn.answer in t or t in drawn.answer for t in told)
        if drawn.question not in seen and not (known and drawn.kind in ("fact", "tell")):
            seen.add(drawn.question)
            turns.append(drawn)
    order = rng.permutation(len(turns))
    return Sample(tuple(documents), tuple(turns[int(i)] for i in order))
