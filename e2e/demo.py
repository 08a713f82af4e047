"""``make demo``: from nothing to an answered request, then a hot update. ``make down`` removes it all.

Each step picks up what an earlier run left, so it can be interrupted and started again at any point.
"""

import argparse
import json
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

import yaml

from e2e import cluster, deploy
from e2e.cluster import Kind, Target
from e2e.images import TARGETS
from e2e.localkube import binaries
from e2e.localkube.errors import LocalKubeError
from e2e.localkube.progress import Step, Steps, note
from e2e.support import Kube, condition, pod_ready

EXAMPLE = deploy.ROOT / "examples" / "quickstart.yaml"
NAME, NAMESPACE, SERVICE, PORT = "quickstart", "default", "quickstart-serve-svc", 8000
NEW_GREETING = "Hello from the hot update"
_READY_SECONDS = 300.0
_UPDATE_SECONDS = 120.0
_POLL_SECONDS = 0.2


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m e2e.demo", description=__doc__)
    parser.add_argument("action", nargs="?", choices=["run", "down"], default="run")
    parser.add_argument("--purge", action="store_true", help="with down: remove the cache of programs and images too")
    args = parser.parse_args(argv)
    try:
        if args.action == "down":
            down(purge=args.purge)
        else:
            run()
    except LocalKubeError as error:
        note(f"\nerror: {error}")
        return 1
    except KeyboardInterrupt:
        note("\ninterrupted. `make demo` goes on from here, `make down` removes what was made.")
        return 130
    return 0


def run() -> None:
    steps = Steps(total=7)
    kind = cluster.chosen()
    note(f"cluster: {kind} (CLUSTER=current|kind|local chooses another)")
    with steps.step("cluster"):
        target = cluster.up(steps, kind)
    with steps.step("images"):
        cluster.load_images(target, TARGETS, steps)
    with steps.step("operator (Helm)"):
        binaries.ensure("helm", steps)
        deploy.install(target)
    manifest = yaml.safe_load(EXAMPLE.read_text())
    kube = Kube(target)
    with steps.step("apply examples/quickstart.yaml, wait for Ready") as step:
        target.kubectl("apply", "-n", NAMESPACE, "-f", str(EXAMPLE))
        _wait_ready(kube, step)
    with steps.step("first request") as step:
        before = _ask_until(target, lambda _: True, step)
    with steps.step("hot update: another greeting in serveConfigV2") as step:
        step.detail = "patching"
        patch = {"spec": {"serveConfigV2": with_greeting(manifest, NEW_GREETING)}}
        target.kubectl("patch", "rayservice", NAME, "-n", NAMESPACE, "--type=merge", "-p", json.dumps(patch))
        after = _ask_until(target, lambda answer: NEW_GREETING in answer, step)
    with steps.step("RayService Ready at the new generation") as step:
        _wait_ready(kube, step)
    _summary(target, steps, before, after)


def with_greeting(manifest: dict[str, Any], greeting: str) -> str:
    """The manifest's serveConfigV2 with another greeting in the user_config that has one."""
    config = yaml.safe_load(manifest["spec"]["serveConfigV2"])
    changed = False
    for application in config["applications"]:
        for deployment in application.get("deployments", []):
            if "greeting" in (deployment.get("user_config") or {}):
                deployment["user_config"]["greeting"] = greeting
                changed = True
    if not changed:
        msg = f"{EXAMPLE.name} has no deployment with `greeting` in its user_config; the demo needs one to change"
        raise LocalKubeError(msg)
    return str(yaml.safe_dump(config, sort_keys=False))


def _wait_ready(kube: Kube, step: Step) -> None:
    """Wait until the status of the newest generation says Ready, showing what it says meanwhile."""
    deadline = time.monotonic() + _READY_SECONDS
    while True:
        service = kube.rayservice(NAMESPACE, NAME)
        status = service.get("status", {})
        ready = condition(service, "Ready")
        current = status.get("observedGeneration") == service["metadata"]["generation"]
        if ready.get("status") == "True" and current:
            step.detail = ""
            return
        said = ready.get("message") or ready.get("reason") or status.get("serviceStatus") or "no status yet"
        step.detail = f"{said} · {_pods(kube)}"
        if time.monotonic() > deadline:
            raise LocalKubeError(_explain(kube.target, f"{NAME} is not Ready after {_READY_SECONDS:.0f} s: {said}"))
        time.sleep(_POLL_SECONDS)


