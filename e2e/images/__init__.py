"""The project's images: built from its own Dockerfile with docker or buildah, and brought to a cluster."""

import os
from typing import Final

PREFIX: Final = os.environ.get("IMAGE_PREFIX", "docker.io/rayservice-operator")
TAG: Final = os.environ.get("IMAGE_TAG", "dev")
TARGETS: Final = ("operator", "runtime")
# Gigabytes each, so only built when they are named: for GPUs, and for tests without one.
OPTIONAL: Final = ("llm", "llm-cpu")


def full_name(target: str) -> str:
    """The name under which pods ask for an image."""
    return f"{PREFIX}/{target}:{TAG}"
