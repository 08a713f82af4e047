"""Serve configs for tests."""

from __future__ import annotations

import json

from rayservice_operator.core.decision import ServePush


def payload(greeting: str = "hi", *, import_path: str = "serve_runtime.quickstart:app", **deployment: object) -> str:
    """One application named ``q``."""
    deployments = [{"name": "Greeter", "user_config": {"greeting": greeting}, **deployment}]
    return json.dumps(
        {"applications": [{"name": "q", "route_prefix": "/", "import_path": import_path, "deployments": deployments}]}
    )


def push(config_hash: str = "h1", attempt: str = "", body: str | None = None) -> ServePush:
    """A push of ``body`` (default: a good one)."""
    return ServePush(config_hash, body if body is not None else payload(config_hash), attempt)


BAD_IMPORT = json.dumps(
    {
        "applications": [
            {
                "name": "q",
                "import_path": "m:app",
                "deployments": [
                    {
                        "name": "D",
                        "autoscaling_config": {"policy": {"policy_function": "nomod.policies:f"}},
                        "user_config": {"password": "hunter2"},
                    }
                ],
            }
        ]
    }
)
NO_IMPORT_PATH = json.dumps({"applications": [{"name": "q", "args": {"password": "hunter2"}}]})
