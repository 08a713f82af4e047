"""The two thresholds: nothing is done while something moves, and what is stuck is acted on when they say, not before.

For each of them a cold start of forty minutes that advances, one that is stuck, flapping, and waiting for GPUs; in a
hot update, in an upgrade, before the first cluster was ready, and long after.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from rayservice_operator.api import names
from rayservice_operator.core.objects import Manifest, uid_of
from rayservice_operator.core.timestamps import from_rfc3339
from tests.sim import manifests as m
from tests.sim.scenarios import alone, create, serves
from tests.sim.serve import HEAVY_S, SimServe
from tests.sim.simulation import Everything, Orderly, condition, new, status, user
from tests.sim.world import World

THRESHOLD_S, SERVICE_S = 300, 900
LATE_S = 20.0
"""A step of the simulated clock, a look, a pass; and the states that a failing replica passes are told one by one."""
HOUR_S = 3600.0

Probe = Callable[[World], Any]


class Life:
    """A service that is watched for as long as it takes."""

    def __init__(self, everything: Everything) -> None:
        self.everything = everything
        self.orderly = Orderly(everything)
        self.world, self.monitor = everything.world, everything.monitor

    @classmethod
    def serving(cls, annotations: dict[str, str] | None = None, **spec: Any) -> Life:
        life = cls(new(create(**spec)))
        life.until(alone)
        if annotations:
            user(life.world, {"metadata": {"annotations": annotations}})
        return life

    def restart(self) -> None:
        """The operator is started again; the world goes on."""
        self.orderly = Orderly(self.everything)

    def until(self, probe: Probe, within: float = 600.0) -> float:
        """Goes on until that is so; returns how long it took."""
        begun = self.world.now
        while not probe(self.world):
            assert self.world.now - begun <= within, f"not within {within:g} s\n{status(self.world)}\n" + "\n".join(
                self.everything.transcript.text().splitlines()[-40:]
            )
            self.orderly.turn()
        return self.world.now - begun

    def never(self, probe: Probe, during: float) -> None:
        """Goes on so long, and that is never so."""
        until = self.world.now + during
        while self.world.now < until:
            self.orderly.turn()
            assert not probe(self.world), status(self.world)

    def config(self, path: str) -> None:
        self.monitor.excuse()
        user(self.world, {"spec": {"serveConfigV2": m.serve_config(path)}})

    def image(self, image: str) -> None:
        user(self.world, {"spec": {"rayClusterConfig": m.cluster_spec(image)}})

    def both(self, image: str, path: str) -> None:
        edit = {"serveConfigV2": m.serve_config(path), "rayClusterConfig": m.cluster_spec(image)}
        user(self.world, {"spec": edit})

    def serve(self) -> SimServe:
        """Serve of the active cluster."""
        head = self.world.head(role(self.world, "active"))
        assert head is not None
        return self.world.serves[uid_of(head)]

    def strike(self, *, reloads: bool = False) -> None:
        """The application of the active cluster turns UNHEALTHY and does not recover."""
        self.monitor.excuse()
        for app in self.serve().apps.values():
            app.struck, app.reloads = self.world.now, reloads

    def mend(self) -> None:
        for app in self.serve().apps.values():
            app.struck = None


def role(world: World, which: str) -> str:
    return str((status(world).get(f"{which}ServiceStatus") or {}).get("rayClusterName") or "")


def reason(type_: str) -> Callable[[World], str]:
    def of(world: World) -> str:
        return next((c["reason"] for c in status(world).get("conditions") or () if c["type"] == type_), "")

    return of


def is_(type_: str, wanted: str) -> Probe:
    return lambda world: reason(type_)(world) == wanted


def message(world: World, type_: str) -> str:
    return next((c["message"] for c in status(world).get("conditions") or () if c["type"] == type_), "")


def gone_back(world: World) -> bool:
    return "failedUpdate" in status(world)


def recovered(world: World) -> Manifest:
    found: Manifest = status(world).get("recovery") or {}
    return found


def since_last_move(world: World) -> float:
    """Seconds since something new was seen last, as the status tells."""
    unmoved = from_rfc3339((status(world).get("progress") or {}).get("unmovedSince"))
    return world.now - unmoved if unmoved is not None else 0.0


def pending(world: World) -> str:
    return role(world, "pending")


# --- a hot update


def test_a_hot_update_that_loads_for_forty_minutes_is_let_load() -> None:
    life = Life.serving()
    life.config("heavy:app")
    life.until(is_("Reconciling", "DeployingApplications"))
    life.never(gone_back, HEAVY_S - 60)
    assert "being loaded" in message(life.world, "Reconciling")
    life.until(serves)
    assert not gone_back(life.world)


@pytest.mark.parametrize("restarts", [False, True])
def test_a_hot_update_that_does_not_get_healthy_goes_back(restarts: bool) -> None:
    life = Life.serving()
    good = status(life.world)["applied"]["goodConfigHash"]
    life.config("ailing:app")
    life.until(is_("ApplicationsHealthy", "Unhealthy"))
    begun = life.world.now
    life.until(lambda w: since_last_move(w) > 100)
    if restarts:
        life.restart()
    quiet = life.world.now
    life.until(gone_back)
    assert THRESHOLD_S - 110 <= life.world.now - quiet <= THRESHOLD_S - 100 + LATE_S
    assert THRESHOLD_S <= life.world.now - begun <= THRESHOLD_S + 3 * 20 + LATE_S, "three failed starts are news"
    assert status(life.world)["failedUpdate"]["rolledBackTo"] == good
    life.until(is_("Stalled", "RolledBack"))
    assert condition(life.world, "Ready") == "True"


def test_a_hot_update_that_fails_its_health_check_after_a_while_goes_back_too() -> None:
    life = Life.serving()
    good = status(life.world)["applied"]["goodConfigHash"]
    life.config("sick:app")
    life.until(lambda w: status(w)["applied"]["goodConfigHash"] != good)
    life.monitor.excuse()
    life.until(is_("Stalled", "RolledBack"), within=THRESHOLD_S + 200)
    assert status(life.world)["failedUpdate"]["rolledBackTo"] == good
    assert status(life.world)["applied"]["goodConfigHash"] == good


def test_a_hot_update_that_flaps_is_left_alone() -> None:
    life = Life.serving()
    life.config("flaky:app")
    life.monitor.excused["demo"] = life.world.now + 2 * HOUR_S
    life.never(gone_back, HOUR_S)


def test_a_hot_update_that_waits_for_gpus_waits() -> None:
    life = Life.serving()
    life.config("huge:app")
    life.until(is_("Reconciling", "WaitingForResources"))
    assert 'required for each replica: {"GPU": 8}' in message(life.world, "Reconciling")
    writes = life.monitor.writes
    life.never(gone_back, HOUR_S)
    assert life.monitor.writes == writes


# --- an upgrade


def test_an_upgrade_that_loads_for_forty_minutes_is_let_load() -> None:
    life = Life.serving()
    life.world.pull_s = 1200.0
    life.both("ray:b", "heavy:app")
    life.until(lambda w: "pull images" in message(w, "Reconciling"))
    life.never(gone_back, 1100)
    life.until(lambda w: "being loaded" in message(w, "Reconciling"), within=1400)
    assert status(life.world)["progress"]["spent"]["PullingImages"] >= 1100
    life.never(gone_back, HEAVY_S - 60)
    life.until(alone)
    assert "progress" not in status(life.world)


@pytest.mark.parametrize(
    ("image", "path", "more"), [("ray:b", "ailing:app", 60), ("missing:b", "demo:app", 0), ("ray:b", "broken:app", 0)]
)
def test_an_upgrade_that_is_stuck_is_given_up(image: str, path: str, more: float) -> None:
    life = Life.serving()
    life.both(image, path)
    life.until(lambda w: (status(w).get("upgrade") or {}).get("deadline"))
    begun = life.world.now
    life.until(gone_back)
    assert THRESHOLD_S <= life.world.now - begun + 1 <= THRESHOLD_S + more + LATE_S
    life.until(is_("Stalled", "UpgradeAborted"))


def test_an_upgrade_that_waits_for_gpus_waits_and_goes_on() -> None:
    life = Life.serving()
    life.world.stuck = True
    life.image("ray:b")
    life.until(is_("Reconciling", "WaitingForResources"))
    assert "Insufficient nvidia.com/gpu" in message(life.world, "Reconciling")
    life.never(gone_back, HOUR_S)
    life.world.stuck = False
    life.until(alone)


# --- a service that has served: the applications

AUTO = {names.AUTO_RECOVERY: "true"}


def test_a_steady_service_in_trouble_is_told_at_the_threshold() -> None:
    life = Life.serving()
    life.strike()
    life.until(is_("ApplicationsHealthy", "Unhealthy"))
    begun = life.world.now
    life.until(is_("Stalled", "DeploymentUnhealthy"))
    assert THRESHOLD_S <= life.world.now - begun <= THRESHOLD_S + 3 * 20 + LATE_S
    assert "deploymentUnhealthySecondThreshold" in message(life.world, "Stalled")
    writes = life.monitor.writes
    life.never(lambda w: len(w.server.kind("RayCluster")) != 1 or recovered(w), HOUR_S)
    assert life.monitor.writes == writes, "Ray counts its tries, and nobody writes that down"
    life.mend()
    life.until(serves)


def test_auto_recovery_puts_the_config_again_and_then_replaces_the_cluster() -> None:
    life = Life.serving(AUTO)
    old, puts = role(life.world, "active"), len(life.serve().puts)
    life.strike()
    life.until(is_("ApplicationsHealthy", "Unhealthy"))
    begun = life.world.now
    life.until(lambda w: recovered(w).get("step") == "Reapplied")
    assert THRESHOLD_S <= life.world.now - begun <= THRESHOLD_S + 3 * 20 + LATE_S
    assert len(life.serve().puts) == puts + 1
    assert reason("Reconciling")(life.world) == "Recovering"
    put_again = life.world.now
    life.until(pending)
    assert THRESHOLD_S - 2 <= life.world.now - put_again <= THRESHOLD_S + 3 * 20 + LATE_S
    life.until(alone)
    assert role(life.world, "active") != old
    assert recovered(life.world)["attempts"] == 1
    assert recovered(life.world)["step"] == "Replaced"
    life.until(lambda w: not recovered(w), within=HOUR_S + 60)
    assert condition(life.world, "Ready") == "True"


def test_auto_recovery_ends_after_three_clusters_and_begins_again_when_asked() -> None:
    life = Life.serving(AUTO)
    life.strike()
    clusters: set[str] = set()
    taken: list[float] = []

    def exhausted(world: World) -> bool:
        """Each cluster that takes over falls ill as well."""
        active = role(world, "active")
        if active not in clusters and serves(world):
            clusters.add(active)
            taken.append(world.now)
            life.strike()
        return reason("Stalled")(world) == "RecoveryExhausted"

    life.until(exhausted, within=4 * HOUR_S)
    assert len(clusters) == 4, "the first and three more"
    _, second, third = (b - a for a, b in itertools.pairwise(taken))
    assert second >= 2 * THRESHOLD_S
    assert third >= 4 * THRESHOLD_S
    assert names.RETRY in message(life.world, "Stalled")
    life.never(pending, HOUR_S)
    user(life.world, {"metadata": {"annotations": {names.RETRY: "1"}}})
    life.until(lambda w: recovered(w).get("step") == "Reapplied", within=700)


def test_a_replacement_that_fails_too_makes_room_for_the_next() -> None:
    life = Life.serving(AUTO, serveConfigV2=m.serve_config("sick:app"))
    life.monitor.excused["demo"] = life.world.now + 10 * HOUR_S
    life.until(lambda w: reason("Stalled")(w) == "RecoveryExhausted", within=4 * HOUR_S)
    assert recovered(life.world)["attempts"] == 3


def test_a_service_that_comes_back_by_itself_is_not_replaced() -> None:
    life = Life.serving(AUTO)
    life.world.stuck = True
    old = role(life.world, "active")
    life.strike()
    life.until(pending, within=900)
    life.mend()
    life.until(alone)
    assert role(life.world, "active") == old


def test_recovery_stops_when_the_annotation_goes() -> None:
    life = Life.serving(AUTO)
    life.world.stuck = True
    life.strike()
    life.until(pending, within=900)
    user(life.world, {"metadata": {"annotations": {names.AUTO_RECOVERY: None}}})
    life.until(lambda w: not pending(w) and reason("Stalled")(w) == "DeploymentUnhealthy")


def test_flapping_is_no_reason_for_recovery() -> None:
    life = Life.serving(AUTO, serveConfigV2=m.serve_config("flaky:app"))
    life.monitor.excused["demo"] = life.world.now + 2 * HOUR_S
    life.never(recovered, HOUR_S)


def test_a_replica_that_loads_for_forty_minutes_again_is_let_load() -> None:
    life = Life.serving(AUTO)
    life.strike(reloads=True)
    life.until(is_("ApplicationsHealthy", "Unhealthy"))
    life.never(recovered, HEAVY_S)
    life.mend()
    life.until(serves)


# --- a service that has served: as a whole


def hang(life: Life, *, yes: bool = True) -> None:
    head = life.world.head(role(life.world, "active"))
    assert head is not None
    life.world.hung = {uid_of(head)} if yes else set()


def test_a_serve_api_that_is_gone_is_told_at_the_threshold() -> None:
    life = Life.serving()
    hang(life)
    life.until(is_("Ready", "ObservationStale"))
    begun = life.world.now
    life.until(is_("Stalled", "ServiceUnhealthy"), within=SERVICE_S + 60)
    assert SERVICE_S <= life.world.now - begun + 1 <= SERVICE_S + LATE_S
    assert "serviceUnhealthySecondThreshold" in message(life.world, "Stalled")
    hang(life, yes=False)
    life.until(serves)


def test_auto_recovery_replaces_a_cluster_whose_serve_api_is_gone() -> None:
    life = Life.serving(AUTO, serviceUnhealthySecondThreshold=60)
    old = role(life.world, "active")
    hang(life)
    life.until(lambda w: role(w, "active") not in ("", old), within=1200)
    life.until(alone)
    assert recovered(life.world)["reason"] == "ServiceUnhealthy"


def test_a_serve_api_that_comes_and_goes_is_left_alone() -> None:
    life = Life.serving(AUTO)
    for _ in range(4):
        hang(life)
        life.never(recovered, SERVICE_S - 100)
        hang(life, yes=False)
        life.until(serves)


def test_a_lost_head_that_waits_for_gpus_waits() -> None:
    life = Life.serving(AUTO)
    life.monitor.excused["demo"] = life.world.now + 2 * HOUR_S
    life.world.stuck = True
    for pod in life.world.pods():
        life.world.kill(pod)
    life.until(is_("Reconciling", "WaitingForResources"))
    life.never(recovered, HOUR_S)
    life.world.stuck = False
    life.until(serves)


# --- before it was ready once


def test_a_first_cluster_that_loads_for_forty_minutes_is_let_load() -> None:
    life = Life(new(create(serveConfigV2=m.serve_config("heavy:app"))))
    life.never(lambda w: condition(w, "Stalled") == "True", HEAVY_S - 60)
    life.until(serves)


def test_a_first_cluster_that_is_stuck_is_told_and_a_correction_revives_it() -> None:
    life = Life(new(create(image="missing:a")))
    user_seen: list[float] = []

    def stuck(world: World) -> bool:
        if (status(world).get("progress") or {}).get("activity") == "PodsFailing" and not user_seen:
            user_seen.append(world.now)
        return reason("Stalled")(world) == "ServiceUnhealthy"

    life.until(stuck, within=SERVICE_S + 120)
    assert SERVICE_S <= life.world.now - user_seen[0] + 1 <= SERVICE_S + LATE_S
    told = message(life.world, "Stalled")
    assert "serviceUnhealthySecondThreshold" in told
    assert "ImagePullBackOff" in told
    assert "containers failing 900 s" in told
    life.never(lambda w: len(w.server.kind("RayCluster")) != 1, HOUR_S)
    life.image("ray:a")
    life.until(alone)


def test_a_first_cluster_that_waits_for_gpus_waits() -> None:
    life = Life(new(create(), stuck=True))
    life.until(is_("Reconciling", "WaitingForResources"))
    writes = life.monitor.writes
    life.never(lambda w: condition(w, "Stalled") == "True", HOUR_S)
    assert life.monitor.writes == writes
    life.world.stuck = False
    life.until(serves)


# --- what vanishes or drifts


@pytest.mark.parametrize("drift", ["vanished", "another config"])
def test_an_application_that_is_not_what_was_declared_is_put_again(drift: str) -> None:
    life = Life.serving()
    life.monitor.excuse()
    apps = life.serve().apps
    if drift == "vanished":
        apps.clear()
    else:
        apps["app0"].config = {**apps["app0"].config, "import_path": "other:app"}
    life.until(lambda _: apps.get("app0") is not None and apps["app0"].config["import_path"] == "demo:app")
    life.until(serves)
