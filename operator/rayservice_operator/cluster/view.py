"""A RayCluster as its builders and decisions read it: defaults filled in, derived facts in one place.

The templates inside stay plain dictionaries: whatever a user wrote there reaches the pod, known to us or not.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from rayservice_operator.api import names
from rayservice_operator.api.autoscaler import AutoscalerOptions, AutoscalerVersion
from rayservice_operator.api.raycluster import (
    HeadGroupSpec,
    RayCluster,
    RayClusterSpec,
    WorkerGroupSpec,
    parse_raycluster,
)
from rayservice_operator.core.config import OperatorConfig
from rayservice_operator.core.memo import Memo
from rayservice_operator.core.objects import (
    Manifest,
    annotations_of,
    generation_of,
    labels_of,
    metadata,
    name_of,
    uid_of,
)

Version = tuple[int, int, int]
UNIFIED_HEALTH: Final[Version] = (2, 53, 0)
"""First Ray with one health endpoint for raylet and GCS on the dashboard agent (``/api/healthz``)."""
AUTOSCALER_V2: Final[Version] = (2, 47, 0)
"""First Ray for which autoscaler v2 is the default (KubeRay 1.7)."""


@dataclass(frozen=True)
class GroupView:
    """The head group or one worker group. ``index`` is the position among worker groups, -1 for the head."""

    spec: HeadGroupSpec | WorkerGroupSpec
    index: int = -1

    @property
    def is_head(self) -> bool:
        """Whether this is the head group."""
        return isinstance(self.spec, HeadGroupSpec)

    @property
    def name(self) -> str:
        """Value of the label ``ray.io/group``."""
        return names.HEAD_GROUP if isinstance(self.spec, HeadGroupSpec) else self.spec.group_name

    @property
    def template(self) -> Mapping[str, Any]:
        """Pod template as the user wrote it."""
        return self.spec.template

    @property
    def pod_spec(self) -> Mapping[str, Any]:
        """Pod spec of the template."""
        return self.template.get("spec") or {}

    @property
    def ray_container(self) -> Mapping[str, Any]:
        """``containers[0]``, which runs Ray."""
        containers = self.pod_spec.get("containers") or [{}]
        return containers[0] or {}

    @property
    def desired(self) -> int:
        """Wanted pods: ``replicas`` held between minimum and maximum; 0 while the group is suspended."""
        if isinstance(self.spec, HeadGroupSpec):
            return 1
        if self.spec.suspend:
            return 0
        return max(self.spec.min_replicas, min(self.spec.max_replicas, self.spec.replicas))

    @property
    def workers_to_delete(self) -> frozenset[str]:
        """Names of the pods that the autoscaler or the user wants gone."""
        if isinstance(self.spec, HeadGroupSpec):
            return frozenset()
        return frozenset(self.spec.scale_strategy.workers_to_delete)

    @property
    def priority(self) -> int:
        """Groups with a higher priority get their pods first."""
        return 0 if isinstance(self.spec, HeadGroupSpec) else self.spec.priority or 0

    @cached_property
    def template_hash(self) -> str:
        """Digest of what the user can change about a pod of this group.

        Of the user's fields only, not of the finished pod: a newer operator that builds pods differently must not
        make every running pod look outdated.
        """
        spec = self.spec
        return digest([spec.template, spec.ray_start_params, spec.resources, spec.labels], length=16)

    def env_value(self, name: str) -> str | None:
        """Literal value of an environment variable of the Ray container in the template."""
        for item in self.ray_container.get("env") or ():
            if item.get("name") == name:
                return str(item.get("value", ""))
        return None


@dataclass(frozen=True)
class ClusterView:
    """One RayCluster, parsed, together with the operator's settings."""

    obj: Manifest
    parsed: RayCluster
    config: OperatorConfig

    @property
    def spec(self) -> RayClusterSpec:
        """The spec with its defaults."""
        return self.parsed.spec

    @property
    def name(self) -> str:
        """Name of the RayCluster."""
        return name_of(self.obj)

    @property
    def namespace(self) -> str:
        """Namespace of the RayCluster and of everything built for it."""
        return str(metadata(self.obj).get("namespace", ""))

    @property
    def uid(self) -> str:
        """UID of the RayCluster."""
        return uid_of(self.obj)

    @property
    def generation(self) -> int:
        """Generation of the spec."""
        return generation_of(self.obj)

    @property
    def labels(self) -> Mapping[str, str]:
        """Labels of the RayCluster."""
        return labels_of(self.obj)

    @property
    def annotations(self) -> Mapping[str, str]:
        """Annotations of the RayCluster."""
        return annotations_of(self.obj)

    @cached_property
    def head(self) -> GroupView:
        """The head group."""
        return GroupView(self.spec.head_group_spec)

    @cached_property
    def workers(self) -> tuple[GroupView, ...]:
        """The worker groups in the order of the spec."""
        return tuple(GroupView(spec, index) for index, spec in enumerate(self.spec.worker_group_specs))

    @property
    def owner_kind(self) -> str:
        """``RayService``, ``RayJob`` or ``RayCluster`` (standalone): who made this cluster."""
        return self.labels.get(names.ORIGIN_KIND) or next(
            (str(o["kind"]) for o in metadata(self.obj).get("ownerReferences") or () if o.get("controller")),
            "RayCluster",
        )

    @property
    def owned_by_service(self) -> bool:
        """Whether a RayService made this cluster, and so flips ``ray.io/serve`` on its pods."""
        return self.owner_kind == "RayService"

    @property
    def wants_serve_service(self) -> bool:
        """A standalone cluster whose user asked for a serve service (annotation ``ray.io/enable-serve-service``)."""
        return not self.owned_by_service and self.annotations.get(names.ENABLE_SERVE_SERVICE, "").lower() == "true"

    @cached_property
    def ray_version(self) -> Version | None:
        """``rayVersion``, else the version in the head image's tag; None if neither tells."""
        image = str(self.head.ray_container.get("image") or "")
        return parse_version(self.spec.ray_version) or version_of_image(image)

    @property
    def gcs_port(self) -> str:
        """Port of the GCS, which is Ray's ``--port``."""
        return self.head.spec.ray_start_params.get("port", str(names.DEFAULT_HEAD_PORTS["gcs-server"]))

    @property
    def head_service_name(self) -> str:
        """Name of the head service; a standalone cluster's user may choose it.

        Not in a RayService: its clusters share one spec, and for a while there are two of them.
        """
        service = self.spec.head_group_spec.head_service or {}
        chosen = str((service.get("metadata") or {}).get("name") or "")
        return chosen if chosen and not self.owned_by_service else names.head_service_name(self.name)

    @property
    def head_fqdn(self) -> str:
        """DNS name of the head service."""
        return f"{self.head_service_name}.{self.namespace}.svc.{self.config.cluster_domain}"

    @property
    def autoscaling(self) -> bool:
        """Whether Ray's autoscaler decides on the number of workers."""
        return self.spec.enable_in_tree_autoscaling

    @property
    def autoscaler_options(self) -> AutoscalerOptions:
        """``autoscalerOptions``, empty when absent."""
        return self.spec.autoscaler_options or AutoscalerOptions()

    @cached_property
    def autoscaler_v2(self) -> bool:
        """Autoscaler v2: by ``autoscalerOptions.version``, else the head's own env, else the version of Ray."""
        if not self.autoscaling:
            return False
        version = self.autoscaler_options.version
        if version is not None:
            return version is AutoscalerVersion.V2
        env = self.head.env_value("RAY_enable_autoscaler_v2")
        if env is not None:
            return env.strip().lower() in {"1", "true"}
        return self.ray_version is not None and self.ray_version >= AUTOSCALER_V2

    @property
    def min_workers(self) -> int:
        """Sum of ``minReplicas``."""
        return sum(spec.min_replicas for spec in self.spec.worker_group_specs)

    @property
    def max_workers(self) -> int:
        """Sum of ``maxReplicas``, held at the largest int32."""
        return min(2**31 - 1, sum(spec.max_replicas for spec in self.spec.worker_group_specs))


