"""Rules of ``upgradeStrategy.analysis``: each refuses, names the field and what to do, and the corrected one passes."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from rayservice_operator.api.rayservice import parse_rayservice
from rayservice_operator.api.specerror import SpecError
from rayservice_operator.api.validation import validate_rayservice
from rayservice_operator.core.violations import Violation
from tests.models.manifests import rayservice

PATH = "spec.upgradeStrategy.analysis"
REQUEST: dict[str, Any] = {"name": "smoke", "count": 5}
PROMETHEUS: dict[str, Any] = {"address": "http://prometheus:9090", "query": 'up{cluster="{{cluster}}"}'}
QUERY: dict[str, Any] = {"name": "up", "prometheus": PROMETHEUS, "successCondition": {"min": 1}}
SERVE: dict[str, Any] = {"type": "LatencyQuantile", "quantile": 0.95}
METRIC: dict[str, Any] = {"name": "p95", "serve": SERVE, "successCondition": {"stable": {"maxRatio": 1.2}}}


def found(analysis: dict[str, Any], **strategy: Any) -> list[Violation]:
    manifest = copy.deepcopy(rayservice())
    manifest["spec"]["upgradeStrategy"] = {"analysis": analysis, **strategy}
    try:
        return validate_rayservice(manifest, parse_rayservice(manifest))
    except SpecError as error:
        return list(error.violations)


def with_request(**changes: Any) -> dict[str, Any]:
    return {"requests": [{**REQUEST, **changes}]}


def with_query(**changes: Any) -> dict[str, Any]:
    return {"metrics": [{**QUERY, **changes}]}


def with_metric(**changes: Any) -> dict[str, Any]:
    return {"requests": [REQUEST], "metrics": [{**METRIC, **changes}]}


R, M = f"{PATH}.requests[0]", f"{PATH}.metrics[0]"

WRONG = [
    ({}, PATH, "has no check"),
    ({"requests": {}}, f"{PATH}.requests", "must be a list"),
    ({"requests": [{}]}, f"{R}.name", "is required"),
    ({"requests": [{"name": "x"}] * 40}, PATH, "has 40 checks"),
    (with_request(name="no way"), f"{R}.name", "is no name"),
    ({"requests": [REQUEST, REQUEST]}, f"{PATH}.requests[1].name", "of another check"),
    ({"requests": [REQUEST], "metrics": [{**QUERY, "name": "smoke"}]}, f"{M}.name", "of another check"),
    (with_request(count=0), f"{R}.count", "is 0"),
    (with_request(count=1001), f"{R}.count", "is 1001"),
    (with_request(failureLimit=5), f"{R}.failureLimit", "could never fail"),
    (with_request(failureLimit=-1), f"{R}.failureLimit", "is -1"),
    (with_request(inconclusiveLimit=-1), f"{R}.inconclusiveLimit", "is -1"),
    (with_request(intervalSeconds=0), f"{R}.intervalSeconds", "is 0"),
    (with_request(initialDelaySeconds=-1), f"{R}.initialDelaySeconds", "is -1"),
    (with_request(method="get"), f"{R}.method", "'get'"),
    (with_request(path="generate"), f"{R}.path", "is no path"),
    (with_request(path="/a b"), f"{R}.path", "%20"),
    (with_request(headers={"X Y": "1"}), f"{R}.headers[X Y]", "no name of a header"),
    (with_request(headers={"X": "1\r\nY: 2"}), f"{R}.headers[X]", "line breaks"),
    (with_request(headers={"Host": "x"}), f"{R}.headers[Host]", "field host"),
    (with_request(host="x\ny"), f"{R}.host", "line breaks"),
    (with_request(body="a", json={"b": 1}), f"{R}.body", "beside json"),
    (with_request(expect={"status": 42}), f"{R}.expect.status", "is 42"),
    (with_request(expect={"status": "ok"}), f"{R}.expect.status", "whole number"),
    (with_request(timeoutSeconds=0), f"{R}.timeoutSeconds", "is 0"),
    (with_request(retries=-1), f"{R}.retries", "is -1"),
    (with_query(prometheus=None), M, "has no source"),
    (with_query(serve=SERVE), M, "has two sources"),
    (with_query(successCondition={}), f"{M}.successCondition", "every value would do"),
    (with_query(successCondition={"max": "low"}), f"{M}.successCondition.max", "must be a number"),
    (with_query(successCondition={"min": 2, "max": 1}), f"{M}.successCondition.min", "above max"),
    (with_query(successCondition={"stable": {"maxRatio": 0}}), f"{M}.successCondition.stable.maxRatio", "is 0"),
    (with_query(prometheus={**PROMETHEUS, "address": "prometheus:9090"}), f"{M}.prometheus.address", "no URL"),
    (with_query(prometheus={**PROMETHEUS, "address": "http://p:port"}), f"{M}.prometheus.address", "no URL"),
    (with_query(prometheus={**PROMETHEUS, "query": " "}), f"{M}.prometheus.query", "is empty"),
    (with_query(prometheus={**PROMETHEUS, "query": "x{a='{{pod}}'}"}), f"{M}.prometheus.query", "{{pod}}"),
    (with_query(prometheus={**PROMETHEUS, "timeoutSeconds": 0}), f"{M}.prometheus.timeoutSeconds", "is 0"),
    (
        with_query(prometheus={**PROMETHEUS, "query": "up"}, successCondition={"stable": {"maxRatio": 2}}),
        f"{M}.prometheus.query",
        "with itself",
    ),
    (with_metric(serve={"type": "LatencyQuantile"}), f"{M}.serve.quantile", "is missing"),
    (with_metric(serve={**SERVE, "quantile": 95}), f"{M}.serve.quantile", "is 95"),
    (with_metric(serve={"type": "ErrorRate", "quantile": 0.5}), f"{M}.serve.quantile", "no meaning"),
    (with_metric(serve={"type": "Latency"}), f"{M}.serve.type", "no choice"),
    (with_metric(serve={**SERVE, "histogram": "a b"}), f"{M}.serve.histogram", "no name of a metric"),
    (with_metric(serve={**SERVE, "minimumSample": 0}), f"{M}.serve.minimumSample", "is 0"),
    ({"metrics": [METRIC]}, f"{M}.serve", "has nothing to measure"),
]


@pytest.mark.parametrize(("analysis", "at", "says"), WRONG, ids=[f"{at} {says}" for _, at, says in WRONG])
def test_is_refused(analysis: dict[str, Any], at: str, says: str) -> None:
    violations = [violation for violation in found(analysis) if violation.field == at]
    assert violations, found(analysis)
    assert any(says in str(violation) for violation in violations), violations
    assert all(violation.fix for violation in violations)


@pytest.mark.parametrize(
    "analysis",
    [
        with_request(),
        with_request(method="POST", json={"prompt": "hi"}, expect={"status": 200, "json": {"choices": [{}]}}),
        with_request(path="/v1/models?limit=1%20", headers={"Authorization": "Bearer x"}, host="llm.example.com"),
        with_request(failureLimit=4, dryRun=True),
        with_query(),
        with_query(successCondition={"stable": {"maxRatio": 2}}),
        with_metric(),
        with_metric(serve={"type": "ErrorRate", "labels": {"application": "llm"}}),
        with_metric(serve={**SERVE, "histogram": "ray_vllm_time_to_first_token_seconds"}),
    ],
)
def test_is_taken(analysis: dict[str, Any]) -> None:
    assert found(analysis) == []


def test_needs_a_new_cluster() -> None:
    for kind in ("InPlace", "Recreate"):
        assert PATH in {violation.field for violation in found(with_request(), type=kind)}
    assert found(with_request(), type="None") == []
