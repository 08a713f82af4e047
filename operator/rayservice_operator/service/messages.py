"""What Ray says of applications that are UNHEALTHY, without what changes with every try.

Ray counts how often a deployment failed to start, and names replicas that live for seconds. Told word for word, one and
the same trouble would be a write of the status and an event for each try.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final, TypeVar

from rayservice_operator.core.conditions import shorten
from rayservice_operator.core.observation import ApplicationView, DeploymentView, ServeObservation

MAX_MESSAGE: Final = 512
"""Longest message of an application or deployment in the status, in characters."""

_VARYING: Final = re.compile(r"id='[^']*'|#\w+|\w*\d[\w.]*")

_V = TypeVar("_V", ApplicationView, DeploymentView)


def plain(message: str) -> str:
    """A message without numbers, and without ids that hold or follow one: the same for every try."""
    return shorten(" ".join(_VARYING.sub("#", message).split()), 300)


def steady(observation: ServeObservation, told: Mapping[str, Any]) -> ServeObservation:
    """The observation with messages as they were told before, where they differ in what varies alone.

    ``told``: ``applicationStatuses`` of the stored status.
    """
    applications = {name: _application(app, told.get(name) or {}) for name, app in observation.applications.items()}
    return replace(observation, applications=applications) if applications != observation.applications else observation


def _application(app: ApplicationView, told: Mapping[str, Any]) -> ApplicationView:
    before = told.get("serveDeploymentStatuses") or {}
    deployments = {name: _kept(d, before.get(name) or {}) for name, d in app.deployments.items()}
    return _kept(replace(app, deployments=deployments) if deployments != app.deployments else app, told)


def _kept(view: _V, told: Mapping[str, Any]) -> _V:
    message = str(told.get("message") or "")
    if view.status != "UNHEALTHY" or told.get("status") != view.status or message == view.message:
        return view
    return replace(view, message=message) if plain(message) == plain(shorten(view.message, MAX_MESSAGE)) else view
