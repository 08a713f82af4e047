"""What putting another serve config in the place of one does to applications, deployments and their replicas.

Pure: two documents in, a tree of effects out. :mod:`fields` says what a change of each field does by itself; here is
what follows from several of them together: the code version of an application (Ray 2.60
``deploy_utils.get_app_code_version``), changes that are taken along by others, and what a version of Ray keeps although
it is not declared any more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from rayservice_operator.serveconfig.canonical import DEFAULT_APP_NAME
from rayservice_operator.serveconfig.differences import Change, changes, text
from rayservice_operator.serveconfig.fields import APPLICATION, DEPLOYMENT, Reach
from rayservice_operator.serveconfig.rollout import (
    NO_REPLICAS,
    Declaration,
    Replicas,
    Requests,
    gang_size,
    of_changed,
    of_deleted,
    of_new,
)
from rayservice_operator.serveconfig.traits import NEWEST, Traits

Targets = Mapping[str, Mapping[str, int | None]]
"""Deployments by application, with the number of replicas they are to have now (None: not known)."""


@dataclass(frozen=True, slots=True)
class Cause:
    """One key and what its change does: ``key`` is relative to the application or deployment it is told of."""

    key: str
    reach: Reach
    why: str


@dataclass(frozen=True, slots=True)
class DeploymentEffect:
    """``reach`` is that of the strongest cause, the application's included; ``causes`` are its own, strongest first."""

    name: str
    reach: Reach
    causes: tuple[Cause, ...] = ()
    replicas: Replicas = NO_REPLICAS
    requests: Requests = Requests.SERVED


@dataclass(frozen=True, slots=True)
class AppEffect:
    """``causes`` are those of the application itself; ``reach`` is that of the strongest, its deployments' included.

    Deployments are those that either config or the status names: others, that only the code has, are not listed.
    """

    name: str
    reach: Reach
    causes: tuple[Cause, ...] = ()
    deployments: tuple[DeploymentEffect, ...] = ()
    requests: Requests = Requests.SERVED


@dataclass(frozen=True, slots=True)
class ConfigEffect:
    """Of the whole config. ``causes``: those outside of applications. Unchanged applications are listed too."""

    causes: tuple[Cause, ...] = ()
    applications: tuple[AppEffect, ...] = ()

    @property
    def reach(self) -> Reach:
        """Of the strongest cause."""
        return _strongest([*(c.reach for c in self.causes), *(a.reach for a in self.applications)])

    @property
    def requests(self) -> Requests:
        """The worst that happens to any."""
        return _worst(app.requests for app in self.applications)

    @property
    def ignored(self) -> tuple[tuple[str, Cause], ...]:
        """Everything that Ray takes and goes on as before: where, and which key."""
        here = [("", cause) for cause in self.causes]
        for app in self.applications:
            here += [(app.name, cause) for cause in app.causes]
            here += [(f"{app.name}/{d.name}", cause) for d in app.deployments for cause in d.causes]
        return tuple((where, cause) for where, cause in here if cause.reach is Reach.IGNORED)

    @property
    def replicas(self) -> tuple[Replicas, ...]:
        """Of all deployments."""
        return tuple(d.replicas for app in self.applications for d in app.deployments)


def effect(
    before: Mapping[str, Any], after: Mapping[str, Any], traits: Traits = NEWEST, seen: Targets | None = None
) -> ConfigEffect:
    """What PUTting ``after`` does to a Serve that has ``before``; both are as ``ServeConfig.document``.

    seen: what runs now, from the status; it also names deployments that no config lists.
    """
    top = [_of_instance(change, traits) for change in changes(before, after, skip=("applications",))]
    old, new = (
        _by_name(before.get("applications"), DEFAULT_APP_NAME),
        _by_name(after.get("applications"), DEFAULT_APP_NAME),
    )
    capacities = (_percent(before.get("target_capacity")), _percent(after.get("target_capacity")))
    targets = seen or {}
    apps: list[AppEffect] = []
    for name in (*new, *(name for name in old if name not in new)):
        known = targets.get(name, {})
        if name not in old:
            apps.append(_new_app(name, new[name], capacities[1]))
        elif name not in new:
            apps.append(_deleted_app(name, old[name], known, capacities[0]))
        else:
            apps.append(_App(name, old[name], new[name], known, capacities, tuple(top), traits).effect())
    return ConfigEffect(_sorted(top), tuple(apps))


def _new_app(name: str, app: Mapping[str, Any], capacity: float | None) -> AppEffect:
    cause = Cause("name", Reach.NEW, "Serve has no application of that name: it is built, and its replicas start.")
    deployments = _by_name(app.get("deployments"), "")
    return AppEffect(
        name,
        Reach.NEW,
        (cause,),
        tuple(DeploymentEffect(n, Reach.NEW, (), of_new(d, capacity)) for n, d in deployments.items()),
    )


