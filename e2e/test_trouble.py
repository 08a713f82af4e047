"""What the status says while Ray is in trouble: what is so, and no more than is known.

The tests share a service and run in this order; before each it is brought back to its manifest.
"""

import pytest

from e2e.manifests import BROKEN, GREETER_WITH_ARGS, cluster_spec, rayservice, serve_config, worker_group
from e2e.operators import Operator
from e2e.rayservices import Service, identity, role, watched
from e2e.support import Kube, LoadPod, condition

pytestmark = pytest.mark.timeout(900)

NAME = "troubled"
MANIFEST = rayservice(NAME, cluster_spec(worker_group()))

# Signals the dashboard's processes from inside the head pod; its image has no pkill. Prints how many there are.
_SIGNAL_DASHBOARD = """
import os, pathlib, signal, sys
def command(pid):
    try:
        return pathlib.Path("/proc", pid, "cmdline").read_bytes()
    except OSError:  # it ended meanwhile
        return b""
found = {int(pid) for pid in os.listdir("/proc") if pid.isdigit() and b"/ray/dashboard/dashboard.py" in command(pid)}
for pid in found - {os.getpid()}:  # these very words are in our own command line
    os.kill(pid, signal.Signals[sys.argv[1]])
print(len(found) - 1)
"""


_DELETE_APPLICATIONS = """
import urllib.request
url = "http://127.0.0.1:8265/api/serve/applications/"
urllib.request.urlopen(urllib.request.Request(url, method="DELETE"), timeout=10)
"""


@pytest.fixture
def service(kube: Kube, module_namespace: str) -> Service:
    kube.apply(MANIFEST, module_namespace)
    service = Service(kube, module_namespace, NAME)
    service.wait_settled()
    return service


def _versioned(version: str) -> str:
    """A replica of the new version is started beside the old one, which serves until that is up."""
    return serve_config(import_path=GREETER_WITH_ARGS, args={"version": version}, max_surge_percent=100)


def test_update_that_fails_goes_back(service: Service, kube: Kube, operator: Operator) -> None:
    """By itself, without a failed request; the operator is killed on the way. What failed is not tried again."""
    service.patch(serveConfigV2=_versioned("1"))
    service.wait_settled()
    before, good = service.answer(), service.status()["applied"]["goodConfigHash"]
    pods = identity([service.head(), *service.workers()])

    with LoadPod(kube, service.namespace, f"http://{NAME}-serve-svc:8000/") as load:
        service.patch(serveConfigV2=_versioned(""))
        service.wait(lambda: "failedUpdate" in service.status(), "the failure remembered")
        operator.kill()
        service.wait(lambda: condition(service.get(), "Stalled").get("reason") == "RolledBack", "the way back told")
        report = load.report()
    assert not report.failures, str(report)

    obj = service.get()
    failed = obj["status"]["failedUpdate"]
    assert "version must not be empty" in failed["message"]
    assert failed["rolledBackTo"] == good
    assert "version must not be empty" in condition(obj, "Stalled")["message"]
    assert condition(obj, "Ready")["status"] == "True"
    assert condition(obj, "ServeConfigApplied")["reason"] == "RolledBack"
    assert condition(obj, "RollbackInProgress") == {}
    assert service.answer()["version"] == before["version"] == "1"
    assert service.wait(lambda: service.events("RolledBack"), "an event")
    assert identity([service.head(), *service.workers()]) == pods

    service.patch(serveConfigV2=_versioned("2"))
    service.wait_answer(lambda answer: answer["version"] == "2", "the corrected version")
    obj = service.wait_settled()
    assert "failedUpdate" not in obj["status"]
    assert condition(obj, "Stalled") == {}


def test_code_that_cannot_be_built_is_no_outage(service: Service, kube: Kube) -> None:
    """While Ray builds, and fails to, it tells nothing of the replicas that serve on; Ready stays True all along."""
    before = service.answer()
    typo = serve_config().replace("quickstart:app", "quickstart:apq")
    with watched(service) as history, LoadPod(kube, service.namespace, f"http://{NAME}-serve-svc:8000/") as load:
        service.patch(serveConfigV2=typo)
        service.wait(lambda: condition(service.get(), "Stalled").get("reason") == "RolledBack", "the way back told")
        report = load.report()
    assert not report.failures, str(report)
    assert "apq" in condition(service.get(), "Stalled")["message"]
    assert history.conditions("Ready") == [("True", "NonZeroServeEndpoints")]
    assert service.answer()["pid"] == before["pid"]


