"""Who may ask, and in which namespace: what a request's key opens."""

from __future__ import annotations

from fastapi import Request

from promptcache.server.failures import RefusedError
from promptcache.server.keys import Keys
from promptcache.server.visits import visit_of

METRICS = "metrics"
"""The namespace whose keys may read the metrics, where there are keys."""


class Door:
    """Lets requests in, each into the namespace of its key."""

    def __init__(self, keys: Keys | None) -> None:
        self._keys = keys

    async def __call__(self, request: Request) -> str:
        """The namespace of a request, which its visit is told. Raises RefusedError as below."""
        visit = visit_of(request)
        visit.namespace = self.namespace_of(request.headers.get("authorization", ""))
        return visit.namespace

    def namespace_of(self, authorization: str) -> str:
        """The namespace of a header; all share one where there are no keys.

        Raises RefusedError for an unknown key.
        """
        if self._keys is None:
            return ""
        scheme, _, key = authorization.partition(" ")
        found = self._keys.namespace_of(key.strip()) if scheme.lower() == "bearer" else None
        if found is None:
            raise RefusedError(
                401,
                "the API key is missing or unknown; expected the header Authorization: Bearer KEY",
                code="invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )
        return found

    async def metrics(self, request: Request) -> None:
        """Let in who may read figures about all namespaces together."""
        if self._keys is not None and await self(request) != METRICS:
            raise RefusedError(
                403, f"only keys of the namespace {METRICS!r} read the metrics", code="forbidden"
            )
