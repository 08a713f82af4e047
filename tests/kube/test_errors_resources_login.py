"""Tables: answers to errors, kinds to paths, surroundings to connection settings."""

from __future__ import annotations

from pathlib import Path

import kopf
import pytest

from rayservice_operator.kube import errors
from rayservice_operator.kube.login import NoCredentials, login
from rayservice_operator.kube.resources import resource


@pytest.mark.parametrize(
    ("code", "reason", "error"),
    [
        (404, "NotFound", errors.NotFound),
        (409, "Conflict", errors.Conflict),
        (409, "AlreadyExists", errors.AlreadyExists),
        (410, "Expired", errors.Gone),
        (410, "", errors.Gone),
        (422, "Invalid", errors.Invalid),
        (400, "BadRequest", errors.Invalid),
        (403, "Forbidden", errors.Forbidden),
        (401, "Unauthorized", errors.Unauthorized),
        (429, "", errors.TooManyRequests),
        (500, "InternalError", errors.ServerError),
        (503, "", errors.ServerError),
        (405, "MethodNotAllowed", errors.ApiError),
    ],
)
def test_an_answer_becomes_an_error(code: int, reason: str, error: type[errors.ApiError]) -> None:
    made = errors.from_status(code, {"reason": reason, "message": "m", "details": {"causes": [{"field": "f"}]}})
    assert type(made) is error
    assert made.status == code
    assert made.causes == (errors.Cause("f", ""),)


def test_an_answer_without_a_body_has_a_message() -> None:
    assert errors.from_status(503, None).message == "HTTP 503"


@pytest.mark.parametrize(
    ("kind", "args", "path"),
    [
        ("Pod", (), "/api/v1/pods"),
        ("Pod", ("ns", "p"), "/api/v1/namespaces/ns/pods/p"),
        ("RayService", ("ns", "s", "status"), "/apis/ray.io/v1/namespaces/ns/rayservices/s/status"),
        ("Ingress", ("ns",), "/apis/networking.k8s.io/v1/namespaces/ns/ingresses"),
    ],
)
def test_paths(kind: str, args: tuple[str, ...], path: str) -> None:
    assert resource(kind).path(*args) == path


def test_an_unknown_kind_says_where_to_add_it() -> None:
    with pytest.raises(LookupError, match=r"kube\.resources"):
        resource("Deployment")


def test_in_a_pod_the_address_is_used_instead_of_the_dns_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBECONFIG", raising=False)
    for host, server in (("10.96.0.1", "https://10.96.0.1:443"), ("fd00::1", "https://[fd00::1]:443")):
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", host)
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
        monkeypatch.setattr(
            kopf,
            "login_with_service_account",
            lambda **_: kopf.ConnectionInfo(server="https://kubernetes.default.svc", token="t"),
        )
        assert login().server == server


def test_a_kubeconfig_named_by_hand_wins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = tmp_path / "kubeconfig"
    config.write_text(
        "current-context: c\n"
        "contexts: [{name: c, context: {cluster: k, user: u}}]\n"
        "clusters: [{name: k, cluster: {server: https://example.test}}]\n"
        "users: [{name: u, user: {token: t}}]\n"
    )
    monkeypatch.setenv("KUBECONFIG", str(config))
    monkeypatch.setattr(kopf, "login_with_service_account", lambda **_: pytest.fail("not asked"))
    assert login().server == "https://example.test"
    config.write_text("contexts: []\n")
    with pytest.raises(NoCredentials, match="kubeconfig"):
        login()
