"""Installing the operator with its Helm chart, the way a user does."""

from pathlib import Path

from e2e.cluster import Target, image_fingerprint
from e2e.images import PREFIX, TAG
from e2e.localkube.errors import LocalKubeError

ROOT = Path(__file__).resolve().parents[1]
CHART = ROOT / "charts" / "rayservice-operator"
RELEASE = "rayservice-operator"
NAMESPACE = "rayservice-system"
UNCHECKED = "unchecked-by-the-webhook"
"""Label of namespaces where bad manifests are let in, so that it shows what the operator itself says of them."""

LETS_BAD_MANIFESTS_IN = tuple(
    f"admission.namespaceSelector.matchExpressions[0].{key}={value}"
    for key, value in (("key", UNCHECKED), ("operator", "DoesNotExist"))
)
"""Values of the chart by which ``UNCHECKED`` counts."""

SELECTOR = f"app.kubernetes.io/instance={RELEASE}"


def install(target: Target, *, values: tuple[str, ...] = (), timeout_seconds: int = 120) -> None:
    """Install or upgrade, and wait until the operator is Ready. ``values`` are further ``--set`` settings."""
    # The tag stays when the image changes, so an annotation tells the pods that they run something else now.
    image = [f"image.repository={PREFIX}/operator", f"image.tag={TAG}", "image.pullPolicy=IfNotPresent"]
    settings = [*image, f"podAnnotations.image-fingerprint={image_fingerprint('operator')}", *values]
    args = ["upgrade", "--install", RELEASE, str(CHART), "--namespace", NAMESPACE, "--create-namespace"]
    args.append("--take-ownership")  # of CRDs that were applied without Helm, by OPERATOR=host or for KubeRay
    for setting in settings:
        args += ["--set-string" if setting.startswith("podAnnotations.") else "--set", setting]
    target.helm(*args)
    name = deployment(target)
    try:
        wait = f"--timeout={timeout_seconds}s"
        target.kubectl("rollout", "status", "-n", NAMESPACE, name, wait, timeout=timeout_seconds + 30)
    except LocalKubeError as error:
        msg = f"the operator did not become Ready.\n{diagnose(target)}"
        raise LocalKubeError(msg) from error


def deployment(target: Target) -> str:
    """The operator's Deployment, as kubectl names it."""
    names = target.kubectl("get", "deployment", "-n", NAMESPACE, "-l", SELECTOR, "-o", "name").split()
    if len(names) != 1:
        msg = f"expected one Deployment with {SELECTOR} in {NAMESPACE}, found {names}"
        raise LocalKubeError(msg)
    return names[0]


def diagnose(target: Target) -> str:
    """Pods, events and log of the operator, for an error message."""
    parts = []
    for args in (
        ("get", "pods", "-n", NAMESPACE, "-o", "wide"),
        ("get", "events", "-n", NAMESPACE, "--sort-by=.lastTimestamp"),
        ("logs", "-n", NAMESPACE, "-l", SELECTOR, "--tail=40", "--all-containers"),
    ):
        try:
            parts.append(f"$ kubectl {' '.join(args)}\n" + "\n".join(target.kubectl(*args).splitlines()[-40:]))
        except LocalKubeError as error:
            parts.append(str(error))
    return "\n".join(parts)


def uninstall(target: Target) -> None:
    """Remove the release. Its CRDs stay, since deleting them would delete everybody's RayServices."""
    target.helm("uninstall", RELEASE, "--namespace", NAMESPACE, "--ignore-not-found", "--wait", "--timeout", "60s")
    target.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--wait=false")
