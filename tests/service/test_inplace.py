"""Which edit needs a new cluster, and what the patch of an edit in place does to a live RayCluster."""

from __future__ import annotations

import copy
from typing import Any

import jsonpatch
import pytest

from rayservice_operator.api import names
from rayservice_operator.core.objects import Manifest
from rayservice_operator.service import hashing, inplace
from tests.service.builders import cluster_spec, pod_template, raycluster


def edited(path: tuple[Any, ...], value: Any, spec: Manifest | None = None) -> Manifest:
    """``cluster_spec()`` with one value set."""
    result = copy.deepcopy(spec or cluster_spec())
    place: Any = result
    for step in path[:-1]:
        place = place.setdefault(step, {}) if isinstance(place, dict) else place[step]
    place[path[-1]] = value
    return result


IN_PLACE = {
    "replicas": (("workerGroupSpecs", 0, "replicas"), 4),
    "minReplicas": (("workerGroupSpecs", 0, "minReplicas"), 1),
    "maxReplicas": (("workerGroupSpecs", 0, "maxReplicas"), 9),
    "group idle timeout": (("workerGroupSpecs", 0, "idleTimeoutSeconds"), 30),
    "workersToDelete": (("workerGroupSpecs", 0, "scaleStrategy"), {"workersToDelete": ["a"]}),
    "worker tolerations": (("workerGroupSpecs", 0, "template", "spec", "tolerations"), [{"operator": "Exists"}]),
    "head tolerations": (("headGroupSpec", "template", "spec", "tolerations"), [{"operator": "Exists"}]),
    "service type": (("headGroupSpec", "serviceType"), "NodePort"),
    "head service annotations": (("headServiceAnnotations",), {"team": "ml"}),
    "autoscaler idle timeout": (("autoscalerOptions", "idleTimeoutSeconds"), 120),
    "upscaling mode": (("autoscalerOptions", "upscalingMode"), "Conservative"),
}
NEW_CLUSTER = {
    "image": (("workerGroupSpecs", 0, "template"), pod_template("ray:2")),
    "head start params": (("headGroupSpec", "rayStartParams", "num-cpus"), "1"),
    "ray version": (("rayVersion",), "2.61.0"),
    "autoscaling switched on": (("enableInTreeAutoscaling",), True),
    "autoscaler image": (("autoscalerOptions",), {"image": "other"}),
    "environment": (("headGroupSpec", "template", "spec", "containers", 0, "env"), [{"name": "A", "value": "1"}]),
    "group renamed": (("workerGroupSpecs", 0, "groupName"), "other"),
    "fault tolerance": (("gcsFaultToleranceOptions",), {"redisAddress": "redis:6379"}),
}


@pytest.mark.parametrize("case", IN_PLACE)
def test_edit_in_place_keeps_the_cluster_and_reaches_it(case: str) -> None:
    wanted = edited(*IN_PLACE[case])
    cluster = raycluster("one")
    assert hashing.matches(cluster, wanted)

    change = inplace.patch(cluster, wanted)
    assert change is not None, "an edit must not be dropped silently (kuberay#2331)"
    patched = jsonpatch.apply_patch(cluster, list(change.operations))

    path, value = IN_PLACE[case]
    place: Any = patched["spec"]
    for step in path:
        place = place[step]
    assert place == value
    assert inplace.patch(patched, wanted) is None, "applied once, nothing is left to write"


@pytest.mark.parametrize("case", NEW_CLUSTER)
def test_edit_that_pods_cannot_take_over_needs_a_new_cluster(case: str) -> None:
    assert not hashing.matches(raycluster("one"), edited(*NEW_CLUSTER[case]))


