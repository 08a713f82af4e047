"""A manifest as the rules look at it: parsed once, its applications and groups in flat lists."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from rayservice_operator.api import names
from rayservice_operator.api.raycluster import RayCluster, RayClusterSpec, WorkerGroupSpec
from rayservice_operator.api.rayservice import RayService, RayServiceSpec
from rayservice_operator.api.validation.subject import ClusterSubject, Group
from rayservice_operator.cluster.view import ClusterView, Version, view_of
from rayservice_operator.core.config import OperatorConfig
from rayservice_operator.core.findings import Path
from rayservice_operator.core.objects import Manifest, annotations_of
from rayservice_operator.lint.nodes import Node, nodes_of
from rayservice_operator.lint.reading import Map, as_map, as_text, maps_in
from rayservice_operator.lint.workload import Workload, workloads

SERVE_CONFIG: Final[Path] = ("spec", "serveConfigV2")


@dataclass(frozen=True, slots=True)
class App:
    """One application of the serve config; ``data`` is its mapping."""

    name: str
    path: Path
    data: Map

    def at(self, *parts: str | int) -> Path:
        """Path of something in it."""
        return (*self.path, *parts)


@dataclass(frozen=True, slots=True)
class Deployment:
    """One entry of an application's ``deployments``, or the ``deployment_config`` of a model among its ``args``."""

    name: str
    path: Path
    data: Map
    app: App
    workload: Workload

    def at(self, *parts: str | int) -> Path:
        """Path of something in it."""
        return (*self.path, *parts)


@dataclass(frozen=True)
class Subject:
    """``parsed``: the typed form. ``document``: the serve config as plain JSON; None where there is none or it could
    not be read, and for a RayCluster."""

    manifest: Manifest
    parsed: RayService | RayCluster
    document: Map | None

    @property
    def service(self) -> RayServiceSpec | None:
        """Spec of a RayService."""
        return self.parsed.spec if isinstance(self.parsed, RayService) else None

    @property
    def spec(self) -> RayClusterSpec:
        """Spec of the cluster."""
        return self.parsed.spec.ray_cluster_config if isinstance(self.parsed, RayService) else self.parsed.spec

    @property
    def cluster_path(self) -> Path:
        """Where the cluster's spec stands."""
        return ("spec", "rayClusterConfig") if isinstance(self.parsed, RayService) else ("spec",)

    @cached_property
    def cluster(self) -> ClusterSubject:
        """The cluster as ``api.validation`` looks at it, with typed pod templates where they can be read."""
        return ClusterSubject.of(
            self.spec,
            path=self.cluster_path,
            annotations=annotations_of(self.manifest),
            from_service=self.service is not None,
        )

    @property
    def worker_specs(self) -> Iterator[tuple[Path, WorkerGroupSpec]]:
        """Each worker group with its path."""
        for index, group in enumerate(self.spec.worker_group_specs):
            yield (*self.cluster_path, "workerGroupSpecs", index), group

    @property
    def groups(self) -> tuple[Group, ...]:
        """Head first; only those whose pod templates can be read."""
        return tuple(group for group in self.cluster.groups if group.template is not None)

    @cached_property
    def view(self) -> ClusterView:
        """The cluster as pods are built from it."""
        metadata: Manifest = {
            "name": "",
            "annotations": dict(annotations_of(self.manifest)),
            "labels": {names.ORIGIN_KIND: "RayService"} if self.service else {},
        }
        spec = self.manifest["spec"]["rayClusterConfig"] if self.service else self.manifest["spec"]
        return view_of({"kind": "RayCluster", "metadata": metadata, "spec": spec}, OperatorConfig())

    @cached_property
    def ray_version(self) -> Version | None:
        """Of the manifest, else of the head's image; None if neither tells."""
        return None if self.cluster.shape_violations else self.view.ray_version

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        """What the pods of each group offer, head first; empty when a template cannot be read."""
        return () if self.cluster.shape_violations else nodes_of(self.view, self.cluster_path)

    @cached_property
    def apps(self) -> tuple[App, ...]:
        """The applications, in the order of the file."""
        found = maps_in(as_map(self.document).get("applications"), (*SERVE_CONFIG, "applications"))
        return tuple(App(as_text(data.get("name")) or "default", path, data) for path, data in found)

    @cached_property
    def by_app(self) -> Mapping[Path, tuple[Deployment, ...]]:
        """By the path of the application: what the file says about its deployments, LLMs among them."""
        return {
            app.path: tuple(
                Deployment(item.name, item.path, item.data, app, item) for item in workloads(app.data, app.path)
            )
            for app in self.apps
        }

    @cached_property
    def deployments(self) -> tuple[Deployment, ...]:
        """Those of all applications, in the order of the file."""
        return tuple(deployment for found in self.by_app.values() for deployment in found)
