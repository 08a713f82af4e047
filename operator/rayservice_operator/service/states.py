"""The states of a RayService, of which exactly one is so; ``decide`` has a handler for each."""

from __future__ import annotations

import enum

from rayservice_operator.core.objects import is_terminating
from rayservice_operator.service import suspend
from rayservice_operator.service.context import Context
from rayservice_operator.service.suspend import Suspension


class State(enum.StrEnum):
    """States of a RayService, in the order in which they are asked for."""

    LEAVING = "Leaving"
    FOREIGN = "Foreign"
    REQUESTED = Suspension.REQUESTED
    SUSPENDING = Suspension.SUSPENDING
    SUSPENDED = Suspension.SUSPENDED
    RESUMING = Suspension.RESUMING
    REFUSED = "Refused"
    MANAGED = "Managed"


def state_of(context: Context) -> State:
    """The state that the snapshot shows."""
    if is_terminating(context.service):
        return State.LEAVING
    if (context.service["spec"].get("managedBy") or "") not in context.config.managed_by:
        return State.FOREIGN
    stage = suspend.state(context)
    if stage is not Suspension.NONE:
        return State(stage)
    return State.REFUSED if context.target is None else State.MANAGED
