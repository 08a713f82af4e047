"""What upgrades cost those who send requests: each strategy under load, on real pods of the end-to-end cluster.

    .venv/bin/python -m bench.upgrades                    # all, about eight minutes on two cores
    .venv/bin/python -m bench.upgrades NewCluster Undo    # some; they are played in the order of the table

The cluster, the images and the operator are those of ``pytest e2e`` (``e2e/cluster.py``). One RayService with one
worker gets 20 requests a second on new connections and 20 on kept-alive ones, each from a pod of its own, while it is
changed.
Prints tables in Markdown. It ends by itself: every wait has a limit, and the namespace is removed.
"""

from __future__ import annotations

import argparse
import functools
import json
import secrets
import signal
import statistics
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import yaml
from kubernetes import client

from e2e import cluster as clusters
from e2e import deploy
from e2e.images import TARGETS
from e2e.load import Report
from e2e.localkube.progress import Steps
from e2e.manifests import BROKEN, cluster_spec, rayservice, serve_config, with_env, with_usual_grace, worker_group
from e2e.rayservices import History, Service, watched
from e2e.support import (
    GROUP,
    RAYSERVICES,
    VERSION,
    Kube,
    LoadPod,
    Object,
    condition,
    wait_for,
)

NAME: Final = "bench"
RATE: Final = 20
DELAY_S: Final = 20
LIMIT_S: Final = 300.0
HOT_UPDATES: Final = 5
TOLD: Final = "UpdatedServeApplications"
SPEC: Final = with_usual_grace(cluster_spec(worker_group()))


@dataclass
class Seen:
    """One change under load. Times in seconds.

    stayed: how long after the promotion kept-alive clients were still answered by pods of the old version; None
    without a promotion.
    """

    name: str
    reports: list[Report] = field(default_factory=list)
    extra: int = 0
    announced: str = ""
    took: float = 0.0
    stayed: float | None = None


@dataclass
class Bench:
    """The service under test. ``release`` counts the specs that it was given."""

    kube: Kube
    service: Service
    release: int = 0
    sent_ms: list[float] = field(default_factory=list)
    stored_ms: list[float] = field(default_factory=list)
    told_ms: list[float] = field(default_factory=list)
    puts_ms: list[float] = field(default_factory=list)
    failed_s: float | None = None

    def change(self, **spec: Any) -> None:
        """Change the spec as quickly as can be: no kubectl."""
        self.kube.custom.patch_namespaced_custom_object(
            GROUP, VERSION, self.service.namespace, RAYSERVICES, NAME, {"spec": spec}, _content_type=_MERGE
        )

    def edits(self) -> dict[str, list[float]]:
        """Milliseconds of each edit of the serve config, by what was measured."""
        return {
            "edit of `serveConfigV2` stored by the API server, taken by Ray": self.stored_ms,
            "edit sent, taken by Ray": self.sent_ms,
            "edit sent, told in the operator's log": self.told_ms,
            "Ray's answer to the same PUT once more": self.puts_ms,
        }

    def next_spec(self) -> Object:
        """A RayClusterSpec that needs new pods."""
        self.release += 1
        return with_env(SPEC, "RELEASE", str(self.release))

    def alone(self) -> bool:
        """One cluster, all of whose pods are there, and no others."""
        return len(self.kube.rayclusters(self.service.namespace)) == 1 and self.pods() == 2

    def pods(self) -> int:
        """Pods of Ray that hold resources, those on their way out too."""
        pods = self.kube.pods(self.service.namespace, "ray.io/is-ray-node=yes")
        return sum(pod["status"].get("phase") not in ("Succeeded", "Failed") for pod in pods)

    def wait(self, probe: Callable[[], Any], what: str) -> None:
        """Until ``probe`` is true."""
        self.service.wait(probe, what, timeout=LIMIT_S)


_MERGE: Final = "application/merge-patch+json"


