"""Building Go programs whose sources are modules of the proxy.

Our own main packages (``go/<name>/main.go``) are built in a module generated in the cache, which requires the pinned
versions. Programs that need nothing of ours (helm, kwok, kubectl) are built by the same means from a one-line tool
requirement, so that the proxy's module is the only source.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from e2e.localkube import versions
from e2e.localkube.errors import LocalKubeError
from e2e.localkube.paths import cache_dir
from e2e.localkube.progress import Step

_SOURCES = Path(__file__).parent / "go"

# All of k8s.io/kubernetes' own staging modules must be named: its go.mod replaces them by paths that exist only in
# its own repository, and replacements don't apply to modules that depend on it.
_STAGING = """
    api apiextensions-apiserver apimachinery apiserver cli-runtime client-go cloud-provider cluster-bootstrap
    code-generator component-base component-helpers controller-manager cri-api cri-client
    csi-translation-lib dynamic-resource-allocation endpointslice externaljwt kms kube-aggregator
    kube-controller-manager kube-proxy kube-scheduler kubectl kubelet metrics mount-utils pod-security-admission
"""

_KUBERNETES_LDFLAGS = (
    f"-X k8s.io/component-base/version.gitVersion={versions.KUBERNETES}"
    f" -X k8s.io/component-base/version.gitMajor={versions.KUBERNETES.removeprefix('v').split('.')[0]}"
    f" -X k8s.io/component-base/version.gitMinor={versions.KUBERNETES.split('.')[1]}"
    f" -X k8s.io/client-go/pkg/version.gitVersion={versions.KUBERNETES}"
)

# Without a cluster helm takes this for Kubernetes' version; unset it would be 1.20, and charts that ask for more fail.
_HELM_LDFLAGS = f"-X helm.sh/helm/v3/internal/version.version={versions.HELM} " + " ".join(
    f"-X helm.sh/helm/v3/pkg/{package}.k8sVersionM{part}={number}"
    for package in ("chartutil", "lint/rules")
    for part, number in zip(("ajor", "inor"), versions.KUBERNETES.removeprefix("v").split(".")[:2], strict=True)
)


def _kubernetes_requirements() -> dict[str, str]:
    staging = versions.staging()
    modules = {f"k8s.io/{name}": staging for name in _STAGING.split()}
    return {"k8s.io/kubernetes": versions.KUBERNETES, **modules}


def _requirements(name: str) -> dict[str, str]:
    match name:
        case "hyperkube":
            return {**_kubernetes_requirements(), "go.etcd.io/etcd/server/v3": versions.ETCD}
        case "kubectl":
            return _kubernetes_requirements()
        case "coredns":
            return {"github.com/coredns/coredns": versions.COREDNS}
        case "helm":
            return {"helm.sh/helm/v3": versions.HELM}
        case "kwok":
            return {"sigs.k8s.io/kwok": versions.KWOK}
        case "kind":
            return {"sigs.k8s.io/kind": versions.KIND}
        case _:
            return {}


PACKAGES = {
    "kubectl": "k8s.io/kubernetes/cmd/kubectl",
    "helm": "helm.sh/helm/v3/cmd/helm",
    "kwok": "sigs.k8s.io/kwok/cmd/kwok",
    "kind": "sigs.k8s.io/kind",
}


def build(name: str, target: Path, step: Step) -> None:
    """Build one program to ``target``."""
    work = cache_dir() / "gobuild" / name
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    package = PACKAGES.get(name, ".")
    requirements = _requirements(name)
    lines = ["module localkube/" + name, "", "go 1.24.0", ""]
    lines += [f"require {module} {version}" for module, version in requirements.items()]
    (work / "go.mod").write_text("\n".join(lines) + "\n")
    if package == ".":
        shutil.copyfile(_SOURCES / name / "main.go", work / "main.go")
    else:
        # Naming the package in a file that is never built keeps `go mod tidy` from dropping its module.
        (work / "tools.go").write_text(f'//go:build tools\n\npackage tools\n\nimport _ "{package}"\n')
    if requirements:
        step.detail = "resolving modules"
        _go(["mod", "tidy", "-e"], work)
    ldflags = "-s -w" + (f" {_KUBERNETES_LDFLAGS}" if name in {"hyperkube", "kubectl"} else "")
    ldflags += f" {_HELM_LDFLAGS}" if name == "helm" else ""
    step.detail = "downloading modules"
    total = len(_go(["list", "-deps", package], work))
    compiled = 0

    def count(_: str) -> None:
        nonlocal compiled
        compiled += 1
        step.detail = f"{compiled} of at most {total} packages compiled"

    _go(["build", "-v", "-trimpath", "-ldflags", ldflags, "-o", str(target), package], work, count)
    step.detail = ""
    shutil.rmtree(work, ignore_errors=True)


def _go(args: list[str], work: Path, each_message: Callable[[str], None] | None = None) -> list[str]:
    """Run go; returns the lines of its stdout. ``each_message`` gets every line of its stderr as it comes."""
    # Without cgo nothing of the machine's C library gets in.
    env = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=mod -buildvcs=false", "GOWORK": "off"}
    messages: list[str] = []
    with (
        tempfile.TemporaryFile("w+") as out,
        subprocess.Popen(
            ["go", *args], cwd=work, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.PIPE, text=True
        ) as child,
    ):
        assert child.stderr is not None
        for line in child.stderr:
            messages.append(line.rstrip())
            if each_message:
                each_message(line)
        if child.wait():
            tail = "\n".join(messages[-20:])
            msg = (
                f"`go {args[0]}` failed in {work}:\n{tail}\n"
                "Check that the Go module proxy can be reached (go env GOPROXY) and that the disk isn't full."
            )
            raise LocalKubeError(msg)
        out.seek(0)
        return out.read().splitlines()