def view_of(cluster: Manifest, config: OperatorConfig) -> ClusterView:
    """Parse a RayCluster: its name and spec, no decision reads the status but as JSON.

    :raises SpecError: naming every field whose shape is wrong.
    """
    declared: Manifest = {"metadata": {"name": name_of(cluster)}, "spec": cluster.get("spec")}
    return ClusterView(cluster, _parsed.get(declared, lambda: parse_raycluster(declared)), config)


_parsed: Final[Memo[RayCluster]] = Memo(4096)


def digest(value: Any, length: int = 32) -> str:
    """Hexadecimal digest of JSON data, independent of the order of keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:length]


_VERSION: Final = re.compile(r"v?(\d+)\.(\d+)(?:\.(\d+))?")


def parse_version(text: str) -> Version | None:
    """``2.53.0``, ``v2.53`` or ``2.53.0rc1`` as numbers; None for anything else."""
    found = _VERSION.match(text.strip())
    return (int(found[1]), int(found[2]), int(found[3] or 0)) if found else None


def version_of_image(image: str) -> Version | None:
    """Version in the tag of an image whose name is ``ray`` or ``ray-*`` (``rayproject/ray:2.52.0-py311``)."""
    repository, _, tag = image.partition("@")[0].rpartition(":")
    last = repository.rpartition("/")[2]
    is_ray = last == "ray" or last.startswith("ray-")
    return parse_version(tag) if is_ray else None