def test_application_that_cannot_start(service: Service, kube: Kube) -> None:
    """Without the net: the config is in force, the service is not Ready, and the reason is Ray's own."""
    cluster, pods = service.active(), identity([service.head(), *service.workers()])

    no_net = {**MANIFEST, "metadata": {"name": NAME, "annotations": {"ray.io/rollback": "false"}}}
    kube.apply(no_net, service.namespace)
    service.patch(serveConfigV2=serve_config(import_path=BROKEN))
    service.wait(lambda: condition(service.get(), "Stalled").get("status") == "True", "the failure told")

    obj = service.get()
    assert condition(obj, "Stalled")["reason"] == "DeployFailed"
    for kind in ("Stalled", "ApplicationsHealthy", "Ready"):
        assert "fails on purpose" in condition(obj, kind)["message"], kind
    assert condition(obj, "ServeConfigApplied")["status"] == "True"
    assert (condition(obj, "Ready")["status"], obj["status"]["serviceStatus"]) == ("False", "")
    assert condition(obj, "ApplicationsHealthy")["reason"] == "DeployFailed"
    assert condition(obj, "Reconciling") == {}
    application = obj["status"]["activeServiceStatus"]["applicationStatuses"]["app"]
    assert application["status"] == "DEPLOY_FAILED"
    assert "\x1b" not in str(obj["status"]), "no colour codes"
    assert service.wait(lambda: service.events("DeployFailed"), "an event")

    service.patch(serveConfigV2=serve_config("Better"))
    service.wait_answer(lambda answer: answer["greeting"] == "Better", "the corrected application")
    obj = service.wait_settled()
    assert condition(obj, "Stalled") == {}
    assert service.active() == cluster
    assert identity([service.head(), *service.workers()]) == pods


def test_dashboard_that_hangs(service: Service, kube: Kube) -> None:
    """Requests are answered, so it may well be fine; but nobody knows, and that is what is said, with the age."""
    head = service.head()["metadata"]["name"]
    pods = identity([service.head(), *service.workers()])

    def dashboard(signal: str) -> int:
        found = kube.exec(service.namespace, head, "python", "-c", _SIGNAL_DASHBOARD, signal)
        return int(found.split()[-1])

    with watched(service) as history:
        assert dashboard("SIGSTOP") >= 1
        try:
            service.wait(lambda: condition(service.get(), "Ready").get("status") == "Unknown", "no longer said")
            obj = service.get()
            assert condition(obj, "Ready")["reason"] == "ObservationStale"
            assert " s ago" in condition(obj, "Ready")["message"]
            assert condition(obj, "ApplicationsHealthy")["status"] == "Unknown"
            assert obj["status"]["serviceStatus"] == ""
            assert service.answer()["greeting"] == "Hello"
            _others_are_looked_after(kube, service.namespace)
        finally:
            dashboard("SIGCONT")
        service.wait_settled()
    assert history.conditions("Ready") == [
        ("True", "NonZeroServeEndpoints"),
        ("Unknown", "ObservationStale"),
        ("True", "NonZeroServeEndpoints"),
    ]
    assert identity([service.head(), *service.workers()]) == pods, "nothing was restarted for want of news"


def test_application_deleted_in_ray(service: Service, kube: Kube) -> None:
    """Behind the operator's back: it is said while it is so, and the config in force is applied again."""
    pods = identity([service.head(), *service.workers()])
    with watched(service) as history:
        kube.exec(service.namespace, service.head()["metadata"]["name"], "python", "-c", _DELETE_APPLICATIONS)
        service.wait(lambda: ("False", "ApplicationsNotRunning") in history.conditions("Ready"), "told")
        service.wait_settled()
    assert service.wait_answer(bool, "an answer")["greeting"] == "Hello"
    assert identity([service.head(), *service.workers()]) == pods


def test_late_service_is_revived_by_a_correction(kube: Kube, namespace: str) -> None:
    """The timeout of the first cluster is terminal for the spec that it was reached with, and for no other."""
    manifest = rayservice("late", cluster_spec(worker_group()), serve_config(import_path=BROKEN))
    manifest["metadata"]["annotations"] = {"ray.io/initializing-timeout": "45s"}
    kube.apply(manifest, namespace)
    service = Service(kube, namespace, "late")
    service.wait(lambda: condition(service.get(), "Ready").get("reason") == "InitializingTimeout", "late")
    assert condition(service.get(), "Stalled")["reason"] == "InitializingTimeout"
    cluster = role(service.get(), "pending")

    service.patch(serveConfigV2=serve_config("Corrected"))
    obj = service.wait_settled()
    assert service.wait_answer(bool, "an answer")["greeting"] == "Corrected"
    assert condition(obj, "Stalled") == {}
    assert service.active() == cluster, "the same cluster, with another serve config"


def _others_are_looked_after(kube: Kube, namespace: str) -> None:
    """Another object's edit is answered while one head hangs."""
    other = rayservice("other", cluster_spec(worker_group()), "applications: [{name: a}]")
    kube.let_bad_manifests_in(namespace)
    kube.apply(other, namespace)
    service = Service(kube, namespace, "other")
    service.wait(lambda: condition(service.get(), "Stalled").get("reason") == "ValidationFailed", "the other's answer")
    kube.delete("rayservice", namespace, "other", wait=True)
