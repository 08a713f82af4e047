"""What the schema accepts and this version cannot do. Said plainly, because ignoring it would be worse.

An entry goes away with the change that builds the feature.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from rayservice_operator.api.gcs import GcsBackend
from rayservice_operator.api.options import AuthOptions, TlsOptions
from rayservice_operator.api.raycluster import ClusterUpgradeType, RayClusterSpec
from rayservice_operator.api.validation.subject import ClusterSubject
from rayservice_operator.core.violations import Violation

PROBLEM: Final = "accepted by the schema, not available in this version"


@dataclass(frozen=True, slots=True)
class ClusterFeature:
    """``path`` is below the cluster spec; ``wanted`` tells whether a spec asks for it."""

    path: tuple[str, ...]
    wanted: Callable[[RayClusterSpec], bool]
    instead: str


CLUSTER_FEATURES: Final[tuple[ClusterFeature, ...]] = (
    ClusterFeature(
        ("authOptions", "enableK8sTokenAuth"),
        lambda spec: (spec.auth_options or AuthOptions()).enable_k8s_token_auth,
        "Remove it; mode: token without it uses a token from a Secret",
    ),
    ClusterFeature(
        ("tlsOptions", "enabled"),
        lambda spec: (spec.tls_options or TlsOptions()).enabled,
        "Remove tlsOptions",
    ),
    ClusterFeature(
        ("networkPolicy",),
        lambda spec: spec.network_policy is not None,
        "Remove it and write NetworkPolicies of your own; pods carry the label ray.io/cluster",
    ),
    ClusterFeature(
        ("historyServerOptions",),
        lambda spec: spec.history_server_options is not None,
        "Remove it, or add the collector as a container to the pod templates",
    ),
    ClusterFeature(
        ("gcsFaultToleranceOptions", "backend"),
        lambda spec: (
            spec.gcs_fault_tolerance_options is not None
            and spec.gcs_fault_tolerance_options.backend is GcsBackend.ROCKSDB
        ),
        "Use redis",
    ),
    ClusterFeature(
        ("idleTerminationOptions",),
        lambda spec: spec.idle_termination_options is not None,
        "Remove it; in a RayService it would end clusters that serve, because Ray counts drivers and Serve has none",
    ),
    ClusterFeature(
        ("idleSuspend",),
        lambda spec: spec.idle_suspend,
        "Use suspend",
    ),
)


def of_cluster(subject: ClusterSubject) -> Iterator[Violation]:
    """Refusals of a cluster spec."""
    for feature in CLUSTER_FEATURES:
        if feature.wanted(subject.spec):
            yield Violation(subject.at(*feature.path), PROBLEM, feature.instead)
    for group, spec in subject.worker_specs():
        if spec.num_of_hosts != 1:
            problem = f"is {spec.num_of_hosts}: multi-host replicas are {PROBLEM}"
            yield Violation(group.at("numOfHosts"), problem, "Use 1 and raise replicas")
    strategy = subject.spec.upgrade_strategy
    if not subject.from_service and strategy is not None and strategy.type is ClusterUpgradeType.RECREATE:
        fix = "Use None and delete the pods, or use a RayService"
        yield Violation(subject.at("upgradeStrategy", "type"), f"Recreate is {PROBLEM}", fix)
