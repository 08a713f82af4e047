"""How the analysis of a candidate goes on: samples are folded into the counts that the status keeps.

Independent of the strategy: it asks :func:`passed` wherever the candidate is to get (more) users, and only what is
stored counts, so that an operator killed anywhere goes on from there and nobody promotes on hearsay. What is judged is
one *subject*: this candidate with this serve config, at this share of
the requests, by this analysis. Another subject begins anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

from pydantic import ValidationError

from rayservice_operator.api.analysis import (
    DEFAULT_METRIC_DELAY_S,
    DEFAULT_METRIC_INTERVAL_S,
    DEFAULT_REQUEST_INTERVAL_S,
    Analysis,
    MetricCheck,
    RequestCheck,
)
from rayservice_operator.api.validation import analysis as rules
from rayservice_operator.core.decision import Level, Note
from rayservice_operator.core.measurements import Sample, WindowSample
from rayservice_operator.core.timestamps import from_rfc3339, to_rfc3339
from rayservice_operator.service.analysis.state import CheckState, Phase, State, read
from rayservice_operator.service.analysis.verdicts import Outcome, Verdict, judge
from rayservice_operator.service.context import PENDING, ClusterView, Context, Target
from rayservice_operator.service.hashing import digest

Check: TypeAlias = RequestCheck | MetricCheck

WHOLE: Final = 100

FAILURES: Final[Mapping[Phase, str]] = {Phase.FAILED: "failed", Phase.INCONCLUSIVE: "was inconclusive"}
"""Phases that end an upgrade, in words."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """The analysis that the spec asks for. ``analysis`` None: it cannot be read, so that nothing passes."""

    analysis: Analysis | None
    hash: str


def wanted(context: Context) -> Wanted | None:
    """What the present spec asks for; None for no analysis."""
    strategy = context.service["spec"].get("upgradeStrategy")
    raw: Any = strategy.get("analysis") if isinstance(strategy, Mapping) else None
    if raw is None:
        return None
    try:
        analysis = Analysis.model_validate(raw)
    except ValidationError:
        return Wanted(None, digest(raw))
    # A spec that is refused for another reason leaves its analysis in force.
    broken = bool(context.violations) and any(rules.of_checks(analysis))
    return Wanted(None if broken else analysis, digest(raw))


def passed(context: Context, target: Target, pending: ClusterView) -> bool:
    """Whether the candidate may get (more) users: no analysis is asked for, or it is stored that it has passed.

    One that has all requests already has passed at each step before, and there is nothing left to compare it with.
    """
    asked = wanted(context)
    if asked is None or _traffic(context) >= WHOLE:
        return True
    known = stored(context, pending.name)
    if asked.analysis is None or known is None or known.phase is not Phase.SUCCESSFUL:
        return False
    return known.subject == subject(context, target, pending, asked)


def subject(context: Context, target: Target, pending: ClusterView, asked: Wanted) -> str:
    """Hash of what is analysed, and by what."""
    config = target.config.hash if target.config else ""
    return digest([pending.name, config, _traffic(context), asked.hash])


def _traffic(context: Context) -> int:
    """The candidate's share of the requests, in percent, as commanded: 0 but in an upgrade in steps."""
    share = (context.stored.get(PENDING) or {}).get("trafficRoutedPercent")
    return share if isinstance(share, int) else 0


def advance(context: Context, target: Target, pending: ClusterView | None, *, proven: bool) -> State | None:
    """The analysis of ``pending`` as the status shall tell it; None for none asked for or not begun.

    proven: whether the candidate is ready for requests: what was measured of one that is not says nothing, so the
        analysis rests meanwhile.
    """
    asked = wanted(context)
    if asked is None or pending is None:
        return None
    if asked.analysis is None:
        return None  # what the status tells of the spec says why
    state = stored(context, pending.name)
    if _traffic(context) >= WHOLE:
        return state  # what the last step has shown
    about = subject(context, target, pending, asked)
    if state is None or state.subject != about:
        if not proven:
            return None
        started = from_rfc3339(to_rfc3339(context.now)) or context.now  # as it will be read again
        checks = tuple(CheckState(check.name, dry_run=check.dry_run) for check in asked.analysis.checks)
        state = State(Phase.RUNNING, about, started, "", checks)
    if state.phase is not Phase.RUNNING or not proven:
        return replace(state, resting=not proven)
    samples = pending.observation.samples if pending.observation else ()
    mine = [sample for sample in samples if sample.subject == about]
    known = {check.name: check for check in state.checks}
    checks = tuple(
        folded(check, known.get(check.name, CheckState(check.name, dry_run=check.dry_run)), mine)
        for check in asked.analysis.checks
    )
    phase = _phase(checks)
    return replace(state, phase=phase, checks=checks, message=_message(phase, checks, asked.analysis))


def stored(context: Context, pending: str) -> State | None:
    """What the status tells of the analysis of that cluster, whatever it was about."""
    upgrade = context.stored.get("upgrade") or {}
    found = upgrade.get("analysis")
    return read(found) if upgrade.get("to") == pending and isinstance(found, Mapping) else None


