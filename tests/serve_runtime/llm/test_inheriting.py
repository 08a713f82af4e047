"""What replicas of ray.serve.llm are handed of the application's environment, on a real Ray without vLLM."""

from __future__ import annotations

import json
import os
import subprocess

from tests.ray.real_ray import NO_TOKEN, ROOT, ray_python

# As in the task that builds an application: Ray Serve gives it the application's ``runtime_env``.
_BUILD = """
import json, ray
from serve_runtime.llm.application import inheriting
from serve_runtime.llm.args import Llm

model = Llm.model_validate({"id": "tiny", "env": {"TOKEN": "of the model"}})
before = inheriting(model).env
ray.init(num_cpus=1, include_dashboard=False, configure_logging=False, log_to_driver=False)

@ray.remote(runtime_env={"env_vars": {"TOKEN": "of the application", "AWS_ENDPOINT_URL": "http://store"}})
def build():
    return inheriting(model).env

@ray.remote
def build_without():
    return inheriting(model).env

print(json.dumps([before, ray.get(build.remote()), ray.get(build_without.remote())]))
"""


def test_variables_of_the_application_are_handed_on_behind_the_models_own() -> None:
    """Without Ray (lint) and without a ``runtime_env`` there are none."""
    ended = subprocess.run(
        [str(ray_python()), "-c", _BUILD],
        env={**os.environ, **NO_TOKEN, "RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    own = {"TOKEN": "of the model"}
    assert json.loads(ended.stdout.splitlines()[-1]) == [own, {**own, "AWS_ENDPOINT_URL": "http://store"}, own]
