"""Request routers for Ray Serve; thin: what they choose is in :mod:`serve_runtime.routing.choose`. Needs Ray.

Name one in ``request_router_config`` in code, or by path in a serve config when ``serve_runtime`` is installed in the
head's image. All of them fall back to the power of two choices for requests without a key, a prompt or stats.

Ray's own default hands the replica found for one request to whichever has waited longest. That would undo affinity, so
these leave its FIFO mixin out: each request gets the replica that was chosen for it.
"""

from __future__ import annotations

import contextlib
import logging
import random
from collections.abc import Sequence
from typing import Any

from serve_runtime.routing import choose, requests, settings

try:
    from ray.serve.request_router import (
        LocalityMixin,
        MultiplexMixin,
        RequestRouter,
    )
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError("request routers need Ray: install rayservice-operator[runtime]") from missing


class _Router(LocalityMixin, MultiplexMixin, RequestRouter):  # type: ignore[misc]
    """From Ray's objects to candidates, and back to ranks of replicas, which Ray tries in order."""

    _rng: random.Random
    _wrong: str = ""
    _told: bool = False

    def initialize_state(self, **arguments: Any) -> None:
        """Ray calls this once with ``request_router_kwargs``.

        Nothing is raised for wrong ones: in Ray 2.60 the application would be RUNNING and each request would hang.
        They are logged, and requests are routed by the power of two choices.
        """
        self._rng = random.Random()
        try:
            self.configure(arguments)
        except ValueError as error:
            self._wrong = str(error)
            self.configure({})
            logging.getLogger("ray.serve").error(
                "The request router of %s routes by the power of two choices: %s", self._deployment_id, error
            )

    def configure(self, arguments: dict[str, Any]) -> None:
        """Reads the settings of this kind of router."""
        raise NotImplementedError

    def order(self, pending: Any, candidates: Sequence[choose.Candidate]) -> list[str]:
        """Replicas for this request, best first; none for «no preference»."""
        raise NotImplementedError

    async def choose_replicas(self, candidate_replicas: list[Any], pending_request: Any = None) -> list[list[Any]]:
        """Ray's protocol: ranks of replicas."""
        if not candidate_replicas:
            return []
        allowed = self._of_model(candidate_replicas, pending_request)
        by_id = {replica.replica_id.to_full_id_str(): replica for replica in allowed}
        candidates = [
            choose.Candidate(name, self.replica_queue_len_cache.get(replica.replica_id), replica.routing_stats or {})
            for name, replica in by_id.items()
        ]
        order = [] if pending_request is None or self._wrong else self._order(pending_request, candidates)
        ranks = [[by_id[name]] for name in order]
        two = [by_id[name] for name in choose.power_of_two(candidates, self._rng)]
        # Ray asks again at once, without a pause, unless it is told to wait when all of these are full.
        if pending_request is not None:
            pending_request.routing_context.should_backoff = True
        return [*ranks, two]

    def _order(self, pending: Any, candidates: Sequence[choose.Candidate]) -> list[str]:
        """No preference for a request that cannot be read: an exception here would leave it waiting for ever."""
        try:
            return self.order(pending, candidates)
        except Exception:
            if not self._told:
                self._told = True
                logging.getLogger("ray.serve").exception("A request could not be read; such are routed by load.")
            return []

    def _of_model(self, replicas: list[Any], pending: Any) -> list[Any]:
        """Those that have the multiplexed model of the request, as far as Ray's rules want that."""
        if pending is None or not pending.metadata.multiplexed_model_id:
            return replicas
        chosen = self.apply_multiplex_routing(pending_request=pending)
        return [replica for replica in replicas if replica.replica_id in chosen] or replicas


class StickyRouter(_Router):
    """The same replica for the same value of a header, by consistent hashing; settings: :class:`settings.Sticky`."""

    _settings: settings.Sticky

    def configure(self, arguments: dict[str, Any]) -> None:
        self._settings = settings.parse(settings.Sticky, arguments)

    def order(self, pending: Any, candidates: Sequence[choose.Candidate]) -> list[str]:
        key = requests.header(pending.args, self._settings.header, from_proxy=pending.metadata.is_http_request) or str(
            pending.metadata.session_id
        )
        if not key:
            return []
        return choose.sticky(key, candidates, self._settings.limit)[: 1 + self._settings.fallbacks]


class PrefixRouter(_Router):
    """The replica that has seen the longest beginning of the prompt; settings: :class:`settings.Prefix`.

    For a deployment behind an ingress: it must be called with an object or dict that has ``messages`` or ``prompt``.
    """

    _settings: settings.Prefix
    _index: choose.PrefixIndex

    def configure(self, arguments: dict[str, Any]) -> None:
        self._settings = settings.parse(settings.Prefix, arguments)
        self._index = choose.PrefixIndex(self._settings.block, self._settings.capacity)

    def order(self, pending: Any, candidates: Sequence[choose.Candidate]) -> list[str]:
        if (text := requests.prompt([*pending.args, *pending.kwargs.values()])) is None:
            return []
        blocks = self._index.blocks(text)
        return choose.by_prefix(self._index, blocks, candidates, self._settings)[:3]

    def on_request_routed(self, pending_request: Any, replica_id: Any, result: Any) -> None:  # noqa: ARG002
        """Ray tells where a request went, which may be another replica than the first choice."""
        with contextlib.suppress(Exception):  # told by _order already
            self._record(pending_request, replica_id)

    def _record(self, pending: Any, replica_id: Any) -> None:
        if (text := requests.prompt([*pending.args, *pending.kwargs.values()])) is not None:
            self._index.record(self._index.blocks(text), replica_id.to_full_id_str())

    def update_replicas(self, replicas: list[Any]) -> None:
        """Ray tells which replicas there are; what went is forgotten."""
        before = {replica_id.to_full_id_str() for replica_id in self.curr_replicas}
        super().update_replicas(replicas)
        self._index.forget(before - {replica.replica_id.to_full_id_str() for replica in replicas})


class KvCacheRouter(_Router):
    """The replica with the least of its KV cache in use; settings: :class:`settings.KvCache`.

    The deployment's ``record_routing_stats`` must return the share; lower ``request_routing_stats_period_s``.
    """

    _settings: settings.KvCache

    def configure(self, arguments: dict[str, Any]) -> None:
        self._settings = settings.parse(settings.KvCache, arguments)

    def order(self, pending: Any, candidates: Sequence[choose.Candidate]) -> list[str]:  # noqa: ARG002
        return choose.least_used(candidates, self._settings.stat, self._settings.weight, self._rng)[:3]
