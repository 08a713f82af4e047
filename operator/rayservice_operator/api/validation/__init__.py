"""Rules that a manifest of the right shape must keep: those of KubeRay's operator, and those it forgot.

Nothing that KubeRay runs is refused, except what this version cannot do (``unavailable``): that is said, not
ignored. Every refusal names the field and what to do. The API server checks some of the same rules by CEL when the
object is written; here they count as well, because a CRD may be older than the operator.

The text of ``serveConfigV2`` is read by ``serveconfig.canonical``; here it is checked for what Ray refuses outright.
"""

from __future__ import annotations

from rayservice_operator.api.raycluster import RayCluster
from rayservice_operator.api.rayservice import RayService
from rayservice_operator.api.validation import cluster, groups, metadata, serve_config, service, unavailable
from rayservice_operator.api.validation.subject import ClusterSubject
from rayservice_operator.core.objects import Manifest, annotations_of
from rayservice_operator.core.violations import Violation

__all__ = ["validate_raycluster", "validate_rayservice"]


def validate_rayservice(manifest: Manifest, parsed: RayService) -> list[Violation]:
    """Everything wrong with a RayService, in the order of the file's parts; empty when it can be run."""
    subject = ClusterSubject.of(
        parsed.spec.ray_cluster_config,
        path=("spec", "rayClusterConfig"),
        annotations=annotations_of(manifest),
        from_service=True,
    )
    return [
        *metadata.service_name(parsed.name),
        *service.violations(manifest, parsed),
        *_of_cluster(subject),
        *serve_config.violations(parsed.spec.serve_config_v2),
    ]


def validate_raycluster(manifest: Manifest, parsed: RayCluster, *, from_service: bool) -> list[Violation]:
    """Everything wrong with a RayCluster; ``from_service``: it belongs to a RayService."""
    subject = ClusterSubject.of(
        parsed.spec, path=("spec",), annotations=annotations_of(manifest), from_service=from_service
    )
    return [*metadata.cluster_name(parsed.name), *_of_cluster(subject)]


def _of_cluster(subject: ClusterSubject) -> list[Violation]:
    return [
        *subject.shape_violations,
        *cluster.violations(subject),
        *groups.violations(subject),
        *unavailable.of_cluster(subject),
    ]