@contextmanager
def under_load(bench: Bench, name: str) -> Iterator[Seen]:
    """Load, a count of pods, and a watch of the object for the length of the block."""
    seen, ended = Seen(name), threading.Event()
    service = bench.service
    url = f"http://{NAME}-serve-svc:8000/"
    base = bench.pods()

    def count() -> None:
        while not ended.wait(0.3):
            with suppress(OSError, client.ApiException):
                seen.extra = max(seen.extra, bench.pods() - base)

    with (
        watched(service) as history,
        LoadPod(bench.kube, service.namespace, url, rate=RATE) as fresh,
        LoadPod(
            bench.kube, service.namespace, url, rate=RATE, keep_alive=True, times=True, name="load-kept-alive"
        ) as kept,
    ):
        thread = threading.Thread(target=count, daemon=True)
        thread.start()
        began = time.monotonic()
        try:
            yield seen
            seen.took = time.monotonic() - began
        finally:
            ended.set()
            thread.join(timeout=10)
        seen.reports = [fresh.report(), kept.report()]
    _read_history(seen, history)


def _read_history(seen: Seen, history: History) -> None:
    upgrades = [state.get("status", {}).get("upgrade", {}) for state in history.states]
    seen.announced = next((u["needs"] for u in reversed(upgrades) if u.get("needs")), "")
    active = [_active(state) for state in history.states]
    promoted = next((at for name, at in zip(active, history.seen, strict=True) if name and name != active[0]), None)
    if promoted is None or not active[0]:
        return
    kept = seen.reports[1]
    old = [max(at) for body, at in kept.times.items() if json.loads(body)["pod"].startswith(f"{active[0]}-")]
    seen.stayed = max(0.0, max(old) - promoted) if old else 0.0


def _active(state: Object) -> str:
    entry: Object = state.get("status", {}).get("activeServiceStatus") or {}
    return str(entry.get("rayClusterName") or "")


# -- what is done


def hot_update(bench: Bench) -> Seen:
    """Some edits of serveConfigV2; from each to the moment at which Ray has taken it by its own account."""
    with under_load(bench, "hot update") as seen:
        for number in range(HOT_UPDATES):
            sent = time.time()
            bench.change(serveConfigV2=serve_config(f"Hello {number}"))
            stored = time.time()
            bench.wait(functools.partial(_told, bench, sent), "the config accepted")
            taken = _deployed(bench)
            bench.sent_ms.append((taken - sent) * 1000)
            bench.stored_ms.append((taken - stored) * 1000)
            bench.told_ms.append((_told(bench, sent) - sent) * 1000)
            bench.service.wait_settled()
            bench.puts_ms.append(_put_again(bench, serve_config(f"Hello {number}")) * 1000)
    return seen


def _put_again(bench: Bench, config: str) -> float:
    """Seconds that Ray takes to accept a config that it has already: the part of an edit's way that is not ours."""
    body = json.dumps(yaml.safe_load(config)).encode()
    request = urllib.request.Request(_serve_api(bench), body, {"Content-Type": "application/json"}, method="PUT")
    began = time.monotonic()
    with urllib.request.urlopen(request, timeout=30):
        return time.monotonic() - began


def _serve_api(bench: Bench) -> str:
    """The head's own address: its service is headless."""
    cluster = bench.service.status()["activeServiceStatus"]["rayClusterStatus"]
    return f"http://{cluster['head']['podIP']}:8265/api/serve/applications/"


def _deployed(bench: Bench) -> float:
    """Unix time at which Ray Serve began to deploy what it was last sent; each PUT renews it, an identical one too."""
    with urllib.request.urlopen(_serve_api(bench), timeout=30) as answer:
        return max(float(app["last_deployed_time_s"]) for app in json.load(answer)["applications"].values())


def _told(bench: Bench, since: float) -> float:
    """Unix time of the operator's line about the first config that was accepted after ``since``; 0 before it."""
    log = bench.kube.target.kubectl("logs", "-n", deploy.NAMESPACE, "-l", deploy.SELECTOR, "--tail=300")
    for line in log.splitlines():
        if TOLD in line and (at := _time_of(line)) > since:
            return at
    return 0.0


def _time_of(line: str) -> float:
    return datetime.fromisoformat(line.split(" ", 1)[0]).timestamp()


