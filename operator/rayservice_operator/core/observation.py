"""What the observer of a live cluster saw last, and how old it is.

Parsed leniently from Ray Serve's REST API (Ray 2.60 ``ServeInstanceDetails``; unset fields are omitted, other
versions have other fields): what is missing is None or empty, never an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from rayservice_operator.core.measurements import Sample

_ANSWERING: Final = frozenset({"RUNNING", "PENDING_MIGRATION", "UPDATING"})


@dataclass(frozen=True, slots=True)
class ReplicaView:
    """One replica of a deployment. ``node_ip`` is the pod's address, empty while it is not placed."""

    replica_id: str
    state: str
    node_ip: str = ""


@dataclass(frozen=True, slots=True)
class DeploymentView:
    """One deployment. ``message`` has no colour codes; ``status`` as Ray writes it (HEALTHY, UPDATING, …)."""

    name: str
    status: str
    message: str = ""
    status_trigger: str = ""
    target_replicas: int | None = None
    replicas: tuple[ReplicaView, ...] = ()

    @property
    def running(self) -> int:
        """Replicas that serve."""
        return sum(1 for replica in self.replicas if replica.state == "RUNNING")

    @property
    def answering(self) -> int:
        """Replicas whose requests are answered: those that serve, also while Ray moves them, and those that take over a
        new ``user_config`` in place. To these nothing is sent for that moment, but it waits, and the process stays
        (``DeploymentState.get_running_replica_infos``, Ray 2.60)."""
        return sum(1 for replica in self.replicas if replica.state in _ANSWERING)


@dataclass(frozen=True, slots=True)
class ApplicationView:
    """One application. ``config`` is Ray's ``deployed_app_config``, empty for an app not deployed from a config."""

    name: str
    status: str
    message: str = ""
    route_prefix: str | None = None
    deployments: Mapping[str, DeploymentView] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    last_deployed_s: float | None = None


@dataclass(frozen=True, slots=True)
class PushResult:
    """Outcome of the newest PUT of a serve config to this head.

    accepted: 2xx. rejected: Ray will not take this config (400), or 500 with an error of importing user code.
    failing: no answer, 5xx; it is being tried again. ``capacity``: that of the :class:`ServePush`.
    """

    config_hash: str
    attempt: str
    state: Literal["accepted", "rejected", "failing"]
    at: float
    message: str = ""
    capacity: int | None = None


@dataclass(frozen=True, slots=True)
class ServeObservation:
    """The newest knowledge of one cluster's Serve instance. Times are epoch seconds.

    ``seen_at`` is when the last successful GET was begun (None: none yet), so what it tells is no older than that;
    ``error``/``failing_since`` describe the attempts after it. ``applications`` and ``proxies`` are those of
    ``seen_at``. ``proxies`` maps pod address to whether its HTTP proxy answers its health check with 200 (asked
    directly; what the controller thinks comes second).
    ``session`` changes when the head is a new Ray session. ``target_capacity``: Serve's, in percent, None for not set.
    ``samples`` are measurements of the analysis, if one is ordered.
    """

    head_uid: str
    started_at: float
    seen_at: float | None = None
    session: str = ""
    ray_version: str = ""
    applications: Mapping[str, ApplicationView] = field(default_factory=dict)
    proxies: Mapping[str, bool] = field(default_factory=dict)
    target_capacity: float | None = None
    error: str | None = None
    failing_since: float | None = None
    push: PushResult | None = None
    samples: tuple[Sample, ...] = ()

    @property
    def push_seen(self) -> bool:
        """False while the applications are those of before the newest push, which tell nothing of the new config."""
        push = self.push
        return push is None or push.state != "accepted" or (self.seen_at is not None and self.seen_at >= push.at)

    def age(self, now: float) -> float | None:
        """Seconds since the last successful look; None when there was none."""
        return None if self.seen_at is None else max(0.0, now - self.seen_at)
