"""The chart's part of the admission webhook: what it renders, and that the operator may do its share of it."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import kopf
import pytest
import yaml

from e2e.localkube import light
from e2e.localkube.errors import LocalKubeError
from rayservice_operator.admission.server import PATH
from rayservice_operator.admission.settings import AdmissionSettings, Certificates
from rayservice_operator.admission.sources import BuiltIn
from rayservice_operator.cli.environment import load_settings
from rayservice_operator.core.objects import Manifest
from rayservice_operator.kube.client import KubeClient
from rayservice_operator.kube.errors import Forbidden
from rayservice_operator.kube.resources import reference
from tests.api.test_chart import CHART, RELEASE, by_kind, deployment, helm, render

NAME = f"{RELEASE}-admission"
CERT_MANAGER = {"certificates": {"mode": "certManager"}}
EXISTING = {"certificates": {"mode": "existing", "existing": {"secretName": "mine", "caBundle": "Q0E="}}}
MODES: dict[str, dict[str, Any]] = {"builtin": {}, "certManager": CERT_MANAGER, "existing": EXISTING}


def objects(**admission: Any) -> list[dict[str, Any]]:
    """Every object of the chart with these values below ``admission``."""
    return render({"admission": admission}, "system")


def webhook(rendered: list[dict[str, Any]]) -> dict[str, Any]:
    """The one webhook of the one configuration."""
    (found,) = by_kind(rendered, "ValidatingWebhookConfiguration")
    (hook,) = found["webhooks"]
    made: dict[str, Any] = hook
    return made


def pod(rendered: list[dict[str, Any]]) -> tuple[dict[str, Any], dict[str, str]]:
    """The pod's spec, and the environment of its container with references filled in."""
    (found,) = by_kind(rendered, "Deployment")
    spec = found["spec"]["template"]["spec"]
    told = {"POD_NAMESPACE": "system", "SERVICE_ACCOUNT": spec["serviceAccountName"], "POD_NAME": "pod"}
    return spec, {item["name"]: item.get("value", told.get(item["name"])) for item in spec["containers"][0]["env"]}


def admission_of(rendered: list[dict[str, Any]]) -> AdmissionSettings:
    """What the operator makes of its environment."""
    found = load_settings(pod(rendered)[1]).admission
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("values", "on"),
    [
        ({}, True),
        ({"watchNamespaces": ["a"]}, False),
        ({"watchNamespaces": ["a"], "admission": {"enabled": True}}, True),
        ({"admission": {"enabled": False}}, False),
    ],
)
def test_when_it_is_on(values: dict[str, Any], on: bool) -> None:
    rendered = render(values, "system")
    assert bool(by_kind(rendered, "ValidatingWebhookConfiguration")) is on
    assert bool(by_kind(rendered, "Service")) is on
    assert bool(by_kind(rendered, "Secret")) is on
    assert (load_settings(pod(rendered)[1]).admission is not None) is on
    assert ("admission" in {port["name"] for port in pod(rendered)[0]["containers"][0]["ports"]}) is on


