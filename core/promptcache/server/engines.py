"""The engines of a server: one for each namespace, over one model and one store.

What tenants have is kept apart by their namespaces, which are in every key of the store; the
memory that all of them may take together is the store's budget.
"""

from __future__ import annotations

from collections.abc import Mapping
from threading import Lock
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from promptcache.engine import PromptCache
from promptcache.model import load as loading
from promptcache.store import opened
from promptcache.store.opening import StoreLike


class Engines:
    """Engines by namespace, each made when it is first asked for. Safe to use from threads."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        name: str,
        store: StoreLike | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        """`options` go to every engine. Raises what `PromptCache` raises."""
        loading.check_model(model, tokenizer)
        self.name = name
        self.store = opened(store, model.get_input_embeddings().weight.device)
        self._parts = model, tokenizer
        self._options = dict(options or {})
        self._engines: dict[str, PromptCache] = {}
        self._lock = Lock()

    def of(self, namespace: str) -> PromptCache:
        """The engine of a namespace."""
        with self._lock:
            if namespace not in self._engines:
                self._engines[namespace] = PromptCache(
                    *self._parts,
                    name=self.name,
                    store=self.store,
                    namespace=namespace,
                    **self._options,
                )
            return self._engines[namespace]
