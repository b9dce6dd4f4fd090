"""A tokenizer's definition, rewritten so that content stays content.

A definition is what `tokenizers.Tokenizer.to_str()` says: added tokens, normalizer, pre-tokenizer,
model, decoder. Two changes are made to a copy of it, never to the user's tokenizer:

- `without_control`: no text can produce a control token. Added tokens are no longer looked for,
  and the vocabulary pieces of the same ids, which a Unigram lattice or a word lookup would find
  again, get names that no text contains. Ids stay what they are.
- `without_edges`: nothing is added or stripped where a text begins or ends, so that texts
  tokenised apart and joined are the joined text.

This file knows nothing about segments, chat templates or transformers.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from typing import Any

Definition = dict[str, Any]

_BYTE_PIECE = re.compile(r"<0x[0-9A-F]{2}>\Z")
_SPELLED_BYTE = "<(?=0x[0-9A-F]{2}>)"
_SPACE_MARK = "▁"
_WORD_SPLITTERS = {"WhitespaceSplit", "Whitespace", "BertPreTokenizer"}
_LISTS = ("normalizers", "pretokenizers", "decoders")


def control_tokens(definition: Definition) -> dict[int, str]:
    """The added tokens that content must never become, by id.

    All of them, special or not, except those that are ordinary text: runs of spaces, tabs or
    newlines that are not special (code models and Gemma add them), a single ASCII character
    (declaring `!` as the padding token must not delete it from documents), and the byte pieces
    of a model with byte fallback.
    """
    bytes_are_pieces = bool(definition["model"].get("byte_fallback"))
    return {
        token["id"]: token["content"]
        for token in definition["added_tokens"]
        if not (_is_ordinary(token) or (bytes_are_pieces and _BYTE_PIECE.match(token["content"])))
    }


def _is_ordinary(token: dict[str, Any]) -> bool:
    content: str = token["content"]
    if len(content) == 1 and content.isascii():
        return True
    return not token["special"] and not content.replace(_SPACE_MARK, " ").strip()


def without_control(definition: Definition) -> Definition:
    """A copy of `definition` in which no text becomes one of its control tokens."""
    control = control_tokens(definition)
    names = {id_: f"control {secrets.token_hex(16)}" for id_ in control}
    added = [
        token | {"content": names.get(token["id"], token["content"])}
        for token in definition["added_tokens"]
        if token["id"] in control or token["content"].isspace()
    ]
    # Renamed tokens stay in the list only to keep the ids of whitespace tokens after them.
    whitespace_is_added = any(token["id"] not in control for token in added)
    changed = definition | {
        "added_tokens": added if whitespace_is_added else [],
        "model": _renamed(definition["model"], names),
    }
    if _finds_spelled_bytes(definition["model"]):
        changed["pre_tokenizer"] = _after_split(_SPELLED_BYTE, definition["pre_tokenizer"])
    return changed


def _renamed(model: Definition, names: dict[int, str]) -> Definition:
    if isinstance(model["vocab"], list):
        vocab = [[names.get(i, piece), score] for i, (piece, score) in enumerate(model["vocab"])]
        return model | {"vocab": vocab}
    old = {piece: names[id_] for piece, id_ in model["vocab"].items() if id_ in names}
    changed = model | {"vocab": {old.get(piece, piece): i for piece, i in model["vocab"].items()}}
    if changed.get("unk_token") in old:
        changed["unk_token"] = old[changed["unk_token"]]
    if "merges" in model:
        prefix = model.get("continuing_subword_prefix") or ""
        changed["merges"] = [
            merge for merge in model["merges"] if not old.keys() & _pieces(merge, prefix)
        ]
        changed["dropout"] = None
    return changed


def _pieces(merge: list[str] | str, prefix: str) -> set[str]:
    left, right = merge.split(" ") if isinstance(merge, str) else merge
    return {left, right, left + right.removeprefix(prefix)}


def _finds_spelled_bytes(model: Definition) -> bool:
    """Whether the text `<0x0A>` would be read as the byte piece of that name."""
    looks_up = model["type"] == "Unigram" or bool(model.get("ignore_merges"))
    return looks_up and bool(model.get("byte_fallback"))


def _after_split(pattern: str, then: Definition | None) -> Definition:
    """A step that isolates `pattern`, and `then`, whose dummy prefix stays at the text's start."""
    split = {
        "type": "Split",
        "pattern": {"Regex": pattern},
        "behavior": "Isolated",
        "invert": False,
    }
    after = _rewritten(then, _with_prefix_first)
    return {"type": "Sequence", "pretokenizers": [split, *([after] if after else [])]}


def without_edges(definition: Definition) -> Definition:
    """A copy of `definition` with no dummy prefix and nothing stripped at a text's edges.

    Where words are split at whitespace before they are marked (T5), the mark is the only trace
    of a space and stays.
    """
    changed = without_strip(definition)
    changed["normalizer"] = _rewritten(changed["normalizer"], _drop("Prepend"))
    if not _types(definition["pre_tokenizer"]) & _WORD_SPLITTERS:
        changed["pre_tokenizer"] = _rewritten(changed["pre_tokenizer"], _without_prefix)
        changed["decoder"] = _rewritten(changed["decoder"], _without_prefix)
    changed["decoder"] = _rewritten(changed["decoder"], _drop("Strip"))
    return changed


def without_strip(definition: Definition) -> Definition:
    """A copy of `definition` whose normalizer keeps whitespace at a text's edges."""
    return definition | {"normalizer": _rewritten(definition["normalizer"], _drop("Strip"))}


def _drop(kind: str) -> Callable[[Definition], Definition | None]:
    return lambda part: None if part["type"] == kind else part


def _without_prefix(part: Definition) -> Definition:
    if part["type"] == "Metaspace":
        return part | {"prepend_scheme": "never"}
    if part["type"] == "ByteLevel":
        return part | {"add_prefix_space": False}
    return part


def _with_prefix_first(part: Definition) -> Definition:
    if part["type"] == "Metaspace" and part["prepend_scheme"] == "always":
        return part | {"prepend_scheme": "first"}
    return part


def _rewritten(
    part: Definition | None, rewrite: Callable[[Definition], Definition | None]
) -> Definition | None:
    """`part` with `rewrite` applied to every step of it, sequences within sequences too."""
    if part is None:
        return None
    for steps in _LISTS:
        if steps in part:
            kept = [new for step in part[steps] if (new := _rewritten(step, rewrite))]
            return part | {steps: kept} if kept else None
    return rewrite(part)


def _types(part: Definition | None) -> set[str]:
    if part is None:
        return set()
    inner = [step for steps in _LISTS for step in part.get(steps, [])]
    return {part["type"]}.union(*map(_types, inner))
