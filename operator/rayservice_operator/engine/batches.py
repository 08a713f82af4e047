"""Which actions of a decision are sent together: pods that are made or deleted in a row, in growing batches.

One pod at a time, a group of a thousand workers would take a thousand round trips. Each batch begins when the one
before it has succeeded and is twice as large, as in Kubernetes' ReplicaSet controller (``slowStartBatch``): where a
quota or a webhook refuses pods, it is asked once, not a thousand times.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Final

from rayservice_operator.core.decision import Action, Create, Delete

LARGEST: Final = 32
"""Calls at a time. The limit on calls a second (``kubeClient.qps``) holds as well."""


def batches(actions: Iterable[Action]) -> Iterator[tuple[Action, ...]]:
    """All actions in their order, those of one batch side by side. A batch of several has one verb, on pods."""
    for together, run in itertools.groupby(actions, key=_verb_on_pods):
        rest, size = list(run), 1
        while rest:
            yield tuple(rest[:size])
            rest = rest[size:]
            size = min(2 * size, LARGEST) if together else 1


def _verb_on_pods(action: Action) -> type[Action] | None:
    match action:
        case Create(obj={"kind": "Pod"}):
            return Create
        case Delete(ref=target) if target.kind == "Pod":
            return Delete
    return None
