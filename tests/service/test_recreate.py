"""Recreate: the old cluster first, then its successor; what fails gives way to the former revision."""

from __future__ import annotations

import dataclasses

from rayservice_operator.core.decision import Create, Decision, Delete
from rayservice_operator.core.objects import Manifest
from rayservice_operator.service import revisions
from rayservice_operator.service.decide import decide
from rayservice_operator.service.snapshot import ServiceSnapshot
from tests.service.builders import (
    NOW,
    SERVE_CONFIG,
    after,
    cluster_spec,
    condition,
    edited,
    rayservice,
    serving,
)

STRATEGY = {"type": "Recreate"}
OLD = {"serveConfigV2": SERVE_CONFIG, "rayClusterConfig": cluster_spec(), "upgradeStrategy": STRATEGY}
NEW = {**OLD, "rayClusterConfig": cluster_spec("ray:2")}


def wanting_another() -> ServiceSnapshot:
    """``demo`` serves from demo-one; its spec wants another image."""
    history = tuple(revisions.build(rayservice(spec), number) for number, spec in enumerate((OLD, NEW), 1))
    snapshot = dataclasses.replace(serving(spec=OLD), revisions=history[:1])
    snapshot = after(snapshot, decide(snapshot, NOW))
    return edited(dataclasses.replace(snapshot, revisions=history), rayClusterConfig=cluster_spec("ray:2"))


def leaving(snapshot: ServiceSnapshot) -> ServiceSnapshot:
    """Its clusters are being deleted and their pods still run."""
    going = tuple(
        {**cluster, "metadata": {**cluster["metadata"], "deletionTimestamp": "2027-01-15T08:00:00Z"}}
        for cluster in snapshot.clusters
    )
    return dataclasses.replace(snapshot, clusters=going)


def gone(snapshot: ServiceSnapshot) -> ServiceSnapshot:
    return dataclasses.replace(snapshot, clusters=(), pods={}, endpoint_slices=(), observations={})


def upgrade(decision: Decision) -> Manifest:
    assert decision.status is not None
    found: Manifest = decision.status["upgrade"]
    return found


def test_the_old_cluster_goes_first_and_it_is_said_before() -> None:
    first = decide(wanting_another(), NOW)
    assert [a.ref.name for a in first.actions if isinstance(a, Delete)] == ["demo-one"]
    assert first.commits
    (announced,) = [note for note in first.notes if note.reason == "UpgradeStarted"]
    assert "requests fail" in announced.message
    assert condition(first, "UpgradeInProgress") == ("True", "Recreating")
    assert upgrade(first)["phase"] == "Removing"
    assert upgrade(first)["from"] == "demo-one"


def test_nothing_is_built_while_its_pods_are_there() -> None:
    snapshot = wanting_another()
    first = decide(snapshot, NOW)
    second = decide(leaving(after(snapshot, first)), NOW + 5)
    assert not second.actions
    assert second.status is not None
    assert "pendingServiceStatus" not in second.status
    assert condition(second, "Ready") == ("False", "Initializing")

    third = decide(gone(after(snapshot, second)), NOW + 9)
    assert upgrade(third)["to"]
    assert upgrade(third)["from"] == "demo-one"
    assert upgrade(third)["started"] == upgrade(first)["started"]
    assert condition(third, "UpgradeInProgress") == ("True", "Recreating")
    fourth = decide(gone(after(snapshot, third)), NOW + 9)
    assert [a.obj["kind"] for a in fourth.actions if isinstance(a, Create)] == ["RayCluster"]


def test_killed_after_the_deletion_and_before_the_status_it_goes_on() -> None:
    decision = decide(leaving(wanting_another()), NOW)
    assert not [a for a in decision.actions if isinstance(a, Create)]
    assert upgrade(decision)["from"] == "demo-one"
    assert condition(decision, "UpgradeInProgress") == ("True", "Recreating")


def test_what_is_known_of_the_good_config_outlives_the_cluster() -> None:
    snapshot = wanting_another()
    decision = decide(snapshot, NOW)
    assert decision.status is not None
    assert decision.status["applied"] == snapshot.service["status"]["applied"]
    assert decision.status["applied"]["revision"] == 1


def test_paused_nothing_is_removed() -> None:
    snapshot = edited(wanting_another(), upgradeStrategy={**STRATEGY, "paused": True})
    decision = decide(snapshot, NOW)
    assert not [a for a in decision.actions if isinstance(a, Delete)]
    assert condition(decision, "UpgradeInProgress") == ("True", "UpgradePaused")
