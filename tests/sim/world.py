"""Everything around the operator: scheduler, kubelet, EndpointSlice controller, garbage collector, Ray.

Nothing happens by itself. :meth:`World.enabled` lists what could happen now; whoever drives the simulation picks.
All times are of the one simulated clock. A world without an operator can be copied with ``copy.deepcopy``.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from rayservice_operator.api import names
from rayservice_operator.core.objects import (
    Manifest,
    annotations_of,
    generation_of,
    is_terminating,
    labels_of,
    metadata,
    name_of,
    ref,
    uid_of,
)
from rayservice_operator.core.timestamps import to_rfc3339
from rayservice_operator.engine.clock import ManualClock
from tests.sim.apiserver import Name, Server
from tests.sim.serve import SimServe

SCHEDULE_S, START_S, READY_S, STOP_S = 0.5, 1.5, 3.0, 2.0
"""Seconds from creation to a node, from there to running, to ready, and from deletion to gone."""

GPU = "nvidia.com/gpu"
NODE = "node-1"
SLICE_LABEL = "kubernetes.io/service-name"
SHARED = "redis/"


class Step(NamedTuple):
    """Something that can happen now."""

    what: str
    do: Callable[[], None]


@dataclass
class Machine:
    """What the kubelet knows of a pod. Times are epoch seconds; None: not yet."""

    uid: str
    created: float
    scheduled: float | None = None
    running: float | None = None
    ready: float | None = None
    stopping: float | None = None
    joined: str = ""
    dead: bool = False
    refused: bool = False


@dataclass
class World:
    """The cluster. ``gpus`` is how many there are; ``hung`` heads do not answer, ``slow`` pods do not start."""

    clock: ManualClock = field(default_factory=ManualClock)
    gpus: int = 1000
    seed: int = 0
    machines: dict[str, Machine] = field(default_factory=dict)
    serves: dict[str, SimServe] = field(default_factory=dict)
    hung: set[str] = field(default_factory=set)
    stuck: bool = False
    pull_s: float = START_S
    addresses: int = 0
    disturbed: int = 0
    _calm_at: int = -1

    def __post_init__(self) -> None:
        self.server = Server(self.clock.now)
        self.rng = random.Random(self.seed)
        self.server.watchers.append(self._seen)

    def _seen(self, change: Any) -> None:
        """Pods get a machine when they are made and lose it when they go."""
        if change.newest["kind"] != "Pod":
            return
        uid = uid_of(change.newest)
        if change.new is None:
            self.machines.pop(uid, None)
            self.serves.pop(uid, None)
        elif change.old is None:
            self.machines[uid] = Machine(uid, self.clock.now())

    # --- looking

    @property
    def now(self) -> float:
        """Epoch seconds."""
        return self.clock.now()

    def moment(self) -> tuple[object, ...]:
        """Differs from that of before whenever requests may be answered otherwise than before."""
        puts = sum(len(serve.puts) for serve in self.serves.values())
        return self.server.version, self.now, puts, len(self.serves), self.disturbed

    def pods(self, cluster: str | None = None) -> list[Manifest]:
        """All pods, or those of one RayCluster."""
        server = self.server
        return server.kind("Pod") if cluster is None else server.labelled("Pod", names.CLUSTER).get(cluster, [])

    def head(self, cluster: str) -> Manifest | None:
        """The newest head pod that runs."""
        heads = [p for p in self.pods(cluster) if _is_head(p) and self.alive(p)]
        return heads[-1] if heads else None

    def alive(self, pod: Manifest) -> bool:
        """Whether its containers run: also while it terminates, until it has stopped."""
        machine = self.machines.get(uid_of(pod))
        return machine is not None and machine.running is not None and not machine.dead

    def may_run(self, pod: Manifest) -> bool:
        """Whether it has not ended, as far as anybody can tell from outside and inside."""
        return pod["status"].get("phase") not in ("Failed", "Succeeded") and not self.machines[uid_of(pod)].dead

    def serve_of(self, head: Manifest) -> SimServe | None:
        """Serve behind a head that answers."""
        if not self.alive(head) or not ready(head) or uid_of(head) in self.hung:
            return None
        session = session_of(head)
        return self.serves.setdefault(session, SimServe(session=f"session-{session[-4:]}"))

    def told_of(self, head: Manifest) -> SimServe | None:
        """Serve of that head's session, whether the head answers or not."""
        return self.serves.get(session_of(head))

    def nodes(self, head: Manifest) -> list[str]:
        """Addresses that replicas of this head's session can run on: its ready workers, else itself."""
        workers = [
            pod
            for pod in self.pods(labels_of(head).get(names.CLUSTER))
            if not _is_head(pod) and self.alive(pod) and ready(pod) and not is_terminating(pod)
        ]
        joined = [address(p) for p in workers if self.machines[uid_of(p)].joined == session_of(head)]
        return joined or [address(head)]

    def serving(self, service: str, namespace: str = "default") -> list[str]:
        """Names of the pods that a request to that Service could reach and that would answer it."""
        return [pod for pod in self.reachable(service, namespace) if self.answers(pod, namespace)]

    def reachable(self, service: str, namespace: str = "default") -> list[str]:
        """Names of the pods that the endpoint slices send requests to that Service to."""
        return [
            endpoint["targetRef"]["name"]
            for slice_ in self.server.kind("EndpointSlice")
            if labels_of(slice_).get(SLICE_LABEL) == service and metadata(slice_)["namespace"] == namespace
            for endpoint in slice_.get("endpoints") or ()
            if endpoint["conditions"]["ready"]
        ]

    def answers(self, pod_name: str, namespace: str = "default") -> bool:
        """Whether a request sent to that pod now would be answered."""
        pod = self.server.find(Name("Pod", namespace, pod_name))
        if pod is None or not self.alive(pod):
            return False
        head = pod if _is_head(pod) else self.head(labels_of(pod)[names.CLUSTER]) or self.former(pod)
        if head is None:
            return False
        serve = self.told_of(head)
        if serve is None or not serve.answers(self.now, self.nodes(head)):
            return False
        return address(pod) in serve.proxies(self.now, address(head), self.nodes(head))

    def node(self) -> Manifest:
        """The one node, with everything but GPUs in abundance."""
        allocatable = {"cpu": "1000", "memory": "4Ti", "pods": "1000", GPU: str(self.gpus)}
        return {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": NODE},
            "spec": {},
            "status": {"allocatable": allocatable, "conditions": _conditions("Ready")},
        }

    def import_path(self, where: str) -> str:
        """What answers at the address of a pod, or in the cluster that is named in ``where``; empty for nobody."""
        heads = (p for p in self.pods() if _is_head(p) and self.alive(p))
        for head in heads:
            cluster = labels_of(head)[names.CLUSTER]
            if cluster in where or where in {address(pod) for pod in self.pods(cluster)}:
                serve = self.told_of(head)
                served = [app.served for app in serve.apps.values()] if serve else []
                return next((str(config["import_path"]) for config in served if config), "")
        return ""

    def former(self, worker: Manifest) -> Manifest | None:
        """A head that stands for the one that is away, for a worker whose session outlives it."""
        session = self.machines[uid_of(worker)].joined
        if not session.startswith(SHARED):
            return None
        labels = {names.CLUSTER: labels_of(worker)[names.CLUSTER], names.NODE_TYPE: names.HEAD}
        return {"kind": "Pod", "metadata": {"labels": labels, "annotations": {names.FT_ENABLED: "true"}}}

    # --- time

    def next_due(self) -> float | None:
        """When something can happen that cannot yet, in epoch seconds."""
        return min((at for at, _ in self._timers() if at > self.now), default=None)

    def enabled(self) -> list[Step]:
        """Everything that can happen now."""
        steps = [step for at, step in self._timers() if at <= self.now]
        if self._calm_at != self.server.version:
            controllers = [*self._slices(), *self._gateways(), *self._garbage(), *self._jobs()]
            steps += controllers
            if not controllers:
                self._calm_at = self.server.version
        return steps

    def _timers(self) -> Iterator[tuple[float, Step]]:
        for pod in self.pods():
            machine = self.machines[uid_of(pod)]
            found = self._next_of(pod, machine)
            if found is not None:
                yield found
        for uid, serve in self.serves.items():
            due = serve.next_due(self.now)
            if due is not None:
                yield due, Step(f"serve {uid} progresses", lambda s=serve: s.progress(self.now))  # type: ignore[misc]

    def _next_of(self, pod: Manifest, m: Machine) -> tuple[float, Step] | None:
        name = name_of(pod)
        if is_terminating(pod):
            if m.stopping is None:
                return self.now, Step(f"{name} begins to stop", lambda: self._stop(pod))
            return m.stopping, Step(f"{name} is gone", lambda: self._gone(pod))
        if m.dead:
            return None
        if m.scheduled is None:
            if self.stuck or self.gpus_used() + gpus_of(pod) > self.gpus:
                told = any(c["type"] == "PodScheduled" for c in (pod.get("status") or {}).get("conditions") or ())
                why = Step(f"{name} finds no node", lambda: self._unschedulable(pod))
                return None if told else (m.created + SCHEDULE_S, why)
            return m.created + SCHEDULE_S, Step(f"{name} gets a node", lambda: self._schedule(pod))
        if m.running is None:
            if _unpullable(pod):
                return None if m.refused else (m.scheduled + START_S, Step(f"{name} waits", lambda: self._refuse(pod)))
            return m.scheduled + self.pull_s, Step(f"{name} starts", lambda: self._start(pod))
        if m.ready is None:
            if not _is_head(pod):
                head = self.head(labels_of(pod)[names.CLUSTER])
                if head is None or not ready(head):
                    return None
            return m.running + READY_S, Step(f"{name} is ready", lambda: self._ready(pod))
        if not _is_head(pod):
            head = self.head(labels_of(pod)[names.CLUSTER])
            if head is not None and m.joined not in ("", session_of(head)):
                return self.now, Step(f"{name} restarts for its new head", lambda: self._restart(pod))
        return None

    def gpus_used(self) -> int:
        """GPUs of pods that have a node and have not ended."""
        placed = (p for p in self.pods() if (m := self.machines[uid_of(p)]).scheduled is not None and not m.dead)
        return sum(gpus_of(pod) for pod in placed)

    # --- kubelet

    def _schedule(self, pod: Manifest) -> None:
        if self.gpus_used() + gpus_of(pod) > self.gpus:
            return
        self.machines[uid_of(pod)].scheduled = self.now
        self._patch(pod, {"spec": {"nodeName": NODE}})
        waiting = [{"name": c["name"], "state": {"waiting": {"reason": "ContainerCreating"}}} for c in _containers(pod)]
        self._status(pod, {"conditions": _conditions("PodScheduled"), "containerStatuses": waiting})

    def _refuse(self, pod: Manifest) -> None:
        """The image is not there."""
        self.machines[uid_of(pod)].refused = True
        state = {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}}
        waiting = [{"name": c["name"], "state": state} for c in _containers(pod)]
        self._status(pod, {"conditions": _conditions("PodScheduled", Ready=False), "containerStatuses": waiting})

    def _unschedulable(self, pod: Manifest) -> None:
        """What the scheduler writes."""
        condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
        message = f"0/1 nodes are available: 1 Insufficient {GPU}."
        self._status(pod, {"conditions": [{**condition, "message": message}]})

    def _start(self, pod: Manifest) -> None:
        self.machines[uid_of(pod)].running = self.now
        self.addresses += 1
        running = [
            {
                "name": c["name"],
                "ready": False,
                "started": True,
                "restartCount": 0,
                "state": {"running": {"startedAt": to_rfc3339(self.now)}},
            }
            for c in _containers(pod)
        ]
        ip = address(pod) or f"10.0.{self.addresses // 250}.{self.addresses % 250 + 1}"
        status = {
            "phase": "Running",
            "podIP": ip,
            "startTime": to_rfc3339(self.now),
            "conditions": _conditions("PodScheduled", "Initialized", Ready=False),
            "containerStatuses": running,
        }
        self._status(pod, status)

    def _ready(self, pod: Manifest) -> None:
        machine = self.machines[uid_of(pod)]
        head = pod if _is_head(pod) else self.head(labels_of(pod)[names.CLUSTER])
        if head is None or (not ready(head) and not _is_head(pod)):
            return
        machine.ready = self.now
        machine.joined = session_of(head)
        self._set_ready(pod, yes=True)

    def _restart(self, pod: Manifest) -> None:
        """The raylet of a worker ends with its head's session, and the container starts again."""
        machine = self.machines[uid_of(pod)]
        machine.running, machine.ready, machine.joined = self.now, None, ""
        self._set_ready(pod, yes=False)

    def _set_ready(self, pod: Manifest, *, yes: bool) -> None:
        live = self.server.find(_name(pod))
        assert live is not None
        containers = [{**c, "ready": yes} for c in live["status"].get("containerStatuses") or ()]
        conditions = _conditions("PodScheduled", "Initialized", Ready=yes, ContainersReady=yes)
        self._status(pod, {"conditions": conditions, "containerStatuses": containers})

    def _stop(self, pod: Manifest) -> None:
        self.machines[uid_of(pod)].stopping = self.now + STOP_S

    def _gone(self, pod: Manifest) -> None:
        self.server.finish("kubelet", _name(pod))

    def _status(self, pod: Manifest, status: Manifest) -> None:
        live = self.server.find(_name(pod))
        before = {c["type"]: c for c in ((live or {}).get("status") or {}).get("conditions") or ()}
        for condition in status.get("conditions") or ():
            was = before.get(condition["type"]) or {}
            same = was.get("status") == condition["status"]
            condition["lastTransitionTime"] = was["lastTransitionTime"] if same else to_rfc3339(self.now)
        self.server.merge_patch("kubelet", ref(pod), {"status": status}, status=True)

    def _patch(self, pod: Manifest, patch: Manifest) -> None:
        self.server.merge_patch("kubelet", ref(pod), patch)

    # --- faults

    def kill(self, pod: Manifest, phase: str = "Failed", reason: str = "Evicted") -> None:
        """The pod ends where it stands; its object stays, as after an eviction by the kubelet."""
        machine = self.machines[uid_of(pod)]
        machine.dead = True
        self.serves.pop(uid_of(pod), None)
        ended_now = {"exitCode": 137, "finishedAt": to_rfc3339(self.now)}
        ended = [
            {"name": c["name"], "ready": False, "restartCount": 0, "state": {"terminated": ended_now}}
            for c in _containers(pod)
        ]
        conditions = _conditions("PodScheduled", Ready=False, ContainersReady=False)
        status = {"phase": phase, "reason": reason, "conditions": conditions, "containerStatuses": ended}
        self._status(pod, status)

    def drain(self, pod: Manifest) -> None:
        """Somebody deletes the pod: a node drain, or a person."""
        self.server.delete("kubectl", ref(pod), None, "Background")

    def forget(self, head: Manifest, app: str) -> None:
        """Somebody deletes an application by Ray's own API."""
        self.serves[uid_of(head)].apps.pop(app, None)
        self.disturbed += 1

    def sicken(self, head: Manifest, app: str) -> None:
        """An application's replicas fail their health checks; Ray goes on trying."""
        self.serves[uid_of(head)].apps[app].struck = self.now
        self.disturbed += 1

    def admit(self, cluster: Manifest, *, yes: bool) -> None:
        """Kueue, of a RayCluster that is in a queue."""
        self.server.merge_patch("kueue", ref(cluster), {"spec": {"suspend": not yes}})

    def mend(self) -> None:
        """Everything that ``faults`` did to nodes, dashboards and applications ends."""
        self.hung.clear()
        self.stuck = False
        self.gpus = 1000
        for serve in self.serves.values():
            for app in serve.apps.values():
                app.struck = None
        for cluster in self.server.kind("RayCluster"):
            if cluster["spec"].get("suspend"):
                self.admit(cluster, yes=True)
        self.disturbed += 1

    # --- EndpointSlice controller

    def _slices(self) -> list[Step]:
        steps: list[Step] = []
        for service in self.server.kind("Service"):
            if is_terminating(service) or not service["spec"].get("selector"):
                continue
            wanted = self._slice(service)
            stored = self.server.find(_name(wanted))
            if stored is None:
                steps.append(
                    Step(
                        f"slices of {name_of(service)} are made",
                        lambda w=wanted: self.server.create("endpointslice-controller", w),  # type: ignore[misc]
                    )
                )
            elif stored["endpoints"] != wanted["endpoints"] or labels_of(stored) != labels_of(wanted):
                steps.append(
                    Step(
                        f"slices of {name_of(service)} follow",
                        lambda s=stored, w=wanted: self.server.merge_patch(  # type: ignore[misc]
                            "endpointslice-controller",
                            ref(s),
                            {"metadata": {"labels": dict(labels_of(w))}, "endpoints": w["endpoints"]},
                        ),
                    )
                )
        return steps

    def _slice(self, service: Manifest) -> Manifest:
        selector: dict[str, str] = service["spec"]["selector"]
        any_state = bool(service["spec"].get("publishNotReadyAddresses"))
        endpoints = [
            {
                "addresses": [address(pod)],
                "conditions": {
                    "ready": any_state or (ready(pod) and not is_terminating(pod)),
                    "serving": ready(pod),
                    "terminating": is_terminating(pod),
                },
                "targetRef": {"kind": "Pod", "name": name_of(pod), "namespace": "default", "uid": uid_of(pod)},
            }
            for pod in self.pods()
            if address(pod)
            and (pod["status"].get("phase") == "Running")
            and all(labels_of(pod).get(key) == value for key, value in selector.items())
        ]
        return {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "addressType": "IPv4",
            "metadata": {
                "name": f"{name_of(service)}-slice",
                "namespace": metadata(service)["namespace"],
                "labels": {
                    **labels_of(service),
                    SLICE_LABEL: name_of(service),
                    "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
                },
                "ownerReferences": [
                    {
                        "apiVersion": "v1",
                        "kind": "Service",
                        "name": name_of(service),
                        "uid": uid_of(service),
                        "controller": True,
                        "blockOwnerDeletion": True,
                    }
                ],
            },
            "endpoints": endpoints,
            "ports": [],
        }

    # --- gateway controller

    def _gateways(self) -> list[Step]:
        """Takes over what Gateways and HTTPRoutes ask for, and says so."""
        steps: list[Step] = []
        for kind, types in (("Gateway", ("Accepted", "Programmed")), ("HTTPRoute", ("Accepted", "ResolvedRefs"))):
            for obj in self.server.kind(kind):
                seen = generation_of(obj)
                wrong = self._unresolved(obj)
                conditions = [
                    {"type": t, "status": str(t != "ResolvedRefs" or not wrong), "observedGeneration": seen}
                    for t in types
                ]
                parents = [{"controllerName": "sim/gateway", "conditions": conditions}]
                status = {"conditions": conditions} if kind == "Gateway" else {"parents": parents}
                if obj.get("status") != status and not is_terminating(obj):
                    do = functools.partial(
                        self.server.merge_patch, "gateway-controller", ref(obj), {"status": status}, status=True
                    )
                    steps.append(Step(f"{kind} {name_of(obj)} is programmed", do))
        return steps

    def _unresolved(self, route: Manifest) -> list[str]:
        """Backends whose service is not there, or does not say that it speaks HTTP, as Traefik wants it."""
        found: list[str] = []
        for rule in route["spec"].get("rules") or ():
            for backend in rule["backendRefs"]:
                service = self.server.objects.get(("Service", metadata(route)["namespace"], backend["name"]))
                ports = service["spec"]["ports"] if service else ()
                if ("http", backend["port"]) not in {(p.get("appProtocol", "http"), p["port"]) for p in ports}:
                    found.append(backend["name"])
        return found

    def by_gateway(self) -> list[str]:
        """Backends of routes that have a weight and no pod that answers."""
        dead: list[str] = []
        for route in self.server.kind("HTTPRoute"):
            for rule in route["spec"]["rules"]:
                weighted = (b["name"] for b in rule["backendRefs"] if b.get("weight", 1) > 0)
                dead += [name for name in weighted if not self.serving(name, metadata(route)["namespace"])]
        return dead

    # --- garbage collector

    def _garbage(self) -> list[Step]:
        alive = {uid_of(obj) for obj in self.server.objects.values() if not _in_foreground(obj)}
        steps: list[Step] = []
        for obj in self.server.objects.values():
            owners = metadata(obj).get("ownerReferences") or ()
            if _in_foreground(obj) and not any(_blocks(other, obj) for other in self.server.objects.values()):
                steps.append(Step(f"{obj['kind']} {name_of(obj)} has no dependents", lambda o=obj: self._release(o)))  # type: ignore[misc]
            if owners and not is_terminating(obj) and not any(owner["uid"] in alive for owner in owners):
                steps.append(Step(f"{obj['kind']} {name_of(obj)} is collected", lambda o=obj: self._collect(o)))  # type: ignore[misc]
        return steps

    def _release(self, obj: Manifest) -> None:
        left = [f for f in metadata(obj)["finalizers"] if f != "foregroundDeletion"]
        self.server.merge_patch("garbage-collector", ref(obj), {"metadata": {"finalizers": left}})

    def _collect(self, obj: Manifest) -> None:
        if _name(obj) in self.server.objects:
            self.server.delete("garbage-collector", ref(obj), None, "Background")

    # --- Job controller

    def _jobs(self) -> list[Step]:
        """The Job that removes a cluster's keys from Redis has done so."""
        complete = {"status": {"conditions": [{"type": "Complete", "status": "True"}]}}
        return [
            Step(
                f"Job {name_of(job)} completes",
                lambda j=job: self.server.merge_patch("job-controller", ref(j), complete, status=True),  # type: ignore[misc]
            )
            for job in self.server.kind("Job")
            if not is_terminating(job) and not (job.get("status") or {}).get("conditions")
        ]

    # --- Ray's autoscaler

    def autoscale(self, cluster: Manifest, group: int, replicas: int, to_delete: list[str]) -> None:
        """What Ray's node provider writes: counts and names of workers, guarded by tests."""
        base = f"/spec/workerGroupSpecs/{group}"
        stored = cluster["spec"]["workerGroupSpecs"][group]
        operations = [
            {"op": "test", "path": f"{base}/replicas", "value": stored["replicas"]},
            {"op": "replace", "path": f"{base}/replicas", "value": replicas},
            {"op": "replace", "path": f"{base}/scaleStrategy", "value": {"workersToDelete": to_delete}},
        ]
        self.server.json_patch("ray-autoscaler", ref(cluster, with_uid=False), operations)


