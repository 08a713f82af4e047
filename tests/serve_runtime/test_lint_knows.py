"""What the operator's lint knows of serve_runtime's settings is what they are."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from pydantic import BaseModel

from rayservice_operator.lint.rules import ours
from serve_runtime.autoscaling import AnyApplicationPolicy, AnyPolicy, Window
from serve_runtime.routing import settings

POLICIES = {model.model_fields["type"].default: model for model in get_args(get_args(AnyPolicy)[0])}
OF_APPLICATIONS = {model.model_fields["type"].default: model for model in get_args(get_args(AnyApplicationPolicy)[0])}
ROUTERS = {"StickyRouter": settings.Sticky, "PrefixRouter": settings.Prefix, "KvCacheRouter": settings.KvCache}


@pytest.mark.parametrize(
    ("known", "models"),
    [
        (ours.POLICIES, POLICIES),
        (ours.OF_APPLICATIONS, OF_APPLICATIONS),
        (ours.ROUTERS, ROUTERS),
        ({"window": ours.WINDOW}, {"window": Window}),
    ],
    ids=["policies", "policies of applications", "routers", "windows"],
)
def test_lint_knows_every_setting(known: Any, models: dict[str, type[BaseModel]]) -> None:
    assert {name: set(settings) for name, settings in known.items()} == {
        name: set(model.model_fields) for name, model in models.items()
    }
