"""Questions on a user's own documents and prompts, and on the documents that ship with promptcache.

Nobody knows the right answers: they are there to be compared with those of full prefill.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from promptcache.bench.fidelity.questions import About, Chat, Marked
from promptcache.bench.rounds import check_count
from promptcache.errors import PMLError, PromptError
from promptcache.pml import Prompt, Schema
from promptcache.pml.lint import lint

SYSTEM = "Answer the question from these documents.\n\n"
SUFFIXES = (".md", ".txt")
GENERIC = (
    "What is the first document about?",
    "What do these documents have in common?",
    "Summarise the last document in a sentence.",
    "Which names do the documents mention?",
    "Which number in the documents matters most, and why?",
    "What would a reader want to know that the documents do not say?",
)
"""What can be asked about any documents."""
SHIPPED = Path(__file__).parents[2] / "demo"
PIECE = 200
"""Tokens of a piece of a document, at most."""
Count = Callable[[str], int]
"""How many tokens a text has."""


def on_shipped(prompts: int, group: int, seed: int, new_tokens: int) -> Iterator[Chat]:
    """Questions on the documents of the demo: each with the one that answers it, among others."""
    library = {file.name: _read(file) for file in sorted((SHIPPED / "library").glob("*.md"))}
    listed = json.loads((SHIPPED / "questions.json").read_text(encoding="utf-8"))
    rng = random.Random(seed)
    for number in range(_checked(prompts, group)):
        item = listed[number % len(listed)]
        others = [text for name, text in library.items() if name != item["file"]]
        documents = [library[item["file"]], *rng.sample(others, group - 1)]
        rng.shuffle(documents)
        yield _chat(item["question"], documents, number, seed, new_tokens)


def on_folder(
    folder: Path,
    asked: Sequence[str],
    count: Count,
    prompts: int,
    group: int,
    seed: int,
    new_tokens: int,
) -> Iterator[Chat]:
    """Questions on groups of a folder's documents, `asked` in turn or what fits any documents.

    Files are cut into pieces of `PIECE` tokens at most, where empty lines stand, as far as they
    can be. Raises PromptError for a folder without text, and for a file that is not UTF-8.
    """
    pieces = [piece for text in texts_in(folder) for piece in cut(text, count)]
    rng = random.Random(seed)
    questions = tuple(asked) or GENERIC
    for number in range(_checked(prompts, group)):
        documents = rng.sample(pieces, min(group, len(pieces)))
        question = questions[number % len(questions)]
        yield _chat(question, documents, number, seed, new_tokens)


def in_files(files: Sequence[Path], new_tokens: int) -> Iterator[Marked]:
    """The prompts in PML files; their schemas are in files that are given, or beside them.

    Raises PMLError for markup that cannot be used, PromptError for files without a prompt, or
    without the schema of one.
    """
    values = [_value(file) for file in files]
    prompts = [value for value in values if isinstance(value, Prompt)]
    if not prompts:
        raise PromptError(
            f"there is no prompt in {', '.join(map(str, files))}: expected a file with "
            '<prompt schema="..."> beside its schema'
        )
    schemas = {value.name: value for value in values if isinstance(value, Schema)}
    wanted = {prompt.schema for prompt in prompts} - schemas.keys()
    if wanted:
        schemas |= _beside(files)
    for number, prompt in enumerate(prompts):
        if prompt.schema not in schemas:
            raise PromptError(
                f"no file given, and none beside them, holds the schema {prompt.schema!r}"
            )
        about = About(f"the prompt {number + 1} of {len(prompts)}", kind="pml", number=number)
        yield Marked(about, prompt, schemas[prompt.schema], new_tokens)


def cut(text: str, count: Count) -> Iterator[str]:
    """A text in pieces of at most `PIECE` tokens: whole paragraphs, or words of a longer one."""
    held: list[str] = []
    for part in _parts(text, count):
        if held and count("\n\n".join([*held, part])) > PIECE:
            yield "\n\n".join(held)
            held = []
        held.append(part)
    if held:
        yield "\n\n".join(held)


def _parts(text: str, count: Count) -> Iterator[str]:
    for paragraph in filter(None, (part.strip() for part in text.split("\n\n"))):
        tokens = count(paragraph)
        if tokens <= PIECE:
            yield paragraph
            continue
        words = paragraph.split(" ")
        size = max(1, len(words) * PIECE // (2 * tokens))
        for start in range(0, len(words), size):
            yield " ".join(words[start : start + size])


def texts_in(folder: Path) -> list[str]:
    """The texts of a folder's files, in the order of their names, those below it among them.

    Raises PromptError for a folder without text, and for a file that is not UTF-8.
    """
    if not folder.is_dir():
        raise PromptError(f"there is no folder {str(folder)!r}")
    paths = (path for path in sorted(folder.rglob("*")) if path.suffix.lower() in SUFFIXES)
    texts = [text for path in paths if path.is_file() and (text := _read(path))]
    if not texts:
        raise PromptError(
            f"there is no text in {str(folder)!r}: expected files that end in "
            f"{' or '.join(SUFFIXES)}"
        )
    return texts


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except UnicodeDecodeError as error:
        raise PromptError(f"{path} is not UTF-8 text: {error.reason}") from None


def _value(file: Path) -> Schema | Prompt:
    report = lint(file)
    if report.value is None:
        raise report.errors[0]
    return report.value


def _beside(files: Sequence[Path]) -> dict[str, Schema]:
    """The schemas in PML files of the same folders."""
    found: dict[str, Schema] = {}
    for folder in dict.fromkeys(file.parent for file in files):
        for file in sorted({*folder.glob("*.pml"), *folder.glob("*.xml")} - set(files)):
            try:
                value = _value(file)
            except PMLError:
                continue
            if isinstance(value, Schema):
                found.setdefault(value.name, value)
    return found


def _chat(question: str, documents: Sequence[str], number: int, seed: int, new_tokens: int) -> Chat:
    about = About(question, kind="own", documents=len(documents), seed=seed, number=number)
    system = SYSTEM + "\n\n".join(documents)
    return Chat(about, (("system", system), ("user", question)), tuple(documents), new_tokens)


def _checked(prompts: int, group: int) -> int:
    check_count("group", group)
    check_count("prompts", prompts)
    return prompts
