"""What is wrong with a RayCluster: asked by its reconcile, and by the admission webhook before there is one."""

from __future__ import annotations

from rayservice_operator.api.specerror import SpecError
from rayservice_operator.api.validation import validate_raycluster
from rayservice_operator.cluster.view import ClusterView, view_of
from rayservice_operator.core.config import OperatorConfig
from rayservice_operator.core.objects import Manifest
from rayservice_operator.core.violations import Violation


def refusals(cluster: Manifest) -> tuple[Violation, ...]:
    """Everything that is wrong with the present spec; empty when it can be run."""
    try:
        return of_view(view_of(cluster, OperatorConfig()))
    except SpecError as error:
        return error.violations


def of_view(view: ClusterView) -> tuple[Violation, ...]:
    """:func:`refusals` of a RayCluster whose shape is right."""
    return tuple(validate_raycluster(view.obj, view.parsed, from_service=view.owned_by_service))