def _to_another_cluster(bench: Bench, name: str, strategy: Object) -> Seen:
    old = bench.service.active()
    with under_load(bench, name) as seen:
        bench.change(rayClusterConfig=bench.next_spec(), upgradeStrategy=strategy)
        bench.wait(lambda: bench.service.active() not in {"", old}, "the new cluster active")
        bench.wait(bench.alone, "the old cluster gone")
    return seen


def new_cluster(bench: Bench) -> Seen:
    return _to_another_cluster(bench, "NewCluster", {"type": "NewCluster", **_NO_OPTIONS})


def undo(bench: Bench) -> Seen:
    """The spec is turned back right after the promotion, while the former cluster is still there."""
    first, before = bench.service.active(), bench.service.get()["spec"]["rayClusterConfig"]
    bench.change(rayClusterConfig=bench.next_spec(), upgradeStrategy={"type": "NewCluster", **_NO_OPTIONS})
    bench.wait(lambda: bench.service.active() not in {"", first}, "the new cluster active")
    with under_load(bench, "rollback (the former cluster taken back)") as seen:
        bench.change(rayClusterConfig=before)
        bench.wait(lambda: bench.service.active() == first, "the former cluster active")
        bench.wait(bench.alone, "the other cluster gone")
    return seen


def in_steps(bench: Bench) -> Seen:
    options = {"maxSurgePercent": 100, "stepSizePercent": 25, "intervalSeconds": 5}
    strategy = {"type": "NewClusterWithIncrementalUpgrade", "clusterUpgradeOptions": options}
    return _to_another_cluster(bench, "NewClusterWithIncrementalUpgrade (4 steps)", strategy)


def in_place(bench: Bench) -> Seen:
    """The worker is replaced by one that comes first."""
    strategy = {"type": "InPlace", "inPlace": {"maxSurge": 1, "maxUnavailable": 0}, "clusterUpgradeOptions": None}
    spec = bench.service.get()["spec"]["rayClusterConfig"]
    bench.release += 1
    changed = with_env(spec, "RELEASE_OF_WORKERS", str(bench.release))
    with under_load(bench, "InPlace (maxSurge 1)") as seen:
        bench.change(rayClusterConfig={"workerGroupSpecs": changed["workerGroupSpecs"]}, upgradeStrategy=strategy)
        completed = lambda: bench.service.status().get("upgrade", {}).get("phase") == "Completed"  # noqa: E731
        bench.wait(completed, "the worker replaced")
        bench.wait(bench.alone, "the old worker gone")
    return seen


def recreate(bench: Bench) -> Seen:
    """Interrupts by design: the gap is what it is about."""
    return _to_another_cluster(bench, "Recreate", {"type": "Recreate", **_NO_OPTIONS})


_NO_OPTIONS: Final[Object] = {"clusterUpgradeOptions": None, "inPlace": None}


def failed_app(bench: Bench) -> None:
    """An application that cannot start: how long after Ray's API the status says so."""
    told: dict[str, float] = {}
    ended, url = threading.Event(), _serve_api(bench)

    def ray() -> None:
        while not ended.wait(0.1) and "ray" not in told:
            with suppress(OSError, ValueError):
                with urllib.request.urlopen(url, timeout=5) as answer:
                    applications = json.load(answer)["applications"]
                if any(app["status"] == "DEPLOY_FAILED" for app in applications.values()):
                    told["ray"] = time.time()

    # It is to stay failed, or it is gone before anybody has looked.
    bench.kube.target.kubectl("annotate", "rayservice", NAME, "-n", bench.service.namespace, "ray.io/rollback=false")
    with watched(bench.service) as history:
        thread = threading.Thread(target=ray, daemon=True)
        thread.start()
        bench.change(serveConfigV2=serve_config(import_path=BROKEN))
        bench.wait(lambda: condition(bench.service.get(), "Stalled").get("reason") == "DeployFailed", "told")
        thread.join(timeout=10)
        ended.set()
    for state, at in zip(history.states, history.seen, strict=True):
        apps = (state.get("status", {}).get("activeServiceStatus") or {}).get("applicationStatuses") or {}
        if any(app.get("status") == "DEPLOY_FAILED" for app in apps.values()) and "ray" in told:
            bench.failed_s = at - told["ray"]
            return


