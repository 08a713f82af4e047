"""Rules of a RayService outside its cluster and its serve config."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from pydantic import Field, ValidationError

from rayservice_operator.api import names
from rayservice_operator.api.base import ApiModel, OpenList, StringMap
from rayservice_operator.api.durations import parse_duration
from rayservice_operator.api.rayservice import RayService
from rayservice_operator.api.specerror import field_path, from_pydantic
from rayservice_operator.api.upgrade import UpgradeStrategy, UpgradeType
from rayservice_operator.api.validation import analysis
from rayservice_operator.api.validation.metadata import is_service_name
from rayservice_operator.core.objects import Manifest, annotations_of
from rayservice_operator.core.violations import Violation

Check = Callable[[Manifest, RayService], Iterator[Violation]]


class _Metadata(ApiModel):
    name: str = ""
    labels: StringMap = {}
    annotations: StringMap = {}


class _ServiceSpec(ApiModel):
    ports: OpenList = []


class _Service(ApiModel):
    """The parts of a Service template that this operator reads."""

    metadata: _Metadata = Field(default_factory=_Metadata)
    spec: _ServiceSpec = Field(default_factory=_ServiceSpec)


def violations(manifest: Manifest, parsed: RayService) -> Iterator[Violation]:
    """Every rule of the table below."""
    for check in CHECKS:
        yield from check(manifest, parsed)


def _initializing_timeout(manifest: Manifest, parsed: RayService) -> Iterator[Violation]:  # noqa: ARG001
    text = annotations_of(manifest).get(names.INITIALIZING_TIMEOUT)
    if text is not None and not parse_duration(text):
        path = field_path(("metadata", "annotations", names.INITIALIZING_TIMEOUT))
        yield Violation(
            path, f"{text!r} is no positive duration", "Write a duration such as 30m, or a number of seconds"
        )


def _deletion_delay(manifest: Manifest, parsed: RayService) -> Iterator[Violation]:  # noqa: ARG001
    delay = parsed.spec.ray_cluster_deletion_delay_seconds
    if delay is not None and delay < 0:
        yield Violation("spec.rayClusterDeletionDelaySeconds", f"is {delay}", "Use 0 or more seconds")


def _services(manifest: Manifest, parsed: RayService) -> Iterator[Violation]:  # noqa: ARG001
    head_service = ("spec", "rayClusterConfig", "headGroupSpec", "headService")
    templates = {
        ("spec", "serveService"): parsed.spec.serve_service,
        head_service: parsed.spec.ray_cluster_config.head_group_spec.head_service,
    }
    for path, template in templates.items():
        try:
            name = _Service.model_validate(template or {}).metadata.name
        except ValidationError as error:
            yield from from_pydantic(error, path)
            continue
        if name and path != head_service and not is_service_name(name):
            yield Violation(
                field_path((*path, "metadata", "name")),
                f"{name!r} is no name for a Service",
                "Use at most 63 lower-case letters, digits and '-', starting with a letter",
            )


def _incremental(manifest: Manifest, parsed: RayService) -> Iterator[Violation]:  # noqa: ARG001
    strategy = parsed.spec.upgrade_strategy
    if strategy is None or strategy.type is not UpgradeType.INCREMENTAL:
        return
    path = "spec.upgradeStrategy.clusterUpgradeOptions"
    options = strategy.cluster_upgrade_options
    if options is None:
        yield Violation(path, "is missing", "Set stepSizePercent and intervalSeconds there")
        return
    if not parsed.spec.ray_cluster_config.enable_in_tree_autoscaling and options.max_surge_percent < 100:
        problem = "is needed with a maxSurgePercent below 100, so that each cluster follows its share of the capacity"
        fix = "Set it to true, or maxSurgePercent to 100 for a whole second cluster"
        yield Violation("spec.rayClusterConfig.enableInTreeAutoscaling", problem, fix)
    surge, step, interval = options.max_surge_percent, options.step_size_percent, options.interval_seconds
    if not 0 <= surge <= 100:
        yield Violation(f"{path}.maxSurgePercent", f"is {surge}", "Use 1 to 100")
    if step is None or not 0 <= step <= surge:
        yield Violation(f"{path}.stepSizePercent", _given(step), f"Use 1 to maxSurgePercent ({surge})")
    if interval is None or interval <= 0:
        yield Violation(f"{path}.intervalSeconds", _given(interval), "Use 1 or more seconds")
    if surge == 0 or step == 0:
        path = f"{path}.{'maxSurgePercent' if surge == 0 else 'stepSizePercent'}"
        yield Violation(path, "is 0, so the upgrade could never advance", "Use 1 or more")


def _given(value: int | None) -> str:
    return "is missing" if value is None else f"is {value}"


def _progress_deadline(manifest: Manifest, parsed: RayService) -> Iterator[Violation]:  # noqa: ARG001
    strategy = parsed.spec.upgrade_strategy
    deadline = strategy.progress_deadline_seconds if strategy else None
    if deadline is not None and deadline < 1:
        yield Violation("spec.upgradeStrategy.progressDeadlineSeconds", f"is {deadline}", "Use 1 or more seconds")


def _in_place(manifest: Manifest, parsed: RayService) -> Iterator[Violation]:  # noqa: ARG001
    options = (parsed.spec.upgrade_strategy or UpgradeStrategy()).in_place
    if options is None:
        return
    path = "spec.upgradeStrategy.inPlace"
    for field, number in (("maxUnavailable", options.max_unavailable), ("maxSurge", options.max_surge)):
        if number is not None and number < 0:
            yield Violation(f"{path}.{field}", f"is {number}", "Use 0 or more pods")
    if options.max_unavailable == 0 and not options.max_surge:
        problem = "is 0 and maxSurge is too, so no pod could ever be replaced"
        yield Violation(f"{path}.maxUnavailable", problem, "Use 1 or more, or set maxSurge")


def _analysis(manifest: Manifest, parsed: RayService) -> Iterator[Violation]:  # noqa: ARG001
    return analysis.violations(parsed)


CHECKS: Final[tuple[Check, ...]] = (
    _initializing_timeout,
    _deletion_delay,
    _services,
    _incremental,
    _progress_deadline,
    _in_place,
    _analysis,
)
