"""Which nodes a pod may run on, by the rules of the scheduler that need no other pod: selector, affinity, taints.

Not looked at: pod affinity (but for «one of these on a node»), topology spread, volumes, host ports, DRA claims.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from rayservice_operator.core.objects import labels_of
from rayservice_operator.service.capacity.survey import Node

HOSTNAME: Final = "kubernetes.io/hostname"


class Obstacle(enum.StrEnum):
    """Why a pod may not run on a node, however empty it is; the words are for messages."""

    CLOSED = "cordoned or not ready"
    SELECTOR = "not matching the node selector or affinity"
    TAINT = "tainted"


def obstacle(spec: Mapping[str, Any], node: Node) -> Obstacle | None:
    """What keeps a pod of this spec from the node; None when it may run there."""
    tolerations = spec.get("tolerations") or ()
    if not _selected(spec, node):
        return Obstacle.SELECTOR
    if node.closed:
        return Obstacle.CLOSED
    hard = (taint for taint in node.taints if taint.get("effect") in ("NoSchedule", "NoExecute"))
    return None if all(_tolerated(taint, tolerations) for taint in hard) else Obstacle.TAINT


def one_per_node(pod: Mapping[str, Any]) -> bool:
    """Whether the pod's own anti-affinity keeps another of its kind off its node."""
    affinity = ((pod.get("spec") or {}).get("affinity") or {}).get("podAntiAffinity") or {}
    return any(
        term.get("topologyKey") == HOSTNAME and _matches(term.get("labelSelector") or {}, labels_of(pod))
        for term in affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or ()
    )


def _matches(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """A label selector; an empty one matches everything, as in an affinity term."""
    exact = (selector.get("matchLabels") or {}).items()
    return all(labels.get(key) == value for key, value in exact) and all(
        _holds(requirement, labels) for requirement in selector.get("matchExpressions") or ()
    )


def _selected(spec: Mapping[str, Any], node: Node) -> bool:
    if any(node.labels.get(key) != value for key, value in (spec.get("nodeSelector") or {}).items()):
        return False
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    if not required:
        return True
    return any(_term(term, node) for term in required.get("nodeSelectorTerms") or ())


def _term(term: Mapping[str, Any], node: Node) -> bool:
    """All requirements of a term; a term without any matches nothing."""
    expressions, fields = term.get("matchExpressions") or (), term.get("matchFields") or ()
    if not expressions and not fields:
        return False
    return all(_holds(r, node.labels) for r in expressions) and all(
        _holds(r, {"metadata.name": node.name}) for r in fields
    )


def _number(text: str | None) -> int | None:
    try:
        return int(text or "")
    except ValueError:
        return None


def _compared(value: str | None, values: list[str], sign: int) -> bool:
    have, limit = _number(value), _number(values[0] if values else "")
    return have is not None and limit is not None and (have - limit) * sign > 0


_OPERATORS: Final[Mapping[str, Callable[[str | None, list[str]], bool]]] = {
    "In": lambda value, values: value is not None and value in values,
    "NotIn": lambda value, values: value is None or value not in values,
    "Exists": lambda value, _: value is not None,
    "DoesNotExist": lambda value, _: value is None,
    "Gt": lambda value, values: _compared(value, values, 1),
    "Lt": lambda value, values: _compared(value, values, -1),
}


def _holds(requirement: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    check = _OPERATORS.get(str(requirement.get("operator")))
    return check is not None and check(labels.get(str(requirement.get("key"))), list(requirement.get("values") or ()))


def _tolerated(taint: Mapping[str, Any], tolerations: Iterable[Mapping[str, Any]]) -> bool:
    return any(_tolerates(toleration, taint) for toleration in tolerations)


def _tolerates(toleration: Mapping[str, Any], taint: Mapping[str, Any]) -> bool:
    if toleration.get("effect") and toleration["effect"] != taint.get("effect"):
        return False
    key = toleration.get("key")
    if key and key != taint.get("key"):
        return False
    if toleration.get("operator") == "Exists":
        return True
    return bool(key) and (toleration.get("value") or "") == (taint.get("value") or "")
