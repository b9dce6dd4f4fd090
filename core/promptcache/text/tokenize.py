"""Segments to token ids: control text keeps its control tokens, content can never become one.

Rules, the same for every kind of tokenizer:

- Text of the chat template (`Kind.CONTROL`) is tokenised as the model's own tokenizer does it,
  a dummy prefix after a control token included, if that tokenizer puts one there.
- Everything else is content. Its ids depend on its text alone, not on where it stands: a
  document that spells `</s>` or `<tool_call>` gives ordinary tokens.
- The dummy prefix of SentencePiece-style tokenizers stands where the plain tokenizer puts it: at
  the start of the prompt. A module or an argument that starts the prompt gets none, because a
  module's tokens must be the same in every place.
- A prompt without a template opens with the tokens that the tokenizer itself puts first (BOS); a
  templated prompt has the BOS its template writes, or none. Nothing is appended.

What a normalizer changes (Unicode forms, case, repeated spaces) is changed here too, and a
character that the vocabulary lacks becomes the unknown token: that is how the model reads text.
This file does not know chat templates or layouts.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import TYPE_CHECKING

import tokenizers

from promptcache.errors import ModelError
from promptcache.segments import Kind, Segment
from promptcache.text import backend

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_ANY_TEXT = "a"
_KEPT_MODULES = 4096
"""Texts of modules whose ids are remembered: they come again in other prompts."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """A segment and its token ids."""

    segment: Segment
    ids: list[int]
    dummy: bool = False
    """Whether the ids begin with a space that the tokenizer added and the text has not."""


class SegmentTokenizer:
    """A transformers fast tokenizer, as promptcache uses it.

    It works on its own copies of the tokenizer's backend, taken when it is made: the user's
    tokenizer is never changed, padding or truncation set on it change nothing here, and any
    number of threads may call at once.

    Raises ModelError for a tokenizer without a fast backend.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._source = tokenizer
        plain = _definition(tokenizer)
        content = backend.without_control(plain)
        edgeless = backend.without_edges(plain)
        self._control = backend.control_tokens(plain)
        self._plain = _build(plain)
        self._content = _build(backend.without_edges(content))
        self._decoder = self._plain if edgeless == plain else _build(edgeless)
        prefixed = backend.without_strip(content)
        self._has_dummy = _edges(prefixed) != _edges(backend.without_edges(content))
        self._opening = _build(prefixed) if self._has_dummy else self._content
        self._dummy_after_control = self._has_dummy and self._prefixes_after_control()
        self._digest = _digest(plain)
        self._module_ids = lru_cache(_KEPT_MODULES)(self.content_ids)
        self.bos_ids = _ids_put_first(self._plain)
        """The ids that the tokenizer puts in front of a plain text; most often one, or none."""

    def control_ids(self, text: str, *, opens: bool = False) -> list[int]:
        """Ids of the template's own text, control tokens recognised.

        `opens` says that `text` is the start of the prompt, where a dummy prefix may stand.
        """
        encoding = self._plain.encode(text, add_special_tokens=False)
        if opens or not self._has_dummy:
            return list(encoding.ids)
        # A dummy prefix before the first control token is there only because this piece of the
        # prompt is tokenised alone.
        for index, id_ in enumerate(encoding.ids):
            if id_ in self._control:
                head = text[: encoding.offsets[index][0]]
                return self.content_ids(head) + list(encoding.ids[index:])
        return self.content_ids(text)

    def content_ids(self, text: str, *, opens: bool = False) -> list[int]:
        """Ids of content: no control token among them, whatever `text` spells."""
        chosen = self._opening if opens else self._content
        return list(chosen.encode(text, add_special_tokens=False).ids)

    def tokenize(self, segments: Sequence[Segment]) -> list[Tokens]:
        """Each segment with its ids, in order; segments without text are left out,
        but not an argument left empty, whose parameter must close.

        When no segment is CONTROL, no template was used, and the tokenizer's own BOS comes first
        as a CONTROL segment of the preamble.
        """
        kept = [segment for segment in segments if segment.text or segment.hole]
        tokens = [self._tokens(segment, opens=i == 0) for i, segment in enumerate(kept)]
        if self.bos_ids and not any(s.kind is Kind.CONTROL for s in segments):
            bos = Segment(self.decode(self.bos_ids), Kind.CONTROL, preamble=True)
            tokens.insert(0, Tokens(bos, list(self.bos_ids)))
        return tokens

    def _tokens(self, segment: Segment, *, opens: bool) -> Tokens:
        if segment.kind is Kind.MODULE:
            return Tokens(segment, self._module_ids(segment.text))
        to_ids = self.control_ids if segment.kind is Kind.CONTROL else self.content_ids
        ids = to_ids(segment.text)
        if opens and self._has_dummy and segment.kind in (Kind.CONTROL, Kind.TEXT):
            opening = to_ids(segment.text, opens=True)
            return Tokens(segment, opening, dummy=opening != ids)
        return Tokens(segment, ids)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids` as a piece of a longer text: leading spaces and control tokens kept."""
        pieces = []
        for is_control, run in groupby(ids, key=self._control.__contains__):
            if is_control:
                pieces += [self._control[id_] for id_ in run]
            else:
                pieces.append(self._decoder.decode(list(run), skip_special_tokens=False))
        return "".join(pieces)

    def prompt_text(self, tokens: Iterable[Tokens]) -> str:
        """The exact prompt text that `tokenize` was given, read back from the ids.

        A BOS that the tokenizer put first is part of it. Not exact where the tokenizer itself
        loses text: a normalizer that changes it, or control tokens that swallow spaces.
        """
        return "".join(map(self._segment_text, tokens))

    def _segment_text(self, item: Tokens) -> str:
        after_control = self._dummy_after_control and item.segment.kind is Kind.CONTROL
        dummy = item.dummy
        pieces = []
        for is_control, run in groupby(item.ids, key=self._control.__contains__):
            text = self.decode(run)
            pieces.append(text.removeprefix(" ") if dummy and not is_control else text)
            dummy = after_control
        return "".join(pieces)

    def count(self, text: str) -> int:
        """How many tokens `text` has as content."""
        return len(self.content_ids(text))

    @property
    def placeholder_id(self) -> int:
        """The token that holds a parameter's place: the unknown token, else a newline's.

        An unknown token that is also the end or the beginning of text (GPT-2's) is no
        placeholder: a model reads it as a border.
        """
        unknown = self._source.unk_token_id
        if unknown is not None and unknown not in (
            self._source.eos_token_id,
            self._source.bos_token_id,
        ):
            return int(unknown)
        return self.content_ids("\n")[-1]

    def fingerprint(self) -> str:
        """A hash over all that decides a prompt's ids.

        Vocabulary, merges, added tokens, normalizer and the other steps (as they were when this
        object was made), the special tokens and the chat template.
        """
        now = [self._source.special_tokens_map, getattr(self._source, "chat_template", None)]
        said = json.dumps([self._digest, now], sort_keys=True, default=str)
        return hashlib.sha256(said.encode()).hexdigest()

    def _prefixes_after_control(self) -> bool:
        if not self._control:
            return False
        token = next(iter(self._control.values()))
        found = self._plain.encode(token + _ANY_TEXT, add_special_tokens=False).ids
        return list(found[1:]) != self.content_ids(_ANY_TEXT)


def _definition(tokenizer: PreTrainedTokenizerBase) -> backend.Definition:
    fast = getattr(tokenizer, "backend_tokenizer", None)
    if not isinstance(fast, tokenizers.Tokenizer):
        raise ModelError(
            f"the tokenizer {type(tokenizer).__name__} has no fast backend (tokenizer.json); "
            "promptcache needs one to keep documents from becoming control tokens: pass a "
            "tokenizer that AutoTokenizer loads as a fast one"
        )
    definition: backend.Definition = json.loads(fast.to_str())
    return definition | {"truncation": None, "padding": None}


def _build(definition: backend.Definition) -> tokenizers.Tokenizer:
    return tokenizers.Tokenizer.from_str(json.dumps(definition, ensure_ascii=False))


def _edges(definition: backend.Definition) -> tuple[object, object]:
    return definition["normalizer"], definition["pre_tokenizer"]


def _digest(definition: backend.Definition) -> str:
    return hashlib.sha256(json.dumps(definition, sort_keys=True).encode()).hexdigest()


def _ids_put_first(plain: tokenizers.Tokenizer) -> tuple[int, ...]:
    bare = plain.encode(_ANY_TEXT, add_special_tokens=False).ids
    whole = plain.encode(_ANY_TEXT, add_special_tokens=True).ids
    for start in range(len(whole) - len(bare) + 1):
        if whole[start : start + len(bare)] == bare:
            return tuple(whole[:start])
    return ()
