"""The operator with many pods: one RayCluster with a thousand workers, then a hundred, on a real API server.

    .venv/bin/python -m bench.scale [--workers N] [--clusters M]

etcd and kube-apiserver are real, the operator is its own process as a user starts it; in place of kubelets a task marks
each new pod as running and Ready, and takes away what is deleted. No Ray: RayClusters alone need none. For each act:
seconds from the write until every pod is there (or gone) and until the status says so, the operator's processor time,
its calls to the API server for each pod, and at the end its memory and how long a reconcile takes. All on one machine,
so the API server and the pod player take their share of it: seconds tell little by themselves, the columns "for each
pod" of two sizes in one run tell whether work grows faster than the number of pods.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from bench.admission import processor_ms
from e2e.localkube import light
from e2e.localkube.light import free_port
from rayservice_operator.core.objects import Manifest, is_terminating, labels_of, metadata, name_of, ref
from rayservice_operator.core.timestamps import to_rfc3339
from rayservice_operator.kube.client import KubeClient
from rayservice_operator.kube.errors import ApiError
from rayservice_operator.kube.resources import reference
from tests.api.conftest import connection, install_crds

NAMESPACE = "default"
PATIENCE_S = 600.0


def raycluster(name: str, workers: int) -> Manifest:
    """One group of GPU workers."""
    container = {"name": "ray", "image": "ray:1", "resources": {"limits": {"cpu": "1", "nvidia.com/gpu": "1"}}}
    template = {"spec": {"containers": [container]}}
    group = {"groupName": "gpu", "replicas": workers, "minReplicas": 0, "maxReplicas": 5000, "rayStartParams": {}}
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayCluster",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "rayVersion": "2.60.0",
            "headGroupSpec": {"rayStartParams": {}, "template": template},
            "workerGroupSpecs": [{**group, "template": template}],
        },
    }


class Operator:
    """The process, and what it tells of itself."""

    def __init__(self, kubeconfig: Path, log: Path) -> None:
        self._port = free_port()
        env = {**os.environ, "KUBECONFIG": str(kubeconfig), "HTTP_PORT": str(self._port), "LOG_LEVEL": "warning"}
        with log.open("wb") as out:
            argv = [sys.executable, "-m", "rayservice_operator", "run"]
            self._process = subprocess.Popen(argv, env=env, stdout=out, stderr=out)

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(timeout=60)

    def cpu_s(self) -> float:
        """Processor seconds so far, all threads."""
        return processor_ms(self._process.pid) / 1000

    def memory_mib(self) -> float:
        """Resident memory."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) / 1024

    def samples(self) -> Mapping[str, float]:
        """Sums over all labels of what its metrics say, by sample name."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/metrics", timeout=30) as answer:
            families = text_string_to_metric_families(answer.read().decode())
            found: dict[str, float] = {}
            for family in families:
                for sample in family.samples:
                    found[sample.name] = found.get(sample.name, 0.0) + sample.value
            return found

    async def serving(self) -> None:
        """Wait until it answers."""
        async with asyncio.timeout(60):
            while True:
                with contextlib.suppress(OSError):
                    self.samples()
                    return
                await asyncio.sleep(0.1)


class Pods:
    """All Ray pods as the API server tells of them; marks new ones Ready and finishes those on their way out."""

    def __init__(self, client: KubeClient) -> None:
        self._client = client
        self._seen: dict[str, Manifest] = {}
        self._changed = asyncio.Event()
        self._work: asyncio.Queue[Manifest] = asyncio.Queue()

    async def run(self) -> None:
        """Until cancelled."""
        listing = await self._client.list("Pod", NAMESPACE)
        async with asyncio.TaskGroup() as tasks:
            for _ in range(8):
                tasks.create_task(self._play())
            version = listing.resource_version
            while True:
                async for event in self._client.watch("Pod", NAMESPACE, resource_version=version):
                    pod: Manifest = event.obj
                    version = metadata(pod).get("resourceVersion", version)
                    if event.type == "DELETED":
                        self._seen.pop(name_of(pod), None)
                    elif event.type in {"ADDED", "MODIFIED"}:
                        self._seen[name_of(pod)] = pod
                        if is_terminating(pod) or not (pod.get("status") or {}).get("podIP"):
                            self._work.put_nowait(pod)
                    self._changed.set()

    async def _play(self) -> None:
        while True:
            pod = await self._work.get()
            with contextlib.suppress(ApiError):
                if is_terminating(pod):
                    await self._client.delete(ref(pod), grace_seconds=0)
                else:
                    await self._client.patch_status(ref(pod), _running(pod))

    def living(self) -> list[Manifest]:
        """Pods that are not on their way out."""
        return [pod for pod in self._seen.values() if not is_terminating(pod)]

    async def until(self, wanted: Callable[[list[Manifest]], bool]) -> None:
        """Wait for a state of the living pods."""
        async with asyncio.timeout(PATIENCE_S):
            while not wanted(self.living()):
                self._changed.clear()
                await self._changed.wait()


def _running(pod: Manifest) -> Manifest:
    now = to_rfc3339(time.time())
    number = int(metadata(pod)["uid"][:6], 16)
    ip = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
    names = [container["name"] for container in pod["spec"]["containers"]]
    running = {"ready": True, "started": True, "restartCount": 0, "image": "", "imageID": ""}
    state = {"running": {"startedAt": now}}
    return {
        "phase": "Running",
        "podIP": ip,
        "podIPs": [{"ip": ip}],
        "startTime": now,
        "conditions": [
            {"type": kind, "status": "True", "lastTransitionTime": now} for kind in ("PodScheduled", "Ready")
        ],
        "containerStatuses": [{"name": name, **running, "state": state} for name in names],
    }


@dataclass
class Bench:
    """What all acts share."""

    client: KubeClient
    operator: Operator
    pods: Pods

    @contextlib.asynccontextmanager
    async def act(self, title: str, pods: int) -> AsyncIterator[Callable[[], None]]:
        """Measure the block and print a line; call what it gives when the pods are as wanted."""
        cpu, calls, began = self.operator.cpu_s(), self.operator.samples(), time.monotonic()
        there: list[float] = []
        yield lambda: there.append(time.monotonic() - began)
        told = time.monotonic() - began
        await asyncio.sleep(2)  # what is written after the last status counts too
        spent = self.operator.cpu_s() - cpu
        now = self.operator.samples()
        rest = now["rest_client_requests_total"] - calls.get("rest_client_requests_total", 0.0)
        passes = now["controller_runtime_reconcile_total"] - calls.get("controller_runtime_reconcile_total", 0.0)
        print(
            f"{title:<44}{pods:>6}{there[0]:>9.1f}{told:>9.1f}{1000 * spent / pods:>12.1f}{rest / pods:>9.2f}"
            f"{passes / pods:>9.2f}",
            flush=True,
        )

    async def settled(self, names: list[str], workers: int) -> None:
        """Wait until the status of each says that all workers are Ready and nothing is left to do."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                clusters = (await self.client.list("RayCluster", NAMESPACE)).items
                if sum(_settled(cluster, workers) for cluster in clusters if name_of(cluster) in names) == len(names):
                    return
                await asyncio.sleep(0.25)


