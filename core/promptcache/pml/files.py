"""Reading the files that markup stands in, and the ones it names."""

from __future__ import annotations

from pathlib import Path

from promptcache.pml.checks import reference_error


def read_text(path: Path, what: str) -> str:
    """A UTF-8 file's exact text, its line ends included; `what` names it in errors.

    Raises PMLReferenceError for a file that cannot be read.
    """
    try:
        return path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        reason = f"{error.reason} at byte {error.start}"
        raise reference_error(f"{what} is not UTF-8: {reason}") from None
    except OSError as error:
        raise reference_error(f"{what} cannot be read: {error.strerror}") from None


def read_beside(base: Path | None, src: str) -> str:
    """The text of the file that `src` names, in the folder `base` or below it.

    Links are followed before that is checked. Raises PMLReferenceError for any other file.
    """
    what = f"src {src[:200]!r}"
    if base is None:
        raise reference_error(
            f"{what} has no folder to be read from: the schema came from a string without a base"
        )
    folder = base.resolve()
    try:
        path = (folder / src).resolve()
        inside, exists = path.is_relative_to(folder), path.is_file()
    except (OSError, RuntimeError) as error:  # a name too long, or links that run in a circle
        raise reference_error(f"{what} cannot be read: {error}") from None
    if not inside:
        raise reference_error(f"{what} lies outside the schema's folder")
    if not exists:
        raise reference_error(f"{what} is not a file in the schema's folder")
    return read_text(path, what)
