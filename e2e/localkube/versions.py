"""Every version that the local cluster is made of, in this one place."""

from typing import Final

KUBERNETES: Final = "v1.34.4"
"""Also gives the staging modules' version: v0.34.4."""

ETCD: Final = "v3.6.4"
COREDNS: Final = "v1.12.4"
HELM: Final = "v3.20.2"
KWOK: Final = "v0.7.0"
KIND: Final = "v0.30.0"

TRAEFIK: Final = "v3.6.12"
GATEWAY_API: Final = "v1.4.0"
"""What that Traefik is made for; building it checks so."""

PAUSE: Final = "1"
"""Of this project's own pause program (go/pause)."""

DEBIAN_SUITE: Final = "bookworm"
"""What debootstrap makes the base image of, where no container registry can be reached."""


def staging(version: str = KUBERNETES) -> str:
    """The version of the k8s.io/* staging modules that belong to a release of Kubernetes."""
    major, minor, patch = version.removeprefix("v").split(".")
    if major != "1":
        msg = f"don't know how Kubernetes {version} numbers its staging modules"
        raise ValueError(msg)
    return f"v0.{minor}.{patch}"
