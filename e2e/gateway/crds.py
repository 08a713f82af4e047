"""The Gateway API's custom resources, from its Go module."""

import shutil
from pathlib import Path

from e2e.cluster import Target
from e2e.localkube import gotool, versions
from e2e.localkube.paths import cache_dir
from e2e.localkube.progress import Steps

_CHANNEL = Path("config/crd/standard")


def install(target: Target, steps: Steps) -> None:
    """Apply the standard channel: GatewayClass, Gateway, HTTPRoute and those that Traefik waits for beside them."""
    with steps.step(f"Gateway API {versions.GATEWAY_API}"):
        # On the server's side: HTTPRoute's schema is larger than the annotation in which the client would keep it.
        target.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(_manifests()))
        target.kubectl("wait", "--for=condition=Established", "--timeout=60s", "-f", str(_manifests()))


def _manifests() -> Path:
    """A folder with one manifest for each kind, cached."""
    folder = cache_dir() / "crds" / f"gateway-api-{versions.GATEWAY_API}"
    if not folder.exists():
        module = gotool.download("sigs.k8s.io/gateway-api", versions.GATEWAY_API)
        temporary = folder.with_name(f"{folder.name}.new")
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        for path in (module.folder / _CHANNEL).glob("gateway.networking.k8s.io_*.yaml"):
            shutil.copyfile(path, temporary / path.name)
        temporary.replace(folder)
    return folder
