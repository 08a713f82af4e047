"""Policies as Ray Serve calls them: ``DeploymentPolicy`` for a deployment, ``ApplicationPolicy`` for an application.

Ray pickles the module of a policy's class by value and runs it in its controller, ten times a second, in the loop that
also replaces dead replicas. So this module is small, takes its settings as JSON, and lets no exception out: what cannot
be decided stays as it is, and the log says so once a minute. Ray need not be installed to import it.

Wrong settings raise nothing either: Ray 2.60 would log that once, and go on RUNNING as if there were no policy. So they
are told again and again, and until they are corrected the rule is Ray's own, by ``target_ongoing_requests``.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

_STATE = "serve_runtime"
_COMPLAIN_EVERY_S = 60.0
_WRONG = "The autoscaling policy of %s has wrong settings, target_ongoing_requests is used instead: %s"
_FAILED = "The autoscaling policy of %s failed; its replicas stay as they are."


class _Rarely:
    """True at most once a minute."""

    def __init__(self) -> None:
        self._last = -_COMPLAIN_EVERY_S

    def __call__(self) -> bool:
        now = time.monotonic()
        if now - self._last < _COMPLAIN_EVERY_S:
            return False
        self._last = now
        return True


class DeploymentPolicy:
    """``policy_function`` of a deployment; ``policy_kwargs`` are ``{"policy": {"type": "queue_depth", ...}}``."""

    def __init__(self, policy: Mapping[str, Any]) -> None:
        from serve_runtime.autoscaling.policies import parse  # noqa: PLC0415 (by reference, see the module's text)

        self._policy, self._wrong = _parsed(parse, policy)
        self._complains = _Rarely()

    def __call__(self, context: Any) -> tuple[int, dict[str, Any]]:
        """Ray's protocol: the wanted replicas and the state for the next call."""
        state = context.policy_state.get(_STATE, {})
        if self._policy is None:
            if self._complains():
                logging.getLogger("ray.serve").error(_WRONG, context.deployment_name, self._wrong)
            return _by_rays_rule(context), {_STATE: state}
        try:
            decision = self._policy.decide(_observation(context, self._policy.metrics()), state)
        except Exception:
            if self._complains():
                logging.getLogger("ray.serve").exception(_FAILED, context.deployment_name)
            return context.target_num_replicas, {_STATE: state}
        return _replicas(decision.replicas, context), {_STATE: decision.state}


class ApplicationPolicy:
    """``policy_function`` of an application; ``policy_kwargs`` are ``{"policy": {"type": "prefill_decode", ...}}``."""

    def __init__(self, policy: Mapping[str, Any]) -> None:
        from serve_runtime.autoscaling.application import parse  # noqa: PLC0415

        self._policy, self._wrong = _parsed(parse, policy)
        self._complains = _Rarely()

    def __call__(self, contexts: Mapping[Any, Any]) -> tuple[dict[Any, int], dict[Any, dict[str, Any]]]:
        """Ray's protocol: both by deployment. Every deployment is answered; one left out would never scale."""
        states = {key: context.policy_state.get(_STATE, {}) for key, context in contexts.items()}
        if self._policy is None:
            if self._complains():
                logging.getLogger("ray.serve").error(_WRONG, "this application", self._wrong)
            ruled = {key: _by_rays_rule(context) for key, context in contexts.items()}
            return ruled, {key: {_STATE: state} for key, state in states.items()}
        try:
            metrics = self._policy.metrics()
            seen = {context.deployment_name: _observation(context, metrics) for context in contexts.values()}
            decided = self._policy.decide(seen, {contexts[key].deployment_name: states[key] for key in contexts})
        except Exception:
            if self._complains():
                logging.getLogger("ray.serve").exception(_FAILED, "this application")
            kept = {key: context.target_num_replicas for key, context in contexts.items()}
            return kept, {key: {_STATE: state} for key, state in states.items()}
        answers = {key: decided[context.deployment_name] for key, context in contexts.items()}
        return (
            {key: _replicas(answer.replicas, contexts[key]) for key, answer in answers.items()},
            {key: {_STATE: answer.state} for key, answer in answers.items()},
        )


def _parsed(parse: Callable[[Mapping[str, Any]], Any], policy: Mapping[str, Any]) -> tuple[Any, str]:
    """The policy, or None and which settings are wrong."""
    try:
        return parse(policy), ""
    except (ValueError, TypeError) as error:
        return None, str(error)


def _by_rays_rule(context: Any) -> int:
    """Replicas so that each has ``target_ongoing_requests``."""
    wanted = math.ceil(context.total_num_requests / context.config.get_target_ongoing_requests() - 1e-6)
    return _replicas(wanted, context)


def _observation(context: Any, metrics: frozenset[str]) -> Any:
    """Ray's context as an Observation; only the metrics that are asked for are looked at: Ray computes them lazily."""
    from serve_runtime.autoscaling.observation import Observation  # noqa: PLC0415

    reported = (context.raw_metrics or {}) if metrics else {}
    return Observation(
        now=context.current_time,
        current=context.current_num_replicas,
        target=context.target_num_replicas,
        ongoing=context.total_num_requests,
        queued=context.total_queued_requests or 0.0,
        least=context.capacity_adjusted_min_replicas,
        most=context.capacity_adjusted_max_replicas,
        series={name: {str(r): s for r, s in reported[name].items()} for name in metrics if name in reported},
    )


def _replicas(wanted: int | None, context: Any) -> int:
    """«No change» in Ray's terms, and never outside the bounds: Ray's delays would run for a change that cannot be."""
    if wanted is None:
        return int(context.target_num_replicas)
    return int(min(max(wanted, context.capacity_adjusted_min_replicas), context.capacity_adjusted_max_replicas))
