"""What the demo prints. Knows nothing of models or chains."""

from __future__ import annotations

from collections.abc import Sequence

from langchain_core.documents import Document
from langchain_core.prompts import ChatPromptTemplate
from rich.console import Console
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from langchain_promptcache.demo.measure import Answer, Row
from langchain_promptcache.templates import schema_from_prompt
from promptcache.pml import write

SHOWN = 2
"""Documents that are shown as PML."""
BEGINNING = 72
"""Characters of each that are shown."""
NEXT = (
    "Next: your own documents, with promptcache demo --docs FOLDER; your own chain, as README.md "
    "and cookbook/langchain_rag.ipynb show."
)
"""What stands behind all that was shown of the documents that ship."""


def heading(console: Console, text: str) -> None:
    """A line between two parts."""
    console.print()
    console.rule(Text(text, style="bold"), align="left")


def counted(number: int, noun: str) -> str:
    """A number of things."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def markup(console: Console, prompt: ChatPromptTemplate, documents: Sequence[Document]) -> None:
    """The prompt and the first documents as PML, the documents' texts cut short."""
    schema = schema_from_prompt(prompt, map(_shortened, documents[:SHOWN]), name="library")
    console.print(Syntax(write(schema).rstrip(), "xml", theme="ansi_dark", word_wrap=True))
    if (more := len(documents) - SHOWN) > 0:
        console.print(f"(and {counted(more, 'document')} more)", style="dim")


def _shortened(document: Document) -> Document:
    text = document.page_content
    if len(text) <= BEGINNING:
        return document
    return document.model_copy(update={"page_content": text[:BEGINNING].rstrip() + " …"})


def answered(console: Console, answer: Answer) -> None:
    """A question, its answer, and a mark where it is known whether that is right."""
    marks = {True: ("✓ ", "bold green"), False: ("✗ ", "bold red"), None: ("· ", "dim")}
    line = Text.assemble(marks[answer.right], (answer.question.text, "bold"), "\n  ", answer.text)
    if answer.right is False:
        line.append(f"\n  expected: {answer.question.answer}", style="red")
    sources = [str(d.metadata.get("source", "?")) for d in answer.documents]
    line.append(f"\n  from {', '.join(dict.fromkeys(sources))}", style="dim")
    console.print(line)


def times(console: Console, rows: Sequence[Row], caption: str) -> None:
    """The table of times; the first row is what the others are compared with."""
    table = Table(caption=caption, caption_justify="left")
    table.add_column("prompt")
    columns = ["first token", "speed-up", "reused", "computed"]
    known = any(row.known for row in rows)
    for column in [*columns, *(["right"] if known else [])]:
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(
            row.name,
            f"{row.ttft * 1000:.1f} ms",
            f"{rows[0].ttft / row.ttft:.1f}x",
            f"{row.reused:.0f}",
            f"{row.computed:.0f}",
            *([f"{row.right} of {row.known}"] if known else []),
        )
    console.print(table)
