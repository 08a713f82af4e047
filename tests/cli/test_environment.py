"""Settings from the environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from rayservice_operator.admission.settings import Certificates
from rayservice_operator.cli.environment import BadSetting, load_config, load_settings
from rayservice_operator.core.config import OperatorConfig


def test_nothing_set_means_the_defaults() -> None:
    config = load_config({})
    assert config == OperatorConfig(version=config.version)
    assert load_settings({}).namespaces == ()


def test_kuberays_names_are_understood() -> None:
    config = load_config(
        {
            "CLUSTER_DOMAIN": "k8s.example",
            "ENABLE_ZERO_DOWNTIME": "false",
            "ENABLE_PROBES_INJECTION": "False",
            "ENABLE_INIT_CONTAINER_INJECTION": "0",
            "ENABLE_LOGIN_SHELL": "true",
            "RAY_START_ULIMIT_OPEN_FILES": "1024",
            "RAY_DEFAULT_ENV_B": "2",
            "RAY_DEFAULT_ENV_A": "1",
        }
    )
    assert config.cluster_domain == "k8s.example"
    assert not config.zero_downtime
    assert not config.inject_probes
    assert not config.inject_init_container
    assert config.login_shell
    assert config.ulimit_open_files == 1024
    assert config.default_env == (("A", "1"), ("B", "2"))


def test_the_process() -> None:
    settings = load_settings(
        {"WATCH_NAMESPACES": "a, b,", "LEADER_ELECT": "true", "POD_NAMESPACE": "ray-system", "POD_NAME": "op-0"}
    )
    assert settings.namespaces == ("a", "b")
    assert settings.leader_elect
    assert settings.lease_namespace == "ray-system"
    assert settings.identity == "op-0"


@pytest.mark.parametrize(
    ("name", "value", "hint"),
    [
        ("ENABLE_LOGIN_SHELL", "maybe", "true or false"),
        ("RAY_START_ULIMIT_OPEN_FILES", "0", "1 or more"),
        ("RAY_START_ULIMIT_OPEN_FILES", "many", "many"),
        ("KUBE_CLIENT_QPS", "-1", "above 0"),
        ("KUBE_CLIENT_QPS", "nan", "above 0"),
        ("RECONCILE_CONCURRENCY", "0", "1 or more"),
        ("HTTP_PORT", "-1", "0 or more"),
        ("ADMISSION", "maybe", "true or false"),
    ],
)
def test_a_bad_value_is_refused_with_its_name(name: str, value: str, hint: str) -> None:
    with pytest.raises(BadSetting, match=hint) as caught:
        _load({name: value})
    assert name in str(caught.value)


def test_the_webhook() -> None:
    assert load_settings({}).admission is None
    assert load_settings({"ADMISSION": "false", "ADMISSION_PORT": "1"}).admission is None
    here = {"ADMISSION": "true", "POD_NAMESPACE": "ray-system", "SERVICE_ACCOUNT": "op"}
    names = {"ADMISSION_SECRET": "tls", "ADMISSION_CONFIGURATION": "hooks", "ADMISSION_PORT": "10250"}
    builtin = load_settings({**here, **names, "ADMISSION_HOSTS": "a.b.svc, 127.0.0.1"}).admission
    assert builtin is not None
    assert builtin.certificates is Certificates.BUILTIN
    assert builtin.hosts == ("a.b.svc", "127.0.0.1")
    assert (builtin.namespace, builtin.secret, builtin.configuration) == ("ray-system", "tls", "hooks")
    assert builtin.port == 10250
    assert builtin.own_user == "system:serviceaccount:ray-system:op"
    folder = {"ADMISSION_CERTIFICATES": "files", "ADMISSION_CERTIFICATE_FOLDER": "/certs"}
    files = load_settings({**here, **folder}).admission
    assert files is not None
    assert files.folder == Path("/certs")
    assert files.check_every_s < builtin.check_every_s


@pytest.mark.parametrize(
    ("env", "hint"),
    [
        ({}, "ADMISSION_HOSTS"),
        ({"ADMISSION_HOSTS": "a", "ADMISSION_PORT": "high"}, "ADMISSION_PORT"),
        ({"ADMISSION_CERTIFICATES": "vault"}, "builtin, files"),
    ],
)
def test_a_webhook_that_cannot_be_served_is_refused(env: dict[str, str], hint: str) -> None:
    with pytest.raises(BadSetting, match=hint):
        load_settings({"ADMISSION": "true", **env})


def _load(env: dict[str, str]) -> None:
    load_config(env)
    load_settings(env)


def test_an_empty_value_is_as_good_as_none() -> None:
    assert load_config({"CLUSTER_DOMAIN": "", "RAY_START_ULIMIT_OPEN_FILES": ""}).cluster_domain == "cluster.local"