def test_appended_group_is_added_in_place() -> None:
    cluster = raycluster("one")
    wanted = cluster_spec(groups=("small", "big"))
    assert hashing.matches(cluster, wanted)
    change = inplace.patch(cluster, wanted)
    assert change is not None
    patched = jsonpatch.apply_patch(cluster, list(change.operations))
    assert [g["groupName"] for g in patched["spec"]["workerGroupSpecs"]] == ["small", "big"]
    assert hashing.matches(patched, wanted)
    assert inplace.patch(patched, wanted) is None
    assert not hashing.matches(patched, cluster_spec()), "taking a group away again needs a new cluster"


def test_inserted_or_reordered_groups_need_a_new_cluster() -> None:
    """The autoscaler knows groups by position (facts/ray-serve.md 10)."""
    cluster = raycluster("one", cluster_spec(groups=("a", "b")))
    assert not hashing.matches(cluster, cluster_spec(groups=("b", "a")))
    assert not hashing.matches(cluster, cluster_spec(groups=("c", "a", "b")))


def test_autoscalers_replicas_are_left_alone_until_the_user_edits_them() -> None:
    spec = cluster_spec(enableInTreeAutoscaling=True)
    cluster = raycluster("one", spec)
    cluster["spec"]["workerGroupSpecs"][0]["replicas"] = 5  # the autoscaler's
    cluster["spec"]["workerGroupSpecs"][0]["scaleStrategy"] = {"workersToDelete": ["pod-x"]}
    assert inplace.patch(cluster, spec) is None

    wanted = edited(("workerGroupSpecs", 0, "replicas"), 3, spec)
    change = inplace.patch(cluster, wanted)
    assert change is not None
    patched = jsonpatch.apply_patch(cluster, list(change.operations))
    group = patched["spec"]["workerGroupSpecs"][0]
    assert group["replicas"] == 3
    assert group["scaleStrategy"] == {"workersToDelete": ["pod-x"]}


def test_patch_of_a_group_is_guarded_by_its_name() -> None:
    cluster = raycluster("one")
    change = inplace.patch(cluster, edited(("workerGroupSpecs", 0, "replicas"), 4))
    assert change is not None
    cluster["spec"]["workerGroupSpecs"].insert(0, {"groupName": "other", "template": {}})
    with pytest.raises(jsonpatch.JsonPatchTestFailed):
        jsonpatch.apply_patch(cluster, list(change.operations))


def test_nothing_is_written_for_defaults_of_the_api_server() -> None:
    """The CRD of RayCluster fills in replicas and scaleStrategy; that is no edit."""
    spec = cluster_spec()
    for field in ("replicas", "minReplicas", "maxReplicas"):
        spec["workerGroupSpecs"][0].pop(field)
    cluster = raycluster("one", spec)
    cluster["spec"]["workerGroupSpecs"][0] |= {
        "replicas": 0,
        "minReplicas": 0,
        "maxReplicas": 2147483647,
        "numOfHosts": 1,
    }
    cluster["spec"]["workerGroupSpecs"][0]["scaleStrategy"] = {}
    assert inplace.patch(cluster, spec) is None


def test_a_cluster_built_by_kuberay_is_taken_over_as_it_is() -> None:
    """Its hash is not ours, and its typed objects write defaults and empty values into the spec."""
    spec = cluster_spec()
    cluster = raycluster("one", spec)
    cluster["metadata"]["annotations"] = {names.SPEC_HASH: "kuberay's", names.NUM_WORKER_GROUPS: "1"}
    cluster["spec"]["workerGroupSpecs"][0] |= {"numOfHosts": 1, "scaleStrategy": {}}
    cluster["spec"]["headGroupSpec"]["template"]["metadata"] = {"creationTimestamp": None}
    assert hashing.matches(cluster, spec)
    assert not hashing.matches(cluster, cluster_spec("ray:2"))

    change = inplace.patch(cluster, spec)
    assert change is not None
    taken = jsonpatch.apply_patch(cluster, list(change.operations))
    assert taken["spec"] == cluster["spec"], "only our annotations are added"
    assert hashing.matches(taken, spec)
    assert inplace.patch(taken, spec) is None
