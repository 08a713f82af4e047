"""What a pod's own object tells: does it run, is it dead, since when, and in whose session was it started."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from rayservice_operator.api import names
from rayservice_operator.cluster.pod import ATTEMPT, HEAD_UID
from rayservice_operator.core.objects import (
    Manifest,
    Ref,
    annotations_of,
    is_terminating,
    labels_of,
    metadata,
    name_of,
    ref,
    uid_of,
)
from rayservice_operator.core.timestamps import from_rfc3339

STABLE_S: Final = 600.0
"""A pod that lived this long did not die of its start. The kubelet forgives a crashing container after as long."""

_FIRST_BACKOFF_S: Final = 10.0
_MAX_BACKOFF_S: Final = 300.0

STUCK_TERMINATING_S: Final = 30.0
"""A pod that is still there so long after its grace period has a kubelet that does not answer."""

CLOCK_SKEW_S: Final = 5.0
"""Times in the status of pods come from the clocks of their nodes."""


@dataclass(frozen=True)
class PodView:
    """One pod of a RayCluster."""

    obj: Manifest

    @cached_property
    def name(self) -> str:
        """Its name."""
        return name_of(self.obj)

    @property
    def uid(self) -> str:
        """Its UID."""
        return uid_of(self.obj)

    @property
    def ref(self) -> Ref:
        """Reference with UID."""
        return ref({"apiVersion": "v1", "kind": "Pod", **self.obj})

    @property
    def group(self) -> str:
        """Value of ``ray.io/group``."""
        return labels_of(self.obj).get(names.NODE_GROUP, "")

    @property
    def is_head(self) -> bool:
        """Whether it is a head pod."""
        return labels_of(self.obj).get(names.NODE_TYPE) == names.HEAD

    @property
    def is_worker(self) -> bool:
        """Whether it is a worker pod."""
        return labels_of(self.obj).get(names.NODE_TYPE) == names.WORKER

    @property
    def annotations(self) -> Mapping[str, str]:
        """Its annotations."""
        return annotations_of(self.obj)

    @property
    def status(self) -> Mapping[str, Any]:
        """Its status."""
        return self.obj.get("status") or {}

    @property
    def phase(self) -> str:
        """Pending, Running, Succeeded, Failed or Unknown."""
        return str(self.status.get("phase") or "Pending")

    @property
    def ip(self) -> str:
        """Its address, empty before it has one."""
        return str(self.status.get("podIP") or "")

    @property
    def terminating(self) -> bool:
        """Whether deletion has been asked for."""
        return is_terminating(self.obj)

    @property
    def created_at(self) -> float:
        """Epoch seconds (whole ones, as the API server keeps them)."""
        return from_rfc3339(metadata(self.obj).get("creationTimestamp")) or 0.0

    def condition(self, type_: str) -> Mapping[str, Any]:
        """The pod condition of that type, empty when absent."""
        return next((c for c in self.status.get("conditions") or () if c.get("type") == type_), {})

    @property
    def ready(self) -> bool:
        """Whether it runs and passes its readiness probes."""
        return self.phase == "Running" and self.condition("Ready").get("status") == "True" and not self.terminating

    @property
    def ready_since(self) -> float | None:
        """When it became ready; None while it is not."""
        return from_rfc3339(self.condition("Ready").get("lastTransitionTime")) if self.ready else None

    @cached_property
    def ray_status(self) -> Mapping[str, Any]:
        """Status of the Ray container, empty before the kubelet has reported."""
        containers = (self.obj.get("spec") or {}).get("containers") or [{}]
        wanted = containers[0].get("name")
        statuses = self.status.get("containerStatuses") or ()
        return next((status for status in statuses if status.get("name") == wanted), {})

    @property
    def ray_started_at(self) -> float | None:
        """When the Ray container that runs now was started."""
        return from_rfc3339(((self.ray_status.get("state") or {}).get("running") or {}).get("startedAt"))

    @property
    def ray_restarts(self) -> int:
        """How often the Ray container was restarted in this pod."""
        return int(self.ray_status.get("restartCount") or 0)

    @cached_property
    def _ray_ended(self) -> Mapping[str, Any]:
        """The end of a Ray container that nobody restarts."""
        never = (self.obj.get("spec") or {}).get("restartPolicy") == "Never"
        ended: Mapping[str, Any] = (self.ray_status.get("state") or {}).get("terminated") or {}
        return ended if never or self.phase in _ENDED else {}

    @property
    def dead(self) -> bool:
        """Whether Ray never runs in it again: phase Failed or Succeeded, or ended under ``restartPolicy: Never``."""
        return self.phase in _ENDED or bool(self._ray_ended)

    @property
    def lost(self) -> bool:
        """Whether its node has been given up by Kubernetes, so that nothing is known about its containers."""
        return not self.dead and (self.phase == "Unknown" or self.status.get("reason") == "NodeLost")

    @property
    def living(self) -> bool:
        """Whether it counts: not dead, not lost, not on its way out."""
        return not (self.terminating or self.dead or self.lost)

    def may_run_until(self, now: float) -> float | None:
        """When a terminating pod may be taken for gone even if its kubelet says nothing; None if it is gone.

        ``deletionTimestamp`` is the end of the grace period, not the moment of the request.
        """
        if self.dead:
            return None
        deadline = from_rfc3339(metadata(self.obj).get("deletionTimestamp"))
        until = (now if deadline is None else deadline) + STUCK_TERMINATING_S
        return until if until > now else None

    @property
    def attempt(self) -> int:
        """How many pods in a row died young before this one."""
        text = self.annotations.get(ATTEMPT, "0")
        return int(text) if text.isdigit() else 0

    @property
    def next_attempt(self) -> int:
        """Attempt number of the pod that replaces this dead one; 0 after a long life."""
        started = from_rfc3339(self._ray_ended.get("startedAt")) or self.created_at
        return 0 if self._died_at - started >= STABLE_S else self.attempt + 1

    @property
    def replace_at(self) -> float:
        """When this dead pod may be replaced. It stays until then, because it is the memory of the attempts.

        The first that dies young is replaced at once, the next after 10, 20, 40 … at most 300 s.
        """
        pause = pause_before(self.next_attempt)
        return self._died_at + pause if pause else 0.0

    @property
    def _died_at(self) -> float:
        ended = from_rfc3339(self._ray_ended.get("finishedAt"))
        changes = (from_rfc3339(c.get("lastTransitionTime")) for c in self.status.get("conditions") or ())
        return ended or max((at for at in changes if at is not None), default=self.created_at)


_ENDED: Final = frozenset({"Failed", "Succeeded"})


def pause_before(attempt: int) -> float:
    """Seconds between the end of a pod that died young and its successor, the ``attempt``-th in a row."""
    return min(_MAX_BACKOFF_S, _FIRST_BACKOFF_S * float(2 ** min(attempt - 2, 10))) if attempt >= 2 else 0.0


def of_lost_session(worker: PodView, head: PodView) -> bool:
    """Whether a worker belongs to a Ray session that ended, given the present head; only where no state survives.

    Another head pod: told by the annotation with the head's UID, or, for pods that have none (another operator made
    them), by age. A head container that was restarted in its pod is another session too: a worker that was ready
    before that moment was ready for the old one. One that became ready later, or is not ready, is left alone: it may
    be joining, and if not, its raylet gives up within ``RAY_gcs_rpc_server_reconnect_timeout_s`` (60 s).
    """
    made_for = worker.annotations.get(HEAD_UID)
    if made_for is not None and made_for != head.uid:
        return True
    if made_for is None and worker.created_at < head.created_at:
        return True
    started, ready = head.ray_started_at, worker.ready_since
    return head.ray_restarts > 0 and started is not None and ready is not None and ready < started - CLOCK_SKEW_S
