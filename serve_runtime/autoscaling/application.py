"""Policies of a whole application: they see all of its deployments that have an ``autoscaling_config``.

Ray never scales a deployment that such a policy leaves out, so these answer for every one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, PositiveFloat, TypeAdapter, model_validator

from serve_runtime.autoscaling.observation import Decision, Observation, whole
from serve_runtime.autoscaling.policies import AnyPolicy, QueueDepth
from serve_runtime.strict import Strict


class Each(Strict):
    """The same policy for each deployment by itself: the way to a policy from YAML that the dashboard never imports."""

    type: Literal["each"] = "each"
    of: AnyPolicy

    def metrics(self) -> frozenset[str]:
        """Names of the metrics that replicas must report."""
        return self.of.metrics()

    def decide(self, seen: Mapping[str, Observation], states: Mapping[str, Mapping[str, Any]]) -> dict[str, Decision]:
        """A decision for every deployment in ``seen``, by name; ``states`` are those of the last decisions."""
        return {name: self.of.decide(one, states.get(name, {})) for name, one in seen.items()}


class PrefillDecode(Strict):
    """Prefill and decode replicas of disaggregated serving, in step with each other.

    Each side has what its own load asks for; then the side that lags behind the ratio is raised, never the other
    lowered: prompts without decoders wait with their KV blocks held, decoders without prompts cost only money.

    prefill, decode: names of the deployments, or what their names begin with: ``Prefill:`` and ``Decode:`` pair the
        deployments of each model.
    prefill_ongoing, decode_ongoing: requests that one replica of the side shall have, queued ones included.
    kv_metric: metric of decode replicas with the share of the KV cache in use, 0 to 1; kv_target: what its mean shall
        be. Without reports only requests count.
    decode_holds_prompts: whether a decode replica has a request from its beginning, and has the prompt read by prefill,
        as Ray's have since 2.60. Then requests whose prompt is still being read are no load of the decode side.
    min_ratio, max_ratio: decode replicas per prefill replica, fractions rounded down.
    others: policy of each other deployment that scales, such as an ingress.
    """

    type: Literal["prefill_decode"] = "prefill_decode"
    prefill: str = Field(default="Prefill:", min_length=1)
    decode: str = Field(default="Decode:", min_length=1)
    prefill_ongoing: PositiveFloat
    decode_ongoing: PositiveFloat
    kv_metric: str | None = "kv_cache_usage"
    kv_target: float = Field(default=0.8, gt=0, le=1)
    decode_holds_prompts: bool = True
    min_ratio: PositiveFloat = 0.5
    max_ratio: PositiveFloat = 4.0
    others: AnyPolicy = QueueDepth(per_replica=2.0)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min_ratio > self.max_ratio:
            raise ValueError(f"min_ratio {self.min_ratio:g} is above max_ratio {self.max_ratio:g}: swap them")
        if self.prefill.startswith(self.decode) or self.decode.startswith(self.prefill):
            raise ValueError(f"prefill {self.prefill!r} and decode {self.decode!r} name the same deployments")
        return self

    def metrics(self) -> frozenset[str]:
        """Names of the metrics that replicas must report."""
        return self.others.metrics() | ({self.kv_metric} if self.kv_metric else frozenset())

    def decide(self, seen: Mapping[str, Observation], states: Mapping[str, Mapping[str, Any]]) -> dict[str, Decision]:
        """A decision for every deployment in ``seen``, by name; ``states`` are those of the last decisions."""
        decided: dict[str, Decision] = {}
        for name in seen:
            if name.startswith(self.prefill):
                partner = self.decode + name.removeprefix(self.prefill)
                if partner in seen:
                    decided[name], decided[partner] = self._pair(seen[name], seen[partner])
        for name, one in seen.items():
            if name not in decided:
                decided[name] = self.others.decide(one, states.get(name, {}))
        return decided

    def _pair(self, prefill: Observation, decode: Observation) -> tuple[Decision, Decision]:
        """What both sides get."""
        usage = self._usage(decode)
        # The two are averages of their own, so that the difference may be below nothing for a moment.
        writing = max(decode.ongoing - prefill.ongoing, 0.0) if self.decode_holds_prompts else decode.ongoing
        by_load = whole(writing / self.decode_ongoing)
        p = prefill.bounded(prefill.ongoing / self.prefill_ongoing)
        d = decode.bounded(max(by_load, whole(decode.current * usage / self.kv_target)))
        p, d = self.balanced(p, d)
        reason = f"prefill {prefill.ongoing:g} requests, decode {writing:g}, KV cache {usage:.0%}"
        return Decision(prefill.bounded(p), reason=reason), Decision(decode.bounded(d), reason=reason)

    def balanced(self, prefill: int, decode: int) -> tuple[int, int]:
        """Both raised as far as the ratio asks, bounds aside; neither side is without the other.

        One correction is enough: raising ``decode`` to ``min_ratio`` cannot put it above ``max_ratio``, and the other
        way round.
        """
        if not prefill and not decode:
            return 0, 0
        prefill, decode = max(prefill, 1), max(decode, 1)
        least = math.floor(self.min_ratio * prefill + 1e-9)
        if decode < least:
            return prefill, least
        return max(prefill, math.floor(decode / self.max_ratio + 1e-9)), decode

    def _usage(self, decode: Observation) -> float:
        """Mean share of the KV cache in use, 0 without reports; above 1 is a wrong unit and counts as full."""
        values = decode.latest(self.kv_metric) if self.kv_metric else []
        return min(max(sum(values) / len(values), 0.0), 1.0) if values else 0.0


AnyApplicationPolicy = Annotated[Each | PrefillDecode, Field(discriminator="type")]
"""Any policy of an application, told apart by ``type``."""

_PARSER: TypeAdapter[AnyApplicationPolicy] = TypeAdapter(AnyApplicationPolicy)


def parse(spec: Mapping[str, Any]) -> AnyApplicationPolicy:
    """A policy from JSON such as ``{"type": "each", "of": {"type": "queue_depth", "per_replica": 4}}``.

    Raises pydantic's ValidationError, a ValueError, which names each field that is wrong.
    """
    return _PARSER.validate_python(dict(spec))