def verdict(context: Context, target: Target, pending: ClusterView) -> str:
    """What is stored of an analysis that has failed, in a sentence; empty otherwise."""
    asked, known = wanted(context), stored(context, pending.name)
    if asked is None or known is None or known.phase not in FAILURES:
        return ""
    if known.subject != subject(context, target, pending, asked):
        return ""
    return f"The analysis of RayCluster {pending.name} {FAILURES[known.phase]}: {known.message}."


def notes(context: Context, state: State | None) -> tuple[Note, ...]:
    """What a person wants to hear of: the analysis begins, passes, fails; a check of a dry run fails."""
    if state is None:
        return ()
    upgrade = context.stored.get("upgrade") or {}
    before = read(upgrade.get("analysis") or {})
    if before is not None and before.subject != state.subject:
        before = None
    known = {check.name: check.phase for check in before.checks} if before else {}
    found: list[Note] = []
    if before is None:
        checks = ", ".join(check.name for check in state.checks)
        found.append(Note("AnalysisStarted", f"The new RayCluster is ready and is analysed: {checks}."))
    for check in state.checks:
        if check.dry_run and check.phase in FAILURES and known.get(check.name) is not check.phase:
            message = f"Check {check.name} (dry run) {FAILURES[check.phase]}: {check.message}."
            found.append(Note("AnalysisDryRun", message, Level.WARNING))
    if state.over and (before is None or not before.over):
        told = FAILURES.get(state.phase)
        if told is None:
            found.append(Note("AnalysisSuccessful", state.message))
        else:
            found.append(Note(f"Analysis{state.phase}", f"The analysis {told}: {state.message}.", Level.WARNING))
    return tuple(found)


def folded(check: Check, state: CheckState, samples: list[Sample]) -> CheckState:
    """The check after the samples that are next in its row; each number counts once."""
    by_number = {sample.number: sample for sample in samples if sample.check == check.name}
    while not state.over and (sample := by_number.get(state.measured)) is not None:
        state = _counted(check, state, sample, judge(check, sample))
    return state


def _counted(check: Check, state: CheckState, sample: Sample, verdict: Verdict) -> CheckState:
    grows = verdict.grow and isinstance(sample.what, WindowSample)
    began = sample.at - sample.what.seconds if isinstance(sample.what, WindowSample) else sample.at
    result = replace(
        state,
        successful=state.successful + (verdict.outcome is Outcome.SUCCESS),
        failed=state.failed + (verdict.outcome is Outcome.FAILURE),
        inconclusive=state.inconclusive + (verdict.outcome is Outcome.INCONCLUSIVE),
        phase=Phase.RUNNING,
        value=verdict.value,
        stable_value=verdict.stable_value,
        message=verdict.message,
        measured_at=float(int(sample.at)),  # as it will be read again
        window_started=float(int(began)) if grows else None,
    )
    return replace(result, phase=_check_phase(check, result))


def _check_phase(check: Check, state: CheckState) -> Phase:
    if state.failed > check.failure_limit:
        return Phase.FAILED
    if state.inconclusive > check.inconclusive_limit:
        return Phase.INCONCLUSIVE
    return Phase.SUCCESSFUL if state.successful + state.failed >= check.count else Phase.RUNNING


def _phase(checks: tuple[CheckState, ...]) -> Phase:
    """Of the whole: a check that fails decides at once; one of a dry run never does, but its report is awaited."""
    deciding = {check.phase for check in checks if not check.dry_run}
    for phase in (Phase.FAILED, Phase.INCONCLUSIVE):
        if phase in deciding:
            return phase
    return Phase.SUCCESSFUL if all(check.over for check in checks) else Phase.RUNNING


def _message(phase: Phase, checks: tuple[CheckState, ...], analysis: Analysis) -> str:
    if phase in {Phase.FAILED, Phase.INCONCLUSIVE}:
        limits = {check.name: check for check in analysis.checks}
        told = [_failure(state, limits[state.name]) for state in checks if state.phase is phase and not state.dry_run]
        return "; ".join(told)
    over = sum(1 for check in checks if check.over)
    if phase is Phase.RUNNING:
        return f"{over} of {len(checks)} checks done."
    dry = [check.name for check in checks if check.phase is not Phase.SUCCESSFUL]
    besides = f" Of the dry run did not: {', '.join(dry)}." if dry else ""
    return f"{len(checks) - len(dry)} of {len(checks)} checks passed.{besides}"


def _failure(state: CheckState, check: Check) -> str:
    if state.phase is Phase.FAILED:
        how_often = f"{state.failed} of {state.measured} measurements failed, failureLimit is {check.failure_limit}"
    else:
        how_often = (
            f"{state.inconclusive} measurements were inconclusive, inconclusiveLimit is {check.inconclusive_limit}"
        )
    return f"check {state.name}: {state.message} ({how_often})"


def interval_s(check: Check) -> int:
    """Seconds between two measurements."""
    default = DEFAULT_REQUEST_INTERVAL_S if isinstance(check, RequestCheck) else DEFAULT_METRIC_INTERVAL_S
    return default if check.interval_seconds is None else check.interval_seconds


def delay_s(check: Check) -> int:
    """Seconds before the first measurement."""
    default = 0 if isinstance(check, RequestCheck) else DEFAULT_METRIC_DELAY_S
    return default if check.initial_delay_seconds is None else check.initial_delay_seconds
