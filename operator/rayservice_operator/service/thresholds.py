"""The two thresholds: how long nothing may move before something is done, or at least said (design.md).

``deploymentUnhealthySecondThreshold`` is about what has failed: applications, or containers of their cluster.
``serviceUnhealthySecondThreshold`` is about the service as a whole: no Serve API that answers, or nobody behind the
serve service. What is done then is decided elsewhere: ``abort``, ``rollback``, ``recovery``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from rayservice_operator.core.objects import Manifest
from rayservice_operator.service.activity import Counted
from rayservice_operator.service.progress import Progress

DEPLOYMENT: Final = "deploymentUnhealthySecondThreshold"
SERVICE: Final = "serviceUnhealthySecondThreshold"
PROGRESS: Final = "upgradeStrategy.progressDeadlineSeconds"
DEFAULTS_S: Final = {DEPLOYMENT: 300, SERVICE: 900}
"""Seconds where the field is unset; KubeRay's of the time when it acted on them."""


@dataclass(frozen=True, slots=True)
class Limit:
    """``at``: epoch seconds when it is reached as things stand. ``field``: of the spec; ``seconds``: its value."""

    at: float
    field: str
    seconds: int


def seconds_of(service: Manifest, field: str) -> int:
    """The threshold in force, in seconds; the default for what is no positive number."""
    value = service["spec"].get(field)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else DEFAULTS_S[field]


def progress_deadline_s(service: Manifest) -> int | None:
    """Seconds that a rollout may take as a whole, whatever moves; None for no limit."""
    value = (service["spec"].get("upgradeStrategy") or {}).get("progressDeadlineSeconds")
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def deployment_limit(service: Manifest, progress: Progress) -> Limit | None:
    """When what has failed has been so for too long; None while nothing has, or something moves."""
    return _limit(service, progress, DEPLOYMENT) if progress.counted is Counted.DEPLOYMENT else None


def service_limit(service: Manifest, progress: Progress) -> Limit | None:
    """When the service has been out for too long. Ask only while it is out."""
    return None if progress.counted is Counted.NONE else _limit(service, progress, SERVICE)


def _limit(service: Manifest, progress: Progress, field: str) -> Limit | None:
    seconds = seconds_of(service, field)
    if progress.since is None:
        return None
    return Limit(max(progress.since + seconds, progress.not_before), field, seconds)
