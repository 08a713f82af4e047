"""Targets that an external scaler has set go with the next config, also to the cluster that takes over."""

from __future__ import annotations

import copy
import dataclasses
import json

from rayservice_operator.core.decision import ScaledApp
from rayservice_operator.core.objects import Manifest
from rayservice_operator.service import revisions
from rayservice_operator.service.decide import decide
from rayservice_operator.service.snapshot import ServiceSnapshot
from tests.service.builders import (
    NOW,
    SERVE_CONFIG,
    application,
    cluster_spec,
    config_hash,
    observation,
    pod,
    raycluster,
    rayservice,
    serving,
)

EXTERNAL = SERVE_CONFIG.replace("    import_path", "    external_scaler_enabled: true\n    import_path")
EXTERNAL_GOOD_DAY = EXTERNAL.replace("hello", "good day")


def scaled(active: int = 5) -> ServiceSnapshot:
    """Serving with EXTERNAL and so many replicas; its greeting has just been edited."""

    def spec(text: str) -> Manifest:
        return {"serveConfigV2": text, "rayClusterConfig": cluster_spec()}

    app = application(text=EXTERNAL)
    greeter = dataclasses.replace(app.deployments["Greeter"], target_replicas=active)
    seen = observation(raycluster("demo-one"), dataclasses.replace(app, deployments={"Greeter": greeter}))
    snapshot = serving(spec=spec(EXTERNAL_GOOD_DAY), observations={"demo-one": seen})
    service = copy.deepcopy(snapshot.service)
    service["status"]["activeServiceStatus"]["appliedConfigHash"] = config_hash(EXTERNAL)
    history = (revisions.build(rayservice(spec(EXTERNAL)), 1), revisions.build(service, 2))
    return dataclasses.replace(snapshot, service=service, revisions=history)


def test_an_external_scalers_targets_are_kept_by_whoever_pushes() -> None:
    (target,) = decide(scaled(), NOW).observe
    assert target.push is not None
    assert target.push.keep == (ScaledApp("greeter"),)
    assert target.push.config_hash == config_hash(EXTERNAL_GOOD_DAY)


def test_a_new_cluster_begins_with_the_targets_of_the_old_one() -> None:
    snapshot = scaled()
    service = copy.deepcopy(snapshot.service)
    service["spec"]["rayClusterConfig"] = cluster_spec("ray:2")
    service["status"]["pendingServiceStatus"] = {"rayClusterName": "demo-two"}
    new = raycluster("demo-two", cluster_spec("ray:2"))
    pods = {**snapshot.pods, "demo-two": (pod(new, "head", "10.0.1.1", serve=False),)}
    clusters = (*snapshot.clusters, new)
    both = dataclasses.replace(snapshot, service=service, clusters=clusters, pods=pods)
    push = next(target.push for target in decide(both, NOW).observe if target.cluster.name == "demo-two")
    assert push is not None
    assert json.loads(push.payload)["applications"][0]["deployments"][0]["num_replicas"] == 5
    assert push.config_hash == config_hash(EXTERNAL_GOOD_DAY)
