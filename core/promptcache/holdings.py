"""What one engine has attention states of now: listed, and forgotten by name."""

from __future__ import annotations

from dataclasses import dataclass

from promptcache.expectations import Expectations
from promptcache.library import ModuleLibrary
from promptcache.shelf import Shelf


@dataclass(frozen=True, slots=True)
class HeldModule:
    """A module whose states the store has.

    `name` is what prompts call it, with its schema's in front; a document's ends with its key.
    `key` is what the store calls its states, `context` what they were encoded after.
    """

    name: str
    key: str
    context: str
    tokens: int


class Holdings:
    """The modules of one engine that its store has. Safe to use from several threads.

    Those that this engine has encoded or used: what other engines, or earlier processes, left in
    the same store is there once it is asked for.
    """

    def __init__(self, library: ModuleLibrary, shelf: Shelf, expectations: Expectations) -> None:
        self._library = library
        self._shelf = shelf
        self._expectations = expectations

    def listed(self) -> list[HeldModule]:
        """Every module in every context, by name."""
        return sorted(
            (
                HeldModule(run.name, key, str(run.context.kind), len(run.ids))
                for key, run in self._library.every().items()
            ),
            key=lambda module: (module.name, module.key),
        )

    def forget(self, name: str) -> bool:
        """Take a module's states out of the store, in every context; whether there was anything.

        A document is taken out of the register, too; a schema's module is encoded again when a
        prompt next imports it.
        """
        there = any(m.name == name or m.name.endswith(f".{name}") for m in self.listed())
        key = name.rpartition(".")[2]
        text = self._shelf.texts.get(key)
        registered = text is not None and self._shelf.remove([text]) > 0
        marked = self._shelf.marks.forget(key)
        self._library.delete_named(name)
        self._expectations.forget({name})
        return there or registered or marked