def _pods(kube: Kube) -> str:
    words = []
    for pod in kube.pods(NAMESPACE, "ray.io/cluster"):
        kind = pod["metadata"]["labels"].get("ray.io/node-type", "pod")
        words.append(f"{kind} {'ready' if pod_ready(pod) else 'starting'}")
    return ", ".join(sorted(words)) or "no pods yet"


def _ask_until(target: Target, wanted: Callable[[str], bool], step: Step) -> str:
    """Ask the service until its answer is the wanted one."""
    deadline = time.monotonic() + _UPDATE_SECONDS
    last = "no answer"
    while True:
        try:
            last = ask(target)
            if wanted(last):
                step.detail = ""
                return last
        except (OSError, LocalKubeError) as error:
            last = str(error)
        step.detail = last[:80]
        if time.monotonic() > deadline:
            raise LocalKubeError(_explain(target, f"no such answer after {_UPDATE_SECONDS:.0f} s; last: {last}"))
        time.sleep(_POLL_SECONDS)


def ask(target: Target, path: str = "/") -> str:
    """One request to the demo's service.

    On the local cluster the service's own address answers on the host; elsewhere the API server relays.
    """
    if target.kind is Kind.LOCAL:
        args = ("get", "service", SERVICE, "-n", NAMESPACE, "-o", "jsonpath={.spec.clusterIP}")
        address = target.kubectl(*args)
        try:
            with urllib.request.urlopen(f"http://{address}:{PORT}{path}", timeout=5) as answer:
                return str(answer.read().decode())
        except urllib.error.HTTPError as error:
            msg = f"HTTP {error.code}"
            raise LocalKubeError(msg) from error
    return target.kubectl("get", "--raw", f"/api/v1/namespaces/{NAMESPACE}/services/{SERVICE}:{PORT}/proxy{path}")


def _explain(target: Target, what: str) -> str:
    looks = (
        ("get", "rayservice,raycluster,pods", "-n", NAMESPACE),
        ("get", "events", "-n", NAMESPACE, "--sort-by=.lastTimestamp"),
    )
    found = ["\n".join(target.kubectl(*args).splitlines()[-25:]) for args in looks]
    return "\n\n".join([what, *found, deploy.diagnose(target)])


def _summary(target: Target, steps: Steps, before: str, after: str) -> None:
    width = max(len(name) for name, _ in steps.done)
    lines = ["", f"{'step':{width}}  seconds"]
    lines += [f"{name:{width}}  {seconds:7.1f}" for name, seconds in steps.done]
    lines += [f"{'total':{width}}  {sum(seconds for _, seconds in steps.done):7.1f}", ""]
    lines += [f"answer before: {before.strip()}", f"answer after:  {after.strip()}", ""]
    lines += [target.kubectl("get", "rayservice", "-n", NAMESPACE).rstrip(), ""]
    lines += [f"export KUBECONFIG={target.kubeconfig}    # to look around", "make down    # to remove it all"]
    sys.stdout.write("\n".join(lines) + "\n")


def down(*, purge: bool) -> None:
    """Remove what the demo made: the whole cluster where it made one, else the release and the example."""
    steps = Steps()
    kind = cluster.chosen()
    if kind is Kind.CURRENT:
        target = cluster.target(kind)
        with steps.step("remove examples/quickstart.yaml"):
            target.kubectl("delete", "-n", NAMESPACE, "-f", str(EXAMPLE), "--ignore-not-found", "--timeout=60s")
        with steps.step("uninstall the operator"):
            deploy.uninstall(target)
        note("The CRDs stay: deleting them deletes every RayService and RayCluster. To do so: kubectl delete -f crds/")
    cluster.down(steps, kind, purge=purge)


if __name__ == "__main__":
    sys.exit(main())
