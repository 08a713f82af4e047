"""Names, and other strings with a syntax that Kubernetes prescribes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from rayservice_operator.api.names import MAX_CLUSTER_NAME, MAX_SERVICE_NAME
from rayservice_operator.core.violations import Violation

DNS_1035: Final = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
DNS_1123_SUBDOMAIN: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
LABEL_NAME: Final = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")

_LABEL_LENGTH: Final = 63


def service_name(name: str) -> Iterator[Violation]:
    """A RayService's name: its clusters' Services are named after it with up to 16 characters more."""
    return _name(name, MAX_SERVICE_NAME)


def cluster_name(name: str) -> Iterator[Violation]:
    """A RayCluster's name: its Services are named after it with up to 10 characters more."""
    return _name(name, MAX_CLUSTER_NAME)


def _name(name: str, limit: int) -> Iterator[Violation]:
    field = "metadata.name"
    if len(name) > limit:
        yield Violation(
            field, f"has {len(name)} characters", f"Use at most {limit}: names of Services are made from it"
        )
    if not DNS_1035.fullmatch(name):
        yield Violation(
            field,
            f"{name!r} cannot be part of a Service's name",
            "Use lower-case letters, digits and '-'; start with a letter and end with a letter or digit",
        )


def is_label_key(key: str) -> bool:
    """Whether Kubernetes takes ``key`` as the key of a label: an optional DNS prefix, a slash and a name."""
    prefix, slash, name = key.rpartition("/")
    if slash and (len(prefix) > 253 or not DNS_1123_SUBDOMAIN.fullmatch(prefix)):
        return False
    return bool(LABEL_NAME.fullmatch(name))


def is_label_value(value: str) -> bool:
    """Whether Kubernetes takes ``value`` as the value of a label; empty is allowed."""
    return not value or bool(LABEL_NAME.fullmatch(value))


def is_service_name(name: str) -> bool:
    """Whether Kubernetes takes ``name`` as the name of a Service."""
    return len(name) <= _LABEL_LENGTH and bool(DNS_1035.fullmatch(name))