PLAYS: Final[dict[str, Callable[[Bench], Seen | None]]] = {
    "HotUpdate": hot_update,
    "NewCluster": new_cluster,
    "Undo": undo,
    "Incremental": in_steps,
    "InPlace": in_place,
    "Recreate": recreate,
    "FailedApp": failed_app,
}

# -- what is told


def tables(bench: Bench, seen: list[Seen]) -> str:
    """Markdown."""
    lines = [
        "| change | connections | requests | failed | p50 | p99 | slowest | longest gap | old version until |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for one in seen:
        for kind, report in zip(("new", "kept alive"), one.reports, strict=True):
            kept = kind != "new" and one.stayed is not None
            lines.append(
                f"| {one.name} | {kind} | {report.sent} | {len(report.failures)} | {_s(report.p50)} | {_s(report.p99)} "
                f"| {_s(report.slowest)} | {_s(report.longest_gap)} "
                f"| {_s(one.stayed or 0.0) + ' after promotion' if kept else ''} |"
            )
    for index, kind in enumerate(("new", "kept alive")):
        reports = [one.reports[index] for one in seen if one.name != "Recreate"]
        sent, failures = sum(r.sent for r in reports), sum(len(r.failures) for r in reports)
        lines.append(f"| **all but Recreate** | {kind} | **{sent}** | **{failures}** | | | | | |")
    lines += ["", "| change | took | pods beside, announced | pods beside, at most |", "|---|---|---|---|"]
    lines += [f"| {one.name} | {one.took:.0f} s | {one.announced or '–'} | {one.extra} |" for one in seen]
    lines += ["", "| from … to … | measured |", "|---|---|"]
    lines += [f"| {what} | {_median(ms)} |" for what, ms in bench.edits().items() if ms]
    if bench.failed_s is not None:
        lines.append(f"| Ray's API says `DEPLOY_FAILED`, the status says it | {bench.failed_s:.2f} s |")
    return "\n".join(lines)


def _median(ms: list[float]) -> str:
    return f"{statistics.median(ms):.0f} ms (median of {', '.join(f'{one:.0f}' for one in sorted(ms))})"


def _s(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def failures(seen: list[Seen]) -> Iterator[str]:
    """What went wrong, for whoever looks for the reason."""
    for one in seen:
        for report in one.reports:
            if report.failures:
                kinds = Counter((int(f.at), f.what.split(":")[0]) for f in report.failures)
                by_second = ", ".join(f"{at} s {count} {what}" for (at, what), count in sorted(kinds.items()))
                yield f"{one.name}: {str(report).splitlines()[0]}\n  by the second in which they were sent: {by_second}"
                yield from (
                    f"  {count} {what}" for what, count in Counter(f.what for f in report.failures).most_common(9)
                )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("plays", nargs="*", choices=[*PLAYS, []], default=[])
    chosen = parser.parse_args().plays or list(PLAYS)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("told to end"))  # what was measured is printed all the same
    steps = Steps()
    target = clusters.up(steps)
    clusters.load_images(target, TARGETS, steps)
    deploy.install(target)
    kube = Kube(target)
    namespace = f"bench-{secrets.token_hex(3)}"
    kube.core.create_namespace(client.V1Namespace(metadata=client.V1ObjectMeta(name=namespace)))
    bench = Bench(kube, Service(kube, namespace, NAME))
    seen: list[Seen] = []
    try:
        kube.apply(rayservice(NAME, SPEC, rayClusterDeletionDelaySeconds=DELAY_S), namespace)
        bench.service.wait_settled()
        for name, play in PLAYS.items():
            if name in chosen:
                print(f"{time.strftime('%H:%M:%S')} {name}", file=sys.stderr, flush=True)
                found = play(bench)
                if found is not None:
                    seen.append(found)
                    print("\n".join(str(report).splitlines()[0] for report in found.reports), file=sys.stderr)
                    bench.service.wait_settled()
    finally:
        print(tables(bench, seen))
        print("\n".join(failures(seen)), file=sys.stderr)
        kube.delete("rayservice", namespace, NAME)
        wait_for(lambda: not kube.pods(namespace), timeout=LIMIT_S, what="pods gone")
        kube.core.delete_namespace(namespace)
    return 0


if __name__ == "__main__":
    sys.exit(main())
