"""Histories that every operator must come through, as stages of what a person does and what must follow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from rayservice_operator.api import names
from rayservice_operator.core.conditions import is_true
from rayservice_operator.core.objects import Manifest, generation_of, is_terminating, name_of, ref, uid_of
from tests.sim import manifests as m
from tests.sim.invariants import Monitor
from tests.sim.simulation import Stage, condition, service, status, user
from tests.sim.world import World

NEW_CONFIG: Final = m.serve_config(greeting="good day")


def create(**more: object) -> Stage:
    """``kubectl apply`` of the manifest."""

    def do(world: World, _: Monitor) -> None:
        world.server.create("kubectl", m.rayservice(**more))  # type: ignore[arg-type]

    return Stage("create", do, serves)


def edit(what: str, until: Callable[[World], bool], **spec: object) -> Stage:
    """Change fields of the spec."""
    return Stage(what, lambda world, _: user(world, {"spec": spec}), until)


def image(name: str, until: Callable[[World], bool]) -> Stage:
    """Another image for all pods: needs another cluster."""
    return edit(f"image {name}", until, rayClusterConfig=m.cluster_spec(name))


def serves(world: World) -> bool:
    """At the generation asked for, ready, and nothing under way."""
    known = service(world)
    if known is None or status(world).get("observedGeneration") != generation_of(known):
        return False
    conditions = status(world).get("conditions") or ()
    return is_true(conditions, "Ready") and not is_true(conditions, "Reconciling")


def upgrading(world: World) -> bool:
    """A pending cluster whose head pod runs."""
    pending = (status(world).get("pendingServiceStatus") or {}).get("rayClusterName")
    return bool(pending) and world.head(pending) is not None


def alone(world: World) -> bool:
    """Serving with one cluster left."""
    return serves(world) and len(world.server.kind("RayCluster")) == 1


def suspended(world: World) -> bool:
    """Everything is gone."""
    return condition(world, "Suspended") == "True" and not world.pods()


def at_rest(world: World) -> bool:
    """All clusters are suspended and their pods gone; said so, and nothing else is."""
    conditions = status(world).get("conditions") or ()
    told = next((c["reason"] for c in conditions if c["type"] == "Ready"), "") == "RayClusterSuspended"
    moving = is_true(conditions, "Reconciling") or is_true(conditions, "Stalled")
    return told and not moving and not world.pods()


def create_at_rest() -> Stage:
    """``kubectl apply`` of a manifest whose clusters are suspended from the start."""

    def do(world: World, _: Monitor) -> None:
        manifest = m.rayservice()
        manifest["spec"]["rayClusterConfig"]["suspend"] = True
        world.server.create("kubectl", manifest)

    return Stage("create suspended", do, at_rest)


def admit(world: World, *, yes: bool) -> None:
    """Kueue admits all RayClusters, or takes their quota away."""
    for cluster in world.server.kind("RayCluster"):
        world.admit(cluster, yes=yes)


def _active_head(world: World) -> Manifest:
    head = world.head(status(world)["activeServiceStatus"]["rayClusterName"])
    assert head is not None
    return head


def hang_head(world: World, _: Monitor) -> None:
    """The active cluster's dashboard answers no more."""
    world.hung.add(uid_of(_active_head(world)))


def forget_app(world: World, monitor: Monitor) -> None:
    """Somebody deletes an application of the active cluster in Ray."""
    monitor.excuse()
    world.forget(_active_head(world), "app1")


def serves_as_before(world: World) -> bool:
    """Ready with what was good before, and the spec's failure still told."""
    return condition(world, "Ready") == "True" and condition(world, "Stalled") == "True"


def _broken_upgrade() -> dict[str, object]:
    return {"rayClusterConfig": m.cluster_spec("ray:b"), "serveConfigV2": m.serve_config("broken:app")}


def at_once(_: World) -> bool:
    """The next stage begins immediately."""
    return True


def kill_head(world: World, monitor: Monitor) -> None:
    """The active cluster's head pod ends."""
    active = status(world)["activeServiceStatus"]["rayClusterName"]
    head = world.head(active)
    assert head is not None
    monitor.excuse()
    world.kill(head)


