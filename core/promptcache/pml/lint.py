"""`promptcache lint`: what PML files hold, with sizes, or every error with its place.

Counts characters; tokens only if the caller brings a tokenizer as a function.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.text import Text as Line
from rich.tree import Tree

from promptcache.errors import PMLError, PromptCacheError, valid
from promptcache.pml.checks import Problems
from promptcache.pml.files import read_text
from promptcache.pml.parse import schema_of
from promptcache.pml.prompt import Document, Import, Prompt, PromptNode, Turn, prompt_of
from promptcache.pml.resolve import resolve
from promptcache.pml.schema import Schema
from promptcache.pml.tree import Collection, Module, Node, Param, Role, Text, Union, walk
from promptcache.pml.xml import read

Count = Callable[[str], int]
"""How many tokens a text is."""


@dataclass(frozen=True, slots=True)
class Report:
    """What one file holds: a schema or a prompt, or the reasons why it holds neither."""

    path: Path
    value: Schema | Prompt | None
    errors: tuple[PromptCacheError, ...] = ()
    notes: tuple[str, ...] = ()
    """What could not be checked."""


def lint(path: Path) -> Report:
    """Read one file. Its errors are gathered; one that is not well-formed ends it."""
    problems = Problems(str(path))
    value: Schema | Prompt | None = None
    with problems.noted():
        root = read(read_text(path, "the file"), str(path))
        if root.tag == "prompt":
            value = prompt_of(root, problems)
        else:
            value = schema_of(root, path.parent, problems)
    return Report(path, None if problems else value, problems.errors)


def lint_all(paths: Iterable[Path]) -> list[Report]:
    """Read files; prompts are held against those of the schemas that are among them."""
    reports = [lint(path) for path in paths]
    schemas = {r.value.name: r.value for r in reports if isinstance(r.value, Schema)}
    return [_checked(report, schemas) for report in reports]


def _checked(report: Report, schemas: Mapping[str, Schema]) -> Report:
    prompt = report.value
    if not isinstance(prompt, Prompt):
        return report
    if prompt.schema not in schemas:
        hint = valid(prompt.schema, schemas, what="schemas given")
        note = f"imports are not checked: no file given holds the schema {prompt.schema!r}{hint}"
        return Report(report.path, prompt, notes=(note,))
    try:
        # which documents there are is known when a prompt runs
        resolve(schemas[prompt.schema], prompt, dict.fromkeys(_keys(prompt.children), "-"))
    except PMLError as error:
        problems = Problems(str(report.path))
        problems.add(error)
        return Report(report.path, None, problems.errors)
    except PromptCacheError as error:
        return Report(report.path, None, (error,))
    return report


def _keys(pieces: Iterable[PromptNode]) -> Iterable[str]:
    for piece in pieces:
        if isinstance(piece, Document):
            yield piece.key
        elif isinstance(piece, Import | Turn):
            yield from _keys(piece.children)


def run(paths: Sequence[Path], console: Console, count: Count | None = None) -> int:
    """Print a tree, or the errors, of each file. The exit status: 1 if there was an error."""
    reports = lint_all(paths)
    for report in reports:
        for error in report.errors:
            console.print(Line(_sentence(report, error), style="red"), soft_wrap=True)
        if report.value:
            console.print(tree(report.value, str(report.path), count))
        for note in report.notes:
            console.print(Line(f"{report.path}: {note}", style="yellow"), soft_wrap=True)
    return int(any(report.errors for report in reports))


def _sentence(report: Report, error: PromptCacheError) -> str:
    return str(error) if isinstance(error, PMLError) else f"{report.path}: {error}"


def tree(value: Schema | Prompt, title: str, count: Count | None = None) -> Tree:
    """A schema or a prompt as a tree; the sizes of elements include what stands in them."""
    if isinstance(value, Schema):
        top = Tree(_line(f"{title}: schema {value.name}", _size(value.children, count)))
        _grow(top, value.children, count)
        for scaffold in value.scaffolds:
            top.add(_line(f"scaffold {scaffold.name}", ", ".join(scaffold.modules)))
    else:
        top = Tree(_line(f"{title}: prompt for the schema {value.schema}"))
        _grow_prompt(top, value.children, count)
    return top


def _grow(branch: Tree, nodes: Iterable[Node], count: Count | None) -> None:
    for node in nodes:
        size = _size((node,), count)
        match node:
            case Text():
                branch.add(_line(f"text {_excerpt(node.text)}", size))
            case Param():
                default = "" if node.default is None else f", else {_excerpt(node.default)}"
                branch.add(_line(f"param {node.name}", f"up to {node.length} tokens{default}"))
            case Collection():
                branch.add(_line(f"collection {node.name}"))
            case Module():
                cache = "" if node.cache else ", computed each time"
                _grow(branch.add(_line(f"module {node.name}", size + cache)), node.children, count)
            case Union():
                name = f" {node.name}" if node.name else ""
                default = f"default {node.default}" if node.default else "no default"
                _grow(branch.add(_line(f"union{name}", default)), node.members, count)
            case Role():
                _grow(branch.add(_line(node.role, size)), node.children, count)


def _grow_prompt(branch: Tree, pieces: Iterable[PromptNode], count: Count | None) -> None:
    for piece in pieces:
        match piece:
            case Text():
                branch.add(_line(f"text {_excerpt(piece.text)}", _size((piece,), count)))
            case Document():
                branch.add(_line(f"doc {_excerpt(piece.key)}"))
            case Turn():
                _grow_prompt(branch.add(_line(piece.role)), piece.children, count)
            case Import():
                given = ", ".join(f"{a.name}={_excerpt(a.text)}" for a in piece.arguments)
                inner = branch.add(_line(f"import {piece.name}", given))
                _grow_prompt(inner, piece.children, count)


def _size(nodes: Iterable[Node], count: Count | None) -> str:
    texts = [node.text for node in walk(nodes) if isinstance(node, Text)]
    characters = f"{sum(map(len, texts)):,} characters"
    return characters if count is None else f"{characters}, {sum(map(count, texts)):,} tokens"


def _excerpt(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:37] + "...")


def _line(what: str, detail: str = "") -> Line:
    return Line.assemble(what, (f"  {detail}", "dim") if detail else "")
