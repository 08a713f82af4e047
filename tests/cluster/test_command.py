"""The `ray start` line against the contract (KubeRay 1.7) and the joining with a user's command."""

from __future__ import annotations

import json
import shlex
import subprocess
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayservice_operator.cluster.command import container_command, ray_start, start_params, user_line
from rayservice_operator.cluster.resources import parse_resources_argument
from rayservice_operator.cluster.view import ClusterView, GroupView, view_of
from rayservice_operator.core.config import OperatorConfig
from tests.cluster.world import CALM, group, raycluster, template

DEFAULTS = "--block --dashboard-agent-listen-port=52365"


def lines(view: ClusterView) -> list[str]:
    """The line of the head and of each worker group."""
    return [ray_start(start_params(view, g), head=g.is_head) for g in (view.head, *view.workers)]


def view(cluster: dict[str, Any], **config: Any) -> ClusterView:
    return view_of(cluster, OperatorConfig(**config))


def test_head_and_worker() -> None:
    head, worker = lines(view(raycluster(group())))
    assert head == (
        f"ray start --head {DEFAULTS} --dashboard-host=0.0.0.0 "
        "--memory=2147483648 --metrics-export-port=8080 --num-cpus=1"
    )
    assert worker == (
        "ray start --address=demo-head-svc.ns.svc.cluster.local:6379 "
        f"{DEFAULTS} --memory=2147483648 --metrics-export-port=8080 --num-cpus=1"
    )


@pytest.mark.parametrize(
    ("params", "resources", "expected", "absent"),
    [
        ({}, {"limits": {"cpu": "1500m"}}, ["--num-cpus=2"], ["--memory", "--num-gpus"]),
        ({}, {"requests": {"cpu": "250m", "memory": "1Gi"}}, ["--num-cpus=1"], ["--memory"]),
        ({}, {"limits": {"cpu": "2"}, "requests": {"cpu": "1"}}, ["--num-cpus=2"], []),
        ({"num-cpus": "0"}, {"limits": {"cpu": "4"}}, ["--num-cpus=0"], []),
        ({}, {"limits": {"memory": "1G"}}, ["--memory=1000000000"], []),
        ({}, {"limits": {"nvidia.com/gpu": 2}}, ["--num-gpus=2"], []),
        ({}, {"limits": {"nvidia.com/gpu": "0"}}, [], ["--num-gpus"]),
        ({}, {"limits": {"amd.com/gpu": "1", "nvidia.com/gpu": "3"}}, ["--num-gpus=1"], []),
        ({}, {"limits": {"nvidia.com/mig-1g.10gb": "4"}}, ["--num-gpus=4"], []),
        ({}, {"limits": {"nvidia.com/mig-1g.5gb.me": "1"}}, ["--num-gpus=1"], []),
        ({}, {"requests": {"nvidia.com/gpu": "1"}}, [], ["--num-gpus"]),
        ({"num-gpus": "0"}, {"limits": {"nvidia.com/gpu": "1"}}, ["--num-gpus=0"], []),
        ({}, {"limits": {"google.com/tpu": "4"}}, ["--resources='{\"TPU\":4}'"], []),
        ({}, {"limits": {"aws.amazon.com/neuroncore": "2"}}, ["--resources='{\"neuron_cores\":2}'"], []),
        (
            {},
            {"limits": {"aws.amazon.com/neuroncore": "2", "google.com/tpu": "4"}},
            ["--resources='{\"neuron_cores\":2}'"],
            ["TPU"],
        ),
        (
            {"resources": '"{\\"custom\\": 5}"'},
            {"limits": {"google.com/tpu": "4"}},
            ['--resources=\'{"TPU":4,"custom":5}\''],
            [],
        ),
        ({"resources": "'{\"TPU\": 1}'"}, {"limits": {"google.com/tpu": "4"}}, ["--resources='{\"TPU\": 1}'"], []),
        ({"resources": "$FROM_ENV"}, {"limits": {"google.com/tpu": "4"}}, ["--resources=$FROM_ENV"], ["TPU"]),
        ({"block": "false"}, {}, ["--block"], []),
        ({"include-dashboard": "false"}, {}, ["--include-dashboard=false"], []),
        ({"include-log-monitor": "True"}, {}, ["--include-log-monitor=True"], []),
        ({"no-redirect-output": "true", "disable-usage-stats": "false"}, {}, ["--no-redirect-output"], ["usage-stats"]),
        ({"metrics-export-port": "9000"}, {}, ["--metrics-export-port=9000"], ["8080"]),
        ({"address": "other:1"}, {}, ["--address=other:1"], ["demo-head-svc"]),
    ],
)
def test_worker_flags(
    params: dict[str, Any], resources: dict[str, Any], expected: list[str], absent: list[str]
) -> None:
    cluster = raycluster(group(rayStartParams=params, template=template(resources=resources)))
    line = lines(view(cluster))[1]
    words = line.split(" --")
    for flag in expected:
        assert flag.removeprefix("--") in words
    for text in absent:
        assert text not in line


