"""Rules about settings that are read by nobody, or not as written."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from rayservice_operator.api.upgrade import UpgradeType
from rayservice_operator.core.findings import Severity
from rayservice_operator.lint.reading import as_number, as_text, maps_in
from rayservice_operator.lint.rule import Problem, Rule
from rayservice_operator.lint.subject import SERVE_CONFIG, Subject


def _autoscaler(subject: Subject) -> Iterator[Problem]:
    spec = subject.spec
    fix = "Set enableInTreeAutoscaling: true, or remove it"
    if not spec.enable_in_tree_autoscaling:
        if spec.autoscaler_options is not None:
            problem = "is set, but enableInTreeAutoscaling is not: nothing reads it"
            yield Problem((*subject.cluster_path, "autoscalerOptions"), problem, fix)
        for path, group in subject.worker_specs:
            if group.idle_timeout_seconds is not None:
                yield Problem((*path, "idleTimeoutSeconds"), "is for Ray's autoscaler, which is not enabled", fix)
        return
    if subject.cluster.shape_violations or subject.view.autoscaler_v2 or subject.ray_version is None:
        return
    for path, group in subject.worker_specs:
        for field, value in (("idleTimeoutSeconds", group.idle_timeout_seconds), ("priority", group.priority)):
            if value is not None:
                problem = "is read by autoscaler v2 only, and this is v1"
                yield Problem((*path, field), problem, "Set autoscalerOptions.version: v2, or remove it")


def _replicas(subject: Subject) -> Iterator[Problem]:
    for path, group in subject.worker_specs:
        if group.min_replicas > group.max_replicas or "replicas" not in group.model_fields_set:
            continue
        if group.replicas > group.max_replicas:
            problem = f"is {group.replicas}, more than maxReplicas: there are {group.max_replicas}"
            yield Problem((*path, "replicas"), problem, "Raise maxReplicas, or lower replicas")
        elif group.replicas < group.min_replicas:
            problem = f"is {group.replicas}, less than minReplicas: there are {group.min_replicas}"
            yield Problem((*path, "replicas"), problem, "Lower minReplicas, or raise replicas")


def _upgrade(subject: Subject) -> Iterator[Problem]:
    strategy = subject.service.upgrade_strategy if subject.service else None
    if strategy is None:
        return
    kind = strategy.type or UpgradeType.NEW_CLUSTER
    options = (
        ("clusterUpgradeOptions", strategy.cluster_upgrade_options, UpgradeType.INCREMENTAL),
        ("inPlace", strategy.in_place, UpgradeType.IN_PLACE),
    )
    for field, value, wanted in options:
        if value is not None and kind is not wanted:
            problem = f"is for type {wanted}, but the type is {kind}: nothing reads it"
            yield Problem(("spec", "upgradeStrategy", field), problem, f"Set type: {wanted}, or remove it")


def _capacity(subject: Subject) -> Iterator[Problem]:
    if subject.document is not None and as_number(subject.document.get("target_capacity")) == 0:
        problem = "is 0: every deployment has zero replicas"
        yield Problem((*SERVE_CONFIG, "target_capacity"), problem, "Remove it; the operator sets it where it is needed")


def _names(subject: Subject) -> Iterator[Problem]:
    """Ray goes through the entries one after the other (2.60, ``override_deployment_info``)."""
    for app in subject.apps:
        seen: set[str] = set()
        for path, deployment in maps_in(app.data.get("deployments"), app.at("deployments")):
            name = as_text(deployment.get("name"))
            if name and name in seen:
                problem = f"{name!r} has an entry already; where both set a field, the last one counts"
                yield Problem((*path, "name"), problem, "Join the two entries, or correct the name")
            seen.add(name)


RULES: Final[tuple[Rule, ...]] = (
    Rule(
        "autoscaler-off",
        Severity.WARNING,
        "Settings of an autoscaler that does not run",
        "Without enableInTreeAutoscaling nothing scales the worker groups; some fields need autoscaler v2.",
        "Set enableInTreeAutoscaling: true, or remove the settings.",
        "autoscalerOptions: {idleTimeoutSeconds: 60}   # and enableInTreeAutoscaling is not set",
        _autoscaler,
    ),
    Rule(
        "replicas-clamped",
        Severity.WARNING,
        "replicas is outside of minReplicas and maxReplicas",
        "The number of pods is held between the two, so it is not the one written.",
        "Make the three agree.",
        "replicas: 5\nmaxReplicas: 3",
        _replicas,
    ),
    Rule(
        "upgrade-options-unused",
        Severity.WARNING,
        "Options of another upgrade strategy",
        "Each type of upgrade reads its own options only.",
        "Set the type that the options are for, or remove them.",
        "upgradeStrategy:\n  type: NewCluster\n  inPlace: {maxSurge: 1}",
        _upgrade,
    ),
    Rule(
        "target-capacity-zero",
        Severity.WARNING,
        "target_capacity: 0 switches everything off",
        "It scales every deployment to zero; requests are answered by nobody.",
        "Remove it. Upgrades in steps set it themselves.",
        "target_capacity: 0",
        _capacity,
    ),
    Rule(
        "duplicate-deployment",
        Severity.WARNING,
        "Two entries for one deployment",
        "Ray applies one after the other without a word; where both set a field, the last one counts.",
        "Join the entries.",
        "deployments:\n  - {name: A, num_replicas: 2}\n  - {name: A, max_ongoing_requests: 8}",
        _names,
    ),
)
