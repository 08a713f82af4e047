"""RayServices before and after an edit: every strategy, and every state in between that an edit can meet."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any, Final

from rayservice_operator.api import names
from rayservice_operator.core.objects import Manifest
from rayservice_operator.service import hashing, revisions
from rayservice_operator.service.preview import Live
from tests.service.builders import (
    CONFIG,
    OTHER_SERVE_CONFIG,
    SERVE_CONFIG,
    cluster_spec,
    config_hash,
    pod_template,
    raycluster,
    rayservice,
)

TWO_APPS: Final = """
applications:
  - name: chat
    route_prefix: /chat
    import_path: chat:app
    args: {model: small}
    deployments:
      - name: Ingress
        num_replicas: 2
        max_surge_percent: 50
      - name: Model
        num_replicas: 4
        max_replicas_per_node: 1
        ray_actor_options: {num_gpus: 2}
  - name: search
    route_prefix: /search
    import_path: search:app
    deployments:
      - name: Index
        autoscaling_config: {min_replicas: 1, max_replicas: 6}
"""
INCREMENTAL: Final = {
    "type": "NewClusterWithIncrementalUpgrade",
    "clusterUpgradeOptions": {"maxSurgePercent": 50, "stepSizePercent": 25, "intervalSeconds": 10},
}


@dataclass(frozen=True)
class Scenario:
    """``live`` is what a command line could look up; a webhook has only ``before`` and ``after``."""

    before: Manifest | None
    after: Manifest
    live: Live = field(default_factory=Live)


def gpu_cluster(image: str = "ray:1", **changes: Any) -> Manifest:
    """A cluster whose workers have two GPUs each."""
    spec = cluster_spec(image, **changes)
    for group in spec["workerGroupSpecs"]:
        group["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] = "2"
    return spec


def workers(image: str, **group: Any) -> Manifest:
    """The cluster with other workers."""
    spec = cluster_spec()
    spec["workerGroupSpecs"][0] |= {"template": pod_template(image), **group}
    return spec


def spec(serve: str = SERVE_CONFIG, cluster: Manifest | None = None, **more: Any) -> Manifest:
    """A RayService's spec."""
    return {"serveConfigV2": serve, "rayClusterConfig": cluster or cluster_spec(), **more}


def stored(of: Manifest, *, cluster: Manifest | None = None, **status: Any) -> Manifest:
    """The object as it is stored once it serves. ``cluster``: the spec of the active cluster, if it is another one."""
    told = {
        "observedGeneration": 1,
        "conditions": [],
        "activeServiceStatus": {"rayClusterName": "demo-one", "appliedConfigHash": config_hash(of["serveConfigV2"])},
        "applied": {"specHash": hashing.cluster_hash(cluster or of["rayClusterConfig"])},
        **status,
    }
    return rayservice(copy.deepcopy(of), status=told)


def edited(before: Manifest, *, annotations: dict[str, str] | None = None, **changes: Any) -> Manifest:
    """The manifest that somebody applies: no status, and these fields of the spec changed; None removes one."""
    after = copy.deepcopy(before)
    after.pop("status", None)
    after["metadata"] = {"name": "demo", "namespace": "default"}
    if annotations:
        after["metadata"]["annotations"] = annotations
    after["spec"] |= changes
    after["spec"] = {key: value for key, value in after["spec"].items() if value is not None}
    return after


def revision(of: Manifest, number: int) -> Manifest:
    """A ControllerRevision of this spec."""
    return revisions.build(rayservice(of), number)


def upgrading(of: Manifest, former: Manifest, **more: Any) -> Manifest:
    """The object while a cluster for its spec comes up beside one of the ``former`` RayClusterSpec."""
    pending = {"pendingServiceStatus": {"rayClusterName": "demo-two"}, "upgrade": {"phase": "DeployingApplications"}}
    return stored(of, cluster=former, **{**pending, **more})