def drain_head(world: World, monitor: Monitor) -> None:
    """Somebody deletes the active cluster's head pod."""
    active = status(world)["activeServiceStatus"]["rayClusterName"]
    head = world.head(active)
    assert head is not None
    monitor.excuse()
    world.drain(head)


def kill_worker(world: World, _: Monitor) -> None:
    """One worker ends; the others and the head go on serving."""
    worker = next(p for p in world.pods() if p["metadata"]["labels"][names.NODE_TYPE] == names.WORKER)
    world.kill(worker)


def delete_cluster(world: World, monitor: Monitor) -> None:
    """Somebody deletes the active RayCluster."""
    active = status(world)["activeServiceStatus"]["rayClusterName"]
    cluster = next(c for c in world.server.kind("RayCluster") if name_of(c) == active)
    monitor.excuse()
    world.server.delete("kubectl", ref(cluster), None, "Background")


def delete_service(world: World, _: Monitor) -> None:
    """``kubectl delete rayservice``."""
    known = service(world)
    assert known is not None
    world.server.delete("kubectl", ref(known), None, "Background")


def nothing_left(world: World) -> bool:
    """The service and all that it owned are gone."""
    return not world.server.objects


ASK_AGAIN: Final = {"metadata": {"annotations": {"ray.io/retry": "1"}}}


def rolled_back(world: World) -> bool:
    """The config asked for has failed, and the one before it serves again."""
    stalled = next((c for c in status(world).get("conditions") or () if c["type"] == "Stalled"), {})
    return stalled.get("reason") == "RolledBack" and condition(world, "Ready") == "True"


def asked_again(world: World) -> bool:
    """What failed has failed once more since."""
    return bool(status(world)["failedUpdate"].get("retry") == "1")


def tried_again(world: World) -> bool:
    """It has failed once more, and the one before serves again."""
    return rolled_back(world) and asked_again(world)


BROKEN_UPGRADE: Final = {
    "rayClusterConfig": m.cluster_spec("ray:b"),
    "serveConfigV2": m.serve_config("broken:app"),
    "deploymentUnhealthySecondThreshold": 30,
}


def given_up(world: World) -> bool:
    """The new cluster is gone, the old one serves, and the status says why."""
    stalled = next((c for c in status(world).get("conditions") or () if c["type"] == "Stalled"), {})
    one = len(world.server.kind("RayCluster")) == 1
    return stalled.get("reason") == "UpgradeAborted" and condition(world, "Ready") == "True" and one


def to(world: World) -> str:
    """Name of the cluster that the upgrade going on leads to."""
    return str(status(world)["upgrade"]["to"])


def rolled_revision(world: World) -> str:
    """Number of the revision that is rolled out inside of the cluster."""
    return str(status(world)["upgrade"]["revision"])


def annotate(what: str, until: Callable[[World], bool], **annotations: Callable[[World], str | None]) -> Stage:
    """``kubectl annotate``: ``ray.io/<key>`` with a value that may depend on what is there."""

    def do(world: World, _: Monitor) -> None:
        values = {f"ray.io/{key}": value(world) for key, value in annotations.items()}
        user(world, {"metadata": {"annotations": values}})

    return Stage(what, do, until)


def paused(world: World) -> bool:
    """Held, serving as before."""
    return condition(world, "Ready") == "True" and (status(world).get("upgrade") or {}).get("phase") == "Paused"


def proven_and_paused(world: World) -> bool:
    """The new cluster is ready and is not let take over."""
    return paused(world) and upgrading(world) and "promote" in status(world)["upgrade"]["message"]


def stalled_by(reason: str) -> Callable[[World], bool]:
    """Stalled for this reason, serving, with one cluster."""

    def check(world: World) -> bool:
        stalled = next((c for c in status(world).get("conditions") or () if c["type"] == "Stalled"), {})
        one = len(world.server.kind("RayCluster")) == 1
        return stalled.get("reason") == reason and condition(world, "Ready") == "True" and one

    return check


RECREATE: Final = {"upgradeStrategy": {"type": "Recreate"}}


def removing(world: World) -> bool:
    """The old cluster is on its way out."""
    return (status(world).get("upgrade") or {}).get("phase") == "Removing"


