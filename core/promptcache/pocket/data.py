"""Samples become token ids with loss weights, and batches of about equal length.

A pool of samples is drawn at once from a seed and its number, sorted by length and cut into
batches, so that little is lost to padding and a run can go on from any batch. Padding stands at
the end, where a causal model never looks. This file knows nothing about the model.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from transformers import PreTrainedTokenizerFast

from promptcache.pocket.chat import Message, messages
from promptcache.pocket.corpus import Sample, Shape, make_sample
from promptcache.pocket.prompts import WORDINGS, Wording
from promptcache.pocket.split import Side
from promptcache.pocket.tokenizer import BEGIN, END, ROLES
from promptcache.pocket.varied import varied_wording

VARIED = 0.5  # share of training prompts whose wording is put together at random

Ids = npt.NDArray[np.int64]
Weights = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Stage:
    """What a part of the curriculum draws; lengths in tokens."""

    shapes: tuple[Shape, ...]
    shares: tuple[float, ...]
    max_length: int
    echo: float = 0.0  # share of samples that only repeat random tokens: a start for copying
    text_weight: float = 0.15  # loss weight of tokens that are not answers ...
    text_share: float = 0.2  # ... on this share of them
    remarks: float = 0.0  # share of wordings put together at random that say more than they ask
    rules: float = 0.0  # share of them with rules of any marks around or between the documents


@dataclass(frozen=True, slots=True)
class Batch:
    """`ids [rows, length]`; `weights` and `answer` say how each token counts as a target.

    `answer` is 0 outside answers, else the number of the answer within the batch; `first` marks
    the tokens that open an answer.
    """

    ids: Ids
    weights: Weights
    answer: Ids
    first: npt.NDArray[np.bool_]
    tokens: int


@dataclass(slots=True)
class Encoder:
    """Tokenises conversations piece by piece; content never becomes a control token."""

    tokenizer: PreTrainedTokenizerFast
    _known: dict[str, list[int]] = field(default_factory=dict)

    def text(self, text: str) -> list[int]:
        """Return the ids of one piece of content."""
        ids = self._known.get(text)
        if ids is None:
            ids = list(self.tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids)
            if len(text) < 400 and len(self._known) < 20_000:
                self._known[text] = ids
        return ids

    def control(self, token: str) -> int:
        """Return the id of a control token."""
        return int(self.tokenizer.convert_tokens_to_ids(token))

    def message(self, message: Message, whole: bool) -> list[int]:
        """Return the ids of a message with its control tokens; `whole`: as one piece."""
        pieces = (message.content,) if whole else message.pieces
        if message.role == "assistant":
            pieces = (" " + message.content,)
        ids = [self.control(ROLES[message.role])]
        for piece in pieces:
            ids += self.text(piece)
        return [*ids, self.control(END)]

    def prompt(self, conversation: list[Message], whole: bool) -> list[int]:
        """Return the ids of a prompt, up to where the model is to answer."""
        ids = [self.control(BEGIN)]
        for message in conversation:
            ids += self.message(message, whole)
        return [*ids, self.control(ROLES["assistant"])]


@dataclass(frozen=True, slots=True)
class Row:
    """One training sequence."""

    ids: list[int]
    weights: list[float]
    answer: list[int]


def choose_wording(
    rng: np.random.Generator, held_out: bool, asked_first: bool | None = None
) -> Wording:
    """Draw a listed wording for training, or one of those kept for testing."""
    options = [
        wording
        for wording in WORDINGS
        if wording.held_out == held_out and asked_first in (None, wording.asked_first)
    ]
    ends = np.cumsum([w.weight for w in options])
    return options[int(np.searchsorted(ends, rng.random() * ends[-1], side="right"))]


def _training_wording(rng: np.random.Generator, shape: Shape, stage: Stage) -> Wording:
    asked_first = bool(rng.random() < shape.asked_first)
    if rng.random() < VARIED:
        return varied_wording(rng, asked_first, stage.remarks, stage.rules)
    return choose_wording(rng, held_out=False, asked_first=asked_first)


def make_row(
    encoder: Encoder, rng: np.random.Generator, sample: Sample, stage: Stage, wording: Wording
) -> Row | None:
    """Encode a sample; turns that do not fit `stage.max_length` are left out."""
    whole = rng.random() < 0.3
    ids, weights, answer = [encoder.control(BEGIN)], [0.0], [0]
    turns = 0
    waiting: list[int] = []
    for message in messages(sample, wording):
        part = encoder.message(message, whole)
        if message.role != "assistant":
            waiting += part
            continue
        if len(ids) + len(waiting) + len(part) > stage.max_length:
            break
        turns += 1
        text = rng.random(len(waiting)) < stage.text_share
        first = 4.0 if turns == 1 else 3.0
        ids += waiting + part
        weights += [stage.text_weight * float(t) for t in text]
        if message.lead:  # the value counts, not the words around it
            lead = len(encoder.text(" " + message.lead))
            weights += [0.0] + [0.2] * lead + [1.5] * (len(part) - lead - 1)
        else:
            weights += [0.0, first] + [1.0] * (len(part) - 2)
        answer += [0] * (len(waiting) + 1) + [turns] * (len(part) - 1)
        waiting = []
    return Row(ids, weights, answer) if turns else None


def _echo(encoder: Encoder, rng: np.random.Generator, stage: Stage) -> Row:
    length = int(rng.integers(16, stage.max_length // 2))
    low, high = 7, len(encoder.tokenizer)
    once = [int(i) for i in rng.integers(low, high, length)]
    begin = encoder.control(BEGIN)
    weights = [0.0] * (length + 2) + [0.5] * (length - 1)
    return Row([begin, *once, *once], weights, [0] * (2 * length + 1))


def _row(encoder: Encoder, rng: np.random.Generator, stage: Stage, side: Side) -> Row:
    while True:
        if rng.random() < stage.echo:
            return _echo(encoder, rng, stage)
        ends = np.cumsum(stage.shares)
        place = int(np.searchsorted(ends, rng.random() * ends[-1], side="right"))
        shape = stage.shapes[place]
        sample = make_sample(rng, shape, side)
        row = make_row(encoder, rng, sample, stage, _training_wording(rng, shape, stage))
        if row:
            return row


def _pad(rows: list[Row], pad: int, multiple: int = 16) -> Batch:
    longest = max(len(row.ids) for row in rows)
    length = -(-longest // multiple) * multiple
    ids = np.full((len(rows), length), pad, dtype=np.int64)
    weights = np.zeros((len(rows), length), dtype=np.float32)
    answer = np.zeros((len(rows), length), dtype=np.int64)
    count = 0
    for place, row in enumerate(rows):
        size = len(row.ids)
        ids[place, :size] = row.ids
        weights[place, :size] = row.weights
        numbers = np.array(row.answer)
        answer[place, :size] = np.where(numbers > 0, numbers + count, 0)
        count += int(numbers.max())
    first = np.zeros_like(answer, dtype=bool)
    first[:, 1:] = (answer[:, 1:] > 0) & (answer[:, 1:] != answer[:, :-1])
    return Batch(ids, weights, answer, first, sum(len(row.ids) for row in rows))


def make_pool(
    encoder: Encoder, seed: int, number: int, stage: Stage, batch_tokens: int, batches: int = 8
) -> list[Batch]:
    """Draw pool `number`: about `batches` batches of at most `batch_tokens` tokens each."""
    rng = np.random.default_rng((seed, number))
    rows: list[Row] = []
    size = 0
    while size < batch_tokens * batches:
        rows.append(_row(encoder, rng, stage, "train"))
        size += len(rows[-1].ids)
    rows.sort(key=lambda row: len(row.ids))
    groups: list[list[Row]] = [[]]
    for row in rows:
        if groups[-1] and len(row.ids) * (len(groups[-1]) + 1) > batch_tokens:
            groups.append([])
        groups[-1].append(row)
    pad = int(encoder.tokenizer.pad_token_id)
    made = [_pad(group, pad) for group in groups]
    return [made[int(i)] for i in rng.permutation(len(made))]