def scenarios() -> dict[str, Scenario]:
    """By name."""
    one = spec()
    now = stored(one)
    file = rayservice(copy.deepcopy(one), status={})
    file["metadata"] = {"name": "demo"}
    big = stored(
        spec(TWO_APPS, gpu_cluster()),
    )
    big["status"]["activeServiceStatus"]["applicationStatuses"] = {
        "chat": {"serveDeploymentStatuses": {"Ingress": {"replicasTarget": 2}, "Model": {"replicasTarget": 4}}},
        "search": {"serveDeploymentStatuses": {"Index": {"replicasTarget": 3}, "Store": {"replicasTarget": 1}}},
    }
    new = cluster_spec("ray:2")
    up = upgrading(spec(cluster=new), cluster_spec())
    history = Live(revisions=(revision(one, 1), revision(spec(cluster=new), 2)), config=CONFIG)
    former = raycluster("demo-zero", new, annotations={names.DELETE_AFTER: "2027-01-15T09:00:00Z"})
    scaling = {"enableInTreeAutoscaling": True}
    steps = upgrading(
        spec(cluster={**new, **scaling}, upgradeStrategy=INCREMENTAL),
        cluster_spec(**scaling),
        activeServiceStatus={
            "rayClusterName": "demo-one",
            "appliedConfigHash": config_hash(),
            "targetCapacity": 100,
            "trafficRoutedPercent": 75,
        },
        pendingServiceStatus={"rayClusterName": "demo-two", "targetCapacity": 50, "trafficRoutedPercent": 25},
    )
    scaled = Live(revisions=(revision(spec(cluster=cluster_spec(**scaling)), 1),), config=CONFIG)
    given_up = stored(spec(cluster=new), cluster=cluster_spec())
    given_up["status"]["failedUpdate"] = {
        "configHash": config_hash(),
        "clusterHash": hashing.cluster_hash(new),
        "rolledBackTo": config_hash(),
        "message": "it did not come up",
    }
    rolling = stored(
        spec(cluster=workers("ray:2"), upgradeStrategy={"type": "InPlace"}),
        cluster=cluster_spec(),
        upgrade={"strategy": "InPlace", "phase": "ReplacingWorkers", "from": "demo-one", "to": "demo-one"},
    )
    suspended = stored(spec(suspend=True))
    suspended["status"]["conditions"] = [{"type": "Suspended", "status": "True"}]
    return {
        "created": Scenario(None, edited(big)),
        "created suspended": Scenario(None, edited(big, suspend=True)),
        "the same": Scenario(now, edited(now)),
        "the same file": Scenario(file, edited(file)),
        "written otherwise": Scenario(now, edited(now, serveConfigV2=f"# a comment\n{SERVE_CONFIG}")),
        "an annotation": Scenario(now, edited(now, annotations={names.DRAIN: "false", "team": "a"})),
        "the strategy": Scenario(now, edited(now, upgradeStrategy={"type": "None"})),
        "user_config": Scenario(now, edited(now, serveConfigV2=OTHER_SERVE_CONFIG)),
        "user_config in a file": Scenario(file, edited(file, serveConfigV2=OTHER_SERVE_CONFIG)),
        "args of one application": Scenario(big, edited(big, serveConfigV2=TWO_APPS.replace("small", "large"))),
        "GPUs of one deployment": Scenario(
            big, edited(big, serveConfigV2=TWO_APPS.replace("num_gpus: 2", "num_gpus: 1"))
        ),
        "what Ray ignores": Scenario(
            big,
            edited(
                big,
                serveConfigV2=TWO_APPS.replace("per_node: 1", "per_node: 2") + "proxy_location: HeadOnly\n",
            ),
        ),
        "an application goes": Scenario(big, edited(big, serveConfigV2=TWO_APPS.partition("  - name: search")[0])),
        "an application comes": Scenario(
            now, edited(now, serveConfigV2=SERVE_CONFIG + "  - {name: other, route_prefix: /o, import_path: 'o:app'}\n")
        ),
        "no config any more": Scenario(now, edited(now, serveConfigV2="")),
        "more workers": Scenario(now, edited(now, rayClusterConfig=workers("ray:1", replicas=5))),
        "more workers and user_config": Scenario(
            now, edited(now, rayClusterConfig=workers("ray:1", replicas=5), serveConfigV2=OTHER_SERVE_CONFIG)
        ),
        "another group": Scenario(now, edited(now, rayClusterConfig=cluster_spec(groups=("small", "large")))),
        "NewCluster": Scenario(big, edited(big, rayClusterConfig=gpu_cluster("ray:2"))),
        "NewCluster with another config": Scenario(
            now, edited(now, rayClusterConfig=new, serveConfigV2=OTHER_SERVE_CONFIG)
        ),
        "NewClusterWithIncrementalUpgrade": Scenario(
            big,
            edited(
                big,
                rayClusterConfig=gpu_cluster("ray:2", enableInTreeAutoscaling=True),
                upgradeStrategy=INCREMENTAL,
            ),
        ),
        "InPlace": Scenario(
            now,
            edited(now, rayClusterConfig=workers("ray:2"), upgradeStrategy={"type": "InPlace"}),
        ),
        "InPlace with surge and another config": Scenario(
            now,
            edited(
                now,
                rayClusterConfig=workers("ray:2"),
                upgradeStrategy={"type": "InPlace", "inPlace": {"maxSurge": 1, "maxUnavailable": 0}},
                serveConfigV2=OTHER_SERVE_CONFIG,
            ),
        ),
        "InPlace of the head": Scenario(
            now, edited(now, rayClusterConfig=cluster_spec("ray:2"), upgradeStrategy={"type": "InPlace"})
        ),
        "Recreate": Scenario(
            big, edited(big, rayClusterConfig=gpu_cluster("ray:2"), upgradeStrategy={"type": "Recreate"})
        ),
        "None": Scenario(now, edited(now, rayClusterConfig=new, upgradeStrategy={"type": "None"})),
        "None with another config": Scenario(
            now,
            edited(now, rayClusterConfig=new, upgradeStrategy={"type": "None"}, serveConfigV2=OTHER_SERVE_CONFIG),
        ),
        "paused": Scenario(now, edited(now, rayClusterConfig=new, upgradeStrategy={"paused": True})),
        "paused with another config": Scenario(
            now,
            edited(now, rayClusterConfig=new, upgradeStrategy={"paused": True}, serveConfigV2=OTHER_SERVE_CONFIG),
        ),
        "refused": Scenario(now, edited(now, serveConfigV2="applications: 3")),
        "refused from the start": Scenario(None, edited(now, serveConfigV2="applications: 3")),
        "no manifest": Scenario(now, {"spec": 3}),
        "suspended": Scenario(big, edited(big, suspend=True)),
        "edited while suspended": Scenario(suspended, edited(suspended, serveConfigV2=OTHER_SERVE_CONFIG)),
        "resumed": Scenario(suspended, edited(suspended, suspend=False)),
        "managed by another": Scenario(now, edited(now, managedBy="kueue.x-k8s.io/multikueue")),
        "upgrade: the same": Scenario(up, edited(up), history),
        "upgrade: another config": Scenario(up, edited(up, serveConfigV2=OTHER_SERVE_CONFIG), history),
        "upgrade: more workers": Scenario(up, edited(up, rayClusterConfig=_with_replicas(new, 5)), history),
        "upgrade: back": Scenario(up, edited(up, rayClusterConfig=cluster_spec()), history),
        "upgrade: back without history": Scenario(up, edited(up, rayClusterConfig=cluster_spec())),
        "upgrade: back with another config": Scenario(
            up, edited(up, rayClusterConfig=cluster_spec(), serveConfigV2=OTHER_SERVE_CONFIG), history
        ),
        "upgrade: a third spec": Scenario(up, edited(up, rayClusterConfig=cluster_spec("ray:3")), history),
        "upgrade: a third spec without history": Scenario(up, edited(up, rayClusterConfig=cluster_spec("ray:3"))),
        "upgrade: InPlace of the head": Scenario(up, edited(up, upgradeStrategy={"type": "InPlace"}), history),
        "upgrade: InPlace": Scenario(
            up, edited(up, rayClusterConfig=workers("ray:4"), upgradeStrategy={"type": "InPlace"}), history
        ),
        "upgrade: frozen": Scenario(up, edited(up, upgradeStrategy={"type": "None"}), history),
        "upgrade: Recreate": Scenario(up, edited(up, upgradeStrategy={"type": "Recreate"}), history),
        "upgrade in steps: back": Scenario(steps, edited(steps, rayClusterConfig=cluster_spec(**scaling)), scaled),
        "upgrade in steps: a third spec": Scenario(
            steps, edited(steps, rayClusterConfig=cluster_spec("ray:3", **scaling)), scaled
        ),
        "roll: the same": Scenario(rolling, edited(rolling), history),
        "roll: back": Scenario(rolling, edited(rolling, rayClusterConfig=cluster_spec()), history),
        "the former cluster is still there": Scenario(
            now,
            edited(now, rayClusterConfig=new),
            Live(clusters=(raycluster("demo-one"), former), config=CONFIG),
        ),
        "a former cluster of another spec is still there": Scenario(
            now,
            edited(now, rayClusterConfig=cluster_spec("ray:3")),
            Live(clusters=(raycluster("demo-one"), former), config=CONFIG),
        ),
        "given up: the same": Scenario(given_up, edited(given_up), history),
        "given up: the same, without history": Scenario(given_up, edited(given_up)),
        "given up: another config": Scenario(given_up, edited(given_up, serveConfigV2=OTHER_SERVE_CONFIG), history),
        "given up: retried": Scenario(given_up, edited(given_up, annotations={names.RETRY: "1"}), history),
        "given up: back": Scenario(given_up, edited(given_up, rayClusterConfig=cluster_spec()), history),
        "upgrade: aborted": Scenario(up, edited(up, annotations={names.ABORT: "demo-two"}), history),
        "undo": Scenario(now, edited(now, annotations={names.UNDO: "2"}), history),
    }


def _with_replicas(of: Manifest, replicas: int) -> Manifest:
    made = copy.deepcopy(of)
    made["workerGroupSpecs"][0]["replicas"] = replicas
    return made