def test_group_level_resources_and_labels_win() -> None:
    resources = {"CPU": "8", "memory": "8Gi", "GPU": "1", "TPU": "4", "ours": "500m", "broken": "lots"}
    cluster = raycluster(group(resources=resources, labels={"zone": "b", "ray.io/market": "spot"}))
    line = lines(view(cluster))[1]
    for flag in (
        "--num-cpus=8",
        "--memory=8589934592",
        "--num-gpus=1",
        '--resources=\'{"TPU":4,"ours":0.5}\'',
        "--labels=ray.io/market=spot,zone=b",
    ):
        assert f" {flag}" in line


def test_port_of_the_gcs_reaches_the_workers() -> None:
    cluster = raycluster(group())
    cluster["spec"]["headGroupSpec"]["rayStartParams"] = {"port": "6380"}
    head, worker = lines(view(cluster, cluster_domain="corp.example"))
    assert "--port=6380" in head
    assert "--address=demo-head-svc.ns.svc.corp.example:6380" in worker


def test_autoscaling_head_has_no_monitor() -> None:
    assert " --no-monitor " in lines(view(raycluster(enableInTreeAutoscaling=True)))[0]
    assert "no-monitor" not in lines(view(raycluster()))[0]


def joined(cluster: dict[str, Any], **config: Any) -> dict[str, list[str]]:
    v = view(cluster, **config)
    return container_command(v, v.head, "ray start --head")


def head_with(**container: Any) -> dict[str, Any]:
    cluster = raycluster()
    cluster["spec"]["headGroupSpec"]["template"] = template(**container)
    return cluster


def test_plain_command() -> None:
    assert joined(raycluster()) == {
        "command": ["/bin/bash", "-c", "--"],
        "args": ["ulimit -n ${RAY_START_ULIMIT_OPEN_FILES:-65536}; ray start --head"],
    }


def test_login_shell_and_limit() -> None:
    found = joined(raycluster(), login_shell=True, ulimit_open_files=1000)
    assert found["command"] == ["/bin/bash", "-lc", "--"]
    assert "OPEN_FILES:-1000}" in found["args"][0]


def test_user_command_first() -> None:
    found = joined(head_with(command=["echo 1"], args=["2 3"]))
    assert found["args"][0].startswith("echo 1 2 3 && ulimit -n ")


def test_script_of_a_shell_stays_one_word() -> None:
    found = joined(head_with(command=["/bin/sh", "-c", "echo 'a b' && false || true"]))
    line = found["args"][0].split(" && ulimit")[0]
    assert shlex.split(line) == ["/bin/sh", "-c", "echo 'a b' && false || true"]
    assert subprocess.run(["bash", "-c", line], capture_output=True, check=True).stdout == b"a b\n"


@pytest.mark.parametrize("where", ["cluster", "template", "own"])
def test_users_own_command_stays(where: str) -> None:
    container = {"command": ["sleep"], "args": ["1"]} if where != "own" else {"args": ["ray start --head --block"]}
    cluster = head_with(**container)
    overwrite = {"annotations": {"ray.io/overwrite-container-cmd": "true"}}
    if where == "cluster":
        cluster["metadata"].update(overwrite)
    if where == "template":
        cluster["spec"]["headGroupSpec"]["template"]["metadata"] = overwrite
    assert joined(cluster) == {}


@CALM
@given(st.lists(st.text("ab $'\"\\&;|", min_size=1, max_size=8), min_size=1, max_size=3))
def test_joining_never_fails(words: list[str]) -> None:
    assert isinstance(user_line(words, []), str)


@CALM
@given(st.dictionaries(st.text("abc", min_size=1), st.integers(0, 9), min_size=1))
def test_resources_are_read_in_every_quoting(custom: dict[str, int]) -> None:
    text = json.dumps(custom)
    for written in (text, f"'{text}'", json.dumps(text), f"`{text}`"):
        assert parse_resources_argument(written) == custom


def test_group_view_is_given() -> None:
    assert isinstance(view(raycluster()).head, GroupView)
