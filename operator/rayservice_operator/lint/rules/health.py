"""Rules about time: health checks, probes, thresholds and deadlines that a model load trips."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from rayservice_operator.api.durations import parse_duration
from rayservice_operator.api.names import INITIALIZING_TIMEOUT
from rayservice_operator.core.findings import Path, Severity
from rayservice_operator.core.objects import annotations_of
from rayservice_operator.lint.reading import Map, as_list, as_map, as_number, plain
from rayservice_operator.lint.rule import Problem, Rule
from rayservice_operator.lint.subject import Subject

# Ray 2.60: a replica is replaced after this many failed checks in a row; defaults of period and timeout.
_FAILURES: Final = 3
_PERIOD_S: Final = 10.0
_TIMEOUT_S: Final = 30.0

_PATIENCE_S: Final = 30.0
"""What a model under load, or one that loads an adapter, must be allowed to be silent."""

_COLD_START_S: Final = 30
_COLD_MODEL_S: Final = 120
_RAY_START_S: Final = 30.0

_THRESHOLDS: Final = {
    "serviceUnhealthySecondThreshold": "service_unhealthy_second_threshold",
    "deploymentUnhealthySecondThreshold": "deployment_unhealthy_second_threshold",
}


def _cold_start(subject: Subject) -> tuple[int, str]:
    """What it plausibly takes until the service answers, and why."""
    if any(deployment.workload.slow for deployment in subject.deployments):
        return _COLD_MODEL_S, "to load a model onto a GPU"
    return _COLD_START_S, "to start a pod and its replicas"


def _health_checks(subject: Subject) -> Iterator[Problem]:
    for deployment in subject.deployments:
        period = as_number(deployment.data.get("health_check_period_s"))
        timeout = as_number(deployment.data.get("health_check_timeout_s"))
        if (period is None and timeout is None) or not deployment.workload.slow:
            continue
        patience = _FAILURES * max(period or _PERIOD_S, timeout or _TIMEOUT_S)
        if 0 < patience < _PATIENCE_S:
            key = "health_check_timeout_s" if timeout is not None else "health_check_period_s"
            problem = f"lets Ray replace a replica that is silent for {plain(patience)} s; a busy model is, at times"
            yield Problem(deployment.at(key), problem, f"Raise it: {plain(_PATIENCE_S / _FAILURES)} s or more")


def _probes(subject: Subject) -> Iterator[Problem]:
    for group in subject.groups:
        containers = as_list(as_map(group.spec.template.get("spec")).get("containers"))
        container = as_map(containers[0]) if containers else {}
        path = (*group.path, "template", "spec", "containers", 0)
        startup = as_map(container.get("startupProbe"))
        liveness = as_map(container.get("livenessProbe"))
        if startup:
            yield from _too_impatient(startup, (*path, "startupProbe"))
        elif liveness:
            yield from _too_impatient(liveness, (*path, "livenessProbe"))


def _too_impatient(probe: Map, path: Path) -> Iterator[Problem]:
    delay = as_number(probe.get("initialDelaySeconds")) or 0.0
    period, failures = as_number(probe.get("periodSeconds")) or 10.0, as_number(probe.get("failureThreshold")) or 3.0
    allowed = delay + period * failures
    if allowed < _RAY_START_S:
        problem = f"kills the container {plain(allowed)} s after its start; Ray alone may take {plain(_RAY_START_S)} s"
        yield Problem(path, problem, "Remove it (the operator sets probes that fit), or raise failureThreshold")


def _thresholds(subject: Subject) -> Iterator[Problem]:
    if subject.service is None:
        return
    least, why = _cold_start(subject)
    for field, attribute in _THRESHOLDS.items():
        seconds = getattr(subject.service, attribute)
        if seconds is not None and 0 < seconds < least:
            problem = f"is {seconds}, less than it plausibly takes {why} ({least} s)"
            yield Problem(("spec", field), problem, f"Write {least} or more, or leave it out")
    strategy = subject.service.upgrade_strategy
    deadline = strategy.progress_deadline_seconds if strategy else None
    if deadline is not None and 0 < deadline < least:
        problem = f"is {deadline}, less than it plausibly takes {why} ({least} s): every upgrade would be aborted"
        yield Problem(("spec", "upgradeStrategy", "progressDeadlineSeconds"), problem, f"Write {least} or more")
    text = annotations_of(subject.manifest).get(INITIALIZING_TIMEOUT)
    timeout = parse_duration(text) if isinstance(text, str) else None
    if timeout is not None and 0 < timeout < least:
        problem = f"is {text}, less than it plausibly takes {why} ({least} s)"
        yield Problem(("metadata", "annotations", INITIALIZING_TIMEOUT), problem, f"Write {least}s or more")


def _unhealthy_by_default(subject: Subject) -> Iterator[Problem]:
    if subject.service is None:
        return
    for field, attribute in _THRESHOLDS.items():
        seconds = getattr(subject.service, attribute)
        if seconds is not None and seconds <= 0:
            yield Problem(("spec", field), f"is {seconds}, so the default counts", "Write seconds, or leave it out")


RULES: Final[tuple[Rule, ...]] = (
    Rule(
        "health-check-impatient",
        Severity.WARNING,
        "Health checks replace a replica that is only busy",
        "Ray replaces a replica after three failed checks in a row. A model that loads an adapter or prefills a long "
        "prompt can be silent for some seconds; replacing it makes the others busier still.",
        "Set health_check_timeout_s to 10 s or more.",
        "health_check_period_s: 1\nhealth_check_timeout_s: 2   # and num_gpus: 1",
        _health_checks,
    ),
    Rule(
        "probe-impatient",
        Severity.WARNING,
        "A probe kills the Ray container before Ray has started",
        "Starting Ray takes up to half a minute on a busy node; the pod restarts in a loop.",
        "Remove the probe: the operator sets ones that fit. Or raise failureThreshold.",
        "startupProbe: {periodSeconds: 2, failureThreshold: 3, …}",
        _probes,
    ),
    Rule(
        "threshold-below-cold-start",
        Severity.WARNING,
        "A threshold or deadline is shorter than a plausible cold start",
        "Upgrades are aborted, or trouble is reported, while replicas are only starting.",
        f"Write at least {_COLD_START_S} s, and {_COLD_MODEL_S} s where models are loaded onto GPUs.",
        "serviceUnhealthySecondThreshold: 10",
        _thresholds,
    ),
    Rule(
        "threshold-ignored",
        Severity.WARNING,
        "A threshold of zero or less means nothing",
        "The default counts instead: 900 s for the service, 300 s for deployments.",
        "Write seconds, or leave it out.",
        "deploymentUnhealthySecondThreshold: 0",
        _unhealthy_by_default,
    ),
)
