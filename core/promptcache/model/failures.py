"""Why a model could not be loaded, in one sentence, whichever library raised the error."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from textwrap import shorten
from typing import Any

from promptcache.errors import ModelError, PromptCacheError


@contextmanager
def explained(
    name: str | Path, part: str, kwargs: Mapping[str, Any] | None = None
) -> Iterator[None]:
    """Turn what is raised for a model that cannot be loaded into one sentence.

    Every file format has its library, and each raises errors of its own, plain Exception included.
    """
    try:
        yield
    except PromptCacheError:
        raise
    except Exception as error:
        raise ModelError(
            f"cannot load a model from {str(name)!r}, at its {part}: "
            f"{_reason(error)} {_advice(error, kwargs or {})}"
        ) from error


def _reason(error: Exception) -> str:
    """The first line of an error's text, and the next where the first announces it."""
    if isinstance(error, RuntimeError) and "ignore_mismatched_sizes" in str(error):
        return "their shapes are not those that config.json says."
    if isinstance(error, UnpicklingError):
        return "no file that torch.load can read."
    lines = [line.strip() for line in str(error).strip().splitlines()] or [""]
    first = " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]
    known = isinstance(error, OSError | ValueError | ImportError | RuntimeError) and first
    text = shorten(first if known else f"{type(error).__name__}: {first}", 300, placeholder=" ...")
    return text if text.endswith(".") else f"{text}."


def _advice(error: Exception, kwargs: Mapping[str, Any]) -> str:
    if isinstance(error, ImportError):
        return "Install that package, or load the model without it."
    if isinstance(error, TypeError) and kwargs:
        return f"Expected model_kwargs of transformers' from_pretrained, not {sorted(kwargs)}."
    return (
        "Expected 'pocket', a folder that save_pretrained wrote (config.json, model.safetensors, "
        "tokenizer.json), or the name of a causal language model on the Hugging Face hub."
    )
