"""A new cluster is asked before it takes over: smoke requests, and metrics that real Ray exports, on real pods."""

import pytest

from e2e.manifests import GREETER_WITH_ARGS, cluster_spec, rayservice, serve_config, with_env, worker_group
from e2e.operators import Operator
from e2e.rayservices import Service, identity, ray_pods
from e2e.support import Kube, LoadPod, Object, condition

pytestmark = pytest.mark.timeout(900)

NAME = "examined"


def _versioned(version: str) -> str:
    return serve_config(import_path=GREETER_WITH_ARGS, args={"version": version})


def _analysis(version: str, count: int, *metrics: Object) -> Object:
    """The answer has this version, ``count`` times."""
    request = {"name": "version", "count": count, "expect": {"status": 200, "json": {"version": version}}}
    return {"type": "NewCluster", "analysis": {"requests": [request], "metrics": list(metrics)}}


def _checks(service: Service) -> dict[str, Object]:
    checks = service.status().get("upgrade", {}).get("analysis", {}).get("checks", [])
    return {check["name"]: check for check in checks}


def test_new_cluster_is_examined(kube: Kube, namespace: str, operator: Operator) -> None:
    """One that answers wrongly is given up with what it said; one that passes is promoted, metrics and all.

    Users notice neither, and the operator is killed in the middle of the second.
    """
    spec = cluster_spec(worker_group())
    kube.apply(rayservice(NAME, spec, _versioned("1"), rayClusterDeletionDelaySeconds=1), namespace)
    service = Service(kube, namespace, NAME)
    service.wait_settled()
    old, pods = service.active(), identity(ray_pods(kube, namespace))

    with LoadPod(kube, namespace, f"http://{NAME}-serve-svc:8000/", rate=20) as load:
        changed = with_env(spec, "RELEASE", "2")
        service.patch(
            rayClusterConfig=changed, serveConfigV2=_versioned("wrong"), upgradeStrategy=_analysis("2", count=3)
        )
        service.wait(
            lambda: condition(service.get(), "Stalled").get("reason") == "UpgradeAborted", "given up", timeout=240
        )
        told = condition(service.get(), "Stalled")["message"]
        assert "its analysis failed: check version: GET /: pod " in told
        assert '$.version is "wrong", not "2"' in told
        assert "1 of 1 measurements failed, failureLimit is 0" in told
        assert _checks(service)["version"]["phase"] == "Failed"
        assert service.wait(lambda: service.events("AnalysisFailed"), "an event")
        assert (service.active(), identity(ray_pods(kube, namespace, f"ray.io/cluster={old}"))) == (old, pods)
        assert service.answer()["version"] == "1"

        # Milliseconds; the cluster that serves has the load above. Two cores run all of it, so no bound is tight.
        latency = {"type": "LatencyQuantile", "quantile": 0.5, "labels": {"application": "app"}, "minimumSample": 10}
        slower = {"max": 5000, "stable": {"maxRatio": 50}}
        errors = {"type": "ErrorRate", "minimumSample": 10}
        common = {"intervalSeconds": 20, "initialDelaySeconds": 1, "inconclusiveLimit": 10}
        metrics: list[Object] = [
            {"name": "median", "serve": latency, "successCondition": slower, **common},
            {"name": "errors", "serve": errors, "successCondition": {"stable": {"maxIncrease": 0.01}}, **common},
            {"name": "impossible", "dryRun": True, "serve": latency, "successCondition": {"max": 0.001}, **common},
        ]
        service.patch(serveConfigV2=_versioned("2"), upgradeStrategy=_analysis("2", 40, *metrics))
        service.wait(
            lambda: _checks(service).get("version", {}).get("successful", 0) > 0, "being measured", timeout=240
        )
        assert service.status()["upgrade"]["phase"] == "Analyzing"
        assert condition(service.get(), "UpgradeInProgress")["reason"] == "Analyzing"
        assert service.active() == old
        operator.kill()
        service.wait(lambda: service.active() not in {"", old}, "promoted", timeout=240)
        report = load.report()
    assert not report.failures, str(report)

    analysis = service.status()["upgrade"]["analysis"]
    checks = _checks(service)
    assert analysis["phase"] == "Successful", analysis
    assert checks["version"]["successful"] == 40
    for name in ("median", "errors"):
        assert checks[name]["phase"] == "Successful", checks[name]
        assert checks[name]["value"], checks[name]
        assert checks[name]["stableValue"], checks[name]
    assert checks["impossible"]["phase"] == "Failed"
    assert "more than 0.001" in checks["impossible"]["message"]
    service.wait_answer(lambda answer: answer["version"] == "2", "an answer of the new cluster")
