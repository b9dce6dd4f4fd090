"""Ray Serve's request router, by our routing: what it asks for, in its terms."""

from __future__ import annotations

from typing import Any

from ray.serve.request_router import PendingRequest, ReplicaID, RequestRouter, RunningReplica

from promptcache.ray.routing import Routing
from promptcache.ray.wire import Asked


class ModuleRouter(RequestRouter):
    """Sends each request to the replica that holds most of its modules, unless it is overloaded."""

    def initialize_state(self, **options: Any) -> None:
        """Begin with the options of `Routing`."""
        self._routing = Routing(**options)

    async def choose_replicas(
        self,
        candidate_replicas: list[RunningReplica],
        pending_request: PendingRequest | None = None,
    ) -> list[list[RunningReplica]]:
        """Every replica, each a rank of its own, the best for the request first."""
        if pending_request is not None:
            # Without this, Serve asks again at once as long as every replica is full.
            pending_request.routing_context.should_backoff = True
        replicas = {replica.replica_id.unique_id: replica for replica in candidate_replicas}
        lengths = self.replica_queue_len_cache
        loads = {name: lengths.get(r.replica_id) or 0 for name, r in replicas.items()}
        self._routing.update(replicas)
        return [[replicas[name]] for name in self._routing.ranked(_named(pending_request), loads)]

    def on_request_routed(
        self, pending_request: PendingRequest, replica_id: ReplicaID, result: Any
    ) -> None:
        """Remember which replica took a request."""
        self._routing.sent(_named(pending_request), replica_id.unique_id)


def _named(request: PendingRequest | None) -> tuple[str, ...]:
    """The modules that a request names; others than ours name none."""
    if request is None:
        return ()
    return next((given.modules for given in request.args if isinstance(given, Asked)), ())
