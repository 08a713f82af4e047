"""Rules whose breaches the model of the serve config finds (``serveconfig.check``): its names, with what to tell.

The severity of a finding is the model's; the one here is the usual one.
"""

from __future__ import annotations

from typing import Final

from rayservice_operator.core.findings import Severity
from rayservice_operator.lint.rule import Rule
from rayservice_operator.serveconfig import check

RULES: Final[tuple[Rule, ...]] = (
    Rule(
        check.UNKNOWN_KEY,
        Severity.WARNING,
        "A key that Ray does not know",
        "Ray ignores it without a word in most places: the service runs, only not as written. Where Ray refuses it, "
        "this is an error.",
        "Correct the key, or remove it.",
        "deployments:\n  - name: A\n    max_replica_per_node: 1   # max_replicas_per_node",
    ),
    Rule(
        check.NEWER_FIELD,
        Severity.WARNING,
        "A field that the cluster's version of Ray does not know yet",
        "The version in rayVersion ignores it, or refuses the config.",
        "Use a newer Ray, or remove the field.",
        "rayVersion: 2.46.0   # and max_surge_percent: 50",
    ),
    Rule(
        check.DEPRECATED_FIELD,
        Severity.WARNING,
        "A field that is to go",
        "It works in this version, and may not in the next.",
        "Use what the finding names in its place.",
        "autoscaling_config: {smoothing_factor: 0.5}",
    ),
    Rule(
        check.CONVERTED_VALUE,
        Severity.WARNING,
        "A value of another type, which Ray converts",
        "It works by luck, and newer versions of Ray refuse it.",
        "Write it as the field's type.",
        'num_replicas: "2"',
    ),
    Rule(
        check.WRONG_TYPE,
        Severity.ERROR,
        "A value of a type that Ray refuses",
        "Ray answers with HTTP 400, and nothing changes.",
        "Write what the finding asks for.",
        "max_queued_requests: many",
    ),
    Rule(
        check.BAD_VALUE,
        Severity.ERROR,
        "A value that Ray refuses, by itself or together with others",
        "Ray answers with HTTP 400 or 500 and nothing changes, or the deployment fails whatever the code is.",
        "Write what the finding asks for.",
        "num_replicas: 2\nautoscaling_config: {max_replicas: 4}   # one or the other",
    ),
    Rule(
        check.MISSING_FIELD,
        Severity.ERROR,
        "A field that has to be there is not",
        "Ray answers with HTTP 400, and nothing changes.",
        "Add it.",
        "deployments:\n  - num_replicas: 2   # no name",
    ),
)
