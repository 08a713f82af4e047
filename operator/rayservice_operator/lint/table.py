"""All rules, in the order of ``docs/lint.md``."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from rayservice_operator.core.findings import Severity
from rayservice_operator.lint.rule import Rule
from rayservice_operator.lint.rules import (
    fields,
    fit,
    health,
    leaving,
    llm,
    ours,
    pairs,
    reach,
    refused,
    room,
    scaling,
    schema,
    secrets,
    tasks,
    unused,
)

UNKNOWN_RULE: Final = "unknown-rule"
IGNORE: Final = "ray.io/lint-ignore"
"""Annotation of a manifest: names of rules, separated by commas, that are not to be told about it."""

_ABOUT_LINT: Final[tuple[Rule, ...]] = (
    Rule(
        "helm-template",
        Severity.ERROR,
        "The file is a Helm template",
        "What it will be is known only when Helm has filled it in.",
        "Run `helm template` and check what it prints: `helm template . | rayservice lint -`.",
        "name: {{ .Release.Name }}",
    ),
    Rule(
        "api-version",
        Severity.ERROR,
        "A version of the API that the operator does not read",
        "Only ray.io/v1 is served; the API server refuses the object.",
        "Write apiVersion: ray.io/v1.",
        "apiVersion: ray.io/v1alpha1",
    ),
    Rule(
        UNKNOWN_RULE,
        Severity.WARNING,
        f"The annotation {IGNORE} names a rule that there is none of",
        "Nothing is switched off by it.",
        "Correct the name, or remove it.",
        f'annotations: {{{IGNORE}: "no-such-rule"}}',
    ),
)

GROUPS: Final[tuple[tuple[str, tuple[Rule, ...]], ...]] = (
    ("What the operator or Ray refuses", (*refused.RULES, *schema.RULES)),
    ("What does not fit on the cluster", (*fit.RULES, *room.RULES)),
    ("Autoscaling and routing", (*scaling.RULES, *ours.RULES)),
    ("Large language models", (*llm.RULES, *pairs.RULES)),
    ("Asynchronous inference", tasks.RULES),
    ("Health checks, thresholds and deadlines", health.RULES),
    ("Pods and replicas that leave", leaving.RULES),
    ("Ports, proxies and versions", reach.RULES),
    ("Secrets", secrets.RULES),
    ("What nobody reads", (*unused.RULES, *fields.RULES)),
    ("About the check itself", _ABOUT_LINT),
)
"""Headings of the documentation, and the rules below each."""

RULES: Final[tuple[Rule, ...]] = tuple(rule for _, rules in GROUPS for rule in rules)

BY_NAME: Final[Mapping[str, Rule]] = MappingProxyType({rule.name: rule for rule in RULES})
