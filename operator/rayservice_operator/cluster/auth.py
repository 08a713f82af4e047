"""Ray's token authentication: the secret and the variables that carry the token (Ray ≥ 2.52)."""

from __future__ import annotations

from typing import Any, Final

from rayservice_operator.api import names
from rayservice_operator.api.options import AuthMode
from rayservice_operator.cluster.view import ClusterView
from rayservice_operator.core.decision import EnsureSecret
from rayservice_operator.core.objects import Ref, owner_reference

TOKEN_KEY: Final = "auth_token"
"""Key of the token in the Secret."""


def enabled(view: ClusterView) -> bool:
    """Whether Ray's endpoints ask for a token."""
    options = view.spec.auth_options
    return options is not None and options.mode is AuthMode.TOKEN


def secret_name(view: ClusterView) -> str:
    """The Secret with the token: the user's, else one named as the cluster."""
    options = view.spec.auth_options
    return (options.secret_name if options else "") or view.name


def env(view: ClusterView) -> list[dict[str, Any]]:
    """Variables for every container that talks to Ray."""
    if not enabled(view):
        return []
    reference = {"name": secret_name(view), "key": TOKEN_KEY}
    return [
        {"name": "RAY_AUTH_MODE", "value": "token"},
        {"name": "RAY_AUTH_TOKEN", "valueFrom": {"secretKeyRef": reference}},
    ]


def secret(view: ClusterView) -> EnsureSecret | None:
    """Make the cluster's own Secret; nothing when the user names one, which is then the user's to make."""
    if not enabled(view) or secret_name(view) != view.name:
        return None
    return EnsureSecret(
        ref=Ref("v1", "Secret", view.namespace, view.name),
        key=TOKEN_KEY,
        labels={names.CLUSTER: view.name, names.CREATED_BY: names.CREATED_BY_VALUE},
        owner=owner_reference(view.obj),
    )
