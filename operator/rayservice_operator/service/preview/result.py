"""What a preview says: plain data, the same for ``kubectl`` warnings, ``plan`` and JSON."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any, Final

from rayservice_operator.core.violations import Violation
from rayservice_operator.serveconfig.effect import AppEffect, Cause, ConfigEffect, DeploymentEffect
from rayservice_operator.serveconfig.fields import Reach
from rayservice_operator.serveconfig.rollout import Replicas, Requests


class Kind(enum.StrEnum):
    """What the operator does about a change as a whole."""

    NOTHING = "nothing"
    METADATA = "metadata only"
    SETTINGS = "settings"
    HOT_UPDATE = "hot update"
    IN_PLACE = "in place"
    UPGRADE_GOES_ON = "upgrade goes on"
    TAKEN_BACK = "upgrade taken back"
    ROLL = "pods replaced in place"
    INCREMENTAL = "new cluster in steps"
    NEW_CLUSTER = "new cluster"
    RECREATE = "cluster recreated"
    HELD_BACK = "held back"
    GIVEN_UP = "given up before"
    FIRST_CLUSTER = "first cluster"
    SUSPEND = "suspended"
    NOT_MANAGED = "not managed"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Impact:
    """Numbers at their worst; None: only the application's code knows.

    replicas: of Serve that are replaced, reconfigured, started or stopped; gpus: of these. extra_replicas: beside those
    that run. pods: that are replaced or removed. extra_pods, extra_pod_gpus: beside those that run. requests: what
    becomes of them. dips: whether fewer replicas than wanted serve for a while.
    """

    replicas: int | None = 0
    gpus: float = 0.0
    extra_replicas: int = 0
    extra_replica_gpus: float = 0.0
    pods: int = 0
    extra_pods: int = 0
    extra_pod_gpus: float = 0.0
    requests: Requests = Requests.SERVED
    dips: bool = False


NO_IMPACT: Final = Impact()


@dataclass(frozen=True, slots=True)
class Preview:
    """What applying a manifest does. ``lines()`` is for people, ``as_dict()`` for programs.

    headline: the most important sentence. config: effects on the applications of the cluster that serves, or of the
    one that is coming up; None where no config is pushed to a running Serve. fields: keys below ``rayClusterConfig``
    that are the reason, or that change in place. needs: what it takes beside what runs, in words. notes: sentences
    about an upgrade that is under way and other circumstances. exact: False where what runs now is not fully known.
    """

    kind: Kind
    headline: str
    impact: Impact = NO_IMPACT
    config: ConfigEffect | None = None
    fields: tuple[str, ...] = ()
    needs: str = ""
    notes: tuple[str, ...] = ()
    violations: tuple[Violation, ...] = ()
    exact: bool = True

    @property
    def changes_anything(self) -> bool:
        """Whether anything that runs is touched."""
        return self.kind not in (Kind.NOTHING, Kind.METADATA)

    def lines(self) -> list[str]:
        """Sentences, the most important first."""
        from rayservice_operator.service.preview.words import lines  # noqa: PLC0415 - words needs this module

        return lines(self)

    def as_dict(self) -> dict[str, Any]:
        """JSON of a stable shape: keys are only ever added. Null stands for what only the application's code knows.

        ``{"kind", "headline", "exact", "requests": "served"|"wait"|"fail", "capacityDips", "impact": {"replicas",
        "gpus", "extraReplicas", "extraReplicaGpus", "pods", "extraPods", "extraPodGpus"}, "fields": [], "needs",
        "notes": [], "violations": [{"field", "problem", "fix"}], "serveConfig": null | {"reach", "causes": [CAUSE],
        "applications": [{"name", "reach", "requests", "causes", "deployments": [{"name", "reach", "requests",
        "causes", "replicas": {"before", "after", "touched", "away", "extra", "gpusEach"}}]}]}}``.
        A CAUSE is ``{"key", "reach", "why"}``.
        """
        impact = self.impact
        return {
            "kind": str(self.kind),
            "headline": self.headline,
            "exact": self.exact,
            "requests": str(impact.requests),
            "capacityDips": impact.dips,
            "impact": {
                "replicas": impact.replicas,
                "gpus": impact.gpus,
                "extraReplicas": impact.extra_replicas,
                "extraReplicaGpus": impact.extra_replica_gpus,
                "pods": impact.pods,
                "extraPods": impact.extra_pods,
                "extraPodGpus": impact.extra_pod_gpus,
            },
            "fields": list(self.fields),
            "needs": self.needs,
            "notes": list(self.notes),
            "violations": [{"field": v.field, "problem": v.problem, "fix": v.fix} for v in self.violations],
            "serveConfig": None if self.config is None else _config(self.config),
        }


def _config(config: ConfigEffect) -> dict[str, Any]:
    return {
        "reach": str(config.reach),
        "causes": _causes(config.causes),
        "applications": [_app(app) for app in config.applications],
    }


def _app(app: AppEffect) -> dict[str, Any]:
    return {
        "name": app.name,
        "reach": str(app.reach),
        "requests": str(app.requests),
        "causes": _causes(app.causes),
        "deployments": [_deployment(deployment) for deployment in app.deployments],
    }


def _deployment(deployment: DeploymentEffect) -> dict[str, Any]:
    return {
        "name": deployment.name,
        "reach": str(deployment.reach),
        "requests": str(deployment.requests),
        "causes": _causes(deployment.causes),
        "replicas": _replicas(deployment.replicas),
    }


def _replicas(replicas: Replicas) -> dict[str, Any]:
    return {
        "before": replicas.before,
        "after": replicas.after,
        "touched": replicas.touched,
        "away": replicas.away,
        "extra": replicas.extra,
        "gpusEach": replicas.gpus,
    }


def _causes(causes: tuple[Cause, ...]) -> list[dict[str, str]]:
    return [{"key": cause.key, "reach": str(cause.reach), "why": cause.why} for cause in causes]


def impact_of(config: ConfigEffect) -> Impact:
    """The numbers of a hot update."""
    replicas = [r for r in config.replicas if r.touched is None or r.touched or r.extra]
    moved = [d for app in config.applications for d in app.deployments if d.reach.rank >= Reach.RECONFIGURE.rank]
    return Impact(
        replicas=None if any(r.touched is None for r in replicas) else sum(r.touched or 0 for r in replicas),
        gpus=sum((r.touched_gpus for r in replicas), start=0.0),
        extra_replicas=sum(r.extra for r in replicas),
        extra_replica_gpus=sum((r.extra_gpus for r in replicas), start=0.0),
        requests=config.requests,
        dips=any(d.replicas.away or d.replicas.touched is None for d in moved),
    )
