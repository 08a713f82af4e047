"""The views over states as the operator leaves them, and over what can be wrong with pods and applications."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from rayservice_operator.cli import view, view_explain, view_history, view_status
from rayservice_operator.cli.view import Objects
from rayservice_operator.cli.view_explain import Kind
from tests.cli import states
from tests.sim.scenarios import SCENARIOS
from tests.sim.simulation import Orderly, new

# --- status


@pytest.mark.parametrize(
    ("state", "ready", "phase", "under_way"),
    [
        ("ready", "True", "Promoted", False),
        ("starting", "False", "DeployingApplications", True),
        ("upgrading", "True", "DeployingApplications", True),
        ("promoted", "True", "Promoted", False),
        ("paused", "True", "Paused", True),
        ("aborted", "True", "Aborted", False),
        ("in-steps", "True", "MovingTraffic", True),
        ("in-place", "True", "ReplacingWorkers", True),
        ("roll-stopped", "True", "RollStopped", True),
        ("head-gone", "False", "Promoted", False),
        ("suspended", "False", "", False),
        ("stale", "Unknown", "Promoted", False),
    ],
)
def test_status(state: str, ready: str, phase: str, under_way: bool) -> None:
    seen = view_status.build(states.reach(state)[0])
    assert seen.ready == ready
    assert (seen.upgrade.phase if seen.upgrade else "", bool(seen.upgrade and seen.upgrade.under_way)) == (
        phase,
        under_way,
    )


@pytest.mark.parametrize("scenario", ["create", "upgrade", "in_steps", "in_place", "recreated", "analysis_passed"])
def test_the_bar_never_goes_back(scenario: str) -> None:
    """From the beginning of an upgrade that succeeds to 100 %."""
    everything = new(*SCENARIOS[scenario])
    orderly, world = Orderly(everything), everything.world
    seen: dict[str | None, list[int]] = {}
    until = world.now + 300
    while world.now < until and not (everything.stages.over and orderly.quiet()):
        orderly.turn()
        for service in world.server.kind("RayService"):
            upgrade = view_status.build(Objects(service)).upgrade
            if upgrade is not None:
                seen.setdefault(upgrade.started, []).append(upgrade.percent)
    assert len(seen) == (1 if scenario == "create" else 2)
    for percents in seen.values():
        assert percents == sorted(percents)
        assert percents[-1] == 100


def _shape(value: Any) -> Any:
    """Keys at every depth; of lists, those of the items."""
    if isinstance(value, dict):
        return {key: _shape(item) for key, item in value.items()}
    if isinstance(value, list):
        shape = functools.reduce(_agree, map(_shape, value), None)
        return [] if shape is None else [shape]
    return None


def _agree(one: Any, other: Any) -> Any:
    """The shape that both have; null and empty lists fit any."""
    if one is None or one == []:
        return other
    if other is None or other == []:
        return one
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        return {key: _agree(one[key], other[key]) for key in one}
    return [_agree(one[0], other[0])]


def test_json_has_the_same_keys_in_every_state() -> None:
    shapes: dict[str, Any] = {"status": None, "explain": None, "history": None}
    builders = {"status": view_status.build, "explain": view_explain.build, "history": view_history.build}
    for state in states.MOMENTS:
        objects, _ = states.reach(state)
        for name, build in builders.items():
            shapes[name] = _agree(shapes[name], _shape(view.to_json(build(objects))))  # type: ignore[operator]
    assert {"name", "ready", "conditions", "upgrade", "coldStart", "clusters"} <= shapes["status"].keys()
    assert {"kind", "title", "where", "detail", "step", "since"} == shapes["explain"]["causes"][0].keys()


# --- explain


def _kinds(objects: Objects) -> list[Kind]:
    return [cause.kind for cause in view_explain.build(objects).causes]


@pytest.mark.parametrize(
    ("state", "kinds"),
    [
        ("ready", []),
        ("starting", [Kind.GOING_ON]),
        ("upgrading", []),
        ("promoted", []),
        ("paused", [Kind.PAUSED]),
        ("aborted", [Kind.GAVE_WAY]),
        ("roll-stopped", [Kind.IMAGE, Kind.STALLED]),
        ("no-room", [Kind.RESOURCES]),
        ("rolled-back", [Kind.GAVE_WAY]),
        ("invalid", [Kind.SPEC]),
        ("head-gone", [Kind.NOT_READY]),
        ("suspended", [Kind.SUSPENDED]),
        ("stale", [Kind.NOT_READY]),
        ("undone", [Kind.GAVE_WAY]),
    ],
)
def test_causes_of_each_state(state: str, kinds: list[Kind]) -> None:
    assert _kinds(states.reach(state)[0]) == kinds


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        (states.waiting("ErrImagePull", "not found"), Kind.IMAGE, "not found"),
        (states.waiting("CrashLoopBackOff", "back-off 5m0s", exitCode=1), Kind.CRASH, "exit code 1"),
        (states.waiting("CrashLoopBackOff", exitCode=137, reason="OOMKilled"), Kind.CRASH, "OOMKilled"),
        (states.waiting("CreateContainerConfigError", 'secret "x" not found'), Kind.CONFIG, 'secret "x"'),
        (
            states.unschedulable("0/3 nodes are available: 3 Insufficient nvidia.com/gpu."),
            Kind.UNSCHEDULABLE,
            "Insufficient",
        ),
    ],
)
def test_pods_that_do_not_start_explain_the_rest(change: Any, kind: Kind, words: str) -> None:
    objects = states.with_pods(states.reach("starting")[0], change, "gpu-worker")
    (cause,) = view_explain.build(objects).causes
    assert (cause.kind, words in cause.detail) == (kind, True)
    assert "and 1 other pod" in cause.where
    assert cause.step
    if "OOM" in words:
        assert "memory" in cause.title


def test_pods_with_different_troubles_are_told_apart() -> None:
    objects, _ = states.reach("starting")
    workers = [p["metadata"]["name"] for p in objects.pods if "worker" in p["metadata"]["name"]]
    states.with_pods(objects, states.waiting("ErrImagePull"), workers[0])
    states.with_pods(objects, states.unschedulable("no GPU"), workers[1])
    states.with_pods(objects, states.waiting("CrashLoopBackOff", exitCode=1), "head")
    found = view_explain.build(objects).causes
    assert [cause.kind for cause in found] == [Kind.IMAGE, Kind.CRASH, Kind.UNSCHEDULABLE]
    assert "the head" in found[1].title


def test_pods_that_the_api_server_refuses() -> None:
    objects, _ = states.reach("starting")
    message = 'pods "x" is forbidden: exceeded quota: gpus'
    failure = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreateWorkerPod", "message": message}
    objects.clusters[0]["status"]["conditions"].append(failure)
    (cause,) = view_explain.build(objects).causes
    assert (cause.kind, cause.detail) == (Kind.REFUSED_PODS, message)
    assert "quota" in cause.step


@pytest.mark.parametrize(
    ("message", "advice"),
    [
        ("ModuleNotFoundError: No module named 'my_model'", "module my_model"),
        ("AttributeError: module 'app' has no attribute 'serve_app'", "names serve_app"),
        ("The replica failed its health check", "health_check_timeout_s"),
        ("something else", "kubectl rayservice logs demo --app app0 --deployment Main -n default"),
    ],
)
def test_advice_on_what_ray_says(message: str, advice: str) -> None:
    objects, _ = states.reach("starting")
    app = objects.service["status"]["pendingServiceStatus"]["applicationStatuses"]["app0"]
    app["status"] = "DEPLOY_FAILED"
    app["serveDeploymentStatuses"]["Main"] |= {"status": "DEPLOY_FAILED", "message": message}
    (cause,) = view_explain.build(objects).causes
    assert (cause.kind, cause.detail) == (Kind.DEPLOYMENT, message)
    assert advice in cause.step
    # An application without deployments is told by itself.
    app["serveDeploymentStatuses"], app["message"] = {}, message
    (cause,) = view_explain.build(objects).causes
    assert (cause.kind, cause.detail) == (Kind.APPLICATION, message)


def test_replicas_that_fail_while_ray_goes_on_trying() -> None:
    objects, _ = states.reach("starting")
    app = objects.service["status"]["pendingServiceStatus"]["applicationStatuses"]["app0"]
    message = "A replica failed to start with exception. Retrying 2 more time(s). Error: ValueError: no weights"
    app["serveDeploymentStatuses"]["Main"]["message"] = message
    (cause,) = view_explain.build(objects).causes
    assert (cause.kind, cause.detail) == (Kind.DEPLOYMENT, message)
    assert "is UPDATING (0 of 2 replicas run)" in cause.title


def test_what_the_object_itself_says() -> None:
    objects, _ = states.reach("ready")
    objects.service["spec"]["managedBy"] = "kueue.x-k8s.io/multikueue"
    assert _kinds(objects) == [Kind.FOREIGN]
    objects, _ = states.reach("ready")
    objects.service["metadata"] |= {"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["x/y"]}
    (cause,) = view_explain.build(objects).causes
    assert (cause.kind, "x/y" in cause.step) == (Kind.DELETED, True)
    objects, _ = states.reach("ready")
    objects.service["metadata"]["generation"] += 1
    assert _kinds(objects) == [Kind.NOT_SEEN]
    fresh = {"metadata": {"name": "demo", "namespace": "default", "generation": 1}, "spec": {}}
    assert _kinds(Objects(fresh)) == [Kind.NOT_SEEN]


def test_the_same_event_of_many_pods_is_told_once() -> None:
    objects, _ = states.reach("starting")

    def event(pod: str, second: int, **more: Any) -> dict[str, Any]:
        about = {"kind": "Pod", "name": pod}
        note = f"Back-off restarting {pod} of 10.0.0.{second}"
        return {"type": "Warning", "reason": "BackOff", "note": note, "regarding": about, **more}

    said = [event(f"demo-worker-{i}x", i, eventTime=f"2026-01-01T00:00:0{i}Z") for i in range(5)]
    seen = view_explain.events(Objects(objects.service, events=tuple(said)))
    assert [e.about for e in seen] == ["Pod/demo-worker-4x"], "the newest"


# --- history


def test_history_tells_what_changed_and_what_is_in_force() -> None:
    objects, _ = states.reach("promoted")
    newest, oldest = view_history.build(objects).revisions
    assert (newest.number, newest.marks) == (2, ("active", "spec", "good"))
    assert {(c.before, c.after) for c in newest.changes} == {("ray:a", "ray:b")}
    assert oldest.changes == ()
    failed = view_history.build(states.reach("rolled-back")[0]).revisions[0]
    assert failed.marks == ("spec", "failed")
    assert [c.path for c in failed.changes] == ["serveConfigV2.applications[app0].import_path"]
    undone = view_history.build(states.reach("undone")[0]).revisions
    assert [(r.number, "active" in r.marks) for r in undone] == [(2, False), (1, True)]


def test_a_serve_config_that_differs_in_form_only() -> None:
    before = {"serveConfigV2": "applications:\n- {name: a, import_path: m:a}\n"}
    after = {"serveConfigV2": "# comment\napplications:\n- name: a\n  import_path: m:a\n"}
    (change,) = view_history.differences(before, after)
    assert change.path == "serveConfigV2"