def _deleted_app(
    name: str, app: Mapping[str, Any], known: Mapping[str, int | None], capacity: float | None
) -> AppEffect:
    cause = Cause("name", Reach.DELETED, "It is not listed any more: Serve stops its replicas and forgets its route.")
    declared = _by_name(app.get("deployments"), "")
    names = [*declared, *(n for n in known if n not in declared)]
    deployments = tuple(
        DeploymentEffect(n, Reach.DELETED, (), of_deleted(declared.get(n, {}), known.get(n), capacity), Requests.FAIL)
        for n in names
    )
    return AppEffect(name, Reach.DELETED, (cause,), deployments, Requests.FAIL)


@dataclass(frozen=True, slots=True)
class _App:
    """An application that both configs have."""

    name: str
    before: Mapping[str, Any]
    after: Mapping[str, Any]
    known: Mapping[str, int | None]
    capacities: tuple[float | None, float | None]
    top: tuple[Cause, ...]
    traits: Traits

    def effect(self) -> AppEffect:
        old, new = (_by_name(app.get("deployments"), "") for app in (self.before, self.after))
        names = (*new, *(n for n in old if n not in new), *(n for n in self.known if n not in old and n not in new))
        diffs = {n: changes(old.get(n, {}), new.get(n, {}), DEPLOYMENT, skip=("name",)) for n in names}
        rebuilt = _code(self.before, self.traits) != _code(self.after, self.traits)
        causes = [
            self._own(change) for change in changes(self.before, self.after, APPLICATION, skip=("name", "deployments"))
        ]
        if rebuilt and not any(c.reach is Reach.REBUILD for c in causes) and not any(map(_hashed, diffs.values())):
            causes.append(Cause("deployments", Reach.REBUILD, _REORDERED))
        deployments = tuple(
            self._deployment(n, (old.get(n, {}), new.get(n, {})), diffs[n], causes, rebuilt=rebuilt) for n in names
        )
        reach = _strongest([*(c.reach for c in causes), *(d.reach for d in deployments)])
        # A route that moved: the old one answers 404 from now on.
        moved = any(c.key == "route_prefix" and c.reach is Reach.RECONFIGURE for c in causes)
        requests = _worst([*(d.requests for d in deployments), *([Requests.FAIL] if moved else [])])
        return AppEffect(self.name, reach, _sorted(causes), deployments, requests)

    def _own(self, change: Change) -> Cause:
        if change.key == "route_prefix" and change.removed and not self.traits.restores_unset_config_options:
            return Cause(change.key, Reach.IGNORED, _KEPT)
        return _cause(change, self.traits)

    def _deployment(
        self,
        name: str,
        declared: tuple[Declaration, Declaration],
        diff: list[Change],
        above: list[Cause],
        *,
        rebuilt: bool,
    ) -> DeploymentEffect:
        before, after = declared
        causes = [self._cause(change, before, after, rebuilt) for change in diff]
        shared = self._from_above(above, before, after)
        others = [
            c.key
            for c, change in zip(causes, diff, strict=True)
            if c.reach.rank > Reach.IGNORED.rank and not _once(change)
        ]
        taken_by = [*others, *shared]
        for place, change in enumerate(diff):
            if _once(change) and causes[place].reach.rank > Reach.IGNORED.rank and not rebuilt:
                causes[place] = _once_set(change, taken_by)
        reach = Reach.REBUILD if rebuilt else _strongest([*(c.reach for c in causes), *shared.values()])
        replicas = of_changed(reach, before, after, self.known.get(name), self.capacities)
        return DeploymentEffect(name, reach, _sorted(causes), replicas, _requests(reach, replicas, before))

    def _cause(self, change: Change, before: Declaration, after: Declaration, rebuilt: bool) -> Cause:
        if change.path in self.traits.unknown and not change.whole:
            return _cause(change, self.traits)
        kept = change.removed and "." not in change.key and not self.traits.restores_unset_config_options
        if kept and not rebuilt:
            return Cause(change.key, Reach.IGNORED, _KEPT)
        if change.key == "num_replicas" and _is_auto(before) != _is_auto(after) and not rebuilt:
            return Cause(
                change.key, Reach.RECONFIGURE, "Replicas are told whether to report their load to an autoscaler."
            )
        if change.field is not None and change.field.hashed and not rebuilt:
            return Cause(change.key, Reach.RECONFIGURE, _MOVED)
        return _cause(change, self.traits)

    def _from_above(self, above: Iterable[Cause], before: Declaration, after: Declaration) -> dict[str, Reach]:
        """What of the application and of the whole config reaches this deployment, without a rebuild."""
        own_logging = before.get("logging_config") is not None and after.get("logging_config") is not None
        reached: dict[str, Reach] = {}
        for cause in (*above, *self.top):
            key = cause.key.partition(".")[0]
            if key == "logging_config" and not own_logging and not self._app_logs(cause in self.top):
                reached[key] = Reach.RECONFIGURE
            elif key == "target_capacity":
                reached[key] = Reach.CONTROLLER
        return reached

    def _app_logs(self, of_instance: bool) -> bool:
        """Whether the application has a logging config of its own, in the place of the instance's."""
        own = [app.get("logging_config") is not None for app in (self.before, self.after)]
        return of_instance and all(own)


