"""A cluster spec as the rules look at it: its groups in one list, and the parts of pod templates that rules read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pydantic import Field, ValidationError

from rayservice_operator.api.base import ApiModel, OpenList, OpenObject, StringList, StringMap
from rayservice_operator.api.names import HEAD_GROUP
from rayservice_operator.api.raycluster import HeadGroupSpec, RayClusterSpec, WorkerGroupSpec
from rayservice_operator.api.specerror import field_path, from_pydantic
from rayservice_operator.core.violations import Violation

Path = tuple[str | int, ...]


class EnvVar(ApiModel):
    """One environment variable."""

    name: str = ""
    value: str = ""
    value_from: OpenObject | None = None


class ContainerResources(ApiModel):
    """Resource requirements."""

    limits: StringMap = {}
    requests: StringMap = {}


class Container(ApiModel):
    """The parts of a container that this operator reads or adds to."""

    name: str = ""
    image: str = ""
    command: StringList = []
    args: StringList = []
    env: list[EnvVar] = []
    env_from: OpenList = []
    ports: OpenList = []
    volume_mounts: OpenList = []
    resources: ContainerResources = Field(default_factory=ContainerResources)

    @property
    def env_names(self) -> frozenset[str]:
        """Names of the environment variables."""
        return frozenset(item.name for item in self.env)


class PodSpec(ApiModel):
    """The parts of a pod spec that this operator reads or adds to."""

    containers: list[Container] = []
    init_containers: list[Container] = []
    volumes: OpenList = []
    restart_policy: str = ""
    service_account_name: str = ""


class TemplateMetadata(ApiModel):
    """Metadata of a pod template."""

    labels: StringMap = {}
    annotations: StringMap = {}


class PodTemplate(ApiModel):
    """A pod template. Kubernetes checks the rest by a dry run; these parts must be of the right shape before that."""

    metadata: TemplateMetadata = Field(default_factory=TemplateMetadata)
    spec: PodSpec = Field(default_factory=PodSpec)


@dataclass(frozen=True, slots=True)
class Group:
    """The head group or one worker group. ``template`` is None when it could not be read."""

    path: Path
    name: str
    spec: HeadGroupSpec | WorkerGroupSpec
    template: PodTemplate | None

    @property
    def ray_container(self) -> Container | None:
        """The first container."""
        containers = self.template.spec.containers if self.template else []
        return containers[0] if containers else None

    def at(self, *parts: str | int) -> str:
        """Path of a field below the group."""
        return field_path((*self.path, *parts))


@dataclass(frozen=True, slots=True)
class ClusterSubject:
    """What the rules of a cluster are applied to. ``annotations`` are those of the object the spec stands in."""

    spec: RayClusterSpec
    path: Path
    annotations: Mapping[str, str]
    from_service: bool
    head: Group
    workers: tuple[Group, ...]
    shape_violations: tuple[Violation, ...]

    @classmethod
    def of(
        cls, spec: RayClusterSpec, *, path: Path, annotations: Mapping[str, str], from_service: bool
    ) -> ClusterSubject:
        """``path`` is where ``spec`` stands in the manifest."""
        wrong: list[Violation] = []
        head = _group((*path, "headGroupSpec"), HEAD_GROUP, spec.head_group_spec, wrong)
        workers = tuple(
            _group((*path, "workerGroupSpecs", index), group.group_name, group, wrong)
            for index, group in enumerate(spec.worker_group_specs)
        )
        return cls(spec, path, annotations, from_service, head, workers, tuple(wrong))

    @property
    def groups(self) -> tuple[Group, ...]:
        """Head first, then the workers in their order."""
        return (self.head, *self.workers)

    def worker_specs(self) -> Iterator[tuple[Group, WorkerGroupSpec]]:
        """Each worker group with its spec."""
        yield from zip(self.workers, self.spec.worker_group_specs, strict=True)

    def at(self, *parts: str | int) -> str:
        """Path of a field below the cluster spec."""
        return field_path((*self.path, *parts))


def _group(path: Path, name: str, spec: HeadGroupSpec | WorkerGroupSpec, wrong: list[Violation]) -> Group:
    try:
        template = PodTemplate.model_validate(spec.template)
    except ValidationError as error:
        wrong.extend(from_pydantic(error, (*path, "template")))
        template = None
    return Group(path, name, spec, template)
