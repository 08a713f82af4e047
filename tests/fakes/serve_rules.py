"""What Ray Serve takes, refuses and echoes of a config: the rules of the fake that need no state (Ray 2.60)."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

_APP_FIELDS = ("name", "route_prefix", "import_path", "runtime_env", "args", "deployments", "autoscaling_policy",
               "logging_config", "external_scaler_enabled")  # fmt: skip
_DEPLOYMENT_FIELDS = ("name", "num_replicas", "max_ongoing_requests", "max_queued_requests", "user_config",
                      "autoscaling_config", "graceful_shutdown_wait_loop_s", "graceful_shutdown_timeout_s",
                      "health_check_period_s", "health_check_timeout_s", "ray_actor_options",
                      "max_replicas_per_node", "rolling_update_percentage", "max_surge_percent")  # fmt: skip
_FLOATS = frozenset({"graceful_shutdown_wait_loop_s", "graceful_shutdown_timeout_s", "health_check_period_s",
                     "health_check_timeout_s"})  # fmt: skip
_CODE_FIELDS = ("import_path", "runtime_env", "args", "autoscaling_policy")

Answer = tuple[int, str]
"""HTTP status and body."""


def code(config: Mapping[str, Any]) -> Any:
    """What a change of rebuilds the application and replaces its replicas."""
    return [config.get(key) or None for key in _CODE_FIELDS]


def echo(app: Mapping[str, Any]) -> dict[str, Any]:
    """``deployed_app_config``: known keys that were set, numbers in their field's type."""
    result = {key: copy.deepcopy(app[key]) for key in _APP_FIELDS if key in app}
    if "deployments" in result:
        result["deployments"] = [
            {key: float(d[key]) if key in _FLOATS else d[key] for key in _DEPLOYMENT_FIELDS if key in d}
            for d in result["deployments"]
        ]
    return result


def problem(config: Any) -> Answer | None:
    """The 400 or 500 that Ray gives before it changes anything."""
    if not isinstance(config, dict):
        return _invalid("", "Input should be a valid dictionary or instance of ServeDeploySchema", config)
    applications = config.get("applications")
    if not isinstance(applications, list):
        return _invalid("applications", "Field required", config)
    names = [app.get("name", "default") for app in applications]
    routes = [app.get("route_prefix", "/") for app in applications]
    if len(set(names)) < len(names):
        return _invalid("applications", "Value error, Found multiple configs for applications", applications)
    if len(set(routes)) < len(routes):
        return _invalid("applications", "Value error, Found duplicate applications for route prefix", applications)
    for index, app in enumerate(applications):
        if not isinstance(app.get("import_path"), str):
            return _invalid(f"applications.{index}.import_path", "Field required", app)
        for number, deployment in enumerate(app.get("deployments") or ()):
            if deployment.get("num_replicas") == 0:
                where = f"applications.{index}.deployments.{number}.num_replicas.constrained-int"
                return _invalid(where, "Input should be greater than 0", 0)
            policy = (deployment.get("autoscaling_config") or {}).get("policy") or {}
            if str(policy.get("policy_function", "")).startswith("nomod"):
                return 500, _IMPORT_TRACEBACK
    return None


_IMPORT_TRACEBACK = (
    "Traceback (most recent call last):\n"
    '  File "optional_utils.py", line 241, in decorator\n    return await f(self, *args, **kwargs)\n'
    '  File "serve_head.py", line 130, in put_all_applications\n'
    "    config: ServeDeploySchema = ServeDeploySchema.model_validate(\n"
    '  File "<frozen importlib._bootstrap>", line 1140, in _find_and_load_unlocked\n'
    "ModuleNotFoundError: No module named 'nomod'\n"
)


def _invalid(where: str, complaint: str, value: Any) -> Answer:
    location = f"{where}\n" if where else ""
    return 400, (
        f"1 validation error for ServeDeploySchema\n{location}"
        f"  {complaint} [type=value_error, input_value={value!r}, input_type={type(value).__name__}]\n"
        "    For further information visit https://errors.pydantic.dev/2/v/value_error"
    )
