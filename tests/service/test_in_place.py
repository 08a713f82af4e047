"""InPlace: one pod after another inside the cluster; stops at the first that does not come up; what it refuses."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterable
from typing import Any

import jsonpatch
import pytest

from rayservice_operator.api import names
from rayservice_operator.cluster.roll import Roll, roll_of
from rayservice_operator.cluster.view import view_of
from rayservice_operator.core.conditions import find
from rayservice_operator.core.decision import Apply, Create, Decision, Delete, JsonPatch
from rayservice_operator.core.objects import Manifest, name_of
from rayservice_operator.core.observation import ReplicaView
from rayservice_operator.core.timestamps import to_rfc3339
from rayservice_operator.service import hashing, roll
from rayservice_operator.service.decide import decide
from rayservice_operator.service.snapshot import ServiceSnapshot
from tests.service.builders import (
    CONFIG,
    NOW,
    OTHER_SERVE_CONFIG,
    after,
    annotated,
    application,
    cluster_spec,
    condition,
    config_hash,
    edited,
    endpoint_slice,
    observation,
    pod,
    pod_template,
    raycluster,
    rayservice,
)

FT = {"gcsFaultToleranceOptions": {"redisAddress": "redis:6379"}}


def workers_spec(image: str, head: str = "ray:1", groups: tuple[str, ...] = ("small",), **changes: Any) -> Manifest:
    """A RayClusterSpec whose workers have that image."""
    spec = cluster_spec(image, groups, **changes)
    spec["headGroupSpec"]["template"] = pod_template(head)
    return spec


@dataclasses.dataclass
class Rolled:
    """A service on ``demo-one``, and the kubelet's and the API server's part in a rollout."""

    snapshot: ServiceSnapshot
    serial: int = 0

    @property
    def cluster(self) -> Manifest:
        return self.snapshot.clusters[0]

    @property
    def pods(self) -> list[Manifest]:
        return list(self.snapshot.pods["demo-one"])

    @property
    def asked(self) -> Roll:
        found = roll_of(self.cluster)
        assert found is not None
        return found

    def step(self) -> Decision:
        """One decision, stored: its patches of the RayCluster and its status."""
        decision = decide(self.snapshot, NOW)
        cluster, history = self.cluster, list(self.snapshot.revisions)
        for action in decision.actions:
            if isinstance(action, JsonPatch) and action.ref.kind == "RayCluster":
                cluster = jsonpatch.apply_patch(cluster, list(action.operations))
            if isinstance(action, Apply) and action.obj["kind"] == "ControllerRevision":
                history.append(action.obj)
        self.snapshot = after(self.snapshot, decision, clusters=(cluster,), revisions=tuple(history))
        return decision

    def steps(self, number: int = 8) -> Decision:
        """Decisions until none of them changes the RayCluster."""
        for _ in range(number):
            before = self.cluster
            decision = self.step()
            if self.cluster == before and decision.wake_at != NOW:
                return decision
        raise AssertionError("no end of it")

    def replace(self, name: str, *, ready: bool = True, **status: Any) -> str:
        """The named pod is gone, and one of the present template is there."""
        old = next(p for p in self.pods if name_of(p) == name)
        group = old["metadata"]["labels"][names.NODE_GROUP]
        self.serial += 1
        new = member(self.cluster, group, f"new{self.serial}", f"10.0.9.{self.serial}", ready=ready)
        new["status"] |= status
        if group == names.HEAD_GROUP:
            new["metadata"]["uid"] = "demo-one-head-uid"  # what is observed is the new head
        self.now_are([*(p for p in self.pods if name_of(p) != name), new])
        return name_of(new)

    def now_are(self, pods: list[Manifest]) -> None:
        """These pods are there, all that are Ready have a proxy and are behind the service, replicas on workers."""
        healthy = [p for p in pods if p["status"]["conditions"][0]["status"] == "True"]
        slices = (endpoint_slice(*healthy),)
        seen = look(self.cluster, pods)
        self.snapshot = dataclasses.replace(
            self.snapshot, pods={"demo-one": tuple(pods)}, endpoint_slices=slices, observations={"demo-one": seen}
        )

    def edit(self, **spec: Any) -> None:
        self.snapshot = edited(self.snapshot, **spec)


def look(cluster: Manifest, pods: Iterable[Manifest], **changes: Any) -> Any:
    """What the observer sees: one replica on the first worker that is Ready, a proxy on all pods that are."""
    healthy = [p for p in pods if p["status"]["conditions"][0]["status"] == "True"]
    where = [p["status"]["podIP"] for p in healthy if p["metadata"]["labels"][names.NODE_TYPE] == names.WORKER]
    app = application()
    replicas = tuple(ReplicaView("r0", "RUNNING", ip) for ip in where[:1])
    greeter = dataclasses.replace(app.deployments["Greeter"], replicas=replicas)
    app = dataclasses.replace(app, deployments={"Greeter": greeter})
    proxies = {p["status"]["podIP"]: True for p in healthy}
    return observation(cluster, app, proxies=proxies, pushed=config_hash(), **changes)


def member(cluster: Manifest, group: str, node: str, ip: str, *, ready: bool = True) -> Manifest:
    """A pod of that group of ``cluster``, made from the template that it has now."""
    view = view_of(cluster, CONFIG)
    kind = view.head if group == names.HEAD_GROUP else next(g for g in view.workers if g.name == group)
    made = pod(cluster, node, ip, ready=ready)
    made["metadata"]["labels"] |= {
        names.NODE_GROUP: group,
        names.NODE_TYPE: names.HEAD if kind.is_head else names.WORKER,
    }
    made["metadata"]["annotations"] = {names.TEMPLATE_HASH: kind.template_hash}
    if kind.is_head:
        made["metadata"]["annotations"][names.FT_ENABLED] = "true" if view.spec.gcs_fault_tolerance_options else "false"
    made["metadata"]["creationTimestamp"] = to_rfc3339(NOW - 100)
    made["status"]["conditions"][0]["lastTransitionTime"] = to_rfc3339(NOW - 100)
    return made


def in_place(
    spec: Manifest | None = None, groups: tuple[str, ...] = ("small",), replicas: int = 2, **service: Any
) -> Rolled:
    """Serving from ``spec`` (workers with image ray:1) with strategy InPlace."""
    built = spec or workers_spec("ray:1", groups=groups)
    for group in built["workerGroupSpecs"]:
        group["replicas"] = replicas
    cluster = raycluster("demo-one", built)
    pods = [member(cluster, names.HEAD_GROUP, "head", "10.0.0.1")]
    for index, group in enumerate(built["workerGroupSpecs"]):
        for number in range(replicas):
            name = group["groupName"]
            pods.append(member(cluster, name, f"{name}-{number}", f"10.0.{index + 1}.{number + 1}"))
    status = {
        "conditions": [],
        "activeServiceStatus": {"rayClusterName": "demo-one", "appliedConfigHash": config_hash()},
        "observedGeneration": 1,
    }
    wanted = {"serveConfigV2": rayservice()["spec"]["serveConfigV2"], "rayClusterConfig": built}
    wanted |= {"upgradeStrategy": {"type": "InPlace"}, **service}
    rolled = Rolled(ServiceSnapshot(service=rayservice(wanted, status=status), config=CONFIG, clusters=(cluster,)))
    rolled.now_are(pods)
    rolled.steps()
    return rolled


def upgrade(decision: Decision) -> Manifest:
    assert decision.status is not None
    found: Manifest = decision.status.get("upgrade", {})
    return found


def message(decision: Decision, type_: str) -> str:
    assert decision.status is not None
    return str((find(decision.status["conditions"], type_) or {}).get("message", ""))


def reasons(decision: Decision) -> list[str]:
    return [note.reason for note in decision.notes]


# --- one after another


def test_announced_first_then_the_spec_then_one_pod() -> None:
    rolled = in_place()
    rolled.edit(rayClusterConfig=workers_spec("ray:2"))
    told = rolled.step()
    assert not [action for action in told.actions if isinstance(action, JsonPatch)]
    assert "UpgradeStarted" in reasons(told)
    assert condition(told, "UpgradeInProgress") == ("True", "RollingPods")
    assert upgrade(told) | {"message": "", "started": ""} == {
        "strategy": "InPlace",
        "from": "demo-one",
        "to": "demo-one",
        "phase": "Announced",
        "started": "",
        "step": 0,
        "steps": 0,
        "needs": "no pods beside those that run",
        "message": "",
    }
    before = hashing.cluster_hash(workers_spec("ray:1"))
    begun = rolled.step()
    assert "UpgradeStarted" not in reasons(begun)
    assert rolled.cluster["spec"]["workerGroupSpecs"][0]["template"] == pod_template("ray:2")
    assert rolled.cluster["metadata"]["annotations"][names.SPEC_HASH] == before, "until the last pod is new"
    assert rolled.asked.pods == frozenset()

    named = rolled.step()
    assert rolled.asked.pods == {"demo-one-small-1"}, "the one without a replica first"
    assert "ReplacingPods" in reasons(named)
    text = rolled.cluster["metadata"]["annotations"][names.ROLL]
    waiting = rolled.step()
    assert rolled.cluster["metadata"]["annotations"][names.ROLL] == text
    assert condition(waiting, "Ready") == ("True", "NonZeroServeEndpoints")


def test_next_pod_when_the_first_is_ready_and_done_when_all_are() -> None:
    rolled = in_place()
    rolled.edit(rayClusterConfig=workers_spec("ray:2"))
    rolled.steps()
    rolled.replace("demo-one-small-1")
    second = rolled.steps()
    assert rolled.asked.pods == {"demo-one-small-0"}
    assert (upgrade(second)["step"], upgrade(second)["steps"]) == (1, 2)
    rolled.replace("demo-one-small-0")
    done = rolled.steps()
    assert roll_of(rolled.cluster) is None
    assert hashing.matches(rolled.cluster, workers_spec("ray:2"))
    assert condition(done, "UpgradeInProgress") == ("False", "NoPendingCluster")
    assert condition(done, "Reconciling") is None
    assert upgrade(done)["phase"] == "Completed"
    assert (upgrade(done)["step"], upgrade(done)["steps"]) == (2, 2)


def test_a_corrected_config_does_not_wait_for_pods_that_wait_for_it() -> None:
    """No pod is replaced while the applications have failed, so the config that may mend them comes first."""
    rolled = in_place()
    failed = dataclasses.replace(application("DEPLOY_FAILED", running=0), deployments={})
    rolled.edit(serveConfigV2=OTHER_SERVE_CONFIG, rayClusterConfig=workers_spec("ray:2"))
    (seen,) = rolled.snapshot.observations.values()
    seen = dataclasses.replace(seen, applications={"greeter": failed})
    rolled.snapshot = dataclasses.replace(rolled.snapshot, observations={"demo-one": seen})
    decision = rolled.steps()
    assert decision.observe is not None
    (told,) = decision.observe
    assert told.push is not None
    assert told.push.config_hash == config_hash(OTHER_SERVE_CONFIG)


def test_a_head_that_is_kept_out_of_the_service_holds_nothing_up() -> None:
    """Its proxy is healthy, it has no label and is no endpoint."""
    rolled = in_place(excludeHeadPodFromServeSvc=True)
    head, *workers = rolled.pods
    labels = {**head["metadata"]["labels"], names.SERVE: "false"}
    rolled.now_are([{**head, "metadata": {**head["metadata"], "labels": labels}}, *workers])
    rolled.snapshot = dataclasses.replace(rolled.snapshot, endpoint_slices=(endpoint_slice(*workers),))
    rolled.edit(rayClusterConfig=workers_spec("ray:2"))
    rolled.steps()
    assert rolled.asked.pods == {"demo-one-small-1"}


def test_nothing_is_ever_built_or_deleted_by_the_service_itself() -> None:
    rolled = in_place()
    rolled.edit(rayClusterConfig=workers_spec("ray:2"))
    for _ in range(4):
        assert not [action for action in rolled.step().actions if isinstance(action, Create | Delete)]


@pytest.mark.parametrize(
    ("ready_at", "changes", "waits"),
    [(NOW - 100, {}, False), (NOW - 1, {}, True), (NOW - 100, {"error": "no answer"}, True)],
)
def test_the_next_pod_waits_for_a_newer_look_at_serve(ready_at: float, changes: dict[str, Any], waits: bool) -> None:
    rolled = in_place()
    rolled.edit(rayClusterConfig=workers_spec("ray:2"))
    rolled.steps()
    ready = [{"type": "Ready", "status": "True", "lastTransitionTime": to_rfc3339(ready_at)}]
    rolled.replace("demo-one-small-1", conditions=ready)
    rolled.now_are(rolled.pods)
    seen = look(rolled.cluster, rolled.pods, **changes)
    rolled.snapshot = dataclasses.replace(rolled.snapshot, observations={"demo-one": seen})
    decision = rolled.step()
    assert (rolled.asked.pods == {"demo-one-small-1"}) == waits
    if waits:
        assert "newer than the newest pod" in upgrade(decision)["message"]
        assert decision.wake_at == NOW + 1


@pytest.mark.parametrize("where", ["10.0.7.7", ""])
def test_a_replica_on_a_pod_that_is_gone_is_none(where: str) -> None:
    rolled = in_place()
    rolled.edit(rayClusterConfig=workers_spec("ray:2"))
    rolled.steps()
    rolled.replace("demo-one-small-1")
    seen = look(rolled.cluster, rolled.pods)
    app = seen.applications["greeter"]
    greeter = dataclasses.replace(app.deployments["Greeter"], replicas=(ReplicaView("r0", "RUNNING", where),))
    app = dataclasses.replace(app, deployments={"Greeter": greeter})
    seen = dataclasses.replace(seen, applications={"greeter": app})
    rolled.snapshot = dataclasses.replace(rolled.snapshot, observations={"demo-one": seen})
    decision = rolled.step()
    assert ("has 0 of 1 replicas" in upgrade(decision)["message"]) == bool(where)


def test_one_named_for_not_being_ready_is_not_counted_as_going_once_it_is() -> None:
    """History 3162: Ready at last, and then it is the only one."""
    rolled = in_place()
    first, second = "demo-one-small-0", "demo-one-small-1"

    def ready(*which: str) -> None:
        for each in rolled.pods:
            if each["metadata"]["labels"][names.NODE_TYPE] == names.WORKER:
                each["status"]["conditions"][0]["status"] = str(name_of(each) in which)
        rolled.now_are(rolled.pods)

    rolled.edit(rayClusterConfig=workers_spec("ray:2"))
    ready(second)
    rolled.steps()
    assert (rolled.asked.pods, rolled.asked.unready) == ({first}, {first})
    ready(first)
    rolled.steps()
    assert (rolled.asked.pods, rolled.asked.unready) == ({second}, {second})
    new = rolled.replace(second)
    ready(first, new)
    rolled.steps()
    assert (rolled.asked.pods, rolled.asked.unready) == ({first}, set())


def test_groups_in_their_order_and_only_those_that_changed() -> None:
    rolled = in_place(groups=("a", "b", "c"))
    wanted = workers_spec("ray:1", groups=("a", "b", "c"))
    for index in (1, 2):
        wanted["workerGroupSpecs"][index]["template"] = pod_template("ray:2")
    rolled.edit(rayClusterConfig=wanted)
    rolled.steps()
    gone = []
    for _ in range(4):
        (name,) = rolled.asked.pods
        gone.append(name)
        rolled.replace(name)
        rolled.steps()
    assert [name.split("-")[2] for name in gone] == ["b", "b", "c", "c"]
    assert roll_of(rolled.cluster) is None


def test_max_unavailable() -> None:
    rolled = in_place(replicas=4, upgradeStrategy={"type": "InPlace", "inPlace": {"maxUnavailable": 2}})
    rolled.edit(rayClusterConfig=of_size(workers_spec("ray:2"), 4))
    rolled.steps()
    assert len(rolled.asked.pods) == 2


def of_size(spec: Manifest, replicas: int) -> Manifest:
    for group in spec["workerGroupSpecs"]:
        group["replicas"] = replicas
    return spec


def test_surge_comes_first_and_goes_with_the_last() -> None:
    rolled = in_place(upgradeStrategy={"type": "InPlace", "inPlace": {"maxSurge": 1}})
    rolled.edit(rayClusterConfig=workers_spec("ray:2"))
    told = rolled.step()
    assert upgrade(told)["needs"].startswith("1 pod with 1 CPU and 1Gi of memory at a time")
    rolled.steps()
    assert (rolled.asked.pods, rolled.asked.surge) == (frozenset(), {"small": 1})
    extra = member(rolled.cluster, "small", "extra", "10.0.8.1")
    rolled.now_are([*rolled.pods, extra])
    rolled.steps()
    assert (rolled.asked.pods, rolled.asked.surge) == ({"demo-one-small-1"}, {"small": 1})
    rolled.replace("demo-one-small-1")
    rolled.steps()
    assert (rolled.asked.pods, rolled.asked.surge) == ({"demo-one-small-0"}, {})
    rolled.now_are([p for p in rolled.pods if name_of(p) != "demo-one-small-0"])
    rolled.steps()
    assert roll_of(rolled.cluster) is None


def test_serve_config_comes_after_the_pods() -> None:
    rolled = in_place()
    rolled.edit(rayClusterConfig=workers_spec("ray:2"), serveConfigV2=OTHER_SERVE_CONFIG)
    meanwhile = rolled.steps()
    (target,) = meanwhile.observe
    assert target.push is None
    assert target.fast
    assert condition(meanwhile, "ServeConfigApplied") == ("False", "Pending")
    for name in ("demo-one-small-1", "demo-one-small-0"):
        rolled.replace(name)
        done = rolled.steps()
    assert roll_of(rolled.cluster) is None
    (target,) = done.observe
    assert target.push is not None
    assert target.push.config_hash == config_hash(OTHER_SERVE_CONFIG)


def test_scaled_meanwhile() -> None:
    rolled = in_place()
    rolled.edit(rayClusterConfig=workers_spec("ray:2"))
    rolled.steps()
    rolled.edit(rayClusterConfig=of_size(workers_spec("ray:2"), 3))
    rolled.steps()
    assert rolled.cluster["spec"]["workerGroupSpecs"][0]["replicas"] == 3
    assert rolled.asked.pods == {"demo-one-small-1"}


# --- where it stops


WAITING = [
    {
        "name": "ray",
        "restartCount": 0,
        "state": {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image ray:2"}},
    }
]


@pytest.mark.parametrize(("age", "threshold", "stopped"), [(299, 300, False), (301, 300, True), (11, 10, True)])
def test_stops_at_the_first_pod_that_does_not_come_up(age: int, threshold: int, stopped: bool) -> None:
    rolled = in_place(deploymentUnhealthySecondThreshold=threshold)
    rolled.edit(rayClusterConfig=workers_spec("ray:2"))
    rolled.steps()
    since = to_rfc3339(NOW - age)
    unready = [{"type": "Ready", "status": "False", "lastTransitionTime": since}]
    new = rolled.replace("demo-one-small-1", ready=False, conditions=unready, containerStatuses=WAITING)
    next(p for p in rolled.pods if name_of(p) == new)["metadata"]["creationTimestamp"] = since
    decision = rolled.steps()
    assert rolled.asked.pods == {"demo-one-small-1"}, "nothing else is replaced"
    assert f"Pod {new} of group small is not Ready: ImagePullBackOff: ray: Back-off" in upgrade(decision)["message"]
    assert upgrade(decision)["deadline"] == to_rfc3339(NOW - age + threshold)
    assert condition(decision, "UpgradeInProgress") == ("True", "RollingPods")
    if stopped:
        assert condition(decision, "Stalled") == ("True", "RollStopped")
        assert condition(decision, "Reconciling") is None
        assert "Back-off pulling image" in message(decision, "Stalled")
        assert upgrade(decision)["phase"] == "RollStopped"
    else:
        assert condition(decision, "Stalled") is None
        assert decision.wake_at == NOW - age + threshold


def test_another_word_of_the_same_pod_is_no_news() -> None:
    rolled = in_place(deploymentUnhealthySecondThreshold=10)
    rolled.edit(rayClusterConfig=workers_spec("ray:2"))
    rolled.steps()
    rolled.replace("demo-one-small-1", ready=False, containerStatuses=WAITING)
    first = rolled.step()
    assert "RollStopped" in reasons(first)
    other = copy.deepcopy(WAITING)
    other[0]["state"]["waiting"]["reason"] = "ErrImagePull"  # type: ignore[index]
    rolled.pods[-1]["status"]["containerStatuses"] = other
    second = rolled.step()
    assert "RollStopped" not in reasons(second)
    assert message(second, "Stalled") == message(first, "Stalled")


def test_starting_again_and_again_is_no_progress() -> None:
    rolled = in_place()
    rolled.edit(rayClusterConfig=workers_spec("ray:2"))
    rolled.steps()
    crashing = [{"name": "ray", "restartCount": 7, "state": {"running": {"startedAt": to_rfc3339(NOW - 5)}}}]
    unready = [{"type": "Ready", "status": "False", "lastTransitionTime": to_rfc3339(NOW - 5)}]
    new = rolled.replace("demo-one-small-1", ready=False, conditions=unready, containerStatuses=crashing)
    next(p for p in rolled.pods if name_of(p) == new)["metadata"]["creationTimestamp"] = to_rfc3339(NOW - 400)
    assert condition(rolled.steps(), "Stalled") == ("True", "RollStopped")


@pytest.mark.parametrize(("attempt", "stopped"), [(2, False), (7, True)])
def test_neither_are_pods_that_die_young_one_after_another(attempt: int, stopped: bool) -> None:
    rolled = in_place()
    rolled.edit(rayClusterConfig=workers_spec("ray:2"))
    rolled.steps()
    new = rolled.replace("demo-one-small-1", ready=False)
    made = next(p for p in rolled.pods if name_of(p) == new)
    made["metadata"]["creationTimestamp"] = to_rfc3339(NOW - 1)
    made["metadata"]["annotations"]["rayservice.ray.io/attempt"] = str(attempt)
    assert (condition(rolled.steps(), "Stalled") is not None) == stopped


def test_taken_back_it_keeps_what_fits_and_replaces_the_rest() -> None:
    rolled = in_place()
    rolled.edit(rayClusterConfig=workers_spec("ray:2"))
    rolled.steps()
    new = rolled.replace("demo-one-small-1", ready=False)
    rolled.steps()
    rolled.edit(rayClusterConfig=workers_spec("ray:1"))
    rolled.steps()
    assert rolled.asked.pods == {new}
    assert rolled.asked.to == hashing.cluster_hash(workers_spec("ray:1"))
    rolled.replace(new)
    rolled.steps()
    assert roll_of(rolled.cluster) is None
    assert hashing.matches(rolled.cluster, workers_spec("ray:1"))
    assert "demo-one-small-0" in [name_of(p) for p in rolled.pods], "never touched"


def test_a_third_spec_becomes_the_goal() -> None:
    rolled = in_place()
    rolled.edit(rayClusterConfig=workers_spec("ray:2"))
    rolled.steps()
    first = rolled.replace("demo-one-small-1")
    rolled.edit(rayClusterConfig=workers_spec("ray:3"))
    rolled.steps()
    assert rolled.cluster["spec"]["workerGroupSpecs"][0]["template"] == pod_template("ray:3")
    (name,) = rolled.asked.pods
    assert name in {first, "demo-one-small-0"}


def test_a_pod_that_is_going_keeps_its_place_through_a_change_of_mind() -> None:
    rolled = in_place()
    rolled.edit(rayClusterConfig=workers_spec("ray:2"))
    rolled.steps()
    next(p for p in rolled.pods if name_of(p) == "demo-one-small-1")["metadata"]["deletionTimestamp"] = to_rfc3339(
        NOW + 60
    )
    rolled.edit(rayClusterConfig=workers_spec("ray:1"))
    decision = rolled.steps()
    assert rolled.asked.pods == {"demo-one-small-1"}
    assert "is being drained" in upgrade(decision)["message"]


@pytest.mark.parametrize(("seconds", "stopped"), [(60, True), (200, False), (None, False)])
def test_past_its_deadline_no_other_pod_goes(seconds: int | None, stopped: bool) -> None:
    strategy = {"type": "InPlace"} | ({"progressDeadlineSeconds": seconds} if seconds else {})
    rolled = in_place(upgradeStrategy=strategy)
    rolled.edit(rayClusterConfig=workers_spec("ray:2"))
    rolled.step()
    rolled.step()
    text = dataclasses.replace(rolled.asked, started=to_rfc3339(NOW - 100)).dump()
    rolled.cluster["metadata"]["annotations"][names.ROLL] = text
    decision = rolled.steps()
    assert bool(rolled.asked.pods) != stopped
    assert (condition(decision, "Stalled") == ("True", "RollStopped")) == stopped


def test_the_only_worker_that_replicas_can_run_on_stays() -> None:
    rolled = in_place(replicas=1)
    rolled.edit(rayClusterConfig=of_size(workers_spec("ray:2"), 1))
    decision = rolled.steps()
    assert rolled.asked.pods == frozenset()
    assert condition(decision, "Stalled") == ("True", "RollStopped")
    assert "maxSurge to 1" in message(decision, "Stalled")
    rolled.edit(upgradeStrategy={"type": "InPlace", "inPlace": {"maxSurge": 1}})
    decision = rolled.steps()
    assert rolled.asked.surge == {"small": 1}
    assert condition(decision, "Stalled") is None


def test_failed_applications_stop_it() -> None:
    rolled = in_place(deploymentUnhealthySecondThreshold=10)
    rolled.edit(rayClusterConfig=workers_spec("ray:2"))
    rolled.steps()
    rolled.replace("demo-one-small-1")
    app = application("UNHEALTHY", running=0)
    seen = dataclasses.replace(look(rolled.cluster, rolled.pods), applications={"greeter": app})
    rolled.snapshot = dataclasses.replace(rolled.snapshot, observations={"demo-one": seen})
    rolled.step()
    decision = decide(rolled.snapshot, NOW + 9)
    assert condition(decision, "Stalled") is None
    assert rolled.asked.pods == {"demo-one-small-1"}
    fresh = dataclasses.replace(seen, seen_at=NOW + 10.5)
    later = dataclasses.replace(rolled.snapshot, observations={"demo-one": fresh})
    assert condition(decide(later, NOW + 11), "Stalled") == ("True", "RollStopped")


def test_paused() -> None:
    rolled = in_place()
    rolled.edit(rayClusterConfig=workers_spec("ray:2"))
    rolled.steps()
    rolled.replace("demo-one-small-1")
    rolled.snapshot = annotated(rolled.snapshot, pause="true")
    decision = rolled.steps()
    assert rolled.asked.pods == {"demo-one-small-1"}
    assert condition(decision, "UpgradeInProgress") == ("True", "UpgradePaused")
    assert upgrade(decision)["phase"] == "Paused"
    rolled.snapshot = annotated(rolled.snapshot)
    rolled.steps()
    assert rolled.asked.pods == {"demo-one-small-0"}


# --- what a running cluster cannot take


@pytest.mark.parametrize(
    ("wanted", "what"),
    [
        (workers_spec("ray:1", head="ray:2"), "gcsFaultToleranceOptions"),
        (workers_spec("ray:2", rayVersion="2.61.0"), "rayClusterConfig.rayVersion"),
        (workers_spec("ray:1", **FT), "rayClusterConfig.gcsFaultToleranceOptions"),
        (workers_spec("ray:1", enableInTreeAutoscaling=True), "rayClusterConfig.enableInTreeAutoscaling"),
        (workers_spec("ray:1", groups=("other",)), "a group was removed, renamed or moved"),
    ],
)
def test_refused(wanted: Manifest, what: str) -> None:
    rolled = in_place()
    before = copy.deepcopy(rolled.cluster)
    rolled.edit(rayClusterConfig=wanted)
    decision = rolled.steps()
    assert rolled.cluster == before
    assert condition(decision, "Stalled") == ("True", "NotInPlace")
    assert what in message(decision, "Stalled")
    assert "NewCluster" in message(decision, "Stalled")
    assert condition(decision, "UpgradeInProgress") == ("False", "NotInPlace")
    assert condition(decision, "Ready") == ("True", "NonZeroServeEndpoints")
    assert upgrade(decision)["phase"] == "Refused"
    rolled.edit(rayClusterConfig=workers_spec("ray:1"))
    healed = rolled.steps()
    assert condition(healed, "Stalled") is None
    assert upgrade(healed) == {}


def test_the_head_last_where_its_state_survives() -> None:
    rolled = in_place(workers_spec("ray:1", **FT))
    rolled.edit(rayClusterConfig=workers_spec("ray:2", head="ray:2", **FT))
    told = rolled.step()
    assert "group small and then the head" in upgrade(told)["message"]
    rolled.steps()
    gone = []
    for _ in range(3):
        (name,) = rolled.asked.pods
        gone.append(name)
        rolled.replace(name)
        decision = rolled.steps()
    assert gone == ["demo-one-small-1", "demo-one-small-0", "demo-one-head"]
    assert roll_of(rolled.cluster) is None
    assert upgrade(decision)["phase"] == "Completed"


def test_head_port_is_refused_even_so() -> None:
    wanted = workers_spec("ray:1", **FT)
    wanted["headGroupSpec"]["rayStartParams"]["port"] = "6380"
    rolled = in_place(workers_spec("ray:1", **FT))
    rolled.edit(rayClusterConfig=wanted)
    assert "rayStartParams.port" in message(rolled.steps(), "Stalled")


# --- other strategies in the middle


def test_none_holds_it_where_it_is() -> None:
    rolled = in_place()
    rolled.edit(rayClusterConfig=workers_spec("ray:2"))
    rolled.steps()
    text = rolled.cluster["metadata"]["annotations"][names.ROLL]
    rolled.edit(upgradeStrategy={"type": "None"})
    decision = rolled.steps()
    assert rolled.cluster["metadata"]["annotations"][names.ROLL] == text
    assert condition(decision, "UpgradeInProgress") == ("False", "ChangeHeldBack")
    assert "InPlace to go on" in message(decision, "UpgradeInProgress")
    assert upgrade(decision)["phase"] == "Held"


@pytest.mark.parametrize("image", ["ray:1", "ray:2"])
def test_a_cluster_between_two_specs_is_neither(image: str) -> None:
    rolled = in_place()
    rolled.edit(rayClusterConfig=workers_spec("ray:2"))
    rolled.steps()
    assert not hashing.matches(rolled.cluster, workers_spec(image))
    rolled.edit(rayClusterConfig=workers_spec(image), upgradeStrategy={"type": "NewCluster"})
    decision = rolled.step()
    assert decision.status is not None
    assert decision.status["pendingServiceStatus"]["rayClusterName"]


def test_an_unreadable_annotation_is_written_anew() -> None:
    rolled = in_place()
    rolled.edit(rayClusterConfig=workers_spec("ray:2"))
    rolled.steps()
    rolled.cluster["metadata"]["annotations"][names.ROLL] = "{"
    rolled.steps()
    assert rolled.asked.to == hashing.cluster_hash(workers_spec("ray:2"))


def test_the_same_spec_written_otherwise_replaces_nothing() -> None:
    rolled = in_place()
    wanted = workers_spec("ray:1")
    wanted["workerGroupSpecs"][0]["numOfHosts"] = 1
    rolled.edit(rayClusterConfig=wanted)
    decision = rolled.steps()
    assert roll_of(rolled.cluster) is None
    assert hashing.matches(rolled.cluster, wanted)
    assert upgrade(decision) == {}


def test_difference_of_a_cluster_built_by_kuberay() -> None:
    cluster = raycluster("one", workers_spec("ray:1"))
    cluster["spec"]["workerGroupSpecs"][0] |= {"numOfHosts": 1, "scaleStrategy": {}}
    cluster["spec"]["headGroupSpec"]["template"]["metadata"] = {"creationTimestamp": None}
    assert roll.difference(cluster, workers_spec("ray:2")) == roll.Difference(frozenset({"small"}), ())


def test_taken_back_before_it_began_nothing_is_told_to_be_done() -> None:
    rolled = in_place()
    rolled.edit(rayClusterConfig=workers_spec("ray:2"))
    rolled.step()
    rolled.edit(rayClusterConfig=workers_spec("ray:1"))
    assert upgrade(rolled.steps()) == {}


# --- given up by hand


def given_up_midway() -> Rolled:
    """One of two workers is of the new image, which nobody wants any more."""
    rolled = in_place()
    rolled.step()  # the status tells which revision everything runs with
    rolled.edit(rayClusterConfig=workers_spec("ray:2"))
    rolled.steps()
    rolled.replace("demo-one-small-1")
    rolled.snapshot = annotated(rolled.snapshot, abort="2")
    return rolled


def test_aborted_it_goes_back_to_the_revision_of_before_and_is_remembered() -> None:
    rolled = given_up_midway()
    decision = rolled.steps()
    assert rolled.asked.to == hashing.cluster_hash(workers_spec("ray:1"))
    assert "The rollout in RayCluster demo-one is given up" in message(decision, "RollbackInProgress")
    assert upgrade(decision)["phase"] == "ReplacingWorkers"
    assert upgrade(decision)["message"].startswith("Going back. ")
    assert rolled.asked.pods == {"demo-one-new1"}, "the one that was not touched stays"
    rolled.replace("demo-one-new1")
    decision = rolled.steps()
    assert roll_of(rolled.cluster) is None
    assert hashing.matches(rolled.cluster, workers_spec("ray:1"))
    assert upgrade(decision)["phase"] == "Aborted"
    assert condition(decision, "Stalled") == ("True", "UpgradeAborted")
    assert condition(decision, "UpgradeInProgress") == ("False", "UpgradeAborted")
    assert "demo-one-small-0" in [name_of(p) for p in rolled.pods]
    rolled.edit(rayClusterConfig=workers_spec("ray:1"))
    decision = rolled.steps()
    assert upgrade(decision) == {}, "the spec is what runs again: nothing was completed"
    assert condition(decision, "Stalled") is None


def test_an_abort_of_another_revision_does_nothing() -> None:
    """One that was left behind: the cluster's name is always the same, so it is none of the words that count."""
    for value in ("demo-one", "1", "3"):
        rolled = given_up_midway()
        rolled.snapshot = annotated(rolled.snapshot, abort=value)
        decision = rolled.steps()
        assert rolled.asked.to == hashing.cluster_hash(workers_spec("ray:2"))
        assert upgrade(decision)["revision"] == 2


