"""What breaks in a history, as a table. Each fault strikes something that ``pick`` chooses among what is there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol, TypeVar

from rayservice_operator.api import names
from rayservice_operator.core.objects import Manifest, is_terminating, labels_of, name_of, ref, uid_of
from tests.sim import manifests as m
from tests.sim.invariants import Monitor
from tests.sim.world import World, ready

T = TypeVar("T")


class Pick(Protocol):
    """Chooses one of several."""

    def __call__(self, options: Sequence[T], /) -> T: ...


Fault = Callable[[World, Monitor, Pick], str]
"""Does it; returns what it struck, empty when there was nothing to strike."""


def _pod(world: World, pick: Pick) -> Manifest | None:
    pods = [pod for pod in world.pods() if not is_terminating(pod)]
    return pick(pods) if pods else None


def _cluster(world: World, pick: Pick) -> Manifest | None:
    clusters = [cluster for cluster in world.server.kind("RayCluster") if not is_terminating(cluster)]
    return pick(clusters) if clusters else None


def _strike(world: World, monitor: Monitor, pod: Manifest | None, blow: Callable[[Manifest], None]) -> str:
    """Only the loss of a serving cluster's head, or of its only pod that serves, may be felt by clients."""
    if pod is None:
        return ""
    serving = world.serving(names.serve_service_name(m.NAME))
    head = labels_of(pod).get(names.NODE_TYPE) == names.HEAD
    mates = {name_of(p) for p in world.pods(labels_of(pod).get(names.CLUSTER))}
    if head:
        monitor.behead(labels_of(pod).get(names.CLUSTER, ""))
    if (head and mates & set(serving)) or set(serving) <= {name_of(pod)}:
        monitor.excuse()
    blow(pod)
    return name_of(pod)


def kill(world: World, monitor: Monitor, pick: Pick) -> str:
    """A pod ends where it stands."""
    return _strike(world, monitor, _pod(world, pick), world.kill)


def drain(world: World, monitor: Monitor, pick: Pick) -> str:
    """Somebody deletes a pod."""
    return _strike(world, monitor, _pod(world, pick), world.drain)


def hang(world: World, _: Monitor, pick: Pick) -> str:
    """A pod's dashboard does not answer any more, or does again."""
    pod = _pod(world, pick)
    if pod is None:
        return ""
    world.hung ^= {uid_of(pod)}
    return name_of(pod)


def gpus(world: World, _: Monitor, pick: Pick) -> str:
    """The cluster has another number of GPUs."""
    world.gpus = pick((2, 3, 4, 1000))
    return str(world.gpus)


def autoscale(world: World, _: Monitor, pick: Pick) -> str:
    """Ray's autoscaler adds a worker, or takes one away by name."""
    cluster = _cluster(world, pick)
    if cluster is None:
        return ""
    workers = [
        name_of(pod)
        for pod in world.pods(name_of(cluster))
        if labels_of(pod)[names.NODE_TYPE] == names.WORKER and ready(pod)
    ]
    group = cluster["spec"]["workerGroupSpecs"][0]
    if workers and pick((True, False)):
        world.autoscale(cluster, 0, max(0, group["replicas"] - 1), [pick(workers)])
    else:
        world.autoscale(cluster, 0, min(group["maxReplicas"], group["replicas"] + 1), [])
    return name_of(cluster)


def delete(world: World, monitor: Monitor, pick: Pick) -> str:
    """Somebody deletes a RayCluster."""
    cluster = _cluster(world, pick)
    if cluster is None:
        return ""
    monitor.delete(cluster)
    world.server.delete("kubectl", ref(cluster), None, pick(("Foreground", "Background")))
    return name_of(cluster)


def _app(world: World, pick: Pick) -> tuple[Manifest, str] | None:
    """The head and name of one application that Ray knows."""
    heads = {uid_of(pod): pod for pod in world.pods()}
    apps = [(heads[uid], app) for uid, serve in world.serves.items() if uid in heads for app in sorted(serve.apps)]
    return pick(apps) if apps else None


def _strike_app(world: World, monitor: Monitor, pick: Pick, blow: Callable[[Manifest, str], None]) -> str:
    """Clients may feel what becomes of an application."""
    found = _app(world, pick)
    if found is None:
        return ""
    monitor.excuse()
    blow(*found)
    return f"{found[1]} of {name_of(found[0])}"


def forget(world: World, monitor: Monitor, pick: Pick) -> str:
    """Somebody deletes an application in Ray."""
    return _strike_app(world, monitor, pick, world.forget)


def sicken(world: World, monitor: Monitor, pick: Pick) -> str:
    """An application turns unhealthy, until all is mended or another config comes."""
    return _strike_app(world, monitor, pick, world.sicken)


def queue(world: World, _: Monitor, pick: Pick) -> str:
    """Kueue takes a RayCluster's quota away, or admits it: it writes ``suspend`` of the RayCluster itself."""
    cluster = _cluster(world, pick)
    if cluster is None:
        return ""
    world.admit(cluster, yes=bool(cluster["spec"].get("suspend")))
    return name_of(cluster)


FAULTS: Final[Mapping[str, Fault]] = {
    "gpus": gpus,
    "autoscale": autoscale,
    "kill": kill,
    "drain": drain,
    "hang": hang,
    "delete": delete,
    "forget": forget,
    "sicken": sicken,
    "queue": queue,
}
HARMLESS: Final = frozenset({"gpus", "autoscale"})
"""Faults after which a serving service must go on as if nothing had been."""


def chosen_by(index: int) -> Any:
    """A ``Pick`` that takes the option of that index, counted round."""
    return lambda options: options[index % len(options)]
