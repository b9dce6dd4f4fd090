"""The command line: what `promptcache COMMAND` takes, and what that is handed to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from inspect import getdoc
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from promptcache.bench.commands import app as bench
from promptcache.bench.fidelity.checking import check
from promptcache.errors import MissingExtraError, OptionError, PromptCacheError
from promptcache.server.command import key, serve
from promptcache.store_commands import encode, export, gc, import_, inspect, ls, verify

app = typer.Typer(
    help="Reuse the attention states of documents, in any order.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def lint(
    files: Annotated[list[Path], typer.Argument(help="PML files: schemas or prompts.")],
    model: Annotated[
        str | None, typer.Option(help="Count tokens with this model's tokenizer.")
    ] = None,
) -> None:
    """Show the tree of each PML file with its sizes, or every error with its place."""
    from promptcache.pml.lint import run

    raise typer.Exit(run(files, Console(), count=_counter(model)))


def translate(
    prompt: Annotated[
        str,
        typer.Argument(
            help="A template of LangChain's or LlamaIndex's, or a function with @schema, as "
            "module:prompt."
        ),
    ],
    documents: Annotated[
        list[str] | None,
        typer.Option(
            help="A variable that holds documents. [context; context_str and context_msg]"
        ),
    ] = None,
    name: Annotated[str | None, typer.Option(help="What to call the schema.")] = None,
) -> None:
    """Write the schema of a prompt template's or a prompt program's prompts as PML."""
    from promptcache.pml import write
    from promptcache.pml.programs import Program
    from promptcache.templates.lookup import extra_for, template_of

    template = template_of(prompt)
    if isinstance(template, Program):
        if documents:
            raise OptionError(f"{prompt} is a prompt program: no variable of it holds documents")
        typer.echo(write(replace(template.schema, name=name or template.schema.name)), nl=False)
        return
    extra = extra_for(template, prompt)
    markup_of: Callable[..., str]
    try:
        if extra == "langchain":
            from langchain_promptcache.templates.named import markup_of
        else:
            from llama_index_promptcache.named import markup_of
    except (ModuleNotFoundError, MissingExtraError) as error:
        raise MissingExtraError("translate", extra) from error
    markup = markup_of(template, prompt, document_variables=documents or (), schema_name=name)
    typer.echo(markup, nl=False)


def probe(
    model: Annotated[str, typer.Argument(help='"pocket", a folder, or a hub name.')],
) -> None:
    """Say what promptcache finds out about a model when it loads it: what it can reuse, and how."""
    from promptcache.engine import PromptCache
    from promptcache.reuse import Exact

    cache = PromptCache.from_pretrained(model, reuse=Exact())
    traits = cache.traits
    console = Console(highlight=False)
    console.print(f"model      {cache.name}, window {cache.window} tokens", markup=False)
    console.print(f"attention  {traits.attention or 'its own'}", markup=False)
    console.print(f"keys       {traits.movement}", markup=False)
    console.print(f"states     {traits.token_bytes:,} bytes per token", markup=False)
    if traits.movement.limit:
        movement = traits.movement
        console.print(f"limit      {movement.limit} tokens: {movement.limited_by}", markup=False)


def demo(
    docs: Annotated[
        Path | None, typer.Option(help="A folder of your own .md or .txt files.")
    ] = None,
    model: Annotated[str, typer.Option(help='"pocket", a folder, or a hub name.')] = "pocket",
    question: Annotated[
        list[str] | None, typer.Option(help="Ask this; may be given several times.")
    ] = None,
) -> None:
    """Ask questions over documents through a LangChain chain: in full, cold, warm and shuffled."""
    try:
        from langchain_promptcache.demo import run
    except (ModuleNotFoundError, MissingExtraError) as error:
        raise MissingExtraError("the demo", "demo") from error
    raise typer.Exit(run(docs, model, Console(), questions=question or ()))


def _counter(model: str | None):  # type: ignore[no-untyped-def]
    if model is None:
        return None
    from promptcache.model.load import load_tokenizer
    from promptcache.text.tokenize import SegmentTokenizer

    return SegmentTokenizer(load_tokenizer(model)).count


def main() -> None:
    """Run the command line; an error that a user caused ends in one sentence and status 1."""
    try:
        app()
    except PromptCacheError as error:
        console = Console(stderr=True, markup=False, emoji=False, highlight=False)
        console.print(f"error: {error}", soft_wrap=True)
        raise SystemExit(1) from None


COMMANDS: dict[str, Callable[..., None]] = {
    "demo": demo, "probe": probe, "check": check, "lint": lint, "translate": translate,
    "encode": encode, "ls": ls, "inspect": inspect, "verify": verify, "gc": gc, "export": export,
    "import": import_, "serve": serve, "key": key,
}  # fmt: skip
"""In the order in which the help lists them."""
for name, command in COMMANDS.items():
    app.command(name)(command)
app.add_typer(bench, name="bench", short_help=bench.info.help)
for listed in (*app.registered_commands, *bench.registered_commands):
    # Of a long sentence the list of commands would show the beginning.
    listed.short_help = " ".join((getdoc(listed.callback) or "").partition("\n\n")[0].split())
