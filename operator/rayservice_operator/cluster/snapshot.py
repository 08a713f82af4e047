"""Everything observed about one RayCluster at one moment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from rayservice_operator.core.config import OperatorConfig
from rayservice_operator.core.decision import DryRunResult, Failure
from rayservice_operator.core.objects import Manifest


@dataclass(frozen=True, slots=True)
class ClusterSnapshot:
    """``cluster`` is the RayCluster as stored.

    pods: those labelled ``ray.io/cluster=<name>`` and controlled by this RayCluster's UID, terminating ones too.
    children: everything else controlled by it that we watch (Services, ServiceAccounts, Roles, RoleBindings,
        Jobs, PersistentVolumeClaims, Ingresses, PodDisruptionBudgets, NetworkPolicies).
    dry_runs: answers to ``DryRun`` actions by key.
    failure: what the last pass about this object could not do; None when all went well.
    load: Serve replicas and other work per pod address, where an observer knows it; None = unknown.
    budgets: the other PodDisruptionBudgets of the namespace, whoever made them.
    """

    cluster: Manifest
    config: OperatorConfig
    pods: tuple[Manifest, ...] = ()
    children: tuple[Manifest, ...] = ()
    dry_runs: Mapping[str, DryRunResult] = field(default_factory=dict)
    failure: Failure | None = None
    load: Mapping[str, int] | None = None
    budgets: tuple[Manifest, ...] = ()