def test_an_abort_is_heard_although_the_serve_config_has_failed_before() -> None:
    rolled = in_place()
    rolled.step()
    rolled.edit(rayClusterConfig=workers_spec("ray:2"), serveConfigV2=OTHER_SERVE_CONFIG)
    failed = {"configHash": config_hash(OTHER_SERVE_CONFIG), "rolledBackTo": config_hash(), "message": "It failed.",
              "time": to_rfc3339(NOW)}  # fmt: skip
    rolled.snapshot.service["status"]["failedUpdate"] = failed
    rolled.steps()
    rolled.replace("demo-one-small-1")
    rolled.snapshot = annotated(rolled.snapshot, abort="2")
    told = rolled.step()
    assert "RollingBack" in reasons(told)
    decision = rolled.steps()
    assert rolled.asked.to == hashing.cluster_hash(workers_spec("ray:1"))
    assert upgrade(decision)["message"].startswith("Going back. ")
    rolled.replace("demo-one-new1")
    assert upgrade(rolled.steps())["phase"] == "Aborted"


def test_aborted_before_anything_was_done() -> None:
    rolled = in_place()
    rolled.step()
    rolled.edit(rayClusterConfig=workers_spec("ray:2"))
    while not upgrade(rolled.step()).get("revision"):
        pass
    rolled.snapshot = annotated(rolled.snapshot, abort="2")
    decision = rolled.steps()
    assert roll_of(rolled.cluster) is None
    assert upgrade(decision)["phase"] == "Aborted"


def test_another_strategy_does_not_leave_it_between_two_specs() -> None:
    rolled = given_up_midway()
    rolled.steps()
    rolled.edit(upgradeStrategy={"type": "NewCluster"})
    decision = rolled.steps()
    assert rolled.asked.to == hashing.cluster_hash(workers_spec("ray:1"))
    assert upgrade(decision)["message"].startswith("Going back. ")
    rolled.replace("demo-one-new1")
    assert upgrade(rolled.steps())["phase"] == "Aborted"
    assert hashing.matches(rolled.cluster, workers_spec("ray:1"))
