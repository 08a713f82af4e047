"""The ``ray start`` line of a pod and how it is joined with the command that the user gave the container.

Contract: KubeRay 1.7 (flags sorted, ``true`` a bare flag, ``false`` left out, user command first).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any, Final

from rayservice_operator.api import names
from rayservice_operator.cluster import gcs
from rayservice_operator.cluster.resources import with_resources
from rayservice_operator.cluster.view import ClusterView, GroupView

VALUED_BOOLEANS: Final = frozenset({"log-color", "include-dashboard", "include-log-monitor"})
"""Flags of ``ray start`` that take true or false as a value; every other boolean is a switch."""

_SHELL: Final = re.compile(r"(?:/\S*/)?(?:ba|da|z|k)?sh")
_RUNS_SCRIPT: Final = re.compile(r"-[a-z]*c[a-z]*")


def start_params(view: ClusterView, group: GroupView) -> dict[str, str]:
    """Every parameter of ``ray start`` for a pod of this group, the user's own first."""
    params = {**gcs.start_params(view, group), **with_resources(group.spec.ray_start_params, group)}
    if group.is_head:
        params.setdefault("dashboard-host", "0.0.0.0")
        if view.autoscaling:
            params["no-monitor"] = "true"  # the sidecar is the autoscaler
    else:
        params.setdefault("address", f"{view.head_fqdn}:{view.gcs_port}")
    params.setdefault("metrics-export-port", str(names.DEFAULT_HEAD_PORTS["metrics"]))
    params.setdefault("dashboard-agent-listen-port", str(names.AGENT_PORT))
    params["block"] = "true"  # the container lives as long as Ray does
    return params


def ray_start(params: Mapping[str, str], *, head: bool) -> str:
    """One shell line. Values are the user's and may name environment variables, so they are not quoted again."""
    words = ["ray start", "--head"] if head else ["ray start"]
    for key, value in sorted(params.items()):
        if key in VALUED_BOOLEANS or value.lower() not in {"true", "false"}:
            words.append(f"--{key}={value}")
        elif value.lower() == "true":
            words.append(f"--{key}")
    return " ".join(words)


def overwritten(view: ClusterView, group: GroupView) -> bool:
    """Whether the user's command stays as it is (annotation on the RayCluster or on the pod template)."""
    template: Mapping[str, str] = (group.template.get("metadata") or {}).get("annotations") or {}
    return any(
        str(annotations.get(names.OVERWRITE_CONTAINER_CMD, "")).lower() == "true"
        for annotations in (view.annotations, template)
    )


def generates_command(view: ClusterView, group: GroupView) -> bool:
    """Whether the operator writes the command. One that says ``ray start`` is the user's own, as with KubeRay."""
    return not overwritten(view, group) and "ray start" not in _user_line(group)


def container_command(view: ClusterView, group: GroupView, line: str, before: str = "") -> dict[str, list[str]]:
    """``command`` and ``args`` of the Ray container; empty when the user's own stay.

    ``before`` is shell text that is put before ``line``.
    """
    if not generates_command(view, group):
        return {}
    user = _user_line(group)
    generated = f"ulimit -n ${{RAY_START_ULIMIT_OPEN_FILES:-{view.config.ulimit_open_files}}}; {before}{line}"
    return {
        "command": ["/bin/bash", "-lc" if view.config.login_shell else "-c", "--"],
        "args": [f"{user} && {generated}" if user else generated],
    }


def _user_line(group: GroupView) -> str:
    return user_line(
        [str(word) for word in group.ray_container.get("command") or ()],
        [str(word) for word in group.ray_container.get("args") or ()],
    )


def user_line(command: Sequence[str], args: Sequence[str]) -> str:
    """The user's command and arguments as one shell line.

    Words are joined unquoted, because people write whole lines into them (``["echo 1; echo 2"]``), except after
    ``sh -c``: there the next word is one script and stays one.
    """
    words = [*command, *args]
    if len(words) > 2 and _SHELL.fullmatch(words[0]) and _RUNS_SCRIPT.fullmatch(words[1]):
        return shlex.join(words)
    return " ".join(word.strip() for word in words)


def parsed_port(params: Mapping[str, Any], key: str, default: int) -> int:
    """A port among ``rayStartParams``; the default if it is absent or not a number (an env variable, say)."""
    text = str(params.get(key, ""))
    return int(text) if text.isdigit() else default