def _conditions(*true: str, **others: bool) -> list[Manifest]:
    states = {**dict.fromkeys(true, True), **others}
    return [{"type": type_, "status": "True" if yes else "False"} for type_, yes in states.items()]


def _containers(pod: Manifest) -> list[Manifest]:
    containers: list[Manifest] = pod["spec"]["containers"]
    return containers


def ready(pod: Manifest) -> bool:
    """The pod's Ready condition."""
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def address(pod: Manifest) -> str:
    """The pod's IP address or empty."""
    return str((pod.get("status") or {}).get("podIP") or "")


def _unpullable(pod: Manifest) -> bool:
    """Whether a container's image is not to be had."""
    return any("missing" in container["image"] for container in _containers(pod))


def session_of(head: Manifest) -> str:
    """What its Ray session is known by: the head itself, or the cluster where its state is kept outside (Redis)."""
    if annotations_of(head).get(names.FT_ENABLED) == "true":
        return f"{SHARED}{labels_of(head)[names.CLUSTER]}"
    return uid_of(head)


def gpus_of(pod: Manifest) -> int:
    """GPUs that the pod's containers ask for."""
    return sum(int(((c.get("resources") or {}).get("limits") or {}).get(GPU) or 0) for c in _containers(pod))


def _in_foreground(obj: Manifest) -> bool:
    return is_terminating(obj) and "foregroundDeletion" in (metadata(obj).get("finalizers") or ())


def _blocks(other: Manifest, owner: Manifest) -> bool:
    references = metadata(other).get("ownerReferences") or ()
    return any(r["uid"] == uid_of(owner) and r.get("blockOwnerDeletion") for r in references)


def _is_head(pod: Manifest) -> bool:
    return labels_of(pod).get(names.NODE_TYPE) == names.HEAD


def _name(obj: Manifest) -> Name:
    return Name(obj["kind"], metadata(obj).get("namespace", ""), name_of(obj))
