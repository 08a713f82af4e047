"""Building Go programs whose sources are modules of the proxy.

Our own main packages (``go/<name>/main.go``) are built in a module generated in the cache, which requires the pinned
versions. Programs that need nothing of ours (helm, kwok, kubectl) are built by the same means from a one-line tool
requirement, so that the proxy's module is the only source.
"""

import shutil
from pathlib import Path

from e2e.localkube import gotool, versions
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

_TRAEFIK, _LEGO = "github.com/traefik/traefik/v3", "github.com/go-acme/lego/v4"
_TRAEFIK_LDFLAGS = f"-X {_TRAEFIK}/pkg/version.Version={versions.TRAEFIK.removeprefix('v')}"


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
    "traefik": f"{_TRAEFIK}/cmd/traefik",
}


def build(name: str, target: Path, step: Step) -> None:
    """Build one program to ``target``."""
    work = cache_dir() / "gobuild" / name
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    recipe = _traefik if name == "traefik" else _required
    recipe(name, target, work, step)
    shutil.rmtree(work, ignore_errors=True)


def _required(name: str, target: Path, work: Path, step: Step) -> None:
    """Build from a generated module that requires the program's, or from our own main package in one."""
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
        gotool.run(["mod", "tidy", "-e"], work)
    ldflags = "-s -w" + (f" {_KUBERNETES_LDFLAGS}" if name in {"hyperkube", "kubectl"} else "")
    ldflags += f" {_HELM_LDFLAGS}" if name == "helm" else ""
    gotool.build(package, target, work, step, ldflags=ldflags)


def _traefik(name: str, target: Path, work: Path, step: Step) -> None:
    """Build from the program's own module, in the folder where Go's cache has it.

    Its go.mod replaces modules by forks, and replacements count in the main module only. A copy of that go.mod replaces
    one more: lego, which gets certificates, by itself without its clients of some two hundred DNS services. They are a
    third of all packages, and no certificate is asked for here.
    """
    step.detail = "downloading modules"
    source = gotool.download(_TRAEFIK, versions.TRAEFIK).folder
    for file in ("go.mod", "go.sum"):
        (work / file).write_bytes((source / file).read_bytes())
    flags = f"-mod=readonly -modfile={work / 'go.mod'}"
    asked = ["list", "-m", "-f", "{{.Version}}", _LEGO, "sigs.k8s.io/gateway-api"]
    lego_version, gateway_api = gotool.run(asked, source, flags=flags)
    if gateway_api != versions.GATEWAY_API:
        msg = f"{name} {versions.TRAEFIK} is made for Gateway API {gateway_api}: versions.py must say so"
        raise LocalKubeError(msg)
    lego, providers = work / "lego", "providers/dns"
    gotool.download(_LEGO, lego_version).extract(lego, without=providers)
    shutil.copytree(_SOURCES / "lego-dns", lego / providers)
    gotool.run(["mod", "edit", f"-replace={_LEGO}={lego}", str(work / "go.mod")], work)
    gotool.build(PACKAGES[name], target, source, step, ldflags=f"-s -w {_TRAEFIK_LDFLAGS}", flags=flags)
