"""Rules about secrets in plain text, where everybody who may read the object reads them. Values are never repeated."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import urlsplit

from rayservice_operator.core.findings import Path, Severity
from rayservice_operator.lint.reading import as_map, as_text, maps_in, walk
from rayservice_operator.lint.rule import Problem, Rule
from rayservice_operator.lint.subject import SERVE_CONFIG, Subject

_NAME: Final = re.compile(
    r"(?:.*_)?(?:TOKEN|APIKEY|API_KEY|(?:SECRET|PRIVATE|ACCESS|AUTH|ENCRYPTION|SIGNING)_?KEY|.+_KEY|"
    r"PASSWORD|PASSWD|PASSPHRASE|SECRET|CREDENTIALS?)",
    re.IGNORECASE,
)

# Names of that form whose values are no secrets.
_HARMLESS: Final = re.compile(
    r"(?:.*_)?(?:(?:PUBLIC|PARTITION|SORT|CACHE|PRIMARY|FOREIGN|ROUTING|HASH|LABEL|SESSION_ID|CONFIG|ROUTE)_?KEY|"
    r"(?:MAX|MIN|NUM|PAD|EOS|BOS|UNK|STOP|PER|CHAT)_(?:.*_)?TOKEN)",
    re.IGNORECASE,
)

# Forms by which a value is known for a secret wherever it stands.
_VALUE: Final = re.compile(
    r"(?:AKIA|ASIA)[0-9A-Z]{16}|hf_[A-Za-z]{30,}|gh[pousr]_[A-Za-z0-9]{30,}|github_pat_\w{30,}|sk-[A-Za-z0-9_-]{20,}|"
    r"xox[baprs]-[A-Za-z0-9-]{10,}|AIza[\w-]{35}|glpat-[\w-]{20,}|-----BEGIN [A-Z ]*PRIVATE KEY-----.*",
    re.DOTALL,
)

# What stands for a value instead of being one: empty, a reference, a path, a switch, a number.
_NO_SECRET: Final = re.compile(
    r"|\$.*|/.*|true|false|none|null|\d{1,6}|<.*>|\*+|file:.*|empty|dummy|unused|placeholder|not-needed",
    re.IGNORECASE | re.DOTALL,
)

_ENVIRONMENT: Final = "Put it into a Secret and refer to it with valueFrom.secretKeyRef in env of the Ray containers"


def _is_secret(name: str, value: str) -> bool:
    if _VALUE.fullmatch(value.strip()) or _has_password(value):
        return True
    named = _NAME.fullmatch(name) is not None and _HARMLESS.fullmatch(name) is None
    return named and _NO_SECRET.fullmatch(value.strip()) is None


def _has_password(value: str) -> bool:
    """A URL with a password; ``guest``'s is known to everybody, and ``$(NAME)`` is filled in on the node."""
    if "://" not in value or "@" not in value:
        return False
    try:
        password = urlsplit(value).password
    except ValueError:
        return False
    return bool(password) and password != "guest" and not str(password).startswith(("$", "{", "<"))


def _env_vars(subject: Subject) -> Iterator[Problem]:
    """``env_vars`` of any runtime_env in the serve config, arguments of builders included."""
    for path, item in walk(dict(subject.document or {}), SERVE_CONFIG):
        env_vars = as_map(as_map(item.get("runtime_env")).get("env_vars"))
        for name, value in env_vars.items():
            if _is_secret(name, as_text(value)):
                yield _problem((*path, "runtime_env", "env_vars", name), name, _ENVIRONMENT)


def _pod_env(subject: Subject) -> Iterator[Problem]:
    for group in subject.groups:
        pod = as_map(group.spec.template.get("spec"))
        for kind in ("initContainers", "containers"):
            for path, container in maps_in(pod.get(kind), (*group.path, "template", "spec", kind)):
                yield from _plain_env(container.get("env"), (*path, "env"))
    options = subject.spec.autoscaler_options
    if options is not None:
        yield from _plain_env(options.env, (*subject.cluster_path, "autoscalerOptions", "env"))


def _plain_env(env: Any, path: Path) -> Iterator[Problem]:
    for at, item in maps_in(env, path):
        name, value = as_text(item.get("name")), as_text(item.get("value"))
        if value and _is_secret(name, value):
            yield _problem((*at, "value"), name, "Put it into a Secret and refer to it with valueFrom.secretKeyRef")


def _problem(path: Path, name: str, fix: str) -> Problem:
    return Problem(path, f"has the secret {name} in plain text; whoever may read the object reads it", fix)


_FIELDS: Final = ("ssl_keyfile_password",)


def _elsewhere(subject: Subject) -> Iterator[Problem]:
    """Passwords in URLs of the serve config, and those of Redis."""
    for path, item in walk(dict(subject.document or {}), SERVE_CONFIG):
        if path[-1:] == ("env_vars",):
            continue  # said above
        for key, value in item.items():
            if isinstance(value, str) and (key in _FIELDS or _has_password(value) or _VALUE.fullmatch(value)):
                problem = "has a secret in plain text; whoever may read the object reads it"
                fix = "Read it in the code from an environment variable that comes from a Secret"
                yield Problem((*path, key), problem, fix)
    options = subject.spec.gcs_fault_tolerance_options
    if options is not None and options.redis_password is not None and options.redis_password.value:
        path = (*subject.cluster_path, "gcsFaultToleranceOptions", "redisPassword", "value")
        if not options.redis_password.value.startswith("$"):
            yield Problem(path, "is a password in plain text", "Use valueFrom.secretKeyRef in its place")
    for group in subject.cluster.groups:
        given = group.spec.ray_start_params.get("redis-password", "")
        if given and not given.startswith("$"):
            path = (*group.path, "rayStartParams", "redis-password")
            fix = "Write $REDIS_PASSWORD and set that variable with valueFrom.secretKeyRef"
            yield Problem(path, "is a password in plain text", fix)


RULES: Final[tuple[Rule, ...]] = (
    Rule(
        "secret-in-env-vars",
        Severity.WARNING,
        "A secret in env_vars of a runtime_env",
        "It stands in the manifest, in Git, in the object's status and in Ray's dashboard.",
        "Set it in env of the Ray containers with valueFrom.secretKeyRef; replicas inherit it.",
        'runtime_env:\n  env_vars: {HF_TOKEN: "hf_…"}',
        _env_vars,
    ),
    Rule(
        "secret-in-env",
        Severity.WARNING,
        "A secret as a plain value in a pod template",
        "It stands in the manifest and in Git, and whoever may read pods reads it.",
        "Use valueFrom.secretKeyRef.",
        'env:\n  - {name: AWS_SECRET_ACCESS_KEY, value: "wJalr…"}',
        _pod_env,
    ),
    Rule(
        "secret-in-config",
        Severity.WARNING,
        "A password in a URL, or one of Redis, in plain text",
        "It stands in the manifest, in Git and in Ray's dashboard.",
        "Take it from a Secret: by secretKeyRef where the field has it, else in the code from the environment.",
        'broker_url: "redis://:s3cret@redis:6379/0"',
        _elsewhere,
    ),
)
