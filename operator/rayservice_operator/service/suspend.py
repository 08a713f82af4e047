"""Suspend and resume: two phases, so that an operator killed in between goes on (facts: KubeRay 3.6).

``Suspending=True`` is committed before anything is deleted and runs to its end even if ``spec.suspend`` goes
back to false meanwhile; only then is the service resumed.
"""

from __future__ import annotations

import enum
from typing import Final

from rayservice_operator.api.conditions import ServiceCondition as Type
from rayservice_operator.api.conditions import ServiceReason as Reason
from rayservice_operator.core.conditions import Condition, find, is_true
from rayservice_operator.core.decision import Action, Delete
from rayservice_operator.core.objects import is_terminating, ref
from rayservice_operator.service import routes
from rayservice_operator.service.context import Context

GOING: Final = frozenset({"Service", *routes.KINDS})
"""Kinds of children that a suspended service must not have (facts: KubeRay 3.6)."""


class Suspension(enum.StrEnum):
    """Named states of the suspend machine."""

    NONE = "NotSuspended"
    REQUESTED = "Requested"
    SUSPENDING = "Suspending"
    SUSPENDED = "Suspended"
    RESUMING = "Resuming"


def state(context: Context) -> Suspension:
    """The state, from stored conditions and ``spec.suspend`` alone."""
    conditions = context.stored_conditions
    if is_true(conditions, Type.SUSPENDING):
        return Suspension.SUSPENDING
    wanted = context.suspend_wanted()
    if is_true(conditions, Type.SUSPENDED):
        return Suspension.SUSPENDED if wanted else Suspension.RESUMING
    return Suspension.REQUESTED if wanted else Suspension.NONE


def leftovers(context: Context) -> list[Action]:
    """Deletions of everything that a suspended service must not have; empty when deletion of all was asked for."""
    services = [c for c in context.snapshot.children if c.get("kind") in GOING and not is_terminating(c)]
    return [
        *(view.deletion() for view in context.clusters.values() if view.live),
        *(Delete(ref(service)) for service in services),
    ]


def all_gone(context: Context) -> bool:
    """Whether clusters, their pods and the services have left."""
    services = [c for c in context.snapshot.children if c.get("kind") in GOING]
    return not context.clusters and not services and not any(context.snapshot.pods.values())


RESUMED = (
    Condition(Type.SUSPENDING, "False", Reason.RESUMED, "Resumed."),
    Condition(Type.SUSPENDED, "False", Reason.RESUMED, "Resumed: the service is being built again."),
)


def conditions(context: Context, stage: Suspension) -> tuple[Condition, ...]:
    """The two suspend conditions of each state; none for a service that was never suspended."""
    was_suspended = find(context.stored_conditions, Type.SUSPENDED) is not None
    table = {
        Suspension.NONE: RESUMED if was_suspended else (),
        Suspension.REQUESTED: RESUMED if was_suspended else (),
        Suspension.SUSPENDING: (
            Condition(Type.SUSPENDING, "True", Reason.SUSPEND_IN_PROGRESS, "Clusters and services are being deleted."),
            Condition(Type.SUSPENDED, "False", Reason.SUSPEND_IN_PROGRESS, "Not suspended yet."),
        ),
        Suspension.SUSPENDED: (
            Condition(Type.SUSPENDING, "False", Reason.SUSPEND_COMPLETE, "Clusters and services are gone."),
            Condition(
                Type.SUSPENDED,
                "True",
                Reason.SUSPEND_COMPLETE,
                "Suspended. Set spec.suspend to false to bring it back.",
            ),
        ),
        Suspension.RESUMING: RESUMED,
    }
    return table[stage]
