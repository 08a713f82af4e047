"""A preview in sentences, the most important first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

from rayservice_operator.serveconfig.effect import AppEffect, Cause, ConfigEffect, DeploymentEffect
from rayservice_operator.serveconfig.fields import Reach
from rayservice_operator.serveconfig.rollout import Replicas, Requests

if TYPE_CHECKING:
    from rayservice_operator.service.preview.result import Preview

_DOES: Final[dict[Reach, str]] = {
    Reach.CONTROLLER: "is changed without touching its replicas",
    Reach.REPLICA: "is changed without touching its replicas' processes",
    Reach.RECONFIGURE: "is reconfigured in place",
    Reach.DELETED: "is deleted",
    Reach.NEW: "is new",
    Reach.RESTART: "restarts its replicas, a few at a time",
    Reach.REBUILD: "is built anew and restarts all its replicas, a few at a time",
    Reach.REFUSED: "is refused by Ray, and with it the whole config",
}
_TAKEN_OVER: Final = frozenset({"in place", "upgrade goes on"})
"""Kinds whose fields are taken over by a running cluster; with the others they are the reason."""

_REQUESTS: Final[dict[Requests, str]] = {
    Requests.SERVED: "",
    Requests.WAIT: "Requests wait meanwhile.",
    Requests.FAIL: "Requests fail meanwhile.",
}


def lines(told: Preview) -> list[str]:
    """Sentences of a whole preview."""
    return list(_lines(told))


def _lines(told: Preview) -> Iterator[str]:
    yield told.headline
    for violation in told.violations:
        yield f"{violation}."
    if told.fields:
        because = "Fields" if told.kind in _TAKEN_OVER else "Because"
        yield f"{because} of rayClusterConfig: {', '.join(told.fields)}."
    if told.impact.extra_pods and told.needs and told.needs not in told.headline:
        yield f"It needs {told.needs}{'' if 'beside' in told.needs else ' beside what runs'}."
    yield from told.notes
    if told.config is not None:
        yield from of_config(told.config, serves=told.impact.requests is not Requests.SERVED)
        if told.config.ignored:
            yield _IGNORED
    if told.impact.dips and told.impact.pods and told.impact.requests is not Requests.FAIL:
        yield "Less capacity than usual serves meanwhile."
    if not told.exact:
        yield "What runs now is not fully known here; the operator decides by what it sees."


_IGNORED: Final = (
    "The operator pushes what Ray ignores as it is written, does nothing else about it and cannot see that it has no "
    "effect: Ray answers that all is well. A new cluster takes everything as it is written."
)


def of_config(config: ConfigEffect, *, serves: bool = True) -> Iterator[str]:
    """Sentences about the applications, those that are hit hardest first; the untouched are left out.

    serves: whether requests get to them, so that it matters what becomes of these.
    """
    for app in sorted(config.applications, key=lambda app: -app.reach.rank):
        if app.reach is not Reach.NONE:
            yield from _application(app, serves)
    for cause in config.causes:
        yield f"{cause.key}: {cause.reach}. {cause.why}"


def _application(app: AppEffect, serves: bool) -> Iterator[str]:
    name = f"Application {app.name}"
    if app.reach in (Reach.NEW, Reach.DELETED):
        yield f"{name} {_DOES[app.reach]}.{_counted(app)}"
        return
    noticed = [cause for cause in app.causes if cause.reach.rank > Reach.IGNORED.rank]
    if noticed:
        yield f"{name} {_DOES[noticed[0].reach]}{_because(noticed)}"
        yield from (_alone(name, cause) for cause in noticed if cause.reach is not noticed[0].reach)
    yield from _ignored(name, app.causes)
    for deployment in sorted(app.deployments, key=lambda each: -each.reach.rank):
        yield from _deployment(f"Deployment {app.name}/{deployment.name}", deployment, serves)


def _deployment(name: str, deployment: DeploymentEffect, serves: bool) -> Iterator[str]:
    reach = deployment.reach
    if reach.rank > Reach.IGNORED.rank:
        does = "restarts all its replicas, a few at a time" if reach is Reach.REBUILD else _DOES[reach]
        strongest = [cause for cause in deployment.causes if cause.reach is reach]
        waits = _waits(deployment) if serves else ""
        parts = [f"{name} {does}{_because(strongest)}", _numbers(deployment.replicas), waits]
        yield " ".join(part for part in parts if part)
    yield from _ignored(name, deployment.causes)


def _because(causes: list[Cause]) -> str:
    """The keys of causes that are equally strong, and what is so about the first."""
    if not causes:
        return "."
    return f", because of {', '.join(cause.key for cause in causes)}. {causes[0].why}"


def _ignored(name: str, causes: Iterable[Cause]) -> Iterator[str]:
    yield from (_alone(name, cause) for cause in causes if cause.reach is Reach.IGNORED)


def _alone(name: str, cause: Cause) -> str:
    return f"{name}, {cause.key}: {cause.reach}. {cause.why}"


def _waits(deployment: DeploymentEffect) -> str:
    if deployment.requests is Requests.WAIT and deployment.reach is Reach.RECONFIGURE:
        single = "With a single replica, requests" if deployment.replicas.touched is None else "Requests"
        return f"{single} wait while that runs."
    if deployment.requests is Requests.WAIT and deployment.replicas.touched is None:
        return "With a single replica and no surge, requests wait meanwhile."
    if deployment.requests is Requests.WAIT and deployment.reach in (Reach.RESTART, Reach.REBUILD):
        return "Requests wait until the new replica is ready; max_surge_percent: 100 avoids that, with room for it."
    return _REQUESTS[deployment.requests]


def _numbers(replicas: Replicas) -> str:
    """``4 replicas with 4 GPUs, 1 at a time. 2 more with 2 GPUs at most.``"""
    parts: list[str] = []
    if replicas.touched:
        gpus = f" with {_gpus(replicas.touched_gpus)}" if replicas.touched_gpus else ""
        away = f", {replicas.away} at a time" if replicas.away else ""
        parts.append(f"{_count(replicas.touched, 'replica')}{gpus}{away}.")
    if replicas.extra:
        gpus = f" with {_gpus(replicas.extra_gpus)}" if replicas.extra_gpus else ""
        parts.append(f"{replicas.extra} more{gpus} at most.")
    return " ".join(parts)


def _counted(app: AppEffect) -> str:
    """Replicas that start or stop with the application; an autoscaler may start more."""
    touched = sum(d.replicas.touched or 0 for d in app.deployments)
    gpus = sum(d.replicas.touched_gpus for d in app.deployments)
    most = sum(d.replicas.extra for d in app.deployments)
    with_gpus = f" with {_gpus(gpus)}" if gpus else ""
    up_to = f", up to {most} under load" if most > touched else ""
    return f" {_count(touched, 'replica')}{with_gpus}{up_to}." if touched else ""


def _gpus(number: float) -> str:
    return f"{number:g} GPU{'' if number == 1 else 's'}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