STEPS: Final[dict[str, Any]] = {"maxSurgePercent": 100, "stepSizePercent": 25, "intervalSeconds": 10}
IN_STEPS: Final[dict[str, Any]] = {
    "upgradeStrategy": {"type": "NewClusterWithIncrementalUpgrade", "clusterUpgradeOptions": STEPS}
}


GATEWAY: Final = {**STEPS, "gatewayClassName": "sim"}
BY_GATEWAY: Final = {"upgradeStrategy": {**IN_STEPS["upgradeStrategy"], "clusterUpgradeOptions": GATEWAY}}


def part_moved(world: World) -> bool:
    """Some of the requests go to the new cluster."""
    pending = status(world).get("pendingServiceStatus") or {}
    return 0 < pending.get("trafficRoutedPercent", 0) < 100


def went_back(world: World) -> bool:
    """Serving from the old cluster with all there is, the new one gone."""
    return alone(world) and "targetCapacity" not in status(world)["activeServiceStatus"]


def kill_new_head(world: World, _: Monitor) -> None:
    """The head of the cluster that takes over ends."""
    head = world.head(status(world)["pendingServiceStatus"]["rayClusterName"])
    assert head is not None
    world.kill(head)


YES: Final = {"pause": lambda _: "true"}
NO: Final = {"pause": lambda _: None}


EXTERNAL: Final = m.serve_config().replace("  import_path", "  external_scaler_enabled: true\n  import_path")


def scale_from_outside(world: World, _: Monitor) -> None:
    """Somebody's scaler asks for five replicas of the one deployment."""
    head = world.head(status(world)["activeServiceStatus"]["rayClusterName"])
    assert head is not None
    world.serves[uid_of(head)].scale("app0", "Main", 5)


def five_replicas(world: World) -> bool:
    """Serving, with the target that the scaler has set."""
    app = ((status(world).get("activeServiceStatus") or {}).get("applicationStatuses") or {}).get("app0") or {}
    main = (app.get("serveDeploymentStatuses") or {}).get("Main") or {}
    return alone(world) and main.get("replicasTarget") == 5


IN_PLACE: Final = {"type": "InPlace"}


def worker_image(name: str, until: Callable[[World], bool], **more: object) -> Stage:
    """Another image for the workers only: what InPlace takes."""
    return edit(f"worker image {name}", until, rayClusterConfig=m.cluster_spec(name, head="ray:a"), **more)


DURABLE: Final = {"gcsFaultToleranceOptions": {"redisAddress": "redis:6379"}}


def rolled(image: str, head: str = "") -> Callable[[World], bool]:
    """Serving from one cluster, all of whose workers (and the head, where it is named) have that image."""
    wanted = {names.WORKER: image} | ({names.HEAD: head} if head else {})

    def check(world: World) -> bool:
        images = [(p["metadata"]["labels"][names.NODE_TYPE], p["spec"]["containers"][0]["image"]) for p in world.pods()]
        return alone(world) and all(wanted.get(kind, found) == found for kind, found in images)

    return check


def reason_of(type_: str, reason: str) -> Callable[[World], bool]:
    """A condition is True for that reason."""
    return lambda world: any(
        (c["type"], c["status"], c["reason"]) == (type_, "True", reason) for c in status(world).get("conditions") or ()
    )


def upgrade_phase(*phases: str) -> Callable[[World], bool]:
    """``status.upgrade.phase`` is one of these."""
    return lambda world: (status(world).get("upgrade") or {}).get("phase") in phases


def one_rolled(world: World) -> bool:
    """In the middle: at least one worker has been replaced, not all."""
    upgrade = status(world).get("upgrade") or {}
    return upgrade.get("phase") == "ReplacingWorkers" and 0 < upgrade.get("step", 0) < upgrade.get("steps", 0)


def scarce(world: World, _: Monitor) -> None:
    """One GPU is free, and the new cluster needs two."""
    world.gpus = 3
    user(world, {"spec": {"rayClusterConfig": m.cluster_spec("ray:b")}})


def more_nodes(world: World, _: Monitor) -> None:
    """The node autoscaler has done its work."""
    world.gpus = 1000


def one_waits(world: World) -> bool:
    """All but one pod of the new cluster have a node, which the status tells."""
    capacity = (status(world).get("upgrade") or {}).get("capacity") or {}
    return (capacity.get("pods"), capacity.get("fit")) == (1, 0)


