"""What one engine has attention states of now: listed, and forgotten by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from promptcache.expectations import Expectations
from promptcache.layout import ModuleRun
from promptcache.library import ModuleLibrary, called
from promptcache.shelf import Shelf
from promptcache.store.places import places

BEGINNING = 60
"""Characters of a document that are told, to tell by."""


@dataclass(frozen=True, slots=True)
class HeldModule:
    """A module whose states the store has.

    `name` is what prompts call it, with its schema's in front; a document's ends with its key.
    `key` is what the store calls its states, `context` what they were encoded after. `places` are
    the bytes that they take in each tier that has them; `pinned` ones are not evicted by this
    process. A document `begins` with these words.
    """

    name: str
    key: str
    context: str
    tokens: int
    places: Mapping[str, int] = field(default_factory=dict)
    begins: str = ""
    pinned: bool = False


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
        runs = self._library.every()
        where = places(self._library.store, runs.keys())
        return sorted(
            (
                HeldModule(
                    run.name,
                    key,
                    str(run.context.kind),
                    len(run.ids),
                    where.get(key, {}),
                    self._beginning(run.name),
                    self._library.is_pinned(key),
                )
                for key, run in runs.items()
            ),
            key=lambda module: (module.name, module.key),
        )

    def load(self, name: str) -> bool:
        """Bring a module's states into the fastest tier that has room; whether there are any."""
        keys = [self._library.key(run) for run in self._named(name)]
        return bool(self._library.store.find_all(keys))

    def pin(self, name: str) -> bool:
        """Keep a module's states from being evicted, in each context that they are in now; whether
        there are any.

        They are the model's as it is, with its present adapters.
        """
        runs = self._named(name)
        self._library.pin(runs)
        return bool(runs)

    def unpin(self, name: str) -> bool:
        """Let a module's states be evicted again; whether there are any."""
        runs = self._named(name)
        self._library.unpin(runs)
        return bool(runs)

    def _named(self, name: str) -> list[ModuleRun]:
        return [run for run in self._library.held() if called(run.name, name)]

    def _beginning(self, name: str) -> str:
        key = name.rpartition(".")[2]
        text = self._shelf.texts.get(key) or self._shelf.marks.text(key)
        return " ".join(text[:BEGINNING].split())

    def forget(self, name: str) -> bool:
        """Take a module's states out of the store, in every context; whether there was anything.

        A document is taken out of the register, too; a schema's module is encoded again when a
        prompt next imports it.
        """
        there = any(called(module.name, name) for module in self.listed())
        key = name.rpartition(".")[2]
        text = self._shelf.texts.get(key)
        registered = text is not None and self._shelf.remove([text]) > 0
        marked = self._shelf.marks.forget(key)
        self._library.delete_named(name)
        self._expectations.forget({name})
        return there or registered or marked
