"""Says what a version of Ray Serve does with configs; runs under a Python that has it, never imports the project.

Reads one JSON question a line, answers each with one JSON line. ``{"fields": [class, …]}`` asks for names of fields,
``{"judge": config}`` whether it is refused: ``{"refused": null}``, or ``{"refused": {"by": …, "paths": [[…], …],
"said": …}}`` with ``by`` being ``schema`` (the dashboard answers HTTP 400, or 500 where it raises
something else) or ``deploy`` (accepted, then DEPLOY_FAILED whatever the code is). The second is found by what the
controller does with the options of each deployment once it has built the application: the same functions of Ray are
called here, on deployments whose code sets nothing. ``import`` stands for code that is not on this machine.
"""

# ruff: noqa: E402
import copy
import json
import sys
import warnings

warnings.simplefilter("ignore")

from ray._common.utils import import_module_and_attr
from ray.runtime_env import RuntimeEnv
from ray.serve import config, schema
from ray.serve._private.application_state import override_deployment_info
from ray.serve._private.config import DeploymentConfig, ReplicaConfig
from ray.serve._private.deployment_info import DeploymentInfo

import ray
from ray import cloudpickle

# Configs are judged before and after code is pickled, never by it; it takes longer than all the rest.
cloudpickle.dumps = lambda *_, **__: b"code"


class Code:
    """A deployment that sets nothing."""


PLAIN = DeploymentInfo(
    deployment_config=DeploymentConfig(),
    replica_config=ReplicaConfig.create(Code),
    start_time_ms=0,
    deployer_job_id="",
)
"""To be copied: not every version of Ray does so before it changes something."""


def refusal(by, error):
    paths = []
    if hasattr(error, "errors") and callable(error.errors):
        paths = [[step for step in item["loc"] if not isinstance(step, bytes)] for item in error.errors()]
    if isinstance(error, ImportError) or any(text in str(error) for text in ("No module named", "module '")):
        by = "import"
    return {"by": by, "paths": paths, "said": f"{type(error).__name__}: {error}"[:2000]}


def judge(document):
    try:
        validate = getattr(schema.ServeDeploySchema, "model_validate", None) or schema.ServeDeploySchema.parse_obj
        deploy = validate(document)
    except Exception as error:  # the dashboard answers whatever it is
        return refusal("schema", error)
    try:
        for application in deploy.applications:
            RuntimeEnv(**application.runtime_env)
            if getattr(application, "autoscaling_policy", None) is not None:
                config.AutoscalingPolicy(**application.autoscaling_policy)
            for deployment in application.deployments:
                actors = getattr(deployment, "deployment_actors", None)
                for actor in actors if isinstance(actors, list) else []:
                    if isinstance(actor, dict) and isinstance(actor.get("actor_class"), str):
                        import_module_and_attr(actor["actor_class"])
            names = {deployment.name for deployment in application.deployments}
            for done in override_deployment_info({name: copy.deepcopy(PLAIN) for name in names}, application).values():
                RuntimeEnv(**(done.replica_config.ray_actor_options.get("runtime_env") or {}))
    except Exception as error:  # the controller turns whatever it is into DEPLOY_FAILED
        return refusal("deploy", error)
    return None


def fields(classes):
    found = {}
    for name in classes:
        model = getattr(schema, name, None) or getattr(config, name, None)
        if model is not None:
            found[name] = sorted(getattr(model, "model_fields", None) or model.__fields__)
    return found


def answer(question):
    if "judge" in question:
        return {"refused": judge(question["judge"])}
    return {"fields": fields(question["fields"])}


def main():
    answers = sys.stdout
    sys.stdout = sys.stderr
    print(json.dumps({"version": ray.__version__}), file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line)), default=str), file=answers, flush=True)


main()
