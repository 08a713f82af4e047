"""Rules about asynchronous inference: task processors among an application's arguments, and what scales by a queue."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit

from rayservice_operator.core.findings import Path, Severity
from rayservice_operator.lint.reading import Map, as_map, as_number, as_text, plain, walk
from rayservice_operator.lint.rule import Problem, Rule
from rayservice_operator.lint.subject import App, Deployment, Subject

QUEUE_POLICY: Final = "AsyncInferenceAutoscalingPolicy"
_SHUTDOWN_S: Final = 20.0
"""graceful_shutdown_timeout_s where neither file nor code sets it (Ray 2.60)."""

# What Ray sets in Celery's config itself and refuses from others (Ray 2.60, CeleryTaskProcessorAdapter).
_RESERVED: Final = (
    "worker_pool",
    "worker_concurrency",
    "task_ignore_result",
    "task_acks_late",
    "task_reject_on_worker_lost",
)


def _processors(app: App) -> Iterator[tuple[Path, Map]]:
    """Mappings among the arguments that are a TaskProcessorConfig."""
    for path, item in walk(app.data.get("args"), app.at("args")):
        if isinstance(item.get("queue_name"), str) and isinstance(item.get("adapter_config"), dict):
            yield path, item


def _consumers(app: App, subject: Subject) -> Iterator[tuple[Deployment, Map]]:
    """Deployments that scale by the length of a queue, with the arguments of that policy."""
    for deployment in subject.by_app[app.path]:
        policy = as_map(as_map(deployment.data.get("autoscaling_config")).get("policy"))
        if as_text(policy.get("policy_function")).endswith(QUEUE_POLICY):
            yield deployment, as_map(policy.get("policy_kwargs"))


def _is_celery(processor: Map) -> bool:
    return as_text(processor.get("adapter", "CeleryTaskProcessorAdapter")).endswith("CeleryTaskProcessorAdapter")


def _scheme(url: object) -> str:
    try:
        return urlsplit(as_text(url)).scheme
    except ValueError:
        return ""


def _broker(subject: Subject) -> Iterator[Problem]:
    for app in subject.apps:
        for path, processor in _processors(app):
            adapter = as_map(processor.get("adapter_config"))
            missing = [key for key in ("broker_url", "backend_url") if _is_celery(processor) and not adapter.get(key)]
            if missing:
                problem = f"has no {' and no '.join(missing)}"
                yield Problem((*path, "adapter_config"), problem, "Set broker_url and backend_url")
        for deployment, kwargs in _consumers(app, subject):
            at = deployment.at("autoscaling_config", "policy", "policy_kwargs")
            missing = [key for key in ("broker_url", "queue_name") if not kwargs.get(key)]
            if missing:
                at = at if kwargs else at[:-1]
                problem = f"has no {' and no '.join(missing)}, which {QUEUE_POLICY} needs"
                yield Problem(at, problem, "Set broker_url and queue_name in policy_kwargs")
            elif _scheme(kwargs["broker_url"]).startswith("amqp") and not kwargs.get("rabbitmq_management_url"):
                problem = "has no rabbitmq_management_url, from which the length of a RabbitMQ queue is read"
                yield Problem(at, problem, "Set it to the management API, http://…:15672/api/")


def _adapter(subject: Subject) -> Iterator[Problem]:
    for app in subject.apps:
        for path, processor in _processors(app):
            name = as_text(processor.get("adapter"))
            if "taskiq" in name.lower():
                problem = f"is {name!r}, all of whose methods Ray leaves unimplemented"
                yield Problem((*path, "adapter"), problem, "Remove it: the default is Celery's adapter")


def _reserved(subject: Subject) -> Iterator[Problem]:
    for app in subject.apps:
        for path, processor in _processors(app):
            config = as_map(as_map(processor.get("adapter_config")).get("app_custom_config"))
            for key in _RESERVED:
                if key in config:
                    at = (*path, "adapter_config", "app_custom_config", key)
                    yield Problem(at, "is set by Ray itself", "Remove it; max_ongoing_requests is the concurrency")


def _longest_task(processor: Map) -> tuple[str, float] | None:
    """What the file says about how long a task may take: its limit, else until when it is given to another worker."""
    adapter = as_map(processor.get("adapter_config"))
    custom = as_map(adapter.get("app_custom_config"))
    visibility = as_map(adapter.get("broker_transport_options")).get("visibility_timeout")
    for name, value in (
        ("task_time_limit", custom.get("task_time_limit")),
        ("task_soft_time_limit", custom.get("task_soft_time_limit")),
        ("visibility_timeout", visibility),
    ):
        if (seconds := as_number(value)) is not None:
            return name, seconds
    return None


def _shutdown(subject: Subject) -> Iterator[Problem]:
    for app in subject.apps:
        limits = [limit for _, processor in _processors(app) if (limit := _longest_task(processor))]
        if not limits:
            continue
        name, longest = max(limits, key=lambda limit: limit[1])
        for deployment in _working(app, subject):
            given = as_number(deployment.data.get("graceful_shutdown_timeout_s"))
            seconds = _SHUTDOWN_S if given is None else given
            if seconds >= longest:
                continue
            path, said = deployment.at("graceful_shutdown_timeout_s"), f"is {plain(seconds)}"
            if given is None:
                path, said = deployment.path, f"has {plain(seconds)} s to shut down, the default"
            problem = f"{said}, but a task may take {plain(longest)} s ({name}): it is cut off and done again"
            yield Problem(path, problem, f"Set graceful_shutdown_timeout_s to more than {plain(longest)}")


def _working(app: App, subject: Subject) -> list[Deployment]:
    """The deployments that work on tasks: those that scale by a queue; else, for lack of a sign, those with a time to
    shut down of their own."""
    consumers = [deployment for deployment, _ in _consumers(app, subject)]
    timed = [d for d in subject.by_app[app.path] if "graceful_shutdown_timeout_s" in d.data]
    return consumers or timed


def _visibility(subject: Subject) -> Iterator[Problem]:
    for app in subject.apps:
        for path, processor in _processors(app):
            adapter = as_map(processor.get("adapter_config"))
            options = as_map(adapter.get("broker_transport_options"))
            redis = _scheme(adapter.get("broker_url")) in ("redis", "rediss")
            if _is_celery(processor) and redis and "visibility_timeout" not in options:
                problem = "has no visibility_timeout: a task of a worker that died comes back after an hour only"
                fix = "Set broker_transport_options.visibility_timeout to a little more than the longest task"
                yield Problem((*path, "adapter_config"), problem, fix)


def _queue(subject: Subject) -> Iterator[Problem]:
    for app in subject.apps:
        queues = {processor["queue_name"] for _, processor in _processors(app)}
        for deployment, kwargs in _consumers(app, subject):
            queue = as_text(kwargs.get("queue_name"))
            if queue and queues and queue not in queues:
                path = deployment.at("autoscaling_config", "policy", "policy_kwargs", "queue_name")
                problem = f"is {queue!r}, but tasks are taken from {', '.join(sorted(queues))}"
                yield Problem(path, problem, "Name the queue of the task processor")


RULES: Final[tuple[Rule, ...]] = (
    Rule(
        "task-broker",
        Severity.ERROR,
        "Settings of the task broker are missing",
        "A task processor needs a broker for tasks and a backend for results; scaling by a queue needs to read it.",
        "Set broker_url and backend_url, and for RabbitMQ its management URL.",
        "task_processor_config:\n  queue_name: jobs\n  adapter_config: {broker_url: redis://redis:6379/0}",
        _broker,
    ),
    Rule(
        "task-adapter",
        Severity.ERROR,
        "A task adapter that does nothing",
        "Ray's Taskiq adapter has no working method.",
        "Use Celery's, the default.",
        "adapter: ray.serve.taskiq_task_processor.TaskiqTaskProcessorAdapter",
        _adapter,
    ),
    Rule(
        "task-reserved-option",
        Severity.ERROR,
        "A Celery option that Ray sets itself",
        "Ray refuses it when the replica starts.",
        "Remove it.",
        "app_custom_config: {worker_concurrency: 8}",
        _reserved,
    ),
    Rule(
        "task-shutdown-timeout",
        Severity.WARNING,
        "A replica has less time to shut down than a task may take",
        "Scaling down, updates and drains kill tasks halfway; they come back after the visibility timeout at the "
        "earliest and are done a second time.",
        "Set graceful_shutdown_timeout_s above the longest task.",
        "graceful_shutdown_timeout_s: 20   # and visibility_timeout: 600",
        _shutdown,
    ),
    Rule(
        "task-visibility-timeout",
        Severity.HINT,
        "A Redis broker without visibility_timeout",
        "A task whose worker died stays invisible for Celery's default of one hour.",
        "Set broker_transport_options.visibility_timeout a little above the longest task.",
        "adapter_config:\n  broker_url: redis://redis:6379/0\n  backend_url: redis://redis:6379/1",
        _visibility,
    ),
    Rule(
        "task-queue",
        Severity.WARNING,
        "Replicas are scaled by another queue than they work on",
        "Tasks pile up while the watched queue is empty.",
        "Name the same queue in policy_kwargs and in the task processor.",
        "queue_name: jobs   # in the task processor, and policy_kwargs: {queue_name: job}",
        _queue,
    ),
)