@pytest.mark.parametrize("admission", MODES.values(), ids=MODES)
def test_the_parts_fit_together(admission: dict[str, Any]) -> None:
    rendered = objects(**admission)
    called = webhook(rendered)["clientConfig"]["service"]
    (service,) = by_kind(rendered, "Service")
    assert (called["name"], called["namespace"]) == (service["metadata"]["name"], service["metadata"]["namespace"])
    assert called["path"] == PATH
    (port,) = service["spec"]["ports"]
    assert called["port"] == port["port"]
    spec, _ = pod(rendered)
    (there,) = [p for p in spec["containers"][0]["ports"] if p["name"] == port["targetPort"]]
    mine = admission_of(rendered)
    assert mine.port == there["containerPort"]
    labels = by_kind(rendered, "Deployment")[0]["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()
    # Whoever the operator is, it is neither asked about nor judged.
    conditions = {c["name"]: c["expression"] for c in webhook(rendered)["matchConditions"]}
    assert mine.own_user == f"system:serviceaccount:system:{spec['serviceAccountName']}"
    assert conditions["not-the-operator"] == f'request.userInfo.username != "{mine.own_user}"'


def test_built_in_certificates() -> None:
    rendered = objects()
    mine = admission_of(rendered)
    (secret,) = by_kind(rendered, "Secret")
    (hooks,) = by_kind(rendered, "ValidatingWebhookConfiguration")
    assert mine.certificates is Certificates.BUILTIN
    assert (mine.namespace, mine.secret) == ("system", secret["metadata"]["name"])
    assert mine.configuration == hooks["metadata"]["name"]
    assert mine.hosts == (f"{NAME}.system.svc",)
    assert "data" not in secret  # what is not in the chart is not taken away by an upgrade
    assert "caBundle" not in webhook(rendered)["clientConfig"]
    assert "volumes" not in pod(rendered)[0]


@pytest.mark.parametrize("mode", ["certManager", "existing"])
def test_certificates_of_others_are_mounted(mode: str) -> None:
    rendered = objects(**MODES[mode])
    mine = admission_of(rendered)
    spec, _ = pod(rendered)
    assert mine.certificates is Certificates.FILES
    (volume,) = spec["volumes"]
    (mount,) = spec["containers"][0]["volumeMounts"]
    assert mount["name"] == volume["name"]
    assert mount["mountPath"] == str(mine.folder)
    assert volume["secret"]["optional"] is True  # the operator starts without it
    assert by_kind(rendered, "Secret") == []
    rights = [rule for kind in ("Role", "ClusterRole") for obj in by_kind(rendered, kind) for rule in obj["rules"]]
    assert not [rule for rule in rights if "validatingwebhookconfigurations" in rule["resources"]]


def test_cert_manager_makes_them() -> None:
    rendered = objects(**CERT_MANAGER)
    made = {obj["metadata"]["name"]: obj["spec"] for obj in by_kind(rendered, "Certificate")}
    issuers = {obj["metadata"]["name"]: obj["spec"] for obj in by_kind(rendered, "Issuer")}
    serving, authority = made[NAME], made[f"{NAME}-ca"]
    assert serving["secretName"] == pod(rendered)[0]["volumes"][0]["secret"]["secretName"]
    assert f"{NAME}.system.svc" in serving["dnsNames"]
    assert issuers[serving["issuerRef"]["name"]] == {"ca": {"secretName": authority["secretName"]}}
    assert authority["isCA"] is True
    assert issuers[authority["issuerRef"]["name"]] == {"selfSigned": {}}
    (hooks,) = by_kind(rendered, "ValidatingWebhookConfiguration")
    assert hooks["metadata"]["annotations"] == {"cert-manager.io/inject-ca-from": f"system/{NAME}"}


def test_an_issuer_of_the_users_own() -> None:
    issuer = {"name": "corporate", "kind": "ClusterIssuer"}
    rendered = objects(certificates={"mode": "certManager", "certManager": {"issuerRef": issuer}})
    (serving,) = by_kind(rendered, "Certificate")
    assert serving["spec"]["issuerRef"] == {**issuer, "group": "cert-manager.io"}
    assert by_kind(rendered, "Issuer") == []


def test_given_certificates() -> None:
    rendered = objects(**EXISTING)
    assert webhook(rendered)["clientConfig"]["caBundle"] == "Q0E="
    assert pod(rendered)[0]["volumes"][0]["secret"]["secretName"] == "mine"


def test_only_the_namespaces_looked_after() -> None:
    selector = {"matchLabels": {"team": "a"}, "matchExpressions": [{"key": "x", "operator": "Exists"}]}
    values = {"watchNamespaces": ["a", "b"], "admission": {"enabled": True, "namespaceSelector": selector}}
    found = webhook(render(values))["namespaceSelector"]
    assert found["matchLabels"] == {"team": "a"}
    ours = {"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["a", "b"]}
    assert found["matchExpressions"] == [{"key": "x", "operator": "Exists"}, ours]
    assert webhook(render({}))["namespaceSelector"] == {}


EVERYTHING = {
    "watchNamespaces": ["default"],
    "replicas": 2,
    "admission": {
        "enabled": True,
        "failurePolicy": "Fail",
        "timeoutSeconds": 1,
        "port": 10250,
        "annotations": {"a": "b"},
        "namespaceSelector": {"matchExpressions": [{"key": "x", "operator": "DoesNotExist"}]},
        "objectSelector": {"matchLabels": {"a": "b"}},
        **EXISTING,
    },
}


@pytest.mark.parametrize("values", [EVERYTHING, {"watchNamespaces": ["default"], "admission": {"enabled": True}}])
def test_the_api_server_takes_every_object(apiserver: light.Api, namespace: str, values: dict[str, Any]) -> None:
    """Expressions of CEL, selectors and names included."""
    said = apiserver.kubectl(
        *("apply", "--server-side", "--dry-run=server", "--force-conflicts", "-f", "-"),
        stdin=yaml.safe_dump_all(render(values, namespace)),
    )
    assert f"{NAME}-{namespace}" in said


BAD_VALUES = [
    ({"enabled": "yes"}, "enabled"),
    ({"failurePolicy": "Retry"}, "failurePolicy"),
    ({"timeoutSeconds": 31}, "timeoutSeconds"),
    ({"port": 8080}, "port"),
    ({"certificates": {"mode": "vault"}}, "mode"),
    ({"certificates": {"mode": "existing"}}, "secretName"),
    ({"certificates": {"existing": {"caBundle": "-----BEGIN CERTIFICATE-----"}}}, "caBundle"),
]


@pytest.mark.parametrize(("admission", "at"), BAD_VALUES, ids=[str(v[0]) for v in BAD_VALUES])
def test_wrong_values_are_refused_by_name(admission: dict[str, Any], at: str) -> None:
    with pytest.raises(LocalKubeError, match=at):
        objects(**admission)


# -- installed


@pytest.fixture(scope="module")
def installed() -> Iterator[light.Api]:
    """An API server of our own with the chart installed."""
    with light.apiserver() as api:
        helm("install", RELEASE, CHART, "--namespace", "system", "--create-namespace", api=api)
        yield api


@pytest.fixture
def as_operator(installed: light.Api) -> kopf.ConnectionInfo:
    """The connection that the operator's pod has."""
    token = installed.kubectl("create", "token", RELEASE, "-n", "system").strip()
    return kopf.ConnectionInfo(server=installed.url, ca_path=str(installed.ca), token=token)


def _hooks(api: light.Api) -> Manifest:
    found: Manifest = yaml.safe_load(
        api.kubectl("get", "validatingwebhookconfiguration", f"{NAME}-system", "-o", "yaml")
    )
    return found


async def test_the_operator_may_do_its_share(installed: light.Api, as_operator: kopf.ConnectionInfo) -> None:
    mine = admission_of(render({}, "system"))
    async with KubeClient(lambda: as_operator) as client:
        for _ in range(2):  # the second time after the Secret was deleted by somebody
            source = BuiltIn(client, mine)
            await source.fetch()
            await source.announce()
            secret = await client.get(reference("Secret", "system", mine.secret))
            assert _hooks(installed)["webhooks"][0]["clientConfig"]["caBundle"] == secret["data"]["ca.crt"]
            installed.kubectl("delete", "secret", mine.secret, "-n", "system")
        with pytest.raises(Forbidden):
            await client.list("ValidatingWebhookConfiguration")
        with pytest.raises(Forbidden):
            await client.list("Secret", "system")
        with pytest.raises(Forbidden):
            await client.merge_patch(reference("Secret", "system", "another"), {"data": {}})


async def test_an_upgrade_keeps_what_the_operator_wrote(installed: light.Api, as_operator: kopf.ConnectionInfo) -> None:
    helm("upgrade", RELEASE, CHART, "--namespace", "system", api=installed)
    mine = admission_of(render({}, "system"))
    async with KubeClient(lambda: as_operator) as client:
        source = BuiltIn(client, mine)
        served = await source.fetch()
        await source.announce()
        before = _hooks(installed)
        helm("upgrade", RELEASE, CHART, "--namespace", "system", "--set", "admission.timeoutSeconds=7", api=installed)
        after = _hooks(installed)
        assert after["webhooks"][0]["timeoutSeconds"] == 7
        assert after["webhooks"][0]["clientConfig"] == before["webhooks"][0]["clientConfig"]
        assert await BuiltIn(client, mine).fetch() == served


def test_the_api_server_adds_nothing_to_the_configuration(installed: light.Api) -> None:
    """Else tools that compare with Git would see a difference for ever."""
    stored = _hooks(installed)["webhooks"][0]
    stored["clientConfig"].pop("caBundle", None)
    assert stored == webhook(objects(timeoutSeconds=stored["timeoutSeconds"]))


def test_it_goes_with_the_release(installed: light.Api) -> None:
    """Runs last."""
    helm("uninstall", RELEASE, "--namespace", "system", api=installed)
    assert "validatingwebhookconfiguration" not in installed.kubectl(
        "get", "validatingwebhookconfigurations", "-o", "name"
    )
    assert installed.kubectl("get", "secrets", "-n", "system", "-l", f"app.kubernetes.io/instance={RELEASE}") == ""


def test_the_bundle_of_the_existing_mode_is_base64() -> None:
    assert base64.b64decode(webhook(objects(**EXISTING))["clientConfig"]["caBundle"]) == b"CA"
    assert deployment({"admission": EXISTING})["replicas"] == 1
