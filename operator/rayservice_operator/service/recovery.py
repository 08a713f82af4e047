"""Recovery of a service that has served and does not any more: the config is put again, then the cluster replaced.

Only with the annotation ``ray.io/auto-recovery: "true"``; without it the trouble is told. Never before the service was
ready once, because replacing what never worked burns GPUs in a loop (kuberay#1030, #1277, #1293). At most
:data:`MAX_REPLACEMENTS` clusters, with pauses that double, counted in ``status.recovery``; the count is given back
after :data:`HEALTHY_S` of serving, and for another spec or another value of ``ray.io/retry``. Each step is stored
before it is taken.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Protocol

from rayservice_operator.api import names
from rayservice_operator.api.conditions import ServiceReason as Reason
from rayservice_operator.core.conditions import shorten
from rayservice_operator.core.objects import Manifest, annotations_of
from rayservice_operator.core.timestamps import from_rfc3339, to_rfc3339
from rayservice_operator.service import hashing, thresholds
from rayservice_operator.service.apps import Phase, Standing, standing
from rayservice_operator.service.context import ClusterView, Context, Target
from rayservice_operator.service.progress import Progress

FIELD: Final = "recovery"
"""Field of the status; absent while there was no need, or it is forgotten."""

MAX_REPLACEMENTS: Final = 3
HEALTHY_S: Final = 3600
"""Seconds of serving after which recoveries are forgotten and all of them may be had again."""

_ON: Final = frozenset({"true", "yes", "on", "1"})


class Roles(Protocol):
    """Names of RayClusters as planned, empty for none, and whether pods are replaced (``strategies.base.Plan``)."""

    @property
    def active(self) -> str: ...
    @property
    def pending(self) -> str: ...
    @property
    def roll(self) -> object | None: ...


class Step(enum.StrEnum):
    """What has been begun."""

    REAPPLYING = "Reapplying"
    REAPPLIED = "Reapplied"
    REPLACING = "Replacing"
    REPLACED = "Replaced"
    EXHAUSTED = "Exhausted"


@dataclass(frozen=True, slots=True)
class Trouble:
    """A service that is in trouble for longer than its threshold says: ``message``, with since when, and its ``cause``.

    last: whether all that could be done has been done.
    """

    reason: Reason
    message: str
    cause: str
    last: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """``record``: what to store, empty for nothing. ``trouble``: what is to be told as Stalled, if nothing is done.

    ``doing``: what is being done about it, or will be, for Reconciling. ``note``: a step that begins now.
    """

    record: Manifest
    trouble: Trouble | None = None
    doing: str = ""
    note: str = ""
    wake_at: float | None = None


def wanted(service: Manifest) -> bool:
    """Whether the user has asked for it."""
    return annotations_of(service).get(names.AUTO_RECOVERY, "").strip().lower() in _ON


def replacing(context: Context, target: Target) -> bool:
    """Whether the active cluster is to be replaced by another of the same spec."""
    known, active = _stored(context, target), context.active
    if active is None or known.get("step") != Step.REPLACING or known.get("cluster") != active.name:
        return False
    return hashing.matches(active.manifest, target.cluster_spec)


def discarded(context: Context) -> str:
    """Name of a replacement that did not come up either and makes room for the next one."""
    return str((context.stored.get(FIELD) or {}).get("discarded") or "")


def attempt(context: Context, target: Target, view: ClusterView) -> str:
    """The attempt under which the config is put again to this cluster; empty when that is not to be done."""
    known = _stored(context, target)
    again = known.get("step") == Step.REAPPLYING and known.get("cluster") == view.name
    return f"recovery {known.get('time')}" if again else ""


@dataclass(frozen=True, slots=True)
class _Case:
    """What the steps share. ``known``: what is remembered; ``active``: name of the cluster that serves, as planned."""

    context: Context
    target: Target
    known: Manifest
    active: str

    @property
    def step(self) -> str:
        """What was begun last; empty for nothing."""
        return str(self.known.get("step") or "")

    @property
    def attempts(self) -> int:
        """Replacements so far."""
        return int(self.known.get("attempts") or 0)

    def paused_until(self, seconds: int) -> float:
        """When the pause after the last step is over: twice as long with each replacement."""
        taken = from_rfc3339(self.known.get("time"))
        return 0.0 if taken is None else taken + seconds * 2**self.attempts


def consider(
    context: Context, target: Target | None, plan: Roles, stands: Standing, progress: Progress, *, out: bool
) -> Outcome:
    """What is to be told and done about trouble.

    plan: the roles as planned. stands, progress: of the pending cluster, or else the active one.
    out: whether the service as a whole does not answer.
    """
    if target is None:
        return Outcome({})
    if not plan.active:
        return _never_ready(context, stands, progress)
    case = _Case(context, target, _reapplied(context, dict(_stored(context, target)), plan.active), plan.active)
    if plan.pending:
        return _replacement(case, plan.pending, progress) if replacing(context, target) else Outcome({})
    if plan.roll is not None:
        return Outcome(case.known)
    if case.step == Step.REPLACING and case.known["cluster"] != plan.active:
        done = {k: v for k, v in case.known.items() if k != "discarded"}
        case = replace(case, known=done | {"step": str(Step.REPLACED), "cluster": plan.active})
    limit = _limit(context, progress, out=out)
    if limit is None and stands.phase is Phase.SERVING and not progress.record:
        return _well(case)
    case = replace(case, known={key: value for key, value in case.known.items() if key != "healthySince"})
    if limit is None:
        return Outcome(case.known, doing=_again(case, stands))
    trouble = _trouble(context, limit, stands, progress) if context.now >= limit.at else None
    if not wanted(context.service):
        return Outcome({}, trouble, wake_at=None if trouble else limit.at)
    return _climb(case, limit, trouble) if trouble else _before(case, limit, stands)


def _never_ready(context: Context, stands: Standing, progress: Progress) -> Outcome:
    """Told and no more; another spec begins a new count, because it is another cluster or another config."""
    limit = thresholds.service_limit(context.service, progress)
    if limit is None or context.now < limit.at:
        return Outcome({}, wake_at=limit.at if limit else None)
    spent = progress.spent(limit.at)
    message = (
        f"Not ready yet, and nothing has moved for {limit.seconds} s ({limit.field}). {stands.message} "
        f"{progress.detail + ' ' if progress.detail else ''}{'Time so far: ' + spent + '. ' if spent else ''}"
        "| Correct the spec; nothing is replaced before it was ready."
    )
    return Outcome({}, Trouble(Reason.SERVICE_UNHEALTHY, message, stands.message))


# --- the ladder


def _before(case: _Case, limit: thresholds.Limit, stands: Standing) -> Outcome:
    """Trouble that has not lasted as long as the threshold. What Ray has given up is not stalled if we shall act."""
    doing = _again(case, stands)
    if stands.phase is Phase.FAILED and case.step != Step.EXHAUSTED and not doing:
        doing = f"{stands.message} Auto-recovery begins if this lasts for {limit.seconds} s ({limit.field})."
    return Outcome(case.known, doing=doing, wake_at=limit.at)


def _again(case: _Case, stands: Standing) -> str:
    """What is told while it is open whether the config that was put again has helped."""
    return f"{_DONE[case.step]} {stands.message}" if case.step in (Step.REAPPLYING, Step.REAPPLIED) else ""


_DONE: Final[Mapping[str, str]] = {
    Step.REAPPLYING: "The serve config is put again (auto-recovery).",
    Step.REAPPLIED: "The serve config was put again (auto-recovery).",
    Step.REPLACED: "The cluster was replaced (auto-recovery), and the new one is in trouble too.",
}


def _climb(case: _Case, limit: thresholds.Limit, trouble: Trouble) -> Outcome:
    """The next step once its pause is over."""
    context, target = case.context, case.target
    if case.step == Step.EXHAUSTED:
        return Outcome(case.known, _exhausted(trouble, case.attempts))
    due = case.paused_until(limit.seconds)
    if context.now < due:
        doing = f"{trouble.message} {_DONE.get(case.step, '')} The next step is due at {to_rfc3339(due)}."
        return Outcome(case.known, doing=doing, wake_at=due)
    if not case.step:
        doing = f"{trouble.message} The serve config is put again (auto-recovery)."
        return _begin(case, Step.REAPPLYING, trouble, doing)
    view = context.live(case.active)
    if view is None or not hashing.matches(view.manifest, target.cluster_spec):
        return Outcome(case.known, _not_replaceable(trouble))
    return _replace(case, trouble)


def _replace(case: _Case, trouble: Trouble) -> Outcome:
    """Another cluster, if there is one left to be had."""
    number = case.attempts + 1
    if number > MAX_REPLACEMENTS:
        last = _exhausted(trouble, case.attempts)
        return replace(_begin(case, Step.EXHAUSTED, trouble, last.message), trouble=last, doing="")
    doing = f"{trouble.message} The cluster is replaced (auto-recovery, {number} of {MAX_REPLACEMENTS})."
    return _begin(replace(case, known={**case.known, "attempts": number}), Step.REPLACING, trouble, doing)


def _begin(case: _Case, step: Step, trouble: Trouble, doing: str) -> Outcome:
    record = {
        "step": str(step),
        "cluster": case.active,
        "attempts": case.attempts,
        "reason": str(trouble.reason),
        "message": shorten(trouble.cause),
        "time": to_rfc3339(math.ceil(case.context.now)),
        **{key: value for key, value in _spec_of(case.context, case.target).items() if value},
    }
    return Outcome(record, None, doing, doing, wake_at=case.context.now)


def _replacement(case: _Case, pending: str, progress: Progress) -> Outcome:
    """While a replacement comes up. When that fails too, it makes room for the next."""
    context, known = case.context, case.known
    view = context.live(case.active)
    if standing(view, case.target.config, context.now, context.config.stale_after_s).phase is Phase.SERVING:
        return Outcome(known | {"step": str(Step.REPLACED)})  # it has come back by itself: nothing is replaced
    doing = f"{known['message']} The cluster is replaced (auto-recovery, {case.attempts} of {MAX_REPLACEMENTS})."
    limit = thresholds.deployment_limit(context.service, progress)
    if limit is None or pending == known.get("discarded"):
        return Outcome(known, doing=doing)
    due = max(limit.at, case.paused_until(limit.seconds))
    if context.now < due:
        return Outcome(known, doing=doing, wake_at=due)
    cause = f"RayCluster {pending}, the replacement, failed as well."
    failed = Trouble(Reason(known["reason"]), cause, cause)
    outcome = _replace(case, failed)
    return outcome if outcome.trouble else replace(outcome, record={**outcome.record, "discarded": pending})


def _reapplied(context: Context, known: Manifest, active: str) -> Manifest:
    """The record once Ray has answered the config that was put again."""
    view = context.live(active)
    push = view.observation.push if view is not None and view.observation is not None else None
    if known.get("step") != Step.REAPPLYING or push is None or push.state == "failing":
        return known
    return known | {"step": str(Step.REAPPLIED)} if push.attempt == f"recovery {known.get('time')}" else known


# --- well again


def _well(case: _Case) -> Outcome:
    """Serving: what was done is remembered for a while longer."""
    if not case.known:
        return Outcome({})
    since = from_rfc3339(case.known.get("healthySince"))
    known = case.known
    if since is None:
        since = math.ceil(case.context.now)
        known = known | {"healthySince": to_rfc3339(since)}
    forgotten = since + HEALTHY_S
    return Outcome({}) if case.context.now >= forgotten else Outcome(known, wake_at=forgotten)


# --- the record


def _stored(context: Context, target: Target) -> Manifest:
    """What is remembered, if it is about this spec and still asked for."""
    known: Manifest = context.stored.get(FIELD) or {}
    if not known or not wanted(context.service):
        return {}
    return known if all(known.get(k, "") == v for k, v in _spec_of(context, target).items()) else {}


def _spec_of(context: Context, target: Target) -> dict[str, str]:
    return {
        "configHash": target.config.hash if target.config else "",
        "clusterHash": hashing.cluster_hash(target.cluster_spec),
        "retry": annotations_of(context.service).get(names.RETRY, ""),
    }


# --- words


def _limit(context: Context, progress: Progress, *, out: bool) -> thresholds.Limit | None:
    """What is reached first: of what has failed, or of the service as a whole."""
    known = [thresholds.deployment_limit(context.service, progress)]
    if out:
        known.append(thresholds.service_limit(context.service, progress))
    return min((limit for limit in known if limit is not None), key=lambda limit: limit.at, default=None)


_REASONS: Final = {
    thresholds.DEPLOYMENT: Reason.DEPLOYMENT_UNHEALTHY,
    thresholds.SERVICE: Reason.SERVICE_UNHEALTHY,
}


def _trouble(context: Context, limit: thresholds.Limit, stands: Standing, progress: Progress) -> Trouble:
    since = to_rfc3339(limit.at - limit.seconds)
    cause = f"{stands.message} {progress.detail}".strip()
    message = f"In trouble and unmoved since {since}, longer than {limit.seconds} s ({limit.field}). {cause}"
    if not wanted(context.service):
        annotation = f'the annotation {names.AUTO_RECOVERY} to "true"'
        message += f" | Correct the spec, or set {annotation} to have the config put again, then the cluster replaced."
    return Trouble(_REASONS[limit.field], message, cause)


def _exhausted(trouble: Trouble, attempts: int) -> Trouble:
    message = (
        f"{trouble.message} | Auto-recovery is exhausted after {attempts} replacement(s). Correct the spec, or set the "
        f"annotation {names.RETRY} to a new value to let it begin again."
    )
    return Trouble(Reason.RECOVERY_EXHAUSTED, message, trouble.cause, last=True)


def _not_replaceable(trouble: Trouble) -> Trouble:
    message = (
        f"{trouble.message} | The config was put again; the cluster is not replaced, because its spec is not the one "
        "that is asked for. Correct the spec."
    )
    return Trouble(trouble.reason, message, trouble.cause, last=True)
