"""What must hold after every write and every step, whatever happens in whatever order.

The monitor looks at the simulated cluster itself, never at what the operator believes.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from rayservice_operator.api import names
from rayservice_operator.cluster.roll import roll_of
from rayservice_operator.core.conditions import find, is_true
from rayservice_operator.core.objects import (
    Manifest,
    annotations_of,
    controller_uid,
    generation_of,
    is_terminating,
    labels_of,
    metadata,
    name_of,
    uid_of,
)
from rayservice_operator.service.upgrade_phases import allowed
from tests.sim.apiserver import Logged
from tests.sim.manifests import DELETION_DELAY_S
from tests.sim.rolls import Rolls
from tests.sim.world import World, gpus_of, session_of

MAX_LIVE_CLUSTERS = 2
MAX_REPLACEMENTS = 3
FAULT_S = 60.0
"""Simulated seconds within which the effect of a fault must show itself."""
LIE_S = 25.0
"""Simulated seconds for which Ready may be wrong: an observation counts as news for 15 s."""
MAX_WRITES_AT_ONCE = 60
"""Operator writes without any simulated time passing: more is a loop."""


class BrokenInvariantError(BaseException):
    """An invariant does not hold. The operator's own ``except Exception`` must not swallow it."""


@dataclass
class Monitor:
    """Checks one world. ``excused``: services that a fault struck, and until when it may show."""

    world: World
    ready_once: set[str] = field(default_factory=set)
    ever_ready: set[str] = field(default_factory=set)
    excused: dict[str, float] = field(default_factory=dict)
    down: set[str] = field(default_factory=set)
    demoted: dict[str, float] = field(default_factory=dict)
    beheaded: dict[str, float] = field(default_factory=dict)
    deleted: set[str] = field(default_factory=set)
    recreating: dict[str, float] = field(default_factory=dict)
    writes: int = 0
    last_write: float = 0.0
    burst: int = 0
    burst_at: float = 0.0
    lying: dict[str, float] = field(default_factory=dict)
    _checked: tuple[object, ...] = ()

    def __post_init__(self) -> None:
        self.rolls = Rolls(self.world)
        self.world.server.watchers.append(self.on_change)

    def excuse(self) -> None:
        """A fault is taking pods away that serve: they may be missed from now on, and once gone until they are back."""
        for service in self.world.server.kind("RayService"):
            self.excused[name_of(service)] = self.world.now + FAULT_S

    def delete(self, cluster: Manifest) -> None:
        """Somebody deletes this cluster: its pods may go at any time until it is gone, however long that takes."""
        self.deleted.add(uid_of(cluster))
        self.excuse()

    def behead(self, cluster: str) -> None:
        """A fault takes the head pod of this cluster: what was decided before may still be written."""
        self.beheaded[cluster] = self.world.now

    # --- each write

    def on_change(self, change: Logged) -> None:
        """Told by the API server."""
        if change.by == names.FIELD_MANAGER:
            self._count(change)
        kind = change.newest["kind"]
        if kind == "RayService" and any(_recreates(obj) for obj in (change.old, change.new)):
            self.recreating[name_of(change.newest)] = self.world.now  # what was decided under it may still be done
        if kind == "RayService" and change.verb == "patch_status" and change.new is not None:
            self._status_written((change.old or {}).get("status") or {}, change.new)
        if kind == "RayCluster":
            self._cluster_changed(change)
        if kind == "Pod" and change.old is None:
            self._pod_made(change.newest)
        excused = self._struck() or self._beheaded(labels_of(change.newest).get(names.CLUSTER, ""))
        if broken := self.rolls.on_change(change, excused=excused):
            self._fail(broken)
        if kind == "Service" and change.by == names.FIELD_MANAGER and change.new is not None:
            self._service_written(change.new)
        if kind == "HTTPRoute" and change.by == names.FIELD_MANAGER and change.new is not None:
            self._weights_written(change.old or {}, change.new)

    def _weights_written(self, old: Manifest, route: Manifest) -> None:
        """No requests are sent by a gateway to where the network has no endpoint yet, unless nobody else has one."""
        before, after = weights(old), weights(route)
        reached = [name for name in before | after if self.world.reachable(name, metadata(route)["namespace"])]
        early = [name for name, weight in after.items() if weight > before.get(name, 0) and name not in reached]
        if early and reached and not self._struck():
            self._fail(f"the route sends requests to {early}, which has no endpoint, beside {reached}")

    def _count(self, change: Logged) -> None:
        self.writes += 1
        now = self.last_write = self.world.now
        self.burst = self.burst + 1 if now == self.burst_at else 1
        self.burst_at = now
        if self.burst > MAX_WRITES_AT_ONCE:
            self._fail(f"{self.burst} writes at once, the last one: {change.verb} {name_of(change.newest)}")

    def _status_written(self, old: Manifest, service: Manifest) -> None:
        status = service["status"]
        if status.get("observedGeneration", 0) > generation_of(service):
            self._fail("observedGeneration is ahead of the generation")
        if status.get("observedGeneration", 0) < old.get("observedGeneration", -1):
            self._fail("observedGeneration went back")
        conditions = status.get("conditions") or []
        if is_true(conditions, "Reconciling") and is_true(conditions, "Stalled"):
            self._fail("Reconciling and Stalled at once")
        phases = [str((known.get("upgrade") or {}).get("phase") or "") for known in (old, status)]
        if not allowed(*phases):
            self._fail(f"status.upgrade.phase went from {phases[0]!r} to {phases[1]!r}, which no table knows")
        self._promotion(old, service)
        self._of_this_config(service)
        self._recovery(service)
        if is_true(conditions, "Ready"):
            if not status.get("numServeEndpoints"):
                self._fail("Ready=True without endpoints")
            if not _role(status, "active"):
                self._fail("Ready=True without an active cluster")
            if not is_true(old.get("conditions") or (), "Ready") and not self._app_served(_role(status, "active")):
                self._fail("Ready turned True and the applications do not run")
            self.ready_once.add(name_of(service))
            self.ever_ready.add(uid_of(service))

    def _promotion(self, old: Manifest, service: Manifest) -> None:
        status = service["status"]
        before, after = _role(old, "active"), _role(status, "active")
        if before == after:
            return
        if before:
            self.demoted[before] = self.world.now
        if after:
            self.demoted.pop(after, None)
            if _role(status, "pending") == after:
                self._fail(f"{after} is active and still pending")
            upgrading = find(status.get("conditions") or (), "UpgradeInProgress") or {}
            if not _role(status, "pending") and upgrading.get("status") != "False":
                self._fail(f"{after} became active and UpgradeInProgress is {upgrading.get('status')}")
            if not self._app_served(after):
                self._fail(f"{after} became active and its applications do not run")
            if before:
                self._analysed(old, service, after)

    def _analysed(self, old: Manifest, service: Manifest, cluster: str) -> None:
        """No cluster takes over from another one without the pass that is asked for, stored before."""
        asked = (service["spec"].get("upgradeStrategy") or {}).get("analysis")
        upgrade = old.get("upgrade") or {}
        if asked is None or (metadata(service).get("annotations") or {}).get(names.PROMOTE) == cluster:
            return
        if status_is_older(service):
            return  # decided before the last edit
        phase = (upgrade.get("analysis") or {}).get("phase")
        if upgrade.get("to") != cluster or phase != "Successful":
            self._fail(f"{cluster} took over and its analysis is {phase}")

    def _recovery(self, service: Manifest) -> None:
        """Only what has served is replaced, and not for ever."""
        taken = (service["status"].get("recovery") or {}).get("attempts")
        if taken is None:
            return
        if uid_of(service) not in self.ever_ready:
            self._fail("recovered from what was never ready")
        if taken > MAX_REPLACEMENTS:
            self._fail(f"{taken} clusters for one trouble")

    def _of_this_config(self, service: Manifest) -> None:
        """What kstatus calls Current or Failed is said of the present serve config, not of the one before it."""
        status = service["status"]
        conditions = status.get("conditions") or []
        active = _role(status, "active")
        head = self.world.head(active) if active else None
        serve = self.world.told_of(head) if head else None
        if serve is None or self._struck() or status.get("observedGeneration") != generation_of(service):
            return
        stalled = find(conditions, "Stalled") or {}
        if stalled.get("reason") == "ValidationFailed" or is_true(conditions, "Suspending"):
            return
        declared = _declared(service["spec"]["serveConfigV2"])
        apps = [(app, serve.apps.get(app["name"])) for app in declared]
        if stalled.get("reason") == "DeployFailed" and not _role(status, "pending"):
            failed = [app for want, app in apps if app and _same(app.config, want) and app.broken]
            if not failed:
                self._fail("Stalled says DeployFailed of a config that has not failed")
        moving = is_true(conditions, "Reconciling") or is_true(conditions, "UpgradeInProgress")
        if is_true(conditions, "Ready") and not stalled and not moving:
            late = [want["name"] for want, app in apps if app is None or not _same(app.config, want)]
            if late:
                self._fail(f"said to be done, and Ray has another config of {late}")
            if strangers := self._strangers(service, active):
                self._fail(f"said to be done, and requests go to {strangers} beside {active}")

    def _strangers(self, service: Manifest, active: str) -> list[str]:
        """Pods of other clusters that the serve service sends requests to."""
        others = {name_of(pod) for pod in self.world.pods() if labels_of(pod).get(names.CLUSTER) != active}
        reachable = self.world.reachable(names.serve_service_name(name_of(service)), metadata(service)["namespace"])
        return [pod for pod in reachable if pod in others]  # a slice may still list a pod that is gone

    def _app_served(self, cluster: str) -> bool:
        if self._beheaded(cluster):
            return True
        head = self.world.head(cluster)
        serve = self.world.told_of(head) if head else None
        return bool(head and serve and serve.answers(self.world.now, self.world.nodes(head))) or self._struck()

    def _beheaded(self, cluster: str) -> bool:
        return self.world.now - self.beheaded.get(cluster, -FAULT_S) < FAULT_S

    def _struck(self) -> bool:
        return any(until >= self.world.now for until in self.excused.values()) or bool(self.down)

    def _cluster_changed(self, change: Logged) -> None:
        cluster = change.newest
        owner = controller_uid(cluster)
        mine = [c for c in self.world.server.kind("RayCluster") if controller_uid(c) == owner]
        live = [name_of(c) for c in mine if not is_terminating(c)]
        if len(live) > MAX_LIVE_CLUSTERS:
            self._fail(f"more than two live clusters: {live}")
        asked = change.old is not None and is_terminating(change.old)  # then it is only its finalizer that goes
        if change.verb == "delete" and change.by == names.FIELD_MANAGER and not asked:
            self._cluster_deleted(cluster)
        if change.new is None:
            self.demoted.pop(name_of(cluster), None)

    def _cluster_deleted(self, cluster: Manifest) -> None:
        """By the operator."""
        service, name = self._owner(cluster), name_of(cluster)
        if service is None or is_terminating(service) or _suspending(service):
            return
        if self.world.now - self.recreating.get(name_of(service), -FAULT_S) < FAULT_S:
            self.ready_once.discard(name_of(service))  # an outage by design, until it is ready again
            return
        if name == _role(service.get("status") or {}, "active"):
            self._fail(f"{name} was deleted while it was active")
        waited = self.world.now - self.demoted.get(name, 0.0)
        if waited < DELETION_DELAY_S:
            self._fail(f"{name} was deleted {waited:.1f} s after it was active")

    def _owner(self, cluster: Manifest) -> Manifest | None:
        services = self.world.server.kind("RayService")
        return next((s for s in services if uid_of(s) == controller_uid(cluster)), None)

    def _pod_made(self, pod: Manifest) -> None:
        cluster = labels_of(pod).get(names.CLUSTER, "")
        if labels_of(pod).get(names.NODE_TYPE) != names.HEAD:
            return
        heads = [
            name_of(p)
            for p in self.world.pods(cluster)
            if labels_of(p).get(names.NODE_TYPE) == names.HEAD and self._may_run(p)
        ]
        if len(heads) > 1:
            self._fail(f"two head pods in {cluster}: {heads}")

    def _may_run(self, pod: Manifest) -> bool:
        return self.world.may_run(pod)

    def _service_written(self, service: Manifest) -> None:
        owner = next((s for s in self.world.server.kind("RayService") if uid_of(s) == controller_uid(service)), None)
        if owner is None:
            return
        status = owner.get("status") or {}
        selector = service["spec"].get("selector") or {}
        target = selector.get(names.CLUSTER)
        active = _role(status, "active")
        if target and name_of(service) == names.serve_service_name(target):
            return  # one for each cluster: a gateway chooses between them
        if selector.get(names.RAYSERVICE) == name_of(owner):
            if not _role(status, "pending"):
                self._fail(f"{name_of(service)} points to two clusters while there is one")
            return
        if active and target != active:
            self._fail(f"{name_of(service)} points to {target} while {active} is active")

    # --- each step

    def check(self) -> None:
        """After each step of anybody; again only when something has happened in the cluster."""
        moment = self.world.moment()
        if moment == self._checked:
            return
        self._checked = moment
        for service in self.world.server.kind("RayService"):
            self._endpoints(service)
        for cluster in self.world.server.kind("RayCluster"):
            self._size(cluster)
            if uid_of(cluster) in self.deleted:
                self.excuse()

    def _endpoints(self, service: Manifest) -> None:
        name = name_of(service)
        if name not in self.ready_once:
            return
        if service["spec"].get("suspend") or is_terminating(service) or _suspending(service) or self._queued(service):
            self.ready_once.discard(name)
            self.down.discard(name)
            if not self._queued(service):  # else it may be over before anything of it was seen: an excuse still holds
                self.excused.pop(name, None)
            return
        serving = self.world.serving(names.serve_service_name(name), metadata(service)["namespace"])
        if serving:
            if _role(service.get("status") or {}, "active"):  # a first cluster is no promise before it has the role
                self.down.discard(name)
        elif name not in self.down:
            active = _role(service.get("status") or {}, "active")
            if self.excused.get(name, 0.0) < self.world.now and not self._beheaded(active):
                self._fail(f"{name} was ready and has no pod left that answers")
            self.down.add(name)

    def _queued(self, service: Manifest) -> bool:
        """Whether a cluster of the service is suspended, or on the way there or back."""
        if service["spec"]["rayClusterConfig"].get("suspend"):
            return True
        mine = (c for c in self.world.server.kind("RayCluster") if controller_uid(c) == uid_of(service))
        return any(c["spec"].get("suspend") or _cluster_suspending(c) for c in mine)

    def _size(self, cluster: Manifest) -> None:
        """Pods that count (not ended, not going) are no more than the spec's largest."""
        for group in cluster["spec"].get("workerGroupSpecs") or ():
            pods = [
                p
                for p in self.world.pods(name_of(cluster))
                if labels_of(p).get(names.NODE_GROUP) == group["groupName"]
                and not is_terminating(p)
                and self._may_run(p)
            ]
            if len(pods) > group["maxReplicas"] + self.rolls.surged.get(name_of(cluster), 0):
                self._fail(f"{len(pods)} pods in group {group['groupName']} of {name_of(cluster)}")

    def check_words(self) -> None:
        """While nothing keeps the operator from its work: what is said of Ready has not been wrong for long."""
        for service in self.world.server.kind("RayService"):
            name = name_of(service)
            conditions = (service.get("status") or {}).get("conditions") or ()
            told = (find(conditions, "Ready") or {}).get("status", "False")
            truth = bool(self.world.serving(names.serve_service_name(name)))
            ready = find(conditions, "Ready") or {}
            # Where its state survives, workers go on answering while there is no head, which is told as it is.
            headless = ready.get("reason") == "HeadPodNotReady" and self._durable(service)
            if told == "Unknown" or (told == "True") == truth or is_terminating(service) or headless:
                self.lying.pop(name, None)
            elif self.world.now - self.lying.setdefault(name, self.world.now) > LIE_S:
                since = self.world.now - self.lying[name]
                self._fail(f"Ready is {told} for {since:.0f} s and requests are {'' if truth else 'not '}answered")

    def _durable(self, service: Manifest) -> bool:
        mine = (c for c in self.world.server.kind("RayCluster") if controller_uid(c) == uid_of(service))
        return any("gcsFaultToleranceOptions" in cluster["spec"] for cluster in mine)

    # --- the end

    def check_settled(self) -> None:
        """When nothing moves any more."""
        for service in self.world.server.kind("RayService"):
            status = service.get("status") or {}
            if service["spec"].get("managedBy") or is_terminating(service):
                continue
            if status.get("observedGeneration") != generation_of(service):
                self._fail(f"observedGeneration {status.get('observedGeneration')} of {generation_of(service)}")
            truth = bool(self.world.serving(names.serve_service_name(name_of(service))))
            told = is_true(status.get("conditions") or (), "Ready")
            if truth != told:
                self._fail(f"Ready is {told} and requests are {'answered' if truth else 'not answered'}")
        if dead := self.world.by_gateway():
            self._fail(f"the gateway leads requests to {dead}, where nobody answers")
        for cluster in self.world.server.kind("RayCluster"):
            self._complete(cluster)
            self._marked(cluster)
            self._budgets(cluster)

    def _budgets(self, cluster: Manifest) -> None:
        """The active cluster's pods are protected as the service says now."""
        service = self._owner(cluster)
        if service is None or service["spec"].get("managedBy") or _suspending(service):
            return
        if _role(service.get("status") or {}, "active") != name_of(cluster):
            return
        kinds = {"workers": ["worker"], "none": []}.get(
            annotations_of(service).get(names.DISRUPTION_BUDGET, "all"), ["head", "worker"]
        )
        if "gcsFaultToleranceOptions" in cluster["spec"]:
            kinds = [kind for kind in kinds if kind != "head"]  # its state survives, it may go
        budgets = self.world.server.kind("PodDisruptionBudget")
        found = sorted(name_of(b) for b in budgets if controller_uid(b) == uid_of(cluster))
        wanted = [f"{name_of(cluster)}-{kind}" for kind in kinds]
        if found != wanted:
            self._fail(f"budgets {found} instead of {wanted}")

    def _marked(self, cluster: Manifest) -> None:
        """Clients that keep connections are sent away from clusters that have no role, and from no other."""
        service = self._owner(cluster)
        if service is None or service["spec"].get("managedBy") or _suspending(service):
            return
        status, name = service.get("status") or {}, name_of(cluster)
        leaving = name not in (_role(status, "active"), _role(status, "pending"))
        wrong = [
            name_of(p)
            for p in self.world.pods(name)
            # A split of requests may leave out pods of the active cluster.
            if (names.DRAINING in annotations_of(p)) != leaving and (leaving or labels_of(p)[names.SERVE] == "true")
        ]
        if wrong:
            self._fail(f"{wrong} should {'' if leaving else 'not '}be marked as draining")

    def _complete(self, cluster: Manifest) -> None:
        if is_terminating(cluster):
            self._fail(f"{name_of(cluster)} is still terminating")
        pods = [p for p in self.world.pods(name_of(cluster)) if self._may_run(p) and not is_terminating(p)]
        wanted = (
            0
            if cluster["spec"].get("suspend")
            else 1 + sum(group["replicas"] for group in cluster["spec"].get("workerGroupSpecs") or ())
        )
        roll = roll_of(cluster)
        # A rollout that was refused or stopped halfway keeps the pod that came first until the spec is corrected.
        spare = sum(roll.surge.values()) if roll else 0
        if not wanted <= len(pods) <= wanted + spare:
            self._fail(f"{name_of(cluster)} has {len(pods)} pods of {wanted}")
        used = sum(gpus_of(pod) for pod in self.world.pods())
        if used > self.world.gpus:
            self._fail(f"{used} GPUs of {self.world.gpus}")

    def _fail(self, what: str) -> None:
        raise BrokenInvariantError(what)