CHECKED: Final = m.CHECKED


def analysed_upgrade(path: str, until: Callable[[World], bool]) -> Stage:
    """Another image and this application, with an analysis."""
    spec = {"rayClusterConfig": m.cluster_spec("ray:b"), "serveConfigV2": m.serve_config(path)}
    return edit(f"image and {path}, analysed", until, upgradeStrategy=CHECKED, **spec)


def analysis(world: World) -> str:
    """Phase of the analysis."""
    return str(((status(world).get("upgrade") or {}).get("analysis") or {}).get("phase") or "")


def failed_analysis(phase: str, check: str) -> Callable[[World], bool]:
    """Given up because of that check."""

    def ended(world: World) -> bool:
        told = (status(world).get("failedUpdate") or {}).get("message") or ""
        return given_up(world) and analysis(world) == phase and f"check {check}" in told

    return ended


def sicken(world: World, monitor: Monitor) -> None:
    """The application of the active cluster turns UNHEALTHY for good."""
    head = world.head(status(world)["activeServiceStatus"]["rayClusterName"])
    assert head is not None
    monitor.excuse()
    for app in world.serves[uid_of(head)].apps.values():
        app.struck = world.now


def replaced(world: World) -> bool:
    """Another cluster has taken over from one in trouble."""
    return alone(world) and (status(world).get("recovery") or {}).get("step") == "Replaced"


def falls_ill(world: World) -> bool:
    """Everything runs, for a moment."""
    applied = status(world).get("applied") or {}
    return bool(applied.get("formerGoodConfigHash")) and serves(world)


def excused(_: World, monitor: Monitor) -> None:
    """Everything stops answering soon, and nobody is to be blamed."""
    monitor.excuse()


def head_replaced(world: World) -> bool:
    """Serving again, from a head pod that lives."""
    return serves(world) and not any(is_terminating(p) for p in world.pods())


