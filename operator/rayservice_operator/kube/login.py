"""How to reach the API server: kopf's own login helpers, so that kopf and our client always agree."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping

import kopf


class NoCredentials(Exception):  # noqa: N818
    """Neither a service account nor a kubeconfig was found."""


def login(settings: kopf.OperatorSettings | None = None) -> kopf.ConnectionInfo:
    """Connection settings of this process: the pod's service account, else the kubeconfig.

    Reads the files again at each call: service account tokens rotate. ``KUBECONFIG`` set by hand wins over the
    service account, as with kubectl. Raises NoCredentials.
    """
    settings = settings or kopf.OperatorSettings()
    if os.environ.get("KUBECONFIG"):
        order = (kopf.login_with_kubeconfig, kopf.login_with_service_account)
    else:
        order = (kopf.login_with_service_account, kopf.login_with_kubeconfig)
    for helper in order:
        try:
            info = helper(settings=settings)
        except (OSError, KeyError, kopf.LoginError) as error:
            raise NoCredentials(f"the kubeconfig cannot be used: {error}") from error
        if info is not None:
            return _by_address(info, os.environ)
    raise NoCredentials(
        "no way to the Kubernetes API: run in a pod with a service account, or set KUBECONFIG to a kubeconfig file"
    )


def _by_address(info: kopf.ConnectionInfo, env: Mapping[str, str]) -> kopf.ConnectionInfo:
    """In a pod, the API server's address instead of its DNS name: a broken cluster DNS must not stop the operator."""
    host, port = env.get("KUBERNETES_SERVICE_HOST"), env.get("KUBERNETES_SERVICE_PORT", "443")
    if not host or info.server != "https://kubernetes.default.svc":
        return info
    return dataclasses.replace(info, server=f"https://{f'[{host}]' if ':' in host else host}:{port}")