def _settled(cluster: Manifest, workers: int) -> bool:
    status: dict[str, Any] = cluster.get("status") or {}
    conditions = {item["type"] for item in status.get("conditions") or () if item["status"] == "True"}
    return status.get("readyWorkerReplicas") == workers and "Reconciling" not in conditions


async def one_large(bench: Bench, workers: int) -> None:
    """One RayCluster: made, a pod lost, halved, removed."""
    name = f"large-{workers}"
    size = workers + 1
    async with bench.act(f"a RayCluster of {workers} workers", size) as there:
        await bench.client.create(raycluster(name, workers))
        await bench.pods.until(lambda pods: len(pods) == size)
        there()
        await bench.settled([name], workers)
    async with bench.act(f"one of {workers} workers lost", 1) as there:
        victim = next(pod for pod in bench.pods.living() if labels_of(pod).get("ray.io/node-type") == "worker")
        await bench.client.delete(ref(victim))
        await bench.pods.until(lambda pods: len(pods) == size and victim not in pods)
        there()
        await bench.settled([name], workers)
    half = workers // 2
    async with bench.act(f"{workers} workers become {half}", workers - half) as there:
        edit = [{"op": "replace", "path": "/spec/workerGroupSpecs/0/replicas", "value": half}]
        await bench.client.json_patch(reference("RayCluster", NAMESPACE, name), edit)
        await bench.pods.until(lambda pods: len(pods) == half + 1)
        there()
        await bench.settled([name], half)
    await _removed(bench, [name])


async def many_small(bench: Bench, count: int) -> None:
    """That many RayClusters of one worker, at once."""
    names = [f"small-{index}" for index in range(count)]
    async with bench.act(f"{count} RayClusters of 1 worker", 2 * count) as there:
        for name in names:
            await bench.client.create(raycluster(name, 1))
        await bench.pods.until(lambda pods: len(pods) == 2 * count)
        there()
        await bench.settled(names, 1)
    before = bench.operator.cpu_s()
    await asyncio.sleep(10)
    print(f"at rest with {count} RayClusters: {(bench.operator.cpu_s() - before) / 10:.1%} of a processor")
    await _removed(bench, names)


async def _removed(bench: Bench, names: list[str]) -> None:
    """There is no garbage collector here, so the pods are deleted by hand."""
    for name in names:
        await bench.client.delete(reference("RayCluster", NAMESPACE, name))
    for pod in bench.pods.living():
        with contextlib.suppress(ApiError):
            await bench.client.delete(ref(pod), grace_seconds=0)
    await bench.pods.until(lambda pods: not pods)


async def run(api: light.Api, workers: int, clusters: int) -> None:
    """All acts, small sizes first."""
    operator = Operator(api.kubeconfig, api.state.log("operator"))
    try:
        async with KubeClient(lambda: connection(api)) as client, asyncio.TaskGroup() as tasks:
            pods = Pods(client)
            player = tasks.create_task(pods.run())
            await operator.serving()
            bench = Bench(client, operator, pods)
            head = f"{'':<44}{'pods':>6}{'there s':>9}{'told s':>9}{'CPU ms/pod':>12}{'calls':>9}{'passes':>9}"
            print(head)
            for size in (workers // 10, workers):
                await one_large(bench, size)
            for count in (clusters // 10, clusters):
                await many_small(bench, count)
            seen = operator.samples()
            mean = 1000 * seen["controller_runtime_reconcile_time_seconds_sum"]
            mean /= seen["controller_runtime_reconcile_time_seconds_count"]
            print(f"memory {operator.memory_mib():.0f} MiB, a reconcile takes {mean:.1f} ms on average")
            player.cancel()
    finally:
        operator.stop()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--clusters", type=int, default=100)
    args = parser.parse_args()
    with light.apiserver() as api:
        install_crds(api)
        asyncio.run(run(api, args.workers, args.clusters))


if __name__ == "__main__":
    main()