SCENARIOS: Final[Mapping[str, tuple[Stage, ...]]] = {
    "create": (create(),),
    "hot_update": (create(), edit("hot update", serves, serveConfigV2=NEW_CONFIG)),
    "upgrade": (create(), image("ray:b", alone)),
    "upgrade_with_config": (
        create(),
        edit("image and config", alone, rayClusterConfig=m.cluster_spec("ray:b"), serveConfigV2=NEW_CONFIG),
    ),
    "suspend_resume": (
        create(),
        edit("suspend", suspended, suspend=True),
        edit("resume", serves, suspend=False),
    ),
    "clusters_suspended": (
        create(),
        edit("suspend the clusters", at_rest, rayClusterConfig={"suspend": True}),
        edit("resume the clusters", serves, rayClusterConfig={"suspend": False}),
    ),
    "clusters_suspended_during_upgrade": (
        create(),
        image("ray:b", upgrading),
        edit("suspend the clusters", at_rest, rayClusterConfig={"suspend": True}),
        edit("resume the clusters", alone, rayClusterConfig={"suspend": False}),
    ),
    "clusters_suspended_and_edited": (
        create(),
        edit("suspend the clusters", at_rest, rayClusterConfig={"suspend": True}),
        image("ray:b", at_rest),
        edit("resume the clusters", alone, rayClusterConfig={"suspend": False}),
    ),
    "born_suspended": (
        create_at_rest(),
        edit("resume the clusters", serves, rayClusterConfig={"suspend": False}),
    ),
    "queue_takes_its_quota_away": (
        create(),
        Stage("Kueue evicts it", lambda world, _: admit(world, yes=False), at_rest),
        Stage("Kueue admits it", lambda world, _: admit(world, yes=True), serves),
    ),
    "suspended_while_hung": (
        create(),
        Stage("the dashboard hangs", hang_head, lambda world: condition(world, "Ready") == "Unknown"),
        edit("suspend", suspended, suspend=True),
        edit("resume", serves, suspend=False),
    ),
    "suspended_while_refused": (
        create(),
        edit("invalid", lambda w: condition(w, "Stalled") == "True", serveConfigV2="applications: 5"),
        edit("suspend", suspended, suspend=True),
        edit("resume", lambda w: condition(w, "Ready") == "False", suspend=False),
        edit("fixed", serves, serveConfigV2=NEW_CONFIG),
    ),
    "suspended_after_giving_up": (
        create(deploymentUnhealthySecondThreshold=10),
        edit("an upgrade that fails", given_up, **_broken_upgrade()),
        edit("suspend", suspended, suspend=True),
        edit("resume", serves_as_before, suspend=False),
        image("ray:b", alone),
    ),
    "dashboard_hangs": (
        create(),
        Stage("the dashboard hangs", hang_head, lambda world: condition(world, "Ready") == "Unknown"),
        Stage("it answers again", lambda world, _: world.mend(), serves),
    ),
    "application_vanishes": (
        create(config=m.serve_config("demo:app", "demo:app")),
        Stage("somebody deletes one of two", forget_app, lambda world: condition(world, "Ready") == "False"),
        Stage("it is deployed again", lambda *_: None, serves),
    ),
    "suspend_taken_back": (
        create(),
        edit("suspend", lambda w: condition(w, "Suspending") == "True", suspend=True),
        edit("resume", serves, suspend=False),
    ),
    "head_death": (create(), Stage("the head dies", kill_head, head_replaced)),
    "head_drained": (create(), Stage("the head is drained", drain_head, head_replaced)),
    "worker_death": (create(), Stage("a worker dies", kill_worker, serves)),
    "back_during_upgrade": (create(), image("ray:b", upgrading), image("ray:a", alone)),
    "back_after_promotion": (
        create(),
        image("ray:b", lambda w: serves(w) and len(w.server.kind("RayCluster")) == 2),
        image("ray:a", alone),
    ),
    "third_during_upgrade": (create(), image("ray:b", upgrading), image("ray:c", alone)),
    "third_after_promotion": (
        create(),
        image("ray:b", lambda w: serves(w) and len(w.server.kind("RayCluster")) == 2),
        image("ray:c", alone),
    ),
    "config_back_and_forth": (
        create(),
        edit("config B", at_once, serveConfigV2=NEW_CONFIG),
        edit("config A", serves, serveConfigV2=m.serve_config()),
    ),
    "scale": (create(), edit("five workers", serves, rayClusterConfig=m.cluster_spec(workers=5))),
    "active_cluster_deleted": (create(), Stage("the RayCluster is deleted", delete_cluster, serves)),
    "deleted": (create(), Stage("the RayService is deleted", delete_service, nothing_left)),
    "broken_then_fixed": (
        create(),
        edit("broken", lambda w: condition(w, "Stalled") == "True", serveConfigV2=m.serve_config("broken:app")),
        edit("fixed", serves, serveConfigV2=m.serve_config("fixed:app")),
    ),
    "failed_update": (
        create(),
        edit("a config that fails", rolled_back, serveConfigV2=m.serve_config("broken:app")),
        edit("corrected", serves, serveConfigV2=NEW_CONFIG),
    ),
    "failed_update_again": (
        create(),
        edit("a config that fails", rolled_back, serveConfigV2=m.serve_config("broken:app")),
        Stage("once more", lambda world, _: user(world, ASK_AGAIN), tried_again),
    ),
    "failed_update_and_head_death": (
        create(),
        edit("a config that fails", rolled_back, serveConfigV2=m.serve_config("broken:app")),
        Stage("the head dies", kill_head, rolled_back),
    ),
    "upgrade_given_up": (
        create(),
        edit("image and a broken config", given_up, **BROKEN_UPGRADE),
        edit("corrected", alone, serveConfigV2=NEW_CONFIG),
    ),
    "upgrade_given_up_again": (
        create(),
        edit("image and a broken config", given_up, **BROKEN_UPGRADE),
        Stage("once more", lambda world, _: user(world, ASK_AGAIN), lambda w: given_up(w) and asked_again(w)),
        edit("back", alone, rayClusterConfig=m.cluster_spec("ray:a"), serveConfigV2=m.serve_config()),
    ),
    "upgrade_past_its_deadline": (
        create(),
        edit(
            "image and a broken config",
            lambda world: given_up(world) and "progressDeadlineSeconds" in status(world)["failedUpdate"]["message"],
            rayClusterConfig=m.cluster_spec("ray:b"),
            serveConfigV2=m.serve_config("broken:app"),
            upgradeStrategy={"type": "NewCluster", "progressDeadlineSeconds": 60},
        ),
    ),
    "paused_before_it_began": (
        create(),
        annotate("pause", serves, **YES),
        image("ray:b", paused),
        annotate("resume", alone, **NO),
    ),
    "paused_then_promoted": (
        create(),
        image("ray:b", upgrading),
        annotate("pause", proven_and_paused, **YES),
        annotate("promote", alone, promote=to),
    ),
    "aborted_by_hand": (
        create(),
        image("ray:b", upgrading),
        annotate("abort", stalled_by("UpgradeAborted"), abort=to),
        image("ray:c", alone),
    ),
    "undone": (
        create(),
        image("ray:b", alone),
        annotate("undo", stalled_by("Undone"), undo=lambda _: "1"),
        image("ray:c", alone),
    ),
    "update_that_falls_ill": (
        create(deploymentUnhealthySecondThreshold=60),
        edit("a config that falls ill", falls_ill, serveConfigV2=m.serve_config("sick:app")),
        Stage("the way back", excused, rolled_back),
    ),
    "recovered": (
        create(deploymentUnhealthySecondThreshold=30),
        annotate("auto-recovery", serves, **{"auto-recovery": lambda _: "true"}),
        Stage("the application falls ill", sicken, replaced),
    ),
    "external_scaler": (
        create(serveConfigV2=EXTERNAL),
        Stage("scaled from outside", scale_from_outside, five_replicas),
        edit("hot update", five_replicas, serveConfigV2=EXTERNAL.replace("hello", "good day")),
        edit("upgrade", five_replicas, rayClusterConfig=m.cluster_spec("ray:b")),
        edit("declared anew", serves, serveConfigV2=EXTERNAL.replace("num_replicas: 2", "num_replicas: 3")),
    ),
    "in_steps": (create(**IN_STEPS), image("ray:b", alone)),
    "in_steps_turned_back": (create(**IN_STEPS), image("ray:b", part_moved), image("ray:a", went_back)),
    "in_steps_and_a_third": (create(**IN_STEPS), image("ray:b", part_moved), image("ray:c", alone)),
    "in_steps_paused_and_promoted": (
        create(**IN_STEPS),
        image("ray:b", part_moved),
        annotate("pause", lambda w: paused(w) and part_moved(w), **YES),
        annotate("promote", alone, promote=to),
    ),
    "in_steps_aborted": (
        create(**IN_STEPS),
        image("ray:b", part_moved),
        annotate("abort", stalled_by("UpgradeAborted"), abort=to),
    ),
    "in_steps_and_the_new_head_dies": (
        create(**IN_STEPS),
        image("ray:b", part_moved),
        Stage("the new head dies", kill_new_head, alone),
    ),
    "in_steps_and_suspended": (
        create(**IN_STEPS),
        image("ray:b", part_moved),
        edit("suspend", suspended, suspend=True),
        edit("resume", alone, suspend=False),
    ),
    "in_steps_then_another_strategy": (
        create(**IN_STEPS),
        image("ray:b", part_moved),
        edit("NewCluster", alone, upgradeStrategy={"type": "NewCluster", "clusterUpgradeOptions": None}),
    ),
    "by_gateway": (create(**BY_GATEWAY), image("ray:b", alone)),
    "by_gateway_all_at_once": (
        create(upgradeStrategy={**BY_GATEWAY["upgradeStrategy"], "type": "NewCluster"}),
        image("ray:b", alone),
    ),
    "by_gateway_turned_back": (create(**BY_GATEWAY), image("ray:b", part_moved), image("ray:a", went_back)),
    "by_gateway_and_the_new_head_dies": (
        create(**BY_GATEWAY),
        image("ray:b", part_moved),
        Stage("the new head dies", kill_new_head, alone),
    ),
    "by_gateway_suspended_and_without": (
        create(**BY_GATEWAY),
        image("ray:b", part_moved),
        edit("suspend", suspended, suspend=True),
        edit("resume", alone, suspend=False),
        edit("no gateway", lambda w: serves(w) and not w.server.kind("HTTPRoute"), upgradeStrategy=None),
    ),
    "recreated": (create(**RECREATE), image("ray:b", alone)),
    "recreate_fails_and_the_former_is_built_again": (
        create(**RECREATE),
        edit("image and a broken config", stalled_by("UpgradeAborted"), **BROKEN_UPGRADE),
        edit("corrected", alone, serveConfigV2=NEW_CONFIG),
    ),
    "recreate_turned_back": (create(**RECREATE), image("ray:b", removing), image("ray:a", alone)),
    "recreate_suspended": (
        create(**RECREATE),
        image("ray:b", removing),
        edit("suspend", suspended, suspend=True),
        edit("resume", alone, suspend=False),
    ),
    "upgrade_without_room": (
        create(),
        Stage("image ray:b, with too few GPUs", scarce, one_waits),
        Stage("GPUs are added", more_nodes, alone),
    ),
    "analysis_passed": (
        create(),
        analysed_upgrade("good:app", lambda world: alone(world) and analysis(world) == "Successful"),
    ),
    "analysis_failed": (create(), analysed_upgrade("wrong:app", failed_analysis("Failed", "answers"))),
    "analysis_failed_slow": (create(), analysed_upgrade("slow:app", failed_analysis("Failed", "p95"))),
    "analysis_inconclusive": (create(), analysed_upgrade("quiet:app", failed_analysis("Inconclusive", "p95"))),
    "analysis_failed_and_taken_away": (
        create(),
        analysed_upgrade("wrong:app", failed_analysis("Failed", "answers")),
        edit("no analysis", alone, upgradeStrategy={"type": "NewCluster", "analysis": None}),
    ),
    "in_steps_analysed": (
        create(upgradeStrategy=CHECKED | IN_STEPS["upgradeStrategy"]),
        image("ray:b", lambda world: alone(world) and analysis(world) == "Successful"),
    ),
    "in_steps_analysis_fails_halfway": (
        create(upgradeStrategy=CHECKED | IN_STEPS["upgradeStrategy"]),
        image("ray:b", part_moved),
        edit(
            "a config that answers wrongly",
            lambda world: went_back(world) and failed_analysis("Failed", "answers")(world),
            serveConfigV2=m.serve_config("wrong:app"),
        ),
    ),
    "analysis_of_another_config": (
        create(),
        analysed_upgrade("good:app", lambda world: analysis(world) == "Running"),
        edit("config", failed_analysis("Failed", "answers"), serveConfigV2=m.serve_config("wrong:app")),
    ),
    "invalid_then_fixed": (
        create(),
        edit("invalid", lambda w: condition(w, "Stalled") == "True", serveConfigV2="applications: 5"),
        edit("fixed", serves, serveConfigV2=NEW_CONFIG),
    ),
    "in_place": (create(upgradeStrategy=IN_PLACE), worker_image("ray:b", rolled("ray:b"))),
    "in_place_surge": (
        create(upgradeStrategy=IN_PLACE | {"inPlace": {"maxSurge": 1}}),
        worker_image("ray:b", rolled("ray:b")),
    ),
    "in_place_with_config": (
        create(upgradeStrategy=IN_PLACE),
        worker_image("ray:b", rolled("ray:b"), serveConfigV2=NEW_CONFIG),
    ),
    "in_place_head": (
        create(upgradeStrategy=IN_PLACE, rayClusterConfig=m.cluster_spec(**DURABLE)),
        edit("image ray:b", rolled("ray:b", head="ray:b"), rayClusterConfig=m.cluster_spec("ray:b", **DURABLE)),
    ),
    "in_place_head_stuck": (
        create(
            upgradeStrategy=IN_PLACE,
            rayClusterConfig=m.cluster_spec(**DURABLE),
            deploymentUnhealthySecondThreshold=30,
        ),
        edit(
            "a head image that is not there",
            reason_of("Stalled", "RollStopped"),
            rayClusterConfig=m.cluster_spec("ray:b", head="ray:missing", **DURABLE),
        ),
        edit("back", rolled("ray:a", head="ray:a"), rayClusterConfig=m.cluster_spec(**DURABLE)),
    ),
    "in_place_stuck": (
        create(upgradeStrategy=IN_PLACE, deploymentUnhealthySecondThreshold=30),
        worker_image("ray:missing", stalled_by("RollStopped")),
        worker_image("ray:a", rolled("ray:a")),
    ),
    "in_place_stuck_then_corrected": (
        create(upgradeStrategy=IN_PLACE, deploymentUnhealthySecondThreshold=30),
        worker_image("ray:missing", stalled_by("RollStopped")),
        worker_image("ray:b", rolled("ray:b")),
    ),
    "in_place_back": (
        create(upgradeStrategy=IN_PLACE),
        worker_image("ray:b", one_rolled),
        worker_image("ray:a", rolled("ray:a")),
    ),
    "in_place_aborted": (
        create(upgradeStrategy=IN_PLACE),
        worker_image("ray:b", one_rolled),
        annotate("abort", stalled_by("UpgradeAborted"), abort=rolled_revision),
        worker_image("ray:c", rolled("ray:c")),  # the annotation is about another one
    ),
    "in_place_stuck_aborted_retried": (
        create(upgradeStrategy=IN_PLACE, deploymentUnhealthySecondThreshold=30),
        worker_image("ray:missing", stalled_by("RollStopped")),
        annotate("abort", stalled_by("UpgradeAborted"), abort=rolled_revision),
        annotate("retry", stalled_by("RollStopped"), retry=lambda _: "1", abort=lambda _: None),
    ),
    "in_place_third": (
        create(upgradeStrategy=IN_PLACE),
        worker_image("ray:b", one_rolled),
        worker_image("ray:c", rolled("ray:c")),
    ),
    "in_place_refused": (
        create(upgradeStrategy=IN_PLACE),
        image("ray:b", stalled_by("NotInPlace")),
        edit("NewCluster", alone, upgradeStrategy={"type": "NewCluster"}),
    ),
    "in_place_to_new_cluster": (
        create(upgradeStrategy=IN_PLACE),
        worker_image("ray:b", one_rolled),
        edit("NewCluster", rolled("ray:b"), upgradeStrategy={"type": "NewCluster"}),
    ),
    "new_cluster_to_in_place": (
        create(),
        worker_image("ray:b", upgrading),
        edit("InPlace", rolled("ray:b"), upgradeStrategy=IN_PLACE),
    ),
    "in_place_frozen": (
        create(upgradeStrategy=IN_PLACE),
        worker_image("ray:b", one_rolled),
        edit("None", upgrade_phase("Held"), upgradeStrategy={"type": "None"}),
        edit("InPlace", rolled("ray:b"), upgradeStrategy=IN_PLACE),
    ),
    "in_place_suspended": (
        create(upgradeStrategy=IN_PLACE),
        worker_image("ray:b", one_rolled),
        edit("suspend", suspended, suspend=True),
        edit("resume", rolled("ray:b"), suspend=False),
    ),
    "in_place_paused": (
        create(upgradeStrategy=IN_PLACE),
        worker_image("ray:b", one_rolled),
        annotate("pause", paused, **YES),
        annotate("go on", rolled("ray:b"), **NO),
    ),
    "in_place_paused_before": (
        create(upgradeStrategy=IN_PLACE | {"paused": True}),
        worker_image("ray:b", paused),
        edit("go on", rolled("ray:b"), upgradeStrategy={"paused": None}),
    ),
    "in_place_scaled": (
        create(upgradeStrategy=IN_PLACE),
        worker_image("ray:b", one_rolled),
        edit("four workers", rolled("ray:b"), rayClusterConfig=m.cluster_spec("ray:b", workers=4, head="ray:a")),
    ),
    "in_place_head_death": (
        create(upgradeStrategy=IN_PLACE),
        worker_image("ray:b", one_rolled),
        Stage("the head dies", kill_head, rolled("ray:b")),
    ),
    "in_place_worker_death": (
        create(upgradeStrategy=IN_PLACE),
        worker_image("ray:b", one_rolled),
        Stage("a worker dies", kill_worker, rolled("ray:b")),
    ),
    "upgrade_broken_then_back": (
        create(),
        edit(
            "image and a broken config",
            lambda w: condition(w, "Stalled") == "True",
            rayClusterConfig=m.cluster_spec("ray:b"),
            serveConfigV2=m.serve_config("broken:app"),
        ),
        edit("back", alone, rayClusterConfig=m.cluster_spec("ray:a"), serveConfigV2=m.serve_config()),
    ),
}
