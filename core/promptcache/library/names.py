"""Names of modules: what was fetched under each, as far as the store has it still."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from threading import Lock

from promptcache.layout import ContextKind, ModuleRun
from promptcache.store import Store

REMEMBERED = 32
"""Contexts of one module whose keys are remembered before they are looked through."""
NAMES = 1024
"""Names of modules that are remembered, at least, before they are looked through."""


class Names:
    """The names of one engine's modules. Bounded, and safe to use from several threads."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = Lock()
        self._named: dict[str, dict[str, ModuleRun]] = {}
        """Runs by their keys, by the names that they were fetched under."""
        self._most = NAMES

    def remember(self, keys: Mapping[ModuleRun, str]) -> None:
        """Keep the names of these modules, and forget keys that the store no longer has."""
        with self._lock:
            if len(self._named) > self._most:
                alive = self._store.holding([key for runs in self._named.values() for key in runs])
                kept = {name: _only(alive, runs) for name, runs in self._named.items()}
                self._named = {name: runs for name, runs in kept.items() if runs}
                self._most = max(NAMES, 2 * len(self._named))
            for run, key in keys.items():
                if run.context.kind is ContextKind.START:
                    continue
                named = self._named.setdefault(run.name, {})
                named[key] = run
                if len(named) > REMEMBERED:
                    self._named[run.name] = _only({key, *self._store.holding(named)}, named)

    def pop(self, name: str) -> set[str]:
        """Forget every module of this name, in any schema; the keys that these had."""
        with self._lock:
            named = [known for known in self._named if called(known, name)]
            return {key for n in named for key in self._named.pop(n)}

    def alive(self) -> dict[str, ModuleRun]:
        """What the store has now of the named modules, by its keys."""
        with self._lock:
            named = [pair for runs in self._named.values() for pair in runs.items()]
        alive = self._store.holding([key for key, _ in named])
        return {key: run for key, run in named if key in alive}


def called(name: str, given: str) -> bool:
    """Whether a module of this name is meant by another, which may leave its schema's out."""
    return name == given or name.endswith(f".{given}")


def _only(keys: Collection[str], runs: Mapping[str, ModuleRun]) -> dict[str, ModuleRun]:
    return {key: run for key, run in runs.items() if key in keys}
