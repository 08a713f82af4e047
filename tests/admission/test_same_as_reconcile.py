"""Whatever the webhook refuses, the reconcile says as well: nothing depends on the webhook."""

from __future__ import annotations

from typing import Any

import pytest

from rayservice_operator.admission.messages import as_violation
from rayservice_operator.admission.reviewer import Scope, reviewer
from rayservice_operator.cluster.decide import decide as decide_cluster
from rayservice_operator.cluster.snapshot import ClusterSnapshot
from rayservice_operator.core.config import OperatorConfig
from rayservice_operator.core.decision import Create, Decision
from rayservice_operator.core.objects import Manifest
from rayservice_operator.service.decide import decide as decide_service
from rayservice_operator.service.snapshot import ServiceSnapshot
from tests.admission.requests import request
from tests.models.manifests import changed, documents, raycluster, rayservice
from tests.models.test_validation import CASES, CLUSTER_CASES

NOW = 1_800_000_000.0
CONFIG = OperatorConfig(capacity_check=False)
STORED = {"metadata.uid": "uid", "metadata.generation": 1, "metadata.resourceVersion": "1"}
REVIEW = reviewer(Scope())

SERVICES: dict[str, Manifest] = {
    **{case.id: changed(rayservice(), {**STORED, **case.wrong}) for case in CASES},
    **{f"right: {case.id}": changed(rayservice(), {**STORED, **case.right}) for case in CASES},
    "no mapping": changed(rayservice(), {**STORED, "spec.rayClusterConfig": []}),
    "a number for a text": changed(rayservice(), {**STORED, "spec.serveConfigV2": 5}),
    **{f"file {name}": changed(found, STORED) for name, found in documents("RayService")},
    **{f"unavailable {name}": changed(found, STORED) for name, found in documents("RayService", "unavailable")},
}
CLUSTERS: dict[str, Manifest] = {
    **{case.id: changed(raycluster(), {**STORED, **case.changes}) for case in CLUSTER_CASES},
    **{
        f"of a service: {case.id}": changed(
            raycluster(),
            {
                **STORED,
                **case.changes,
                "metadata.ownerReferences": [{"kind": "RayService", "name": "s", "uid": "u", "controller": True}],
            },
        )
        for case in CLUSTER_CASES
    },
    "no mapping": changed(raycluster(), {**STORED, "spec.headGroupSpec": []}),
    **{f"file {name}": changed(found, STORED) for name, found in documents("RayCluster")},
    **{f"unavailable {name}": changed(found, STORED) for name, found in documents("RayCluster", "unavailable")},
}


def said(decision: Decision) -> str:
    """All that a person gets to read: events and conditions."""
    status: dict[str, Any] = dict(decision.status or {})
    return "\n".join(
        [
            *(note.message for note in decision.notes),
            *(str(condition.get("message")) for condition in status.get("conditions", ())),
        ]
    )


def agree(manifest: Manifest, decision: Decision) -> None:
    """The webhook refuses what the decision refuses to build, for the same reasons."""
    errors = REVIEW(request(manifest)).errors
    text = said(decision)
    refused = "InvalidRay" in str(decision.status) or any("Invalid" in note.reason for note in decision.notes)
    assert bool(errors) is refused, (errors, text)
    for error in errors[:1]:  # messages in conditions have a length; the first is always there
        assert str(as_violation(error)).split(". ", maxsplit=1)[0] in text
    if errors:
        assert not [action for action in decision.actions if isinstance(action, Create)]


@pytest.mark.parametrize("manifest", SERVICES.values(), ids=SERVICES)
def test_services(manifest: Manifest) -> None:
    agree(manifest, decide_service(ServiceSnapshot(manifest, CONFIG), NOW))


@pytest.mark.parametrize("manifest", CLUSTERS.values(), ids=CLUSTERS)
def test_clusters(manifest: Manifest) -> None:
    agree(manifest, decide_cluster(ClusterSnapshot(manifest, CONFIG), NOW))
