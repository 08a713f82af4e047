"""Policies as Ray Serve calls them: ``DeploymentPolicy`` for a deployment, ``ApplicationPolicy`` for an application.

Ray pickles the module of a policy's class by value and runs it in its controller, ten times a second, in the loop that
also replaces dead replicas. So this module is small, takes its settings as JSON, and lets no exception out: what cannot
be decided stays as it is, and the log says so once a minute. Ray need not be installed to import it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any

_STATE = "serve_runtime"
_COMPLAIN_EVERY_S = 60.0
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
        """Raises ValueError, which names each setting that is wrong."""
        from serve_runtime.autoscaling.policies import parse  # noqa: PLC0415 (by reference, see the module's text)

        self._policy = parse(policy)
        self._complains = _Rarely()

    def __call__(self, context: Any) -> tuple[int, dict[str, Any]]:
        """Ray's protocol: the wanted replicas and the state for the next call."""
        state = context.policy_state.get(_STATE, {})
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
        """Raises ValueError, which names each setting that is wrong."""
        from serve_runtime.autoscaling.application import parse  # noqa: PLC0415

        self._policy = parse(policy)
        self._complains = _Rarely()

    def __call__(self, contexts: Mapping[Any, Any]) -> tuple[dict[Any, int], dict[Any, dict[str, Any]]]:
        """Ray's protocol: both by deployment. Every deployment is answered; one left out would never scale."""
        states = {key: context.policy_state.get(_STATE, {}) for key, context in contexts.items()}
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
