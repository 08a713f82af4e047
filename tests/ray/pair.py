"""An application of two deployments for tests on a real Ray; runs in Ray's interpreter."""

from __future__ import annotations

import os
from typing import Any

from ray import serve


@serve.deployment(ray_actor_options={"num_cpus": 0.1}, graceful_shutdown_wait_loop_s=0.1)
class E:
    """Behind the ingress."""

    def reconfigure(self, config: dict[str, Any]) -> None:
        """Takes anything."""


@serve.deployment(ray_actor_options={"num_cpus": 0.1}, graceful_shutdown_wait_loop_s=0.1)
class D:
    """The ingress: answers with its process and how often it was reconfigured."""

    def __init__(self, _behind: Any) -> None:
        self._reconfigured = 0

    def reconfigure(self, config: dict[str, Any]) -> None:
        """Counts."""
        self._reconfigured += 1

    async def __call__(self, _request: Any) -> dict[str, Any]:
        """``{"pid", "reconfigured"}``."""
        return {"pid": os.getpid(), "reconfigured": self._reconfigured}


def build(args: dict[str, str]) -> serve.Application:
    """Application builder."""
    return D.bind(E.bind())
