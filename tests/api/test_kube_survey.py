"""Room looked for on a real API server: nodes, pods and quotas as they really look, and rights that are not there."""

from __future__ import annotations

import asyncio
from typing import Any

import kopf
import pytest
import yaml

from e2e.localkube import light
from rayservice_operator.core.decision import AskRoom
from rayservice_operator.core.keys import Key
from rayservice_operator.core.objects import Manifest
from rayservice_operator.core.room import PodsWanted, Room
from rayservice_operator.engine.clock import SystemClock
from rayservice_operator.engine.surveys import Surveyor
from rayservice_operator.kube.client import KubeClient
from tests.api.conftest import connection
from tests.service.test_capacity import GPU, pod

LABEL = "survey.example.com/test"


async def room(client: KubeClient, namespace: str, *wanted: PodsWanted) -> Room:
    """What a new surveyor says."""
    done = asyncio.Event()
    surveyor = Surveyor(client, SystemClock(), lambda _: done.set())
    key = Key("RayService", namespace, "svc")
    surveyor.ask(key, AskRoom("to", namespace, wanted))
    await asyncio.wait_for(done.wait(), 30)
    await surveyor.close()
    answer = surveyor.view(key)["to"].room
    assert answer is not None
    return answer


@pytest.fixture
async def nodes(apiserver: light.Api, client: KubeClient, namespace: str) -> list[str]:
    """Three nodes of this test's own, told by a label: one free, one half full, one cordoned. Four GPUs each."""
    names = [f"{namespace}-{name}" for name in ("free", "half", "closed")]
    for name in names:
        await client.create(
            {
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {"name": name, "labels": {LABEL: namespace}},
                "spec": {"unschedulable": name.endswith("closed")},
            }
        )
        status: Manifest = {
            "capacity": {"cpu": "8", "memory": "32Gi", "pods": "110", GPU: "4"},
            "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"}],
        }
        status["allocatable"] = status["capacity"]
        patch = yaml.safe_dump({"status": status})
        apiserver.kubectl("patch", "node", name, "--subresource=status", "--type=merge", "-p", patch)
        # The taint of a node that is new, which its controller takes off; it does not run here.
        apiserver.kubectl("patch", "node", name, "--type=merge", "-p", '{"spec": {"taints": null}}')
    await client.create(_placed(namespace, names[1], "running", 2))
    await client.create(_placed(namespace, names[0], "over", 4))
    ended = '{"status": {"phase": "Failed"}}'
    apiserver.kubectl("patch", "pod", "-n", namespace, "over", "--subresource=status", "--type=merge", "-p", ended)
    return names


def _placed(namespace: str, node: str, name: str, gpus: int) -> Manifest:
    limits = {"cpu": "1", GPU: str(gpus)}
    containers = [{"name": "c", "image": "i", "resources": {"limits": limits}}]
    spec = {"nodeName": node, "containers": containers}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace}, "spec": spec}


def mine(namespace: str, count: int, gpus: int, **spec: Any) -> PodsWanted:
    return PodsWanted("gpu", pod(gpus=gpus, nodeSelector={LABEL: namespace}, **spec), count, count)


async def test_free_room_on_nodes_that_fit(client: KubeClient, namespace: str, nodes: list[str]) -> None:
    """Four GPUs on the free node, whose pod has ended, and two on the half full one."""
    assert await room(client, namespace, mine(namespace, 3, 2)) == Room(3, 3, "3 of 3 pods fit now.")
    found = await room(client, namespace, mine(namespace, 2, 4))
    assert found.fit == 1
    assert "nodes that match group gpu lack 2 nvidia.com/gpu" in found.message
    elsewhere = await room(client, namespace, PodsWanted("gpu", pod(nodeSelector={LABEL: "nobody's"}), 1, 1))
    assert "no node matches group gpu" in elsewhere.message
    assert f"{len(nodes)} " in elsewhere.message


async def test_pages(apiserver: light.Api, namespace: str, nodes: list[str]) -> None:
    async with KubeClient(lambda: connection(apiserver), page=1) as client:
        assert (await room(client, namespace, mine(namespace, 3, 2))).fit == 3
        assert (await room(client, namespace, mine(namespace, 4, 2))).fit == 3


async def test_a_quota(apiserver: light.Api, client: KubeClient, namespace: str, nodes: list[str]) -> None:
    """The API server itself would refuse the third pod."""
    hard = {"requests.nvidia.com/gpu": "6", "pods": "9"}
    meta = {"name": "team", "namespace": namespace}
    await client.create({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": meta, "spec": {"hard": hard}})
    used = yaml.safe_dump({"status": {"hard": hard, "used": {"requests.nvidia.com/gpu": "2", "pods": "1"}}})
    # The controller that counts does not run here.
    apiserver.kubectl("patch", "quota", "-n", namespace, "team", "--subresource=status", "--type=merge", "-p", used)
    found = await room(client, namespace, mine(namespace, 3, 2))
    assert found.fit == 2
    assert "ResourceQuota team lacks 2 of requests.nvidia.com/gpu" in found.message


RULES = {
    "quotas": [{"apiGroups": [""], "resources": ["resourcequotas"], "verbs": ["list"]}],
    "nodes": [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["list"]}],
    "nothing": [],
}


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ("nothing", "not known: nodes cannot be seen, the operator may not list them."),
        ("quotas", "not known: nodes cannot be seen, the operator may not list them."),
        ("nodes", "on nodes without their other pods, which cannot be seen"),
    ],
)
async def test_rights_that_are_missing(
    apiserver: light.Api, namespace: str, nodes: list[str], rules: str, said: str
) -> None:
    _grant(apiserver, namespace, RULES[rules])

    apiserver.kubectl("create", "serviceaccount", "default", "-n", namespace)
    token = apiserver.kubectl("create", "token", "default", "-n", namespace).strip()

    def login() -> kopf.ConnectionInfo:
        return kopf.ConnectionInfo(server=apiserver.url, ca_path=str(apiserver.ca), token=token)

    async with KubeClient(login) as client:
        found = await room(client, namespace, mine(namespace, 3, 4))
    assert said in found.message


def _grant(api: light.Api, namespace: str, rules: list[dict[str, Any]]) -> None:
    group = "rbac.authorization.k8s.io"
    meta = {"name": f"survey-{namespace}"}
    subject = {"kind": "ServiceAccount", "name": "default", "namespace": namespace}
    role = {"apiVersion": f"{group}/v1", "kind": "ClusterRole", "metadata": meta, "rules": rules}
    reference = {"apiGroup": group, "kind": "ClusterRole", **meta}
    binding = {
        "apiVersion": f"{group}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": meta,
        "roleRef": reference,
        "subjects": [subject],
    }
    api.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all([role, binding]))
