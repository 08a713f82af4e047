"""Asks the API server about the first pod of each template before any is made.

Quota, pod security, webhooks and misspelt fields are so told as one clear refusal instead of a half-built cluster.
A refusal that an executor met on creating a pod counts too, when it is stored under the same key.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from rayservice_operator.api import names
from rayservice_operator.cluster.pod import dry_run_key, for_dry_run
from rayservice_operator.cluster.pods import PodView
from rayservice_operator.cluster.view import ClusterView, GroupView
from rayservice_operator.core.decision import DryRun, DryRunResult

RETRY_S: Final = 30.0
"""A refusal is asked about again after this long: quotas are raised, webhooks come back."""


class Verdict(enum.Enum):
    """Whether pods of a group may be made."""

    ACCEPTED = "accepted"
    UNKNOWN = "unknown"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Opinion:
    """``ask``: the dry run to make now. ``error``: the refusal, also while it is being asked again."""

    group: GroupView
    verdict: Verdict
    ask: DryRun | None = None
    error: str = ""
    ask_at: float | None = None


def opinion(
    view: ClusterView,
    group: GroupView,
    pods: Iterable[PodView],
    answers: Mapping[str, DryRunResult],
    now: float,
) -> Opinion:
    """What is known about pods of ``group``. A pod of the same template that exists is proof enough."""
    pod = for_dry_run(view, group)
    key = dry_run_key(pod)
    answer = answers.get(key)
    if answer is not None and answer.error is not None:
        ask_at = answer.at + RETRY_S
        ask = DryRun(key, pod) if now >= ask_at else None
        return Opinion(group, Verdict.REFUSED, ask, answer.error, None if ask else ask_at)
    proven = any(
        other.group == group.name and other.annotations.get(names.TEMPLATE_HASH) == group.template_hash
        for other in pods
    )
    if proven or answer is not None:
        return Opinion(group, Verdict.ACCEPTED)
    return Opinion(group, Verdict.UNKNOWN, DryRun(key, pod))


def only_for_want_of_room(found: Opinion) -> bool:
    """Whether a pod is refused because a quota is used up, which does not speak against it in place of another one."""
    return found.verdict is Verdict.REFUSED and "exceeded quota" in found.error
