"""Rules whose breaches the model of the serve config finds (``serveconfig.check``): its names, with what to tell.

The severity of a finding is the model's; the one here is the usual one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from rayservice_operator.core.findings import Finding, Path, Severity
from rayservice_operator.lint.reading import Map, as_map
from rayservice_operator.lint.rule import Rule
from rayservice_operator.lint.subject import Subject
from rayservice_operator.serveconfig import check, rules


def findings(subject: Subject, ray_version: str | None) -> Iterator[Finding]:
    """What the model says about the serve config, and about the options of deployments among a builder's arguments."""
    if subject.document is None:
        return
    yield from check.check(subject.document, ray_version)
    for deployment in subject.deployments:
        if deployment.workload.llm is not None:
            yield from _options(deployment.data, deployment.path, ray_version)
    for app in subject.apps:
        args = as_map(app.data.get("args"))
        if any(deployment.workload.llm is not None for deployment in subject.by_app[app.path]):
            key = "ingress_deployment_config"
            yield from _options(as_map(args.get(key)), app.at("args", key), ray_version)


_STAND_IN: Final[Path] = (*check.ROOT, "applications", 0, "deployments", 0)


def _options(data: Map, path: Path, ray_version: str | None) -> Iterator[Finding]:
    """``ray.serve.llm`` hands them to ``serve.deployment``: they are judged as an entry of ``deployments`` would be."""
    if not data:
        return
    entry = {"name": "model", **data}
    application = {"name": "default", "import_path": "module:app", "deployments": [entry]}
    for finding in check.check({"applications": [application]}, ray_version):
        if finding.path[: len(_STAND_IN)] == _STAND_IN:
            yield replace(finding, path=(*path, *finding.path[len(_STAND_IN) :]))


RULES: Final[tuple[Rule, ...]] = (
    Rule(
        rules.UNKNOWN_KEY,
        Severity.WARNING,
        "A key that Ray does not know",
        "Ray ignores it without a word in most places: the service runs, only not as written. Where Ray refuses it, "
        "this is an error.",
        "Correct the key, or remove it.",
        "deployments:\n  - name: A\n    max_replica_per_node: 1   # max_replicas_per_node",
    ),
    Rule(
        rules.NEWER_FIELD,
        Severity.WARNING,
        "A field that the cluster's version of Ray does not know yet",
        "The version in rayVersion ignores it, or refuses the config.",
        "Use a newer Ray, or remove the field.",
        "rayVersion: 2.46.0   # and max_surge_percent: 50",
    ),
    Rule(
        rules.DEPRECATED_FIELD,
        Severity.WARNING,
        "A field that is to go",
        "It works in this version, and may not in the next.",
        "Use what the finding names in its place.",
        "autoscaling_config: {smoothing_factor: 0.5}",
    ),
    Rule(
        rules.CONVERTED_VALUE,
        Severity.WARNING,
        "A value of another type, which Ray converts",
        "It works by luck, and newer versions of Ray refuse it.",
        "Write it as the field's type.",
        'num_replicas: "2"',
    ),
    Rule(
        rules.WRONG_TYPE,
        Severity.ERROR,
        "A value of a type that Ray refuses",
        "Ray answers with HTTP 400, and nothing changes.",
        "Write what the finding asks for.",
        "max_queued_requests: many",
    ),
    Rule(
        rules.BAD_VALUE,
        Severity.ERROR,
        "A value that Ray refuses, by itself or together with others",
        "Ray answers with HTTP 400 or 500 and nothing changes, or the deployment fails whatever the code is.",
        "Write what the finding asks for.",
        "num_replicas: 2\nautoscaling_config: {max_replicas: 4}   # one or the other",
    ),
    Rule(
        rules.MISSING_FIELD,
        Severity.ERROR,
        "A field that has to be there is not",
        "Ray answers with HTTP 400, and nothing changes.",
        "Add it.",
        "deployments:\n  - num_replicas: 2   # no name",
    ),
)
