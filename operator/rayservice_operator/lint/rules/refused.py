"""What the operator itself refuses (``api.validation``), as findings: each refusal gets the name of a rule.

The checks are not repeated here; which rule a refusal belongs to is told by the field it is about.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

from rayservice_operator.api.validation.unavailable import PROBLEM as UNAVAILABLE
from rayservice_operator.core.findings import Finding, Path, Severity
from rayservice_operator.core.objects import Manifest
from rayservice_operator.core.violations import Violation
from rayservice_operator.lint.reading import as_text
from rayservice_operator.lint.rule import Rule

FIELD_TYPE: Final = "field-type"

_APP: Final = r"spec\.serveConfigV2\.applications\[\d+\]\."

# Field of the refusal and words of its problem -> rule; the first that fits.
_RULE_BY_FIELD: Final[tuple[tuple[str, str, str], ...]] = (
    (f"{_APP}import_path", "", "import-path"),
    (f"{_APP}route_prefix", "as that of", "route-clash"),
    (f"{_APP}route_prefix", "", "route-prefix"),
    (f"{_APP}name", "more than one application", "duplicate-name"),
    (f"{_APP}(?:host|port)", "", "application-http-options"),
    (r"spec\.serveConfigV2.*", "", "serve-config-shape"),
    (r".*\.groupName", "also the name of", "duplicate-name"),
    (r".*", UNAVAILABLE, "not-available"),
    (r".*\.groupName", "", "group-name"),
    (r".*\]\.(?:replicas|minReplicas|maxReplicas|idleTimeoutSeconds|suspend)", "", "group-size"),
    (r".*(?:autoscalerOptions|AUTOSCALER_|RAY_enable_autoscaler_v2|restartPolicy).*", "", "autoscaler-options"),
    (r".*(?:gcsFaultTolerance|ft-enabled|REDIS_|redis-).*", "", "fault-tolerance"),
    (r".*(?:GroupSpec|workerGroupSpecs\[\d+\])\.(?:rayStartParams|resources|labels).*", "", "start-params"),
    (r".*\.rayVersion", "", "authentication"),
    (r".*\.template.*", "", "pod-template"),
    (r"spec\.upgradeStrategy\.analysis.*", "", "analysis"),
    (r".*(?:upgradeStrategy|enableInTreeAutoscaling).*", "", "upgrade-strategy"),
    (r".*(?:[sS]erviceType|[sS]erveService|headService).*", "", "service-template"),
    (r"metadata.*", "", "metadata"),
)
_ANY_OTHER: Final = "invalid-field"
_COMPILED: Final = tuple((re.compile(field), words, rule) for field, words, rule in _RULE_BY_FIELD)


def findings(manifest: Manifest, violations: Iterable[Violation], rule: str = "") -> Iterator[Finding]:
    """Each refusal as a finding. ``rule``: the one that all belong to, where the field does not tell."""
    for violation in violations:
        name = rule or _rule_of(violation)
        yield Finding(name, Severity.ERROR, path_of(violation.field, manifest), violation.problem, violation.fix)


def _rule_of(violation: Violation) -> str:
    return next(
        (rule for field, words, rule in _COMPILED if field.fullmatch(violation.field) and words in violation.problem),
        _ANY_OTHER,
    )


_STEP: Final = re.compile(r"\[([^\]]*)\]|\.?([^.\[\]]+)")


def path_of(field: str, manifest: Any) -> Path:
    """A field as kubectl writes it as a path into the manifest; an entry of a list may be called by its name.

    >>> path_of("spec.env[A].value", {"spec": {"env": [{"name": "A", "value": "x"}]}})
    ('spec', 'env', 0, 'value')
    """
    path: list[str | int] = []
    value = manifest
    for bracket, name in _STEP.findall(field):
        step: str | int = name or (int(bracket) if bracket.isdigit() else bracket)
        if isinstance(value, list) and isinstance(step, str):
            step = next((i for i, item in enumerate(value) if _name(item) == step), step)
        path.append(step)
        if isinstance(value, dict):
            value = value.get(step, value.get(str(step)))
        elif isinstance(value, list) and isinstance(step, int) and step < len(value):
            value = value[step]
        else:
            value = None
    return tuple(path)


def _name(item: Any) -> str:
    return as_text(item.get("name")) if isinstance(item, dict) else ""


def _refusal(name: str, title: str, why: str, fix: str, example: str) -> Rule:
    return Rule(name, Severity.ERROR, title, why, fix, example)


RULES: Final[tuple[Rule, ...]] = (
    _refusal(
        "yaml",
        "The file or the serve config is no YAML that can be used",
        "Nothing in it can be read: a syntax error, a key that is there twice, aliases that grow without end.",
        "Correct the place that the finding names.",
        "applications:\n\t- name: a   # a tab",
    ),
    _refusal(
        FIELD_TYPE,
        "A field has the wrong type",
        "The API server refuses the object, or the operator cannot read it.",
        "Write what the finding asks for.",
        "replicas: two",
    ),
    _refusal(
        "serve-config-shape",
        "serveConfigV2 has no applications that could be recognised",
        "Ray refuses it whole.",
        "Write applications: with a list of mappings that have name and import_path.",
        "serveConfigV2: |\n  import_path: app:app",
    ),
    _refusal(
        "import-path",
        "An import_path is missing or is none",
        "Ray refuses the config with HTTP 400.",
        "Write module:application.",
        "import_path: my_app",
    ),
    _refusal(
        "route-clash",
        "Two applications have the same route_prefix",
        "Ray refuses the config. A route_prefix that is not set is /.",
        "Give each a prefix of its own; null for one that only others call.",
        "applications:\n  - {name: a, import_path: a:app}\n  - {name: b, import_path: b:app}",
    ),
    _refusal(
        "route-prefix",
        "A route_prefix that Ray refuses",
        "It must begin with a slash, not end with one, and have no wildcard; else the application fails to deploy.",
        "Write for example /app.",
        "route_prefix: app/",
    ),
    _refusal(
        "duplicate-name",
        "Two applications or two worker groups have the same name",
        "Ray and the operator tell them apart by name.",
        "Give each a name of its own.",
        "applications:\n  - {name: a, import_path: a:app}\n  - {name: a, import_path: b:app, route_prefix: /b}",
    ),
    _refusal(
        "application-http-options",
        "host or port of one application",
        "All applications share the proxies; Ray refuses it.",
        "Write http_options beside applications.",
        "applications:\n  - {name: a, import_path: a:app, port: 9000}",
    ),
    _refusal(
        "group-name",
        "A worker group's name cannot be used",
        "It is part of the pods' names and the value of a label.",
        "Use lower-case letters, digits and '-', at most 63 of them.",
        "groupName: GPU_Workers",
    ),
    _refusal(
        "group-size",
        "Bounds of a worker group that contradict each other",
        "The operator refuses the spec.",
        "Keep 0 ≤ minReplicas ≤ maxReplicas.",
        "minReplicas: 5\nmaxReplicas: 3",
    ),
    _refusal(
        "start-params",
        "Flags, resources or labels of ray start that cannot be used",
        "Dashes are added by the operator, labels have their own field, and a resource is set in one place only.",
        "Write them as the finding says.",
        'rayStartParams: {--num-cpus: "1"}',
    ),
    _refusal(
        "autoscaler-options",
        "Settings of the autoscaler that contradict each other",
        "The version is set in one place, and v2 works with pods that never restart only.",
        "Remove what the finding names.",
        "autoscalerOptions: {version: v2}   # and the env variable RAY_enable_autoscaler_v2",
    ),
    _refusal(
        "fault-tolerance",
        "GCS fault tolerance in more than one place, or without an address",
        "The operator would not know where the state is, nor clean it up.",
        "Use gcsFaultToleranceOptions for all of it.",
        "gcsFaultToleranceOptions: {}",
    ),
    _refusal(
        "authentication",
        "Token authentication needs a newer Ray",
        "Older versions ignore the token: the cluster would be open.",
        "Use Ray 2.52 or newer and write rayVersion.",
        "rayVersion: 2.46.0\nauthOptions: {mode: token}",
    ),
    _refusal(
        "pod-template",
        "A pod template without a Ray container, or of the wrong shape",
        "The first container runs Ray.",
        "Add it, or correct the field.",
        "template: {spec: {containers: []}}",
    ),
    _refusal(
        "service-template",
        "A service in front of the head or of Serve that cannot be made",
        "The type or the name is refused by Kubernetes, or two clusters would want the same name.",
        "Write what the finding asks for.",
        "serviceType: External",
    ),
    _refusal(
        "upgrade-strategy",
        "An upgrade strategy that could not advance",
        "The operator refuses the spec, so nothing is upgraded.",
        "Write what the finding asks for.",
        "upgradeStrategy: {type: NewClusterWithIncrementalUpgrade}",
    ),
    _refusal(
        "analysis",
        "Checks of an upgrade that cannot be made",
        "An upgrade would wait for a verdict that never comes.",
        "Write what the finding asks for.",
        "analysis: {smoke: {requests: []}}",
    ),
    _refusal(
        "metadata",
        "A name or annotation that the operator cannot use",
        "Names of clusters, services and pods are made from the object's; some annotations have a form.",
        "Write what the finding asks for.",
        "annotations: {ray.io/initializing-timeout: soon}",
    ),
    _refusal(
        "not-available",
        "A feature that the schema accepts and this version cannot do",
        "It is said rather than ignored.",
        "Do what the finding names instead.",
        "networkPolicy: {mode: DenyAll}",
    ),
    _refusal(
        _ANY_OTHER,
        "A value that the operator refuses",
        "The spec is not acted on.",
        "Write what the finding asks for.",
        "rayClusterDeletionDelaySeconds: -1",
    ),
)