@functools.cache
def _declared(text: str) -> Sequence[Manifest]:
    """Applications of a serve config; every status written is compared with one of a few."""
    applications: Sequence[Manifest] = yaml.safe_load(text)["applications"]
    return applications


def weights(route: Manifest) -> dict[str, int]:
    """Weights of a route's backends, by service."""
    return {b["name"]: b["weight"] for rule in route.get("spec", {}).get("rules", ()) for b in rule["backendRefs"]}


def status_is_older(service: Manifest) -> bool:
    """Whether the status is about a generation before the present one."""
    return bool(service["status"].get("observedGeneration", -1) < generation_of(service))


def _role(status: Manifest, role: str) -> str:
    return str((status.get(f"{role}ServiceStatus") or {}).get("rayClusterName") or "")


def _same(config: Manifest, declared: Manifest) -> bool:
    """Whether an application has what was declared, but for replica counts that an external scaler sets."""

    def plain(app: Manifest) -> Manifest:
        deployments = [d | {"num_replicas": None} for d in app["deployments"]]
        return app | {"deployments": deployments} if app.get("external_scaler_enabled") else app

    return plain(config) == plain(declared)


def _recreates(service: Manifest | None) -> bool:
    return ((service or {"spec": {}})["spec"].get("upgradeStrategy") or {}).get("type") == "Recreate"