_REORDERED: Final = (
    "The order of policies, routers or actors in the list of deployments is part of the application's code version, so "
    "all its deployments restart. In the former order nothing would."
)
_KEPT: Final = (
    "This version of Ray keeps the last value of a key that is removed, until the application is rebuilt. Write out "
    "the value that you want."
)
_MOVED: Final = "The application's code version stays the same, so replicas are told and not restarted."
_NOT_YET: Final = "This version of Ray has no such field yet and drops it without a word."
_UNKNOWN: Final = "Ray has no such key and drops it without a word."


def _of_instance(change: Change, traits: Traits) -> Cause:
    if change.key == "tracing_config" and change.removed:
        return Cause(change.key, Reach.IGNORED, "Serve goes on with the last tracing config until it is another one.")
    return _cause(change, traits)


def _cause(change: Change, traits: Traits) -> Cause:
    if change.path in traits.unknown and not change.whole:
        return Cause(change.key, Reach.IGNORED, _NOT_YET)
    if change.field is None:
        return Cause(change.key, Reach.IGNORED, _UNKNOWN)
    return Cause(change.key, change.field.reach, change.field.why)


def _once(change: Change) -> bool:
    return change.field is not None and change.field.once


def _once_set(change: Change, others: Iterable[str]) -> Cause:
    """A placement option: Ray looks whether anything else of the deployment changes before it looks at these.

    Adding or removing one is such a change, because the names of the options that are set are compared.
    """
    along = next(iter(others), "")
    if change.added or change.removed:
        return Cause(change.key, Reach.RESTART, "It decides where replicas are placed.")
    if along:
        return Cause(change.key, Reach.RESTART, f"Ray takes the new value along, because {along} changes as well.")
    return Cause(
        change.key,
        Reach.IGNORED,
        "Ray overlooks another value once one is set. It takes it when something else of the deployment changes, and "
        "restarts its replicas then: change another field too if you want it now.",
    )


def _hashed(diff: list[Change]) -> bool:
    return any(change.field is not None and change.field.hashed for change in diff)


def _code(app: Mapping[str, Any], traits: Traits) -> str:
    """What Ray hashes as the application's code version."""
    deployments = _rows(app.get("deployments"))
    if dropped := [name for name in _HASHED if f"{DEPLOYMENT}{name}" in traits.unknown]:
        deployments = [{key: value for key, value in d.items() if key not in dropped} for d in deployments]
    scaling = [d.get("autoscaling_config") for d in deployments]
    by_app = None if f"{APPLICATION}autoscaling_policy" in traits.unknown else app.get("autoscaling_policy")
    return text(
        {
            "import_path": app.get("import_path"),
            "runtime_env": app.get("runtime_env", {}),
            "args": app.get("args", {}),
            "autoscaling_policy": by_app,
            "policies": [config.get("policy") for config in scaling if isinstance(config, Mapping)],
            "routers": [r for d in deployments if isinstance(r := d.get("request_router_config"), Mapping)],
            "actors": [a for d in deployments if isinstance(a := d.get("deployment_actors"), list)],
        }
    )


_HASHED: Final = ("request_router_config", "deployment_actors")
"""Fields of a deployment that are part of the code version in the versions that have them."""


def _requests(reach: Reach, replicas: Replicas, before: Declaration) -> Requests:
    if reach in (Reach.RESTART, Reach.REBUILD) and gang_size(before) > 1:
        return Requests.FAIL  # gangs are stopped at once, with what they work on
    if replicas.after == 0 and replicas.before:
        return Requests.WAIT
    if reach.rank < Reach.RECONFIGURE.rank:
        return Requests.SERVED
    left = None if replicas.before is None or replicas.after is None else min(replicas.before, replicas.after)
    if left is None:
        return Requests.WAIT  # Ray's default is one replica, without surge
    return Requests.WAIT if left and replicas.away >= left else Requests.SERVED


def _is_auto(declared: Declaration) -> bool:
    return declared.get("num_replicas") == "auto" and not isinstance(declared.get("autoscaling_config"), Mapping)


def _by_name(entries: Any, default: str) -> dict[str, Mapping[str, Any]]:
    return {str(row.get("name", default)): row for row in _rows(entries)}


def _rows(entries: Any) -> list[Mapping[str, Any]]:
    return [entry for entry in entries if isinstance(entry, Mapping)] if isinstance(entries, list) else []


def _percent(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _strongest(reaches: Iterable[Reach]) -> Reach:
    return max(reaches, key=lambda reach: reach.rank, default=Reach.NONE)


def _worst(requests: Iterable[Requests]) -> Requests:
    return max(requests, key=lambda each: each.rank, default=Requests.SERVED)


def _sorted(causes: Iterable[Cause]) -> tuple[Cause, ...]:
    return tuple(sorted(causes, key=lambda cause: -cause.reach.rank))
