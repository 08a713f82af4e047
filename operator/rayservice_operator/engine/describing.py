"""What an action is called in messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from rayservice_operator.core.decision import (
    Action,
    Apply,
    AskRoom,
    Create,
    Delete,
    DryRun,
    EnsureSecret,
    JsonPatch,
    MergePatch,
)
from rayservice_operator.core.objects import metadata, name_of


def kind_of(action: Action) -> str:
    """Kind of the object that an action is about."""
    if isinstance(action, AskRoom):
        return "Node"
    return str(action.obj["kind"]) if isinstance(action, Apply | Create | DryRun) else action.ref.kind


def describe(action: Action) -> str:
    """``create Pod ns/name``: for messages."""
    if isinstance(action, Apply | Create | DryRun):
        meta = metadata(action.obj)
        name = name_of(action.obj) or f"{meta.get('generateName', '')}*"
        target = f"{action.obj['kind']} {meta.get('namespace', '')}/{name}"
    elif isinstance(action, AskRoom):
        target = action.key
    else:
        target = f"{action.ref.kind} {action.ref.namespace}/{action.ref.name}"
    return f"{_VERBS[type(action)]} {target}"


_VERBS: Final[Mapping[type[Action], str]] = {
    Apply: "apply",
    Create: "create",
    JsonPatch: "patch",
    MergePatch: "patch",
    Delete: "delete",
    EnsureSecret: "make sure of",
    DryRun: "try out",
    AskRoom: "look for room for",
}