def _suspending(service: Manifest) -> bool:
    conditions = (service.get("status") or {}).get("conditions") or ()
    return is_true(conditions, "Suspending") or is_true(conditions, "Suspended")


def _cluster_suspending(cluster: Manifest) -> bool:
    conditions = (cluster.get("status") or {}).get("conditions") or ()
    return is_true(conditions, "RayClusterSuspending") or is_true(conditions, "RayClusterSuspended")


def fingerprint(world: World) -> dict[str, Any]:
    """The end state without what may differ between two histories: times, generated names, addresses."""
    result: dict[str, Any] = {}
    for obj in world.server.objects.values():
        kind = obj["kind"]
        if kind == "Pod":
            labels = labels_of(obj)
            key = f"Pod {labels[names.CLUSTER]} {labels[names.NODE_GROUP]} serve={labels.get(names.SERVE)}"
            result[key] = result.get(key, 0) + 1
        elif kind == "EndpointSlice":
            result[f"{kind} {name_of(obj)}"] = len(obj["endpoints"])
        elif kind in ("Event", "Lease"):
            continue
        elif kind == "RayService":
            result[f"{kind} {name_of(obj)}"] = [_plain(obj["spec"]), _plain(obj.get("status"))]
        elif kind == "ControllerRevision":
            result[f"{kind} {name_of(obj)}"] = True
        else:
            result[f"{kind} {name_of(obj)}"] = _plain(obj.get("spec"))
    for session, serve in world.serves.items():
        heads = (p for p in world.pods() if labels_of(p).get(names.NODE_TYPE) == names.HEAD)
        head = next((p for p in heads if session_of(p) == session), None)
        if head is not None:
            result[f"Serve of {labels_of(head)[names.CLUSTER]}"] = {n: a.config for n, a in serve.apps.items()}
    return result


_VARYING = frozenset(
    {
        "lastTransitionTime",
        "lastUpdateTime",
        "time",
        "started",
        "goodSince",
        "healthySince",
        "stateTransitionTimes",
        "head",
        "endpoints",
        "revision",
        "clusterIP",
        "clusterIPs",
        "rayClusterStatus",
        "upgrade",
    }
)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in sorted(value.items()) if key not in _VARYING}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return value
