"""Replica counts that an external scaler has set, kept through an update of the serve config.

With ``external_scaler_enabled`` somebody else sets the targets by ``POST …/deployments/<name>/scale``. Ray 2.60,
measured: an identical PUT leaves such a target alone, but any change of that deployment, and each rebuild of the
application, puts it back to ``num_replicas`` of the PUT (one where that is unset). A PUT that names the present target
keeps it, and the replicas with it; an entry with nothing but ``num_replicas`` rebuilds nothing.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from typing import Any, Final

from rayservice_operator.core.decision import ScaledApp
from rayservice_operator.core.observation import ApplicationView
from rayservice_operator.serveconfig.canonical import ServeConfig, document_json

ENABLED: Final = "external_scaler_enabled"


def scaled_apps(new: ServeConfig, former: ServeConfig | None) -> tuple[ScaledApp, ...]:
    """Applications of ``new`` whose targets are to be kept, coming from ``former``, the config that Ray has.

    Only where an external scaler could set them before as well. A count that the user has just changed is meant.
    Under a ``target_capacity`` the targets are shares of what is declared, so they are left to Ray.
    """
    if former is None or new.document.get("target_capacity") is not None:
        return ()
    before = dict(former.applications())
    return tuple(
        ScaledApp(name, _changed(before[name], app))
        for name, app in new.applications()
        if app.get(ENABLED) is True and before.get(name, {}).get(ENABLED) is True
    )


def with_targets(payload: str, keep: tuple[ScaledApp, ...], applications: Mapping[str, ApplicationView]) -> str:
    """``payload`` with the targets that ``applications`` show for the deployments to keep."""
    document = json.loads(payload)
    known = {app.name: app for app in keep}
    for app in document["applications"]:
        scaled, seen = known.get(app.get("name", "default")), applications.get(app.get("name", "default"))
        if scaled is not None and seen is not None:
            targets = {name: n for name, n in _targets(seen).items() if name not in scaled.declared}
            app["deployments"] = _merged(app.get("deployments") or [], targets)
    return document_json(document)


def without_targets(app: Mapping[str, Any]) -> Mapping[str, Any]:
    """An application as far as it is declared alone: without the counts that are an external scaler's."""
    deployments = app.get("deployments")
    if app.get(ENABLED) is not True or not isinstance(deployments, list):
        return app
    plain = [{k: v for k, v in d.items() if k != "num_replicas"} if isinstance(d, dict) else d for d in deployments]
    return {**app, "deployments": plain}


def _changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> frozenset[str]:
    old, new = _declared(before), _declared(after)
    return frozenset(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))


def _declared(app: Mapping[str, Any]) -> dict[str, Any]:
    """``num_replicas`` by deployment, where it is set."""
    deployments = app.get("deployments")
    named = [d for d in deployments if isinstance(d, dict) and "name" in d] if isinstance(deployments, list) else []
    return {str(d["name"]): d["num_replicas"] for d in named if d.get("num_replicas") is not None}


def _targets(seen: ApplicationView) -> dict[str, int]:
    """Present targets. While Ray builds an application it shows no deployments, only what was put last.

    A target of 0 cannot be declared; one replica is the nearest, and the scaler takes it away again.
    """
    put = {name: n for name, n in _declared(seen.config).items() if isinstance(n, int)}
    shown = {d.name: d.target_replicas for d in seen.deployments.values() if d.target_replicas is not None}
    return {name: max(1, target) for name, target in {**put, **shown}.items()}


def _merged(declared: list[dict[str, Any]], targets: Mapping[str, int]) -> list[dict[str, Any]]:
    """In the order declared, which must stay; deployments that only the code names come behind."""
    result = copy.deepcopy(declared)
    for deployment in result:
        if deployment.get("name") in targets:
            deployment["num_replicas"] = targets[deployment["name"]]
    names = {deployment.get("name") for deployment in result}
    return [*result, *({"name": n, "num_replicas": t} for n, t in sorted(targets.items()) if n not in names)]
